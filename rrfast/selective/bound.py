"""The exact binomial bound: how large a risk can be that showed so few errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeGuard

import torch

from rrfast._checks import check_count, describe, is_number


def risk_bound(errors: int, accepted: int, confidence: float = 0.95) -> float:
    """Largest risk that is consistent with `errors` among `accepted`: Clopper and Pearson's bound.

        b = max {r : P(Binomial(accepted, r) <= errors) >= 1 - confidence}

    If the accepted samples are independent draws, the true risk is at most b with probability
    `confidence`, whatever the distribution and however few the samples.

    Args:
        errors: Wrong predictions among the accepted, 0 to `accepted`.
        accepted: Accepted samples, >= 0.
        confidence: In (0, 1).

    Returns:
        In (0, 1], to a relative error of 1e-12; 1 where nothing or only errors were accepted.

    Raises:
        TypeError, ValueError: An argument is no number, or out of range.

    Source: Clopper & Pearson (1934); Geifman & El-Yaniv (2017), "Selective Classification for Deep
    Neural Networks", Lemma 3.1, where it is called B*.

    Example:
        No error among 59: with 95 % confidence the risk is below 1 - 0.05^(1/59).

        >>> round(risk_bound(0, 59), 4)
        0.0495
    """
    check_count("accepted", accepted, least=0)
    check_count("errors", errors, least=0)
    if errors > accepted:
        raise ValueError(f"errors must be at most accepted, {accepted}, got {errors}")
    check_fraction("confidence", confidence)
    return largest_risk(errors, accepted, math.log(1 - float(confidence)))


def largest_risk(errors: int, accepted: int, allowed: float) -> float:
    """`risk_bound`, for the log of the probability that the bound may be violated with.

    A share of 1 - confidence need not become a confidence again, which would round it.

    Args:
        errors: 0 to `accepted`.
        accepted: >= 0.
        allowed: Below 0.

    Cost: errors logarithms, then some 45 sums of errors + 1 terms; neither without an error.
    """
    if errors == accepted:
        return 1.0
    if errors == 0:
        # P = (1 - r)^accepted, which has a solution.
        return -math.expm1(allowed / accepted)
    log_p = log_at_most(errors, accepted)
    low, high = errors / accepted, 1.0
    while high - low > 1e-13 * high:
        middle = (low + high) / 2
        if not low < middle < high:
            break
        if log_p(middle) >= allowed:
            low = middle
        else:
            high = middle
    return high


def log_at_most(errors: int, accepted: int) -> Callable[[float], float]:
    """Log P(Binomial(accepted, risk) <= errors) as a function of the risk, with which it falls.

    The log-binomials do not depend on the risk and are made once, for all the risks to come. They
    are sums of quotients' logarithms: differences of log-factorials, which are far larger, would
    leave the rounding of those.

    Args:
        errors: 0 to `accepted` - 1.
        accepted: >= 1.

    Returns:
        A function of a risk in (0, 1).

    Cost: errors logarithms here, a sum of errors + 1 terms for each risk.
    """
    k = torch.arange(errors + 1, dtype=torch.float64)
    # C(a, k) = C(a, k - 1) (a - k + 1) / k. The terms as parts of the last, near which the large
    # ones are, so that what rounding adds up on the way to the small ones is not seen.
    steps = ((accepted + 1 - k) / k)[1:].log()
    below = torch.cat([steps.flip(0).cumsum(0).flip(0), steps.new_zeros(1)])
    ways = math.fsum(steps.tolist())

    def log_p(risk: float) -> float:
        log_right = math.log1p(-risk)
        log_odds = math.log(risk) - log_right
        part = float(((k - errors) * log_odds - below).logsumexp(0))
        return part + (ways + errors * log_odds + accepted * log_right)

    return log_p


def check_fraction(name: str, value: object) -> TypeGuard[float]:
    """Raise unless `value` is a number in (0, 1)."""
    if not is_number(value):
        raise TypeError(f"{name} must be a number, got {describe(value)}")
    if not 0 < value < 1:
        raise ValueError(f"{name} must be between 0 and 1, got {value!r}")
    return True
