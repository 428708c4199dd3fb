"""Share of right predictions."""

from __future__ import annotations

from rrfast.metrics._ranking import rank
from rrfast.metrics.convention import conventions


@conventions({"rat": "fraction of predictions that are right"})
def accuracy(score: object, correct: object, *, weights: object = None) -> float:
    """Fraction of predictions that are right.

    The score does not enter; it is an argument, and checked, so that a table can call every metric
    in the same way.

    Args:
        score: [n] real numbers, larger = more confident; ±inf are ordinary values.
        correct: [n] booleans, True where the prediction is right.
        weights: [n] real numbers >= 0, not all 0; twice the weight is the sample twice. None
            counts each sample once.

    Returns:
        Accuracy in [0, 1], not per cent.

    Raises:
        TypeError: `score` or `weights` are not real numbers, or `correct` is not boolean.
        ValueError: Not one score per answer in one dimension, none at all, NaN among the scores,
            weights that are not one per score, finite, >= 0 and somewhere positive.

    Source: RAT §5.1.

    Example:
        >>> accuracy([0.9, 0.4, 0.8, 0.3], [True, True, False, True])
        0.75
    """
    _, errors, right, _ = rank(score, correct, weights)
    return right.sum().item() / (right.sum() + errors.sum()).item()
