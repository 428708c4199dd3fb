"""Largest share of the predictions that can be accepted at an error rate."""

from __future__ import annotations

from rrfast.metrics._ranking import fraction
from rrfast.metrics.convention import conventions
from rrfast.metrics.risk_coverage_curve import risk_coverage_curve


@conventions({"rat": "largest coverage that occurs with risk <= risk, ties together; else 0"})
def coverage_at_risk(
    score: object, correct: object, risk: float, *, weights: object = None
) -> float:
    """Largest share of predictions, the most confident ones, whose error rate is at most `risk`.

        result = max {coverage(t) : risk(t) <= risk},    0 where no threshold has so small a risk

    Larger is better. Exact, at a threshold that can be set: predictions with the same score are
    accepted together or not at all, and nothing is interpolated. The risk may have been larger at
    a smaller coverage.

    Args:
        score: [n] real numbers, larger = more confident; ±inf are ordinary values.
        correct: [n] booleans, True where the prediction is right.
        risk: The largest error rate among accepted predictions, in [0, 1].
        weights: [n] real numbers >= 0, not all 0; twice the weight is the sample twice. None
            counts each sample once.

    Returns:
        Coverage in [0, 1].

    Raises:
        TypeError: `score` or `weights` are not real numbers, or `correct` is not boolean.
        ValueError: Not one score per answer in one dimension, none at all, NaN among the scores,
            weights that are not one per score, finite, >= 0 and somewhere positive, or
            `risk` outside [0, 1].

    Source: the curve of RAT §5.1 (Geifman & El-Yaniv 2017), read at one point.

    Example:
        >>> coverage_at_risk([0.9, 0.8, 0.8, 0.3], [True, False, True, False], 0.4)
        0.75
        >>> coverage_at_risk([0.9, 0.8, 0.8, 0.3], [True, False, True, False], 0.3)
        0.25
    """
    fraction("risk", risk, zero=True)
    curve = risk_coverage_curve(score, correct, weights=weights)
    return max(curve.coverage[curve.risk <= risk].tolist(), default=0.0)
