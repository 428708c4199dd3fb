"""The risk at every coverage, with ties averaged over their orders."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

#: Groups of ties that are looked at together: their numbers stay in the processor's cache, where
#: memory that is touched for the first time would take most of the time.
BLOCK = 2**15


def risks(errors: npt.NDArray[np.int64], right: npt.NDArray[np.int64], n: int) -> Tensor:
    """The error rate among the i most confident of n predictions, for i = 1, ..., n.

    Inside a group of m ties with e errors their number grows by e / m per sample, its mean over all
    orders.

    Args:
        errors: [G] wrong predictions per distinct score, ascending, int64.
        right: [G] right predictions.
        n: All predictions.

    Returns:
        [n] float64, on the CPU.

    Example:
        >>> risks(np.array([1, 0]), np.array([1, 1]), 3)
        tensor([0.0000, 0.2500, 0.3333], dtype=torch.float64)
    """
    risk = np.empty(n)
    seen = wrong = 0
    ties = len(errors) < n
    for end in range(len(errors), 0, -BLOCK):
        groups = slice(max(end - BLOCK, 0), end)
        e = errors[groups][::-1]
        total = e.cumsum()
        total += wrong
        before, wrong = seen, total[-1]
        if not ties:
            seen += len(e)
            np.divide(total, np.arange(before + 1.0, seen + 1.0), out=risk[before:seen])
            continue
        size = right[groups][::-1] + e
        until = size.cumsum()
        until += before
        seen = until[-1]
        part = risk[before:seen]
        if len(part) == len(size):  # no ties here
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
