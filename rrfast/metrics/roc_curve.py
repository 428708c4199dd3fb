"""How many errors are caught against how many right predictions are lost."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from rrfast.metrics._ranking import rank, sweep
from rrfast.metrics.convention import Positive


class RocCurve(NamedTuple):
    """One point per distinct score, G of them, both rates ascending to 1."""

    fpr: Tensor  #: [G] share of negatives called positive, float64
    tpr: Tensor  #: [G] share of positives called positive, float64
    threshold: Tensor  #: [G] in the dtype of the scores


def roc_curve(
    score: object, correct: object, *, positive: Positive = "errors", weights: object = None
) -> RocCurve:
    """True and false positive rate at every threshold, errors positive where score <= threshold.

        TPR(t) = errors with s_i <= t / errors,    FPR(t) = right predictions with s_i <= t / right

    Samples with the same score are called together. The point (0, 0), which no score is a threshold
    of, is left out.

    Args:
        score: [n] real numbers, larger = more confident; ±inf are ordinary values.
        correct: [n] booleans, True where the prediction is right.
        positive: "errors", as above, thresholds ascending; or "correct", the two classes changing
            places, positive where score >= threshold, thresholds descending.
        weights: [n] real numbers >= 0, not all 0; twice the weight is the sample twice. None
            counts each sample once.

    Returns:
        `RocCurve(fpr, tpr, threshold)`, on the device of the score (CPU with weights). A rate of a
        class that is empty is NaN everywhere.

    Raises:
        TypeError: `score` or `weights` are not real numbers, or `correct` is not boolean.
        ValueError: Not one score per answer in one dimension, none at all, NaN among the scores,
            weights that are not one per score, finite, >= 0 and somewhere positive, or another
            `positive`.

    Source: RAT §5.1; errata 11.

    Example:
        >>> curve = roc_curve([0.9, 0.8, 0.8, 0.3], [True, False, True, False])
        >>> curve.fpr.tolist(), curve.tpr.tolist(), curve.threshold.tolist()
        ([0.0, 0.5, 1.0], [0.5, 1.0, 1.0], [0.3, 0.8, 0.9])
    """
    ranking = rank(score, correct, weights)
    positives, negatives = (x.cumsum(0).double() for x in sweep(ranking, positive))
    threshold = ranking.score if positive == "errors" else ranking.score.flip(0)
    return RocCurve(negatives / negatives[-1], positives / positives[-1], threshold)
