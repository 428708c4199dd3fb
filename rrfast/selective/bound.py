"""The exact binomial bound: how large a risk can be that showed so few errors."""

from __future__ import annotations

import math
from typing import TypeGuard

import torch
from torch import Tensor

from rrfast.checks import check_count, describe, is_number


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
    if errors == accepted:
        return 1.0
    allowed = math.log(1 - confidence)
    counts = torch.tensor([errors]), torch.tensor([accepted])
    low, high = errors / accepted, 1.0
    while high - low > 1e-13 * high:
        middle = (low + high) / 2
        if not low < middle < high:
            break
        if float(log_at_most(*counts, middle)) >= allowed:
            low = middle
        else:
            high = middle
    return high


def log_at_most(errors: Tensor, accepted: Tensor, risk: float) -> Tensor:
    """Log P(Binomial(accepted, risk) <= errors), which falls as the risk grows.

    Args:
        errors: [J] int64.
        accepted: [J] int64, more than `errors`.
        risk: In (0, 1).

    Returns:
        [J] float64.

    Cost: a sum of errors + 1 terms for each.
    """
    most, largest = int(errors.max()), int(accepted.max())
    factorial = torch.lgamma(torch.arange(largest + 1, dtype=torch.float64) + 1)
    k = torch.arange(most + 1)
    odds = k.double() * (math.log(risk) - math.log1p(-risk)) - factorial[k]
    rest = factorial[accepted] + accepted.double() * math.log1p(-risk)
    rows = 1 + 2**22 // (most + 1)  # some 30 MB at a time
    results = []
    for wrong, n in zip(errors.split(rows), accepted.split(rows), strict=True):
        terms = odds - factorial[(n[:, None] - k).clamp(min=0)]
        results.append(terms.masked_fill(k > wrong[:, None], -math.inf).logsumexp(1))
    return torch.cat(results) + rest


def check_fraction(name: str, value: object) -> TypeGuard[float]:
    """Raise unless `value` is a number in (0, 1)."""
    if not is_number(value):
        raise TypeError(f"{name} must be a number, got {describe(value)}")
    if not 0 < value < 1:
        raise ValueError(f"{name} must be between 0 and 1, got {value!r}")
    return True
