"""rrfast: how far is an input from changing the model's mind?

r = rrfast.radius(model, x)                          # Tensor [B]; larger = more to be trusted
loss = rrfast.RAT(eps=1e-3).backward(model, x, y)    # one line in an existing training loop
"""

import importlib
from importlib.metadata import version as _version
from types import ModuleType
from typing import TYPE_CHECKING

from rrfast import methods, ops, reference
from rrfast._config import config
from rrfast._radius import radius
from rrfast.estimator import RadiusEstimator
from rrfast.methods import RadiusResult
from rrfast.objectives import RAT
from rrfast.scores import predict
from rrfast.scores.comparison import compare
from rrfast.selective import SelectiveClassifier

if TYPE_CHECKING:
    from rrfast import (
        attacks,
        bench,
        data,
        evaluate,
        metrics,
        models,
        objectives,
        scores,
        selective,
        train,
    )

__version__ = _version("rrfast")
__all__ = [
    "RAT",
    "RadiusEstimator",
    "RadiusResult",
    "SelectiveClassifier",
    "attacks",
    "bench",
    "compare",
    "config",
    "data",
    "evaluate",
    "methods",
    "metrics",
    "models",
    "objectives",
    "ops",
    "predict",
    "radius",
    "reference",
    "scores",
    "selective",
    "train",
]


def __getattr__(name: str) -> ModuleType:
    """The sub-packages, each loaded when it is asked for."""
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
