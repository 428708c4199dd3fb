"""Area under the ROC curve of a confidence score as a detector of errors."""

from __future__ import annotations

from rrfast.metrics._ranking import rank


def auroc(score: object, correct: object) -> float:
    """Probability that a wrong prediction scores below a right one, ties counting half.

        AUROC = (1 / (E C)) sum_{wrong i, right j} ([s_i < s_j] + [s_i = s_j] / 2)

    with E wrong and C right predictions: the Mann-Whitney statistic, which is the area under the
    ROC curve with ties joined by straight lines. 0.5 is chance, 1 a perfect detector.

    Convention: errors are the positive class, as in RAT §5.1. (This metric alone is the same
    with right predictions as the positive class.) Counted in integers, divided once in float64.

    Args:
        score: [n] real numbers, larger = more confident; ±inf are ordinary values.
        correct: [n] booleans, True where the prediction is right.

    Returns:
        AUROC in [0, 1]. NaN where all predictions are right or all are wrong: there is no pair.

    Raises:
        TypeError: `score` is not real numbers, or `correct` is not boolean.
        ValueError: Not one score per answer in one dimension, none at all, or NaN among the scores.

    Source: RAT §5.1; errata 11.

    Example:
        >>> auroc([0.9, 0.4, 0.8, 0.4], [True, True, False, False])
        0.625
    """
    errors, correct = rank(score, correct)
    pairs = int(errors.sum()) * int(correct.sum())
    if pairs == 0:
        return float("nan")
    # Twice the statistic, so that half ties stay integers.
    above = 2 * (correct.sum() - correct.cumsum(0)) + correct
    return int((errors * above).sum()) / (2 * pairs)
