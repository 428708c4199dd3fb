"""How much of what should be rejected is accepted."""

from __future__ import annotations

import math

from rrfast._checks import is_number
from rrfast.metrics._ranking import check_score


def false_acceptance(score: object, threshold: float) -> float:
    """Share of samples that should all be rejected and are not: the FPR at a given threshold.

        FPR(tau) = #{i : s_i >= tau} / n

    With the `acceptance_threshold` of a share of the right predictions, on other samples, this is
    the FPR at 99 % TPR of adversarial or distal examples. All of them are in the denominator.
    Smaller is better.

    Args:
        score: [n] real numbers, larger = more confident. NaN is not accepted, and counts.
        threshold: tau; with NaN nothing is accepted.

    Returns:
        The rate, in [0, 1]; NaN for no samples.

    Raises:
        TypeError: `score` is not real numbers, or `threshold` is no number.
        ValueError: `score` has not one dimension.

    Source: Stutz et al. (2020), §5; the distal article, §4.

    Example:
        >>> false_acceptance([0.2, 0.5, 0.7, 0.9], 0.5)
        0.75
    """
    if not is_number(threshold):
        raise TypeError(f"threshold must be a number, got {threshold!r}")
    s = check_score(score, empty=True, nan=True)
    return int((s.double() >= threshold).sum()) / len(s) if len(s) else math.nan
