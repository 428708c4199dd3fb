"""Distances between two sets of images: MMD and energy distance (ODIN §4.4, App. E)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from rrfast._checks import check_count, describe

#: Bins of the first of the two passes that find the median.
BINS = 1 << 16


def mmd(a: Tensor, b: Tensor, *, block: int = 2048) -> float:
    """Squared maximum mean discrepancy with a Gaussian kernel, unbiased.

        MMD^2 = mean_{i != j} k(a_i, a_j) + mean_{i != j} k(b_i, b_j) - 2 mean_{i, j} k(a_i, b_j)
        k(x, x') = exp(-|x - x'|^2 / (2 s^2)),    2 s^2 = median of |x - x'| over all pairs

    The median is exact, over the unordered pairs of both sets together; of two middle values it is
    the lower one. As in the paper, 2 s^2 is the median of the distances, not of their squares. The
    expectation is 0 for two sets of one distribution, so MMD^2 can be negative.

    Args:
        a: [m, ...], m >= 2.
        b: [n, ...], n >= 2, of the same shape after the first dimension, on the same device.
        block: Rows at a time: block^2 of the (m + n)^2 distances are in memory.

    Returns:
        MMD^2.

    Raises:
        TypeError: `a` or `b` is not a floating-point tensor.
        ValueError: Shapes or devices differ, there are fewer than two rows, a value is not finite,
            or all rows are the same, so that the kernel width is 0.

    Cost: four times the distances of all pairs, (m + n)^2 N / 2 multiplications each, in float64 on
    every device.

    Source: ODIN §4.4. Its sums run over i != j but are divided by the number of unordered pairs;
    this is the usual unbiased estimate (Gretton et al. 2012), which counts each pair once in both.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> a, b = torch.rand(2, 100, 3, generator=generator)
        >>> abs(mmd(a, b)) < 0.02, mmd(a, b + 1) > 0.5
        (True, True)
    """
    a, b = _rows(a, b, block)
    both = torch.cat([a, b])
    width = _median(both, block)
    if width == 0:
        raise ValueError("a and b must have distances whose median is above 0, and all is the same")

    def kernel(distance: Tensor) -> Tensor:
        return torch.exp(-distance.square() / width)

    within = sum(_mean(_upper(rows, block), kernel) for rows in (a, b))
    return within - 2 * _mean(_blocks(a, b, block), kernel)


def energy_distance(a: Tensor, b: Tensor, *, block: int = 2048) -> float:
    """Squared energy distance, unbiased.

        D^2 = 2 mean_{i, j} |a_i - b_j| - mean_{i != j} |a_i - a_j| - mean_{i != j} |b_i - b_j|

    Args:
        a: As for `mmd`.
        b: As for `mmd`.
        block: As for `mmd`.

    Returns:
        D^2, which can be negative.

    Raises:
        TypeError, ValueError: As for `mmd`, but all rows may be the same.

    Cost: a quarter of `mmd`'s.

    Source: ODIN App. E, with the pairs counted as in `mmd`.

    Example:
        >>> energy_distance(torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [1.0]]))
        0.0
        >>> energy_distance(torch.tensor([[0.0], [0.0]]), torch.tensor([[3.0], [3.0]]))
        6.0
    """
    a, b = _rows(a, b, block)
    within = sum(_mean(_upper(rows, block)) for rows in (a, b))
    return 2 * _mean(_blocks(a, b, block)) - within


def _rows(a: Tensor, b: Tensor, block: int) -> tuple[Tensor, Tensor]:
    check_count("block", block)
    for name, x in (("a", a), ("b", b)):
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise TypeError(f"{name} must be a floating-point tensor [n, ...], got {describe(x)}")
        if x.dim() < 2 or len(x) < 2:
            raise ValueError(f"{name} must be [n >= 2, ...], got {describe(x)}")
        if not bool(x.isfinite().all()):
            raise ValueError(f"{name} must be finite, and has NaN or infinity")
    if a.shape[1:] != b.shape[1:] or a.device != b.device:
        raise ValueError(
            f"a and b must be of one shape and on one device, got {describe(a)} and {describe(b)}"
        )
    # float64, since a small distance is computed as a difference of squared lengths.
    return a.detach().double().flatten(1), b.detach().double().flatten(1)


def _blocks(a: Tensor, b: Tensor, block: int) -> Iterator[Tensor]:
    """Distances [p, q] of all rows, block by block."""
    for left, right in itertools.product(a.split(block), b.split(block)):
        yield torch.cdist(left, right)


def _upper(rows: Tensor, block: int) -> Iterator[Tensor]:
    """Distances [p] of all unordered pairs of different rows, block by block."""
    parts = rows.split(block)
    for i, left in enumerate(parts):
        yield torch.pdist(left)
        for right in parts[i + 1 :]:
            yield torch.cdist(left, right).flatten()


def _mean(
    blocks: Iterable[Tensor], function: Callable[[Tensor], Tensor] = lambda distance: distance
) -> float:
    """The mean of a function of all distances."""
    parts = [(function(distance).sum(), distance.numel()) for distance in blocks]
    totals, pairs = zip(*parts, strict=True)
    mean: float = float(sum(totals)) / sum(pairs)
    return mean


def _median(rows: Tensor, block: int) -> float:
    """The lower median of the distances of all unordered pairs, in two passes to save memory."""
    top = max((float(d.max()) for d in _upper(rows, block) if len(d)), default=0.0)
    if top == 0:
        return 0.0
    rank = (math.comb(len(rows), 2) - 1) // 2

    def place(distance: Tensor) -> Tensor:
        return (distance * (BINS / top)).long().clamp_(max=BINS - 1)

    counts = torch.zeros(BINS, dtype=torch.int64, device=rows.device)
    for distance in _upper(rows, block):
        counts += torch.bincount(place(distance), minlength=BINS)
    below = counts.cumsum(0)
    at = int((below <= rank).sum())
    inside = torch.cat([d[place(d) == at] for d in _upper(rows, block)])
    before = int(below[at - 1]) if at else 0
    return float(inside.sort().values[rank - before])
