"""How confident a classifier is, right or wrong."""

from __future__ import annotations

from rrfast.metrics._ranking import rank
from rrfast.metrics.convention import conventions


@conventions({"rat": "mean of the score; correct does not enter"})
def mean_confidence(score: object, correct: object, *, weights: object = None) -> float:
    """Mean of the score: of the maximal softmax probability, ACET's mean maximal confidence.

        MMC = (1/n) sum_i s_i,    s_i = max_k softmax(f(x_i))_k

    On noise and other inputs of no class smaller is better: 1/K is the least of K classes. It is
    the one metric here that looks at values and not at ranks, and the unit is the score's; the
    answers do not enter, and are an argument, and checked, so that a table can call every metric
    in the same way.

    Args:
        score: [n] real numbers, larger = more confident; ±inf are ordinary values.
        correct: [n] booleans, True where the prediction is right.
        weights: [n] real numbers >= 0, not all 0; twice the weight is the sample twice. None
            counts each sample once.

    Returns:
        Mean in float64, in the score's unit. Infinite with one kind of infinity among the scores,
        NaN with both.

    Raises:
        TypeError: `score` or `weights` are not real numbers, or `correct` is not boolean.
        ValueError: Not one score per answer in one dimension, none at all, NaN among the scores,
            weights that are not one per score, finite, >= 0 and somewhere positive.

    Source: ACET §5, Table 1 (MMC).

    Example:
        >>> mean_confidence([0.75, 0.5, 1.0, 0.25], [True, True, False, True])
        0.625
    """
    values, errors, right, _ = rank(score, correct, weights)
    count = errors + right
    return float((values.double() * count).sum() / count.sum())
