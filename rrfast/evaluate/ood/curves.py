"""Curves over thresholds at points that are the same for every run, so they can be averaged."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rrfast.metrics import roc_curve

#: Per cent of accepted test images at which the accuracy is computed (ODIN Fig. 11).
ACCEPTED = (50, 60, 70, 80, 85, 90, 95, 98, 99)
#: False positive rates at which the ROC curve is stored.
RATES = tuple(i / 100 for i in range(101))
#: Edges of the bins in which confidences are counted: from 0 to 1 as in ACET's App. H.
EDGES = tuple(i / 50 for i in range(51))


def accuracies(value: Tensor, correct: Tensor) -> tuple[list[float], list[float]]:
    """The accuracy of accepted and of rejected images at each of `ACCEPTED`; ties stay together.

    Example:
        >>> value = torch.tensor([4.0, 3.0, 2.0, 1.0])
        >>> accepted, rejected = accuracies(value, torch.tensor([True, True, False, True]))
        >>> accepted[0], rejected[0], accepted[-1], rejected[-1]
        (1.0, 0.5, 0.75, nan)
    """
    if value.isnan().any():
        return [math.nan] * len(ACCEPTED), [math.nan] * len(ACCEPTED)
    n = len(value)
    # The smallest integer that is at least p % of n, in integer arithmetic.
    least = torch.tensor([-(-p * n // 100) for p in ACCEPTED])
    threshold = value.sort(descending=True).values[least - 1]
    above = value >= threshold[:, None]
    found = [
        ((part & correct).sum(dim=1).double() / part.sum(dim=1)).tolist()
        for part in (above, ~above)
    ]
    return found[0], found[1]


def rates(value: Tensor, known: Tensor) -> list[float]:
    """The true positive rate at each of `RATES`, linear between thresholds, the highest for ties.

    Example:
        >>> value, known = torch.tensor([2.0, 1.0]), torch.tensor([True, False])
        >>> set(rates(value, known)), rates(torch.ones(2), known) == list(RATES)
        ({1.0}, True)
    """
    if value.isnan().any():
        return [math.nan] * len(RATES)
    curve = roc_curve(value, known, positive="correct")
    fpr, tpr = (torch.cat([x.new_zeros(1), x.cpu()]) for x in (curve.fpr, curve.tpr))
    wanted = torch.tensor(RATES, dtype=fpr.dtype)
    # The last threshold with at most that rate, and the next one.
    before = torch.searchsorted(fpr, wanted, right=True) - 1
    after = (before + 1).clamp(max=len(fpr) - 1)
    width = fpr[after] - fpr[before]
    share = torch.where(width > 0, (wanted - fpr[before]) / width, 0.0)
    found: list[float] = torch.lerp(tpr[before], tpr[after], share).tolist()
    return found
