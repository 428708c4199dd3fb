"""Area under the ROC curve of a confidence score as a detector of errors."""

from __future__ import annotations

from rrfast.metrics._ranking import rank, sweep
from rrfast.metrics.convention import Positive, conventions


@conventions(
    {"rat": "probability that an error scores below a right prediction, ties counting half"}
)
def auroc(
    score: object, correct: object, *, positive: Positive = "errors", weights: object = None
) -> float:
    """Probability that a wrong prediction scores below a right one, ties counting half.

        AUROC = (1 / (E C)) sum_{wrong i, right j} ([s_i < s_j] + [s_i = s_j] / 2)

    with E wrong and C right predictions: the Mann-Whitney statistic, which is the area under the
    ROC curve with ties joined by straight lines. 0.5 is chance, 1 a perfect detector.

    Convention: errors are the positive class, as in RAT §5.1. (This metric alone is the same
    with right predictions as the positive class.) Counted in integers, divided once in float64;
    with weights each pair counts the product of its two, in float64.

    Args:
        score: [n] real numbers, larger = more confident; ±inf are ordinary values.
        correct: [n] booleans, True where the prediction is right.
        positive: What is detected, "errors" or "correct"; the result is the same number.
        weights: [n] real numbers >= 0, not all 0; twice the weight is the sample twice. None
            counts each sample once.

    Returns:
        AUROC in [0, 1]. NaN where all predictions are right or all are wrong: there is no pair.

    Raises:
        TypeError: `score` or `weights` are not real numbers, or `correct` is not boolean.
        ValueError: Not one score per answer in one dimension, none at all, NaN among the scores,
            weights that are not one per score, finite, >= 0 and somewhere positive, or another
            `positive`.

    Source: RAT §5.1; errata 11.

    Example:
        >>> auroc([0.9, 0.4, 0.8, 0.4], [True, True, False, False])
        0.625
    """
    positives, negatives = sweep(rank(score, correct, weights), positive)
    if not positives.is_floating_point():
        pairs = int(positives.sum()) * int(negatives.sum())
        if pairs == 0:
            return float("nan")
        # Twice the statistic, so that half ties stay integers.
        above = 2 * (negatives.sum() - negatives.cumsum(0)) + negatives
        return int((positives * above).sum()) / (2 * pairs)
    total, seen = negatives.sum(), negatives.cumsum(0)
    if total == 0 or positives.sum() == 0:
        return float("nan")
    beaten = (total - seen + negatives / 2) / total
    return float((positives * beaten).sum() / positives.sum())
