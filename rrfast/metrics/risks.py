"""The risk at every coverage, with ties averaged over their orders."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Integers = npt.NDArray[np.int64]
#: Number of samples, or of groups of ties, to process at a time, so that intermediate results stay
#: in the processor's cache. New memory would take most of the time.
BLOCK = 2**15
_RANKS = np.arange(1.0, BLOCK + 1)


def risks(errors: Integers, before: Integers, until: Integers) -> Tensor:
    """The error rate among the i most confident of n predictions, for i = 1, ..., n.

    Inside a group of m ties with e errors their number grows by e / m per sample, its mean over all
    orders.

    Args:
        errors: [n] errors by rank, the most confident first; those of a group of ties are all at
            its last rank. Overwritten.
        before: [T] for each group of several the last rank before it; ranks count from 1.
        until: [T] its last rank.

    Returns:
        [n] float64, on the CPU.

    Example:
        >>> risks(np.array([0, 0, 1]), np.array([1]), np.array([3]))  # the last two tie
        tensor([0.0000, 0.2500, 0.3333], dtype=torch.float64)
    """
    total = np.add.accumulate(errors, out=errors)
    above = inside = until
    if len(until):
        above = total[until - 2]
        inside = total[until - 1] - above
    # Into the same memory: new memory would take longer than the division.
    risk = total.view(np.float64)
    for start in range(0, len(risk), BLOCK):
        part = total[start : start + BLOCK]
        ranks = _RANKS[: len(part)]
        risk[start : start + BLOCK] = part / (ranks + start if start else ranks)
    for start in range(0, len(until), BLOCK):
        group = slice(start, start + BLOCK)
        size = until[group] - before[group]
        place = np.arange(1, size.sum() + 1)
        place -= (size.cumsum() - size).repeat(size)  # within its group
        expected = (inside[group] / size).repeat(size)
        expected *= place
        expected += above[group].repeat(size)
        place += before[group].repeat(size)
        expected /= place
        place -= 1
        risk[place] = expected
    return torch.from_numpy(risk)


def mean_risk(errors: Integers, before: Integers, until: Integers) -> float:
    """The mean of `risks`."""
    return risks(errors, before, until).sum().item() / len(errors)


def by_rank(errors: Tensor, correct: Tensor) -> tuple[Integers, Integers, Integers]:
    """The arguments of `risks` from a `Ranking` without weights."""
    counts = errors.cpu().numpy()[::-1]
    size = counts + correct.cpu().numpy()[::-1]
    until = size.cumsum()
    placed = np.zeros(until[-1], dtype=np.int64)
    placed[until - 1] = counts
    several = size > 1
    return placed, (until - size)[several], until[several]
