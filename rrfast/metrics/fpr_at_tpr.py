"""False alarms among right predictions when most errors are caught."""

from __future__ import annotations

from rrfast.metrics._ranking import rank


def fpr_at_tpr(score: object, correct: object, tpr: float = 0.95) -> float:
    """Fraction of right predictions that is flagged when a fraction `tpr` of the errors is.

        flagged(t) = {i : s_i <= t}
        TPR(t) = flagged errors / errors,    FPR(t) = flagged right predictions / right predictions
        result = FPR(t*),    t* = the smallest score t with TPR(t) >= tpr

    With the default this is FPR95, the share of right predictions lost to catch 95 % of the errors;
    smaller is better, 0 a perfect detector, and a constant score gives 1.

    Convention: errors are the positive class, as in RAT §5.1; the first threshold that reaches
    `tpr`, at a score that occurs, without interpolation. All samples with the same score are
    flagged together. (OpenMix and others take right predictions as the positive class: a
    different number.)

    Args:
        score: [n] real numbers, larger = more confident; ±inf are ordinary values.
        correct: [n] booleans, True where the prediction is right.
        tpr: The fraction of errors to catch, in (0, 1].

    Returns:
        FPR in [0, 1]. NaN where all predictions are right or all are wrong: a rate has no
        denominator.

    Raises:
        TypeError: `score` is not real numbers, or `correct` is not boolean.
        ValueError: Not one score per answer in one dimension, none at all, NaN among the scores,
            or `tpr` outside (0, 1].

    Source: RAT §5.1; errata 11.

    Example:
        Both errors are caught at the threshold 0.5, and with them one right prediction of four.

        >>> score = [0.9, 0.8, 0.7, 0.4, 0.5, 0.3]
        >>> fpr_at_tpr(score, [True, True, True, True, False, False])
        0.25
    """
    if not 0 < tpr <= 1:
        raise ValueError(f"tpr must be a fraction in (0, 1], got {tpr!r}")
    errors, correct = rank(score, correct)
    wrong, right = int(errors.sum()), int(correct.sum())
    if wrong == 0 or right == 0:
        return float("nan")
    # A quotient, not a product: 19 / 20 rounds to the double 0.95, 0.07 * 100 does not round to 7.
    reached = errors.cumsum(0).double() / wrong >= tpr
    first = int(reached.int().argmax())
    return int(correct[: first + 1].sum()) / right
