"""rrfast: how far must an input move before a model changes its prediction?

r = rrfast.radius(model, x)                          # Tensor [B]; larger = more trustworthy
loss = rrfast.RAT(eps=1e-3).backward(model, x, y)    # one line in an existing training loop
"""

from importlib.metadata import version as _version
from typing import TYPE_CHECKING

from rrfast._lazy import on_first_use as _on_first_use

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

if not TYPE_CHECKING:
    # A command that only prints its help needs no torch.
    __getattr__ = _on_first_use(
        __name__,
        {
            "RAT": "rrfast.objectives",
            "RadiusEstimator": "rrfast.estimator",
            "RadiusResult": "rrfast.methods",
            "SelectiveClassifier": "rrfast.selective",
            "compare": "rrfast.scores.comparison",
            "config": "rrfast._config",
            "predict": "rrfast.scores",
            "radius": "rrfast._radius",
        },
    )


def __dir__() -> list[str]:
    return [*globals(), *__all__]
