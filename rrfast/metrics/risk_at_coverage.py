"""Error rate among the most confident share of the predictions."""

from __future__ import annotations

from rrfast.metrics._ranking import fraction
from rrfast.metrics.convention import conventions
from rrfast.metrics.risk_coverage_curve import risk_coverage_curve


@conventions({"rat": "risk at the least coverage that occurs and is >= coverage, ties together"})
def risk_at_coverage(
    score: object, correct: object, coverage: float, *, weights: object = None
) -> float:
    """Error rate of the predictions that are accepted when at least a share `coverage` must be.

        result = risk(t*),    t* = the largest score t with coverage(t) >= coverage

    Smaller is better. Exact, at a threshold that can be set: predictions with the same score are
    accepted together, so that more than `coverage` may be, and nothing is interpolated. A constant
    score gives the error rate at every coverage.

    Args:
        score: [n] real numbers, larger = more confident; ±inf are ordinary values.
        correct: [n] booleans, True where the prediction is right.
        coverage: The least share to accept, in (0, 1].
        weights: [n] real numbers >= 0, not all 0; twice the weight is the sample twice. None
            counts each sample once.

    Returns:
        Risk in [0, 1].

    Raises:
        TypeError: `score` or `weights` are not real numbers, or `correct` is not boolean.
        ValueError: Not one score per answer in one dimension, none at all, NaN among the scores,
            weights that are not one per score, finite, >= 0 and somewhere positive, or
            `coverage` outside (0, 1].

    Source: the curve of RAT §5.1 (Geifman & El-Yaniv 2017), read at one point.

    Example:
        >>> risk_at_coverage([0.9, 0.8, 0.8, 0.3], [True, False, True, False], 0.25)
        0.0
        >>> round(risk_at_coverage([0.9, 0.8, 0.8, 0.3], [True, False, True, False], 0.5), 4)
        0.3333
    """
    fraction("coverage", coverage, zero=False)
    curve = risk_coverage_curve(score, correct, weights=weights)
    return float(curve.risk[(curve.coverage >= coverage).int().argmax()])
