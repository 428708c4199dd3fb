"""Share of right predictions."""

from __future__ import annotations

from rrfast.metrics._ranking import check


def accuracy(score: object, correct: object) -> float:
    """Fraction of predictions that are right.

    The score does not enter; it is an argument, and checked, so that a table can call every metric
    in the same way.

    Args:
        score: [n] real numbers, larger = more confident; ±inf are ordinary values.
        correct: [n] booleans, True where the prediction is right.

    Returns:
        Accuracy in [0, 1], not per cent.

    Raises:
        TypeError: `score` is not real numbers, or `correct` is not boolean.
        ValueError: Not one score per answer in one dimension, none at all, or NaN among the scores.

    Source: RAT §5.1.

    Example:
        >>> accuracy([0.9, 0.4, 0.8, 0.3], [True, True, False, True])
        0.75
    """
    _, right = check(score, correct)
    return int(right.sum()) / len(right)
