"""False alarms among right predictions when most errors are caught."""

from __future__ import annotations

import torch

from rrfast.metrics._ranking import fraction, rank, sweep
from rrfast.metrics.convention import Positive, conventions, known

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
    """Fraction of right predictions that is flagged when a fraction `tpr` of the errors is.

        flagged(t) = {i : s_i <= t}
        TPR(t) = flagged errors / errors,    FPR(t) = flagged right predictions / right predictions
        result = FPR(t*),    t* = the smallest score t with TPR(t) >= tpr

    With the default this is FPR95, the share of right predictions lost to catch 95 % of the errors;
    smaller is better, 0 a perfect detector, and a constant score gives 1.

    Convention: errors are the positive class, as in RAT §5.1; the first threshold that reaches
    `tpr`, at a score that occurs, without interpolation. All samples with the same score are
    flagged together. Others, to compare with older papers, are different numbers:

    | convention | positive | threshold |
    |---|---|---|
    | "rat", "relative-uncertainty" | errors | the first with TPR >= `tpr` |
    | "openmix" | right predictions | TPR nearest to `tpr`, the smaller of two equally near |
    | "fd-shifts" | right predictions | the first with TPR >= `tpr` - 0.0005 (0.9495 at 0.95) |
    | "torch-uncertainty" | errors | as "rat", since its release 0.13.0 |
    | "torch-uncertainty-0.12" | errors | TPR nearest to `tpr`, the last of those equally near |

    With right predictions positive, flagged(t) = {i : s_i >= t} and the two classes change places:
    the result is the share of errors that is accepted. "openmix" may take the threshold that flags
    nothing. "torch-uncertainty-0.12" rounds its rates to float32, takes no threshold beyond the
    first that catches all, and of several with one TPR below 1 that with the most false alarms. All
    take every distinct score as a threshold; scikit-learn's `roc_curve`, which some of those codes
    call, leaves out points on straight lines unless told not to. (DOCTOR interpolates, ODIN
    averages, over grids of thresholds that are not given here.)

    Args:
        score: [n] real numbers, larger = more confident; ±inf are ordinary values.
        correct: [n] booleans, True where the prediction is right.
        tpr: The fraction of positives to catch, in (0, 1].
        positive: The class to detect, "errors" or "correct"; None takes the convention's.
        convention: A name of the table; `rrfast.metrics.convention` gives its sentence.
        weights: [n] real numbers >= 0, not all 0; twice the weight is the sample twice. None
            counts each sample once. Weights that are no integers round in their sums, and a TPR
            that should be exactly `tpr` may then fall short of it.

    Returns:
        FPR in [0, 1]. NaN where all predictions are right or all are wrong: a rate has no
        denominator.

    Raises:
        TypeError: `score` or `weights` are not real numbers, or `correct` is not boolean.
        ValueError: Not one score per answer in one dimension, none at all, NaN among the scores,
            `tpr` outside (0, 1], weights that are not one per score, finite, >= 0 and somewhere
            positive, or another `positive` or `convention`.

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
    fraction("tpr", tpr, zero=False)
    known("fpr_at_tpr", convention)
    if positive is None:
        positive = "correct" if convention in _CORRECT else "errors"
    positives, negatives = (x.cumsum(0) for x in sweep(rank(score, correct, weights), positive))
    # The last of the sums and no sum of its own, so that the last rate is 1 with float weights too.
    if positives[-1] == 0 or negatives[-1] == 0:
        return float("nan")
    # A quotient, not a product: 19 / 20 rounds to the double 0.95, 0.07 * 100 does not round to 7.
    caught = positives.double() / positives[-1]
    alarms = negatives.double() / negatives[-1]
    if convention == "torch-uncertainty-0.12":
        # In float32, as it is there: rounding decides between two that are equally near.
        rate = positives.float() / positives[-1]
        distance = (rate[: int((rate == 1).int().argmax()) + 1] - tpr).abs()
        return float(alarms[(distance == distance.min()).nonzero()[-1]])
    if convention == "openmix":
        nothing = caught.new_zeros(1)
        caught, alarms = torch.cat([nothing, caught]), torch.cat([nothing, alarms])
        return float(alarms[(caught - tpr).abs().argmin()])
    least = tpr - 0.0005 if convention == "fd-shifts" else tpr
    return float(alarms[(caught >= least).int().argmax()])
