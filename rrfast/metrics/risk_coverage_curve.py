"""Error rate among accepted predictions against how many are accepted."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from rrfast.metrics._ranking import rank


class RiskCoverageCurve(NamedTuple):
    """One point per distinct score, G of them, coverage ascending to 1."""

    coverage: Tensor  #: [G] share of predictions with score >= threshold, float64
    risk: Tensor  #: [G] error rate among them, float64
    threshold: Tensor  #: [G] descending, in the dtype of the scores


def risk_coverage_curve(
    score: object, correct: object, *, weights: object = None
) -> RiskCoverageCurve:
    """Risk and coverage at every threshold: accept where score >= threshold.

        coverage(t) = |{i : s_i >= t}| / n,    risk(t) = errors among {i : s_i >= t} / their number

    Samples with the same score are accepted together. There is no point of coverage 0, where risk
    is 0/0. (`aurc` is the mean of the risk over all n coverages, ties averaged, and no trapezoid of
    these points.)

    Args:
        score: [n] real numbers, larger = more confident; ±inf are ordinary values.
        correct: [n] booleans, True where the prediction is right.
        weights: [n] real numbers >= 0, not all 0; twice the weight is the sample twice. None
            counts each sample once.

    Returns:
        `RiskCoverageCurve(coverage, risk, threshold)`, on the device of the score (CPU with
        weights).

    Raises:
        TypeError: `score` or `weights` are not real numbers, or `correct` is not boolean.
        ValueError: Not one score per answer in one dimension, none at all, NaN among the scores,
            weights that are not one per score, finite, >= 0 and somewhere positive.

    Source: RAT §5.1 (Geifman & El-Yaniv 2017).

    Example:
        >>> curve = risk_coverage_curve([0.9, 0.8, 0.8, 0.3], [True, False, True, True])
        >>> curve.coverage.tolist(), curve.threshold.tolist()
        ([0.25, 0.75, 1.0], [0.9, 0.8, 0.3])
        >>> [round(risk, 4) for risk in curve.risk.tolist()]
        [0.0, 0.3333, 0.25]
    """
    threshold, errors, right = (x.flip(0) for x in rank(score, correct, weights)[:3])
    accepted = (errors + right).cumsum(0).double()
    return RiskCoverageCurve(accepted / accepted[-1], errors.cumsum(0) / accepted, threshold)
