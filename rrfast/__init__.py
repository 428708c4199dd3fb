"""rrfast: how far is an input from changing the model's mind?

r = rrfast.radius(model, x)                          # Tensor [B]; larger = more to be trusted
loss = rrfast.RAT(eps=1e-3).backward(model, x, y)    # one line in an existing training loop
"""

from importlib.metadata import version as _version

from rrfast import attacks, data, metrics, objectives, ops, reference, scores
from rrfast._config import config
from rrfast.estimator import RadiusEstimator
from rrfast.objectives import RAT
from rrfast.radius import RadiusResult, radius
from rrfast.scores.comparison import compare
from rrfast.selective import SelectiveClassifier

__version__ = _version("rrfast")
__all__ = [
    "RAT",
    "RadiusEstimator",
    "RadiusResult",
    "SelectiveClassifier",
    "attacks",
    "compare",
    "config",
    "data",
    "metrics",
    "objectives",
    "ops",
    "radius",
    "reference",
    "scores",
]
