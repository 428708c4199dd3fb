"""Average precision, with errors or right predictions positive."""

from __future__ import annotations

from rrfast.metrics.conventions import Positive, conventions
from rrfast.metrics.ranking import Ranking, rank, sweep


@conventions({"rat": "errors positive; average precision, ties called together"})
def aupr_error(score: object, correct: object, *, weights: object = None) -> float:
    """Average precision of finding errors, over thresholds that call s_i <= t positive.

        AUPR = sum_k (R_k - R_{k-1}) P_k,    R_0 = 0

    with P_k the share of errors among the predictions called positive at the k-th distinct score,
    least confident first, and R_k the share of all errors called positive. Larger is better, 1 is a
    perfect ranking; a constant score gives the error rate.

    Convention: a sum of steps, not a trapezoid, which is too optimistic between two points of a
    precision-recall curve; samples with the same score are called together. This is scikit-learn's
    `average_precision_score`. `aupr_success` has the other class positive: a different number. The
    ODIN paper's AUPR-Out is this with out-of-distribution images in place of errors.

    Args:
        score: [n] real numbers, larger = more confident; ±inf are ordinary values.
        correct: [n] booleans, True where the prediction is right.
        weights: [n] real numbers >= 0, not all 0; twice the weight is the sample twice. None
            counts each sample once.

    Returns:
        AUPR in [0, 1]. NaN where no prediction is wrong: recall has no denominator.

    Raises:
        TypeError: `score` or `weights` are not real numbers, or `correct` is not boolean.
        ValueError: Scores and answers not of one shape [n], no sample, NaN among the scores,
            weights that are not one per score, finite, >= 0 and not all 0.

    Source: ODIN §4 (AUPR); errata 11, 20.

    Example:
        >>> round(aupr_error([0.9, 0.4, 0.8, 0.3], [True, True, False, False]), 4)
        0.8333
    """
    return average_precision(rank(score, correct, weights), "errors")


def average_precision(ranking: Ranking, positive: Positive) -> float:
    """The sum above for either class."""
    positives, negatives = sweep(ranking, positive)
    found, called = positives.cumsum(0), (positives + negatives).cumsum(0)
    if found[-1] == 0:
        return float("nan")
    return float((positives.double() / found[-1] * (found.double() / called)).sum())


@conventions({"rat": "right predictions positive; average precision, ties called together"})
def aupr_success(score: object, correct: object, *, weights: object = None) -> float:
    """Average precision of finding right predictions, over thresholds that call s_i >= t positive.

        AUPR = sum_k (R_k - R_{k-1}) P_k,    R_0 = 0

    as `aupr_error`, with right predictions as the positive class and the most confident first: a
    different number. A constant score gives the accuracy. The ODIN paper's AUPR-In is this with
    out-of-distribution images in place of errors.

    Args:
        score: [n] real numbers, larger = more confident; ±inf are ordinary values.
        correct: [n] booleans, True where the prediction is right.
        weights: [n] real numbers >= 0, not all 0; twice the weight is the sample twice. None
            counts each sample once.

    Returns:
        AUPR in [0, 1]. NaN where no prediction is right: recall has no denominator.

    Raises:
        TypeError: `score` or `weights` are not real numbers, or `correct` is not boolean.
        ValueError: Scores and answers not of one shape [n], no sample, NaN among the scores,
            weights that are not one per score, finite, >= 0 and not all 0.

    Source: ODIN §4 (AUPR); errata 11, 20.

    Example:
        >>> round(aupr_success([0.9, 0.4, 0.8, 0.3], [True, True, False, True]), 4)
        0.8056
    """
    return average_precision(rank(score, correct, weights), "correct")
