"""Models by name, and layers before and behind them.

`load_model` builds one of a zoo or of your own function. `Normalize` goes before it, so that inputs
stay in [0, 1] and radii in pixels; `FirstClasses` behind it drops logits that only training needs.
`lenet` and `preresnet20` are the networks of ACET, `resnet18` is one of IRAT's, and `fashion_cnn` a
small one for Fashion-MNIST.
"""

from rrfast.models.fashion_cnn import fashion_cnn
from rrfast.models.first_classes import FirstClasses
from rrfast.models.lenet import lenet
from rrfast.models.load import SPECIFICATIONS, load_model
from rrfast.models.normalize import Normalize
from rrfast.models.preresnet import PreResNet, preresnet20
from rrfast.models.resnet18 import resnet18

__all__ = [
    "SPECIFICATIONS",
    "FirstClasses",
    "Normalize",
    "PreResNet",
    "fashion_cnn",
    "lenet",
    "load_model",
    "preresnet20",
    "resnet18",
]
