"""The confidence that most right predictions reach."""

from __future__ import annotations

import math

import torch

from rrfast.metrics._ranking import check, fraction


def acceptance_threshold(score: object, correct: object, keep_correct: float = 0.99) -> float:
    """The highest threshold that at least a share `keep_correct` of the right predictions reach.

        tau = max {t : #{i right : s_i >= t} >= keep_correct C},    C right predictions

    Exact, at a score that occurs: tau is the m-th largest score of the right predictions, m the
    smallest integer with m / C >= keep_correct. Nothing is rounded: 99.5 % is another threshold
    than 99 %. It belongs on images that nothing is reported of.

    `rrfast.selective.error_threshold` rejects a share of the errors.

    Args:
        score: [n] real numbers, larger = more confident; ±inf are ordinary values. NaN reaches no
            threshold.
        correct: [n] booleans, True where the prediction is right.
        keep_correct: In (0, 1].

    Returns:
        The threshold, for score >= threshold. NaN, which nothing reaches, where no prediction is
        right, or so many of their scores are NaN that none reaches `keep_correct`.

    Raises:
        TypeError: `score` is not real numbers, or `correct` is not boolean.
        ValueError: Not one score per answer in one dimension, or `keep_correct` is outside (0, 1].

    Source: Stutz et al. (2020), §5; the distal article, §4; errata 21. Released code rounds
    1 - keep_correct to two digits.

    Example:
        >>> score, correct = [0.1, 0.3, 0.6, 0.8, 0.9], [True, False, True, True, True]
        >>> [acceptance_threshold(score, correct, share) for share in (0.75, 0.76, 1.0)]
        [0.6, 0.1, 0.1]
    """
    fraction("keep_correct", keep_correct, zero=False)
    s, c = check(score, correct, empty=True, nan=True)
    right = s[c].double()
    if len(right) == 0:
        return math.nan
    places = torch.arange(1, len(right) + 1, dtype=torch.float64, device=s.device)
    # A quotient, not a product: 99 / 100 rounds to the double 0.99.
    m = int((places / len(right) >= keep_correct).int().argmax())
    # NaN last, and it is the answer where there are so many.
    return float((-right).sort().values[m].neg())
