"""Thresholds for a coverage, a share of the errors, or a risk."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from rrfast._checks import check_number
from rrfast.metrics.ranking import check, check_score


def just_above(value: Tensor) -> float:
    """The smallest larger number of the value's dtype: as a threshold it rejects the value.

    It is also a float64, with the same comparisons there as in the value's dtype. (Torch compares
    integers with a number in float32, which is inexact beyond 2^24: compare them in float64.)

    Example:
        >>> just_above(torch.tensor(1)), just_above(torch.tensor(1.0, dtype=torch.bfloat16))
        (2.0, 1.0078125)
    """
    if not value.is_floating_point():
        # Beyond 2^53 the next integer may not be a float64, so take the next float64.
        return max(float(int(value) + 1), math.nextafter(float(value), math.inf))
    if value.dtype == torch.float16:  # torch has no nextafter for it
        with np.errstate(over="ignore"):  # the next number after the largest is infinity
            return float(np.nextafter(value.cpu().numpy(), np.float16(math.inf)))
    return float(value.nextafter(value.new_tensor(math.inf)))


def with_room(score: Tensor, threshold: float) -> float:
    """A threshold that accepts the same samples, halfway to the nearest rejected one.

    So rounding decides nothing if a score is computed again in another way. It is the threshold
    itself if nothing is accepted, nothing is rejected, or no number lies in between.

    Args:
        score: [n] float64, no NaN.
        threshold: A sample is accepted if score >= threshold.

    Example:
        >>> with_room(torch.tensor([0.0, 0.25, 0.75]).double(), 0.75)
        0.5
    """
    kept = score >= threshold
    if bool(kept.all()) or not bool(kept.any()):
        return threshold
    above, below = float(score[kept].min()), float(score[~kept].max())
    middle = below / 2 + above / 2
    return middle if below < middle < above else threshold


def coverage_threshold(score: object, coverage: float) -> float:
    """The highest threshold that accepts at least a share `coverage` of the samples.

    A sample is accepted if score >= threshold; ties are accepted together, so the coverage may be
    larger.

    Args:
        score: [n] real numbers, larger = more confident; no NaN.
        coverage: In (0, 1].

    Example:
        >>> coverage_threshold([0.1, 0.4, 0.4, 0.9], 0.5)
        0.4
    """
    check_number("coverage", coverage, most=1)
    s = check_score(score)
    # A product of floats may be just above the exact integer.
    accepted = max(1, math.ceil(float(coverage) * len(s) - 1e-9))
    return float(s.sort(descending=True).values[accepted - 1])


def error_threshold(score: object, correct: object, reject_errors: float) -> float:
    """The lowest threshold that rejects at least a share `reject_errors` of the errors.

    It is the lowest such number of the scores' dtype; for integers an integer.

    Args:
        score: [n] real numbers, larger = more confident; no NaN.
        correct: [n] booleans, True where the prediction is right.
        reject_errors: In (0, 1].

    Raises:
        ValueError: There is no error to reject, or so many errors score infinity, which no
            threshold exceeds, that no threshold rejects that share.

    Source: RAT §5.1; errata 11: as FPR95, at the first score that reaches `reject_errors`.

    Example:
        >>> error_threshold([0.1, 0.4, 0.6, 0.9], [False, True, False, True], 0.5) > 0.1
        True
    """
    check_number("reject_errors", reject_errors, most=1)
    s, c = check(score, correct)
    wrong = s[~c].sort().values
    if len(wrong) == 0:
        raise ValueError("correct must have a wrong prediction, or there is nothing to reject")
    rejected = max(1, math.ceil(float(reject_errors) * len(wrong) - 1e-9))
    if wrong[rejected - 1] == math.inf:
        raise ValueError(
            f"no threshold rejects a share reject_errors={reject_errors:g} of the {len(wrong)} "
            f"errors: {int((wrong == math.inf).sum())} of them score infinity, which nothing is "
            "above"
        )
    return just_above(wrong[rejected - 1])


def risk_threshold(score: object, correct: object, risk: float) -> float:
    """The lowest threshold with at most a share `risk` of wrong samples among the accepted.

    This is the risk on these samples only, which says little if they are few: `guaranteed_risk`
    bounds the true risk.

    Args:
        score: [n] real numbers, larger = more confident; no NaN.
        correct: [n] booleans, True where the prediction is right.
        risk: In [0, 1].

    Raises:
        ValueError: No threshold has that risk.

    Example:
        >>> risk_threshold([0.1, 0.4, 0.6, 0.9], [False, True, False, True], 0.34)
        0.4
    """
    check_number("risk", risk, least=0, most=1)
    s, c = check(score, correct)
    values, group = s.unique(return_inverse=True)
    size, errors = (torch.bincount(g, minlength=len(values)) for g in (group, group[~c]))
    accepted, wrong = (counts.flip(0).cumsum(0).flip(0) for counts in (size, errors))
    kept = (wrong.double() <= float(risk) * accepted.double() + 1e-9).nonzero()
    if len(kept) == 0:
        raise ValueError(
            f"no threshold has a risk of at most {risk:g} on these {len(s)} samples: the most "
            "confident of them are wrong"
        )
    return float(values[int(kept[0])])
