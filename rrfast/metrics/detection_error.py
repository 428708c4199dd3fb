"""Chance of a wrong verdict when errors and right predictions are equally many."""

from __future__ import annotations

from rrfast.metrics._ranking import fraction, rank, sweep
from rrfast.metrics.convention import conventions, known


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
    """Least probability of taking an error for a right prediction or the reverse, both as likely.

        P_e = min_t (1 - TPR(t)) / 2 + FPR(t) / 2

    Smaller is better, 0 a perfect detector, 1/2 chance. The minimum is the same whichever class is
    positive.

    Convention: "rat" (the default here; RAT reports none) is the minimum over all thresholds, as
    ODIN's successors and its released code count it. The ODIN paper's own text differs: it takes
    the threshold of 95 % TPR, with in-distribution images positive. That is "odin": right
    predictions positive, the first threshold, from the most confident score down, with TPR >=
    `tpr`, and the TPR that is reached there. It is never below the minimum.

    Args:
        score: [n] real numbers, larger = more confident; ±inf are ordinary values.
        correct: [n] booleans, True where the prediction is right.
        convention: "rat" or "odin"; `rrfast.metrics.convention` gives its sentence.
        tpr: The fraction of right predictions to accept in "odin", in (0, 1]; "rat" needs none.
        weights: [n] real numbers >= 0, not all 0; twice the weight is the sample twice. None
            counts each sample once.

    Returns:
        Error in [0, 1/2] for "rat", [0, 1] for "odin". NaN where all predictions are right or all
        are wrong.

    Raises:
        TypeError: `score` or `weights` are not real numbers, or `correct` is not boolean.
        ValueError: Not one score per answer in one dimension, none at all, NaN among the scores,
            weights that are not one per score, finite, >= 0 and somewhere positive, `tpr`
            outside (0, 1], or another `convention`.

    Source: ODIN §4.3; errata 11, 30.

    Example:
        At the threshold 0.5 one right prediction of four is lost; at 0.8 half of the errors too.

        >>> score = [0.9, 0.8, 0.7, 0.4, 0.5, 0.3]
        >>> detection_error(score, [True, True, True, True, False, False])
        0.125
        >>> detection_error(score, [True, True, True, True, False, False], convention="odin")
        0.25
    """
    fraction("tpr", tpr, zero=False)
    known("detection_error", convention)
    positives, negatives = (x.cumsum(0) for x in sweep(rank(score, correct, weights), "correct"))
    if positives[-1] == 0 or negatives[-1] == 0:
        return float("nan")
    caught = positives.double() / positives[-1]
    error = (1 - caught) / 2 + negatives.double() / negatives[-1] / 2
    if convention == "odin":
        return float(error[(caught >= tpr).int().argmax()])
    return float(error.min())
