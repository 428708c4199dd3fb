"""The ROC curve, its area, and points on it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rrfast._checks import check_number
from rrfast.metrics.conventions import Positive, conventions, known
from rrfast.metrics.ranking import rank, sweep


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

    Samples with the same score are called together. The point (0, 0), which has no threshold among
    the scores, is left out.

    Args:
        score: [n] real numbers, larger = more confident; ±inf are ordinary values.
        correct: [n] booleans, True where the prediction is right.
        positive: "errors", as above, with ascending thresholds; or "correct": right predictions are
            positive where score >= threshold, with descending thresholds.
        weights: [n] real numbers >= 0, not all 0; twice the weight is the sample twice. None
            counts each sample once.

    Returns:
        `RocCurve(fpr, tpr, threshold)`, on the device of the score (CPU with weights). The rate of
        an empty class is NaN everywhere.

    Raises:
        TypeError: `score` or `weights` are not real numbers, or `correct` is not boolean.
        ValueError: Scores and answers not of one shape [n], no sample, NaN among the scores,
            weights that are not one per score, finite, >= 0 and not all 0, or another `positive`.

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

    Convention: errors are the positive class, as in RAT §5.1. (For this metric right predictions as
    the positive class give the same number.) It counts in integers and divides once in float64;
    with weights each pair counts the product of its two weights, in float64.

    Args:
        score: [n] real numbers, larger = more confident; ±inf are ordinary values.
        correct: [n] booleans, True where the prediction is right.
        positive: The class to detect, "errors" or "correct"; the result is the same.
        weights: [n] real numbers >= 0, not all 0; twice the weight is the sample twice. None
            counts each sample once.

    Returns:
        AUROC in [0, 1]. NaN where all predictions are right or all are wrong: there is no pair.

    Raises:
        TypeError: `score` or `weights` are not real numbers, or `correct` is not boolean.
        ValueError: Scores and answers not of one shape [n], no sample, NaN among the scores,
            weights that are not one per score, finite, >= 0 and not all 0, or another `positive`.

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


_CORRECT = {"openmix", "fd-shifts"}


@conventions(
    {
        "rat": "errors positive; FPR at the first threshold with TPR >= tpr",
        "relative-uncertainty": "errors positive; FPR at the first threshold with TPR >= tpr",
        "openmix": "right predictions positive; FPR where TPR is nearest to tpr",
        "fd-shifts": "right predictions positive; least FPR with TPR >= tpr - 0.0005",
        "torch-uncertainty": "errors positive; FPR at the first threshold with TPR >= tpr",
        "torch-uncertainty-0.12": (
            "errors positive; FPR where TPR is nearest to tpr, the last threshold of equally near"
        ),
    }
)
def fpr_at_tpr(
    score: object,
    correct: object,
    tpr: float = 0.95,
    *,
    positive: Positive | None = None,
    convention: str = "rat",
    weights: object = None,
) -> float:
    """Fraction of right predictions that are flagged if a fraction `tpr` of the errors is.

        flagged(t) = {i : s_i <= t}
        TPR(t) = flagged errors / errors,    FPR(t) = flagged right predictions / right predictions
        result = FPR(t*),    t* = the smallest score t with TPR(t) >= tpr

    With the default this is FPR95, the share of right predictions lost to catch 95 % of the errors.
    Smaller is better, 0 is a perfect detector, and a constant score gives 1.

    Convention: errors are the positive class, as in RAT §5.1; the threshold is the first score that
    reaches `tpr`, without interpolation. All samples with the same score are flagged together.
    Other conventions, to compare with older papers, give other numbers:

    | convention | positive | threshold |
    |---|---|---|
    | "rat", "relative-uncertainty" | errors | the first with TPR >= `tpr` |
    | "openmix" | right predictions | TPR nearest to `tpr`, the smaller of two equally near |
    | "fd-shifts" | right predictions | the first with TPR >= `tpr` - 0.0005 (0.9495 at 0.95) |
    | "torch-uncertainty" | errors | as "rat", since its release 0.13.0 |
    | "torch-uncertainty-0.12" | errors | TPR nearest to `tpr`, the last of those equally near |

    With right predictions positive, flagged(t) = {i : s_i >= t} and the two classes are exchanged:
    the result is the share of errors that are accepted. "openmix" may take the threshold that flags
    nothing. "torch-uncertainty-0.12" rounds its rates to float32 and takes no threshold beyond the
    first that catches all; among several with the same TPR below 1 it takes the one with the most
    false alarms. All take every distinct score as a threshold; scikit-learn's `roc_curve`, which
    some of those codes call, drops points on straight lines by default. (DOCTOR interpolates and
    ODIN averages over grids of thresholds; these are not implemented.)

    Args:
        score: [n] real numbers, larger = more confident; ±inf are ordinary values.
        correct: [n] booleans, True where the prediction is right.
        tpr: The fraction of positives to catch, in (0, 1].
        positive: The class to detect, "errors" or "correct"; None takes the convention's.
        convention: A name of the table; `rrfast.metrics.convention` defines it in a sentence.
        weights: [n] real numbers >= 0, not all 0; twice the weight is the sample twice. None
            counts each sample once. Sums of weights that are not integers are rounded, so that a
            TPR that should be exactly `tpr` may fall just below it.

    Returns:
        FPR in [0, 1]. NaN where all predictions are right or all are wrong: a rate has no
        denominator.

    Raises:
        TypeError: `score` or `weights` are not real numbers, or `correct` is not boolean.
        ValueError: Scores and answers not of one shape [n], no sample, NaN among the scores, `tpr`
            outside (0, 1], weights that are not one per score, finite, >= 0 and not all 0, or
            another `positive` or `convention`.

    Source: RAT §5.1; errata 11.

    Example:
        Both errors are caught at the threshold 0.5, and with them one right prediction of four.

        >>> score = [0.9, 0.8, 0.7, 0.4, 0.5, 0.3]
        >>> answers = [True, True, True, True, False, False]
        >>> fpr_at_tpr(score, answers)
        0.25
        >>> fpr_at_tpr(score, answers, convention="openmix")
        0.5
    """
    check_number("tpr", tpr, most=1)
    known("fpr_at_tpr", convention)
    if positive is None:
        positive = "correct" if convention in _CORRECT else "errors"
    positives, negatives = (x.cumsum(0) for x in sweep(rank(score, correct, weights), positive))
    # The last partial sum, not a separate sum, so that the last rate is 1 with float weights too.
    if positives[-1] == 0 or negatives[-1] == 0:
        return float("nan")
    # A quotient, not a product: 19 / 20 rounds to the double 0.95, but 0.07 * 100 not to 7.
    caught = positives.double() / positives[-1]
    alarms = negatives.double() / negatives[-1]
    if convention == "torch-uncertainty-0.12":
        # In float32 as in that code: rounding decides between two equally near ones.
        rate = positives.float() / positives[-1]
        distance = (rate[: int((rate == 1).int().argmax()) + 1] - tpr).abs()
        return float(alarms[(distance == distance.min()).nonzero()[-1]])
    if convention == "openmix":
        nothing = caught.new_zeros(1)
        caught, alarms = torch.cat([nothing, caught]), torch.cat([nothing, alarms])
        return float(alarms[(caught - tpr).abs().argmin()])
    least = tpr - 0.0005 if convention == "fd-shifts" else tpr
    return float(alarms[(caught >= least).int().argmax()])


@conventions(
    {
        "rat": "least (1 - TPR)/2 + FPR/2 over all thresholds",
        "odin": (
            "right predictions positive; (1 - TPR)/2 + FPR/2 at the first threshold with TPR >= tpr"
        ),
    }
)
def detection_error(
    score: object,
    correct: object,
    *,
    convention: str = "rat",
    tpr: float = 0.95,
    weights: object = None,
) -> float:
    """Least probability of confusing errors and right predictions, both being equally likely.

        P_e = min_t (1 - TPR(t)) / 2 + FPR(t) / 2

    Smaller is better, 0 is a perfect detector, 1/2 is chance. The minimum is the same whichever
    class is positive.

    Convention: "rat" (the default; RAT does not report it) is the minimum over all thresholds, as
    in ODIN's released code and its successors. The text of the ODIN paper differs: it takes the
    threshold of 95 % TPR, with in-distribution images positive. That is "odin": right predictions
    positive, the first threshold, from the most confident score down, with TPR >= `tpr`, and the
    TPR reached there. It is never below the minimum.

    Args:
        score: [n] real numbers, larger = more confident; ±inf are ordinary values.
        correct: [n] booleans, True where the prediction is right.
        convention: "rat" or "odin"; `rrfast.metrics.convention` defines it in a sentence.
        tpr: The fraction of right predictions to accept in "odin", in (0, 1]; "rat" ignores it.
        weights: [n] real numbers >= 0, not all 0; twice the weight is the sample twice. None
            counts each sample once.

    Returns:
        Error in [0, 1/2] for "rat", [0, 1] for "odin". NaN where all predictions are right or all
        are wrong.

    Raises:
        TypeError: `score` or `weights` are not real numbers, or `correct` is not boolean.
        ValueError: Scores and answers not of one shape [n], no sample, NaN among the scores,
            weights that are not one per score, finite, >= 0 and not all 0, `tpr` outside (0, 1], or
            another `convention`.

    Source: ODIN §4.3; errata 11, 30.

    Example:
        At the threshold 0.5 one right prediction of four is lost; "odin" accepts half of the
        errors.

        >>> score = [0.9, 0.8, 0.7, 0.4, 0.5, 0.3]
        >>> detection_error(score, [True, True, True, True, False, False])
        0.125
        >>> detection_error(score, [True, True, True, True, False, False], convention="odin")
        0.25
    """
    check_number("tpr", tpr, most=1)
    known("detection_error", convention)
    positives, negatives = (x.cumsum(0) for x in sweep(rank(score, correct, weights), "correct"))
    if positives[-1] == 0 or negatives[-1] == 0:
        return float("nan")
    caught = positives.double() / positives[-1]
    error = (1 - caught) / 2 + negatives.double() / negatives[-1] / 2
    if convention == "odin":
        return float(error[(caught >= tpr).int().argmax()])
    return float(error.min())
