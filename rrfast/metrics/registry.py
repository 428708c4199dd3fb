"""Metrics by name."""

from __future__ import annotations

from collections.abc import Callable

from rrfast._checks import check_one_of
from rrfast.metrics.precision_recall import aupr_error, aupr_success
from rrfast.metrics.risk_coverage import augrc, aurc, e_aurc
from rrfast.metrics.roc import auroc, detection_error, fpr_at_tpr
from rrfast.metrics.thresholded import accuracy, mean_confidence

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
    """The metric with that name, or `metric` itself if it is a function."""
    if callable(metric):
        return metric
    check_one_of("metric, unless it is a function,", metric, METRICS)
    return METRICS[metric]
