"""How well a confidence score finds a classifier's errors.

Every metric is `metric(score, correct) -> float`: `score` [n], larger = more confident, and
`correct` [n], True where the prediction is right. Errors are the positive class (errata 11), ties
are averaged, arithmetic is exact in integers and float64. `METRICS` names them all.

    >>> score, correct = [0.9, 0.4, 0.8, 0.3], [True, True, False, True]
    >>> {name: round(metric(score, correct), 3) for name, metric in METRICS.items()}
    {'auroc': 0.333, 'fpr_at_tpr': 0.667, 'aurc': 0.271, 'accuracy': 0.75}
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rrfast.metrics.accuracy import accuracy
from rrfast.metrics.aurc import aurc
from rrfast.metrics.auroc import auroc
from rrfast.metrics.fpr_at_tpr import fpr_at_tpr

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["METRICS", "accuracy", "aurc", "auroc", "fpr_at_tpr"]

METRICS: dict[str, Callable[[object, object], float]] = {
    "auroc": auroc,
    "fpr_at_tpr": fpr_at_tpr,
    "aurc": aurc,
    "accuracy": accuracy,
}
