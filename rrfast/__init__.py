"""rrfast: how far must an input move before a model changes its prediction?

r = rrfast.radius(model, x)                          # Tensor [B]; larger = more trustworthy
loss = rrfast.RAT(eps=1e-3).backward(model, x, y)    # one line in an existing training loop
"""

import importlib
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rrfast import (
        attacks,
        bench,
        data,
        evaluate,
        inference,
        integrations,
        methods,
        metrics,
        models,
        objectives,
        ops,
        reference,
        scores,
        selective,
        train,
    )
    from rrfast._config import config
    from rrfast._radius import radius
    from rrfast.estimator import RadiusEstimator
    from rrfast.methods import RadiusResult
    from rrfast.objectives import RAT
    from rrfast.scores import predict
    from rrfast.scores.comparison import compare
    from rrfast.selective import SelectiveClassifier

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
    "inference",
    "integrations",
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


#: Modules of the names; each is loaded on first use, as are sub-packages: a command that only
#: prints its help needs no torch.
_ELSEWHERE = {
    "RAT": "rrfast.objectives",
    "RadiusEstimator": "rrfast.estimator",
    "RadiusResult": "rrfast.methods",
    "SelectiveClassifier": "rrfast.selective",
    "compare": "rrfast.scores.comparison",
    "config": "rrfast._config",
    "predict": "rrfast.scores",
    "radius": "rrfast._radius",
}


def __getattr__(name: str) -> Any:
    """Load on first use."""
    if name in _ELSEWHERE:
        found = getattr(importlib.import_module(_ELSEWHERE[name]), name)
    elif name in __all__:
        found = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return [*globals(), *__all__]
