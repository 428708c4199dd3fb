"""Models by name, and layers before and after them.

`load_model` builds a model of a package or by your own function. `Normalize` goes in front of it,
so that inputs stay in [0, 1] and radii in pixels; `FirstClasses` after it drops logits that only
training needs. `lenet` and `preresnet20` are the networks of ACET, `resnet18` is one of IRAT's;
`digits_cnn`, `synthetic_cnn` and `fashion_cnn` are small ones for the tasks of `rrfast.data`.
"""

from rrfast.models.first_classes import FirstClasses
from rrfast.models.load import load_model
from rrfast.models.normalize import Normalize
from rrfast.models.resnet import PreResNet, preresnet20, resnet18
from rrfast.models.small import digits_cnn, fashion_cnn, lenet, synthetic_cnn

__all__ = [
    "FirstClasses",
    "Normalize",
    "PreResNet",
    "digits_cnn",
    "fashion_cnn",
    "lenet",
    "load_model",
    "preresnet20",
    "resnet18",
    "synthetic_cnn",
]
