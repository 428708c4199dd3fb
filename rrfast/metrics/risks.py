"""The risk at every coverage, with ties averaged over their orders."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

#: Groups of ties that are looked at together: their numbers stay in the processor's cache, where
#: memory that is touched for the first time would take most of the time.
BLOCK = 2**15


def risks(errors: Tensor, right: Tensor) -> Tensor:
    """The error rate among the i most confident of n predictions, for i = 1, ..., n.

    Inside a group of m ties with e errors their number grows by e / m per sample, its mean over all
    orders.

    Args:
        errors: [G] wrong predictions per distinct score, ascending, int64.
        right: [G] right predictions.

    Returns:
        [n] float64, on the CPU.

    Example:
        >>> risks(torch.tensor([1, 0]), torch.tensor([1, 1]))
        tensor([0.0000, 0.2500, 0.3333], dtype=torch.float64)
    """
    wrong_of, right_of = errors.cpu().numpy(), right.cpu().numpy()
    risk = np.empty(wrong_of.sum() + right_of.sum())
    seen = wrong = 0
    for end in range(len(errors), 0, -BLOCK):
        groups = slice(max(end - BLOCK, 0), end)
        e = wrong_of[groups][::-1]
        size = right_of[groups][::-1] + e
        until, total = size.cumsum(), e.cumsum()
        until += seen
        total += wrong
        before, seen, wrong = seen, until[-1], total[-1]
        part = risk[before:seen]
        if len(part) == len(size):  # no ties
            np.divide(total, until, out=part)
            continue
        part[until - (before + 1)] = total / until
        tied = np.flatnonzero(size > 1)
        size, e, until, total = size[tied], e[tied], until[tied], total[tied]
        place = np.arange(1, size.sum() + 1)
        place -= (size.cumsum() - size).repeat(size)  # within its group
        expected = (e / size).repeat(size)
        expected *= place
        expected += (total - e).repeat(size)
        place += (until - size).repeat(size)
        expected /= place
        place -= before + 1
        part[place] = expected
    return torch.from_numpy(risk)
