"""The confidence that most right predictions reach."""

from __future__ import annotations

import math

import torch

from rrfast.metrics._ranking import check, fraction


def acceptance_threshold(score: object, correct: object, tpr: float = 0.99) -> float:
    """The highest threshold that at least a share `tpr` of the right predictions reach.

        tau = max {t : #{i right : s_i >= t} >= tpr C},    C right predictions

    Exact, at a score that occurs: tau is the m-th largest score of the right predictions, m the
    smallest integer with m / C >= tpr. Nothing is rounded: 99.5 % is another threshold than 99 %.
    It belongs on images that nothing is reported of.

    Here right predictions are the positive class; `rrfast.selective.tpr_threshold` rejects a share
    of the errors.

    Args:
        score: [n] real numbers, larger = more confident; ±inf are ordinary values. NaN reaches no
            threshold.
        correct: [n] booleans, True where the prediction is right.
        tpr: In (0, 1].

    Returns:
        The threshold, for score >= threshold. NaN, which nothing reaches, where no prediction is
        right, or so many of their scores are NaN that none reaches `tpr`.

    Raises:
        TypeError: `score` is not real numbers, or `correct` is not boolean.
        ValueError: Not one score per answer in one dimension, or `tpr` is outside (0, 1].

    Source: Stutz et al. (2020), §5; the distal article, §4; errata 21. Released code rounds 1 - tpr
    to two digits.

    Example:
        >>> score, correct = [0.1, 0.3, 0.6, 0.8, 0.9], [True, False, True, True, True]
        >>> [acceptance_threshold(score, correct, tpr) for tpr in (0.75, 0.76, 1.0)]
        [0.6, 0.1, 0.1]
    """
    fraction("tpr", tpr, zero=False)
    s, c = check(score, correct, empty=True, nan=True)
    right = s[c].double()
    if len(right) == 0:
        return math.nan
    places = torch.arange(1, len(right) + 1, dtype=torch.float64, device=s.device)
    # A quotient, not a product: 99 / 100 rounds to the double 0.99.
    m = int((places / len(right) >= tpr).int().argmax())
    # NaN last, and it is the answer where there are so many.
    return float((-right).sort().values[m].neg())
