"""All metrics that need a score and answers and nothing more, by name."""

from __future__ import annotations

from collections.abc import Callable

from rrfast.metrics.accuracy import accuracy
from rrfast.metrics.augrc import augrc
from rrfast.metrics.aupr_error import aupr_error
from rrfast.metrics.aupr_success import aupr_success
from rrfast.metrics.aurc import aurc
from rrfast.metrics.auroc import auroc
from rrfast.metrics.detection_error import detection_error
from rrfast.metrics.e_aurc import e_aurc
from rrfast.metrics.fpr_at_tpr import fpr_at_tpr
from rrfast.metrics.mean_confidence import mean_confidence

#: `metric(score, correct) -> float`.
Metric = Callable[[object, object], float]

METRICS: dict[str, Metric] = {
    "auroc": auroc,
    "fpr_at_tpr": fpr_at_tpr,
    "aurc": aurc,
    "accuracy": accuracy,
    "aupr_error": aupr_error,
    "aupr_success": aupr_success,
    "detection_error": detection_error,
    "e_aurc": e_aurc,
    "augrc": augrc,
    "mean_confidence": mean_confidence,
}


def find(metric: str | Metric) -> Metric:
    """The metric of that name, or `metric` itself if it is a function."""
    if callable(metric):
        return metric
    if metric not in METRICS:
        raise ValueError(
            f"metric must be one of {', '.join(METRICS)}, or a function, got {metric!r}"
        )
    return METRICS[metric]
