"""How many standard errors a mean of few runs must be from 0."""

from __future__ import annotations

import math


def student(freedom: int, level: float = 0.95) -> float:
    """The t with P(|T| <= t) = level, for Student's T with so many degrees of freedom.

    Two standard errors are 95 % of a normal distribution only where their size is known. It is
    estimated from the runs themselves, and of five runs 2.78 of them are, of two 12.7.

    Args:
        freedom: Runs less one, at least 1.
        level: In (0, 1).

    Returns:
        t, to the last few bits: the finite sum of `_inside`, bisected over the angle.

    Source: Student (1908); the sums are 26.7.3 and 26.7.4 of Abramowitz & Stegun.

    Example:
        >>> [round(student(runs - 1), 2) for runs in (2, 3, 5, 10)]
        [12.71, 4.3, 2.78, 2.26]
    """
    low, high = 0.0, math.pi / 2
    for _ in range(60):  # pi/2 2^-60 is below the spacing of floats at any angle looked for
        middle = (low + high) / 2
        low, high = (middle, high) if _inside(middle, freedom) < level else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def _inside(angle: float, freedom: int) -> float:
    """P(|T| <= sqrt(freedom) tan(angle))."""
    odd = freedom % 2
    term = total = math.cos(angle) if odd else 1.0
    for k in range(2 + odd, freedom, 2):
        term *= math.cos(angle) ** 2 * (k - 1) / k
        total += term
    if not odd:
        return math.sin(angle) * total
    return 2 / math.pi * (angle + (math.sin(angle) * total if freedom > 1 else 0.0))
