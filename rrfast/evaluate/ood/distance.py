"""Distances between two sets of images: MMD and energy distance (ODIN §4.4, App. E)."""

from __future__ import annotations

import torch
from torch import Tensor

from rrfast._checks import check_finite, describe


def mmd(a: Tensor, b: Tensor) -> float:
    """Squared maximum mean discrepancy with a Gaussian kernel, unbiased.

        MMD^2 = mean_{i != j} k(a_i, a_j) + mean_{i != j} k(b_i, b_j) - 2 mean_{i, j} k(a_i, b_j)
        k(x, x') = exp(-|x - x'|^2 / (2 s^2)),    2 s^2 = median of |x - x'| over all pairs

    The median is exact, over the unordered pairs of both sets together; of two middle values it is
    the lower one. As in the paper, 2 s^2 is the median of the distances, not of their squares. The
    expectation is 0 for two sets of one distribution, so MMD^2 can be negative.

    Args:
        a: [m, ...], m >= 2.
        b: [n, ...], n >= 2, of the same shape after the first dimension, on the same device.

    Returns:
        MMD^2.

    Raises:
        TypeError: `a` or `b` is not a floating-point tensor.
        ValueError: Shapes or devices differ, there are fewer than two rows, a value is not finite,
            or all rows are the same, so that the kernel width is 0.

    Cost: (m^2 + m n + n^2) N multiplications, in float64 on every device; the distances of all
    pairs, 8 bytes each, are in memory twice: 130 MB for two sets of 2,000.

    Source: ODIN §4.4. Its sums run over i != j but are divided by the number of unordered pairs;
    this is the usual unbiased estimate (Gretton et al. 2012), which counts each pair once in both.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> a, b = torch.rand(2, 100, 3, generator=generator)
        >>> abs(mmd(a, b)) < 0.02, mmd(a, b + 1) > 0.5
        (True, True)
    """
    parts = _distances(a, b)
    width = torch.cat(parts).median()
    if width == 0:
        raise ValueError("a and b must have distances whose median is above 0, and all is the same")

    of_a, of_b, between = (torch.exp(-part.square() / width).mean().item() for part in parts)
    return of_a + of_b - 2 * between


def energy_distance(a: Tensor, b: Tensor) -> float:
    """Squared energy distance, unbiased.

        D^2 = 2 mean_{i, j} |a_i - b_j| - mean_{i != j} |a_i - a_j| - mean_{i != j} |b_i - b_j|

    Args:
        a: As for `mmd`.
        b: As for `mmd`.

    Returns:
        D^2, which can be negative.

    Raises:
        TypeError, ValueError: As for `mmd`, but all rows may be the same.

    Cost: as for `mmd`.

    Source: ODIN App. E, with the pairs counted as in `mmd`.

    Example:
        >>> energy_distance(torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [1.0]]))
        0.0
        >>> energy_distance(torch.tensor([[0.0], [0.0]]), torch.tensor([[3.0], [3.0]]))
        6.0
    """
    of_a, of_b, between = (part.mean().item() for part in _distances(a, b))
    return 2 * between - of_a - of_b


def _distances(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of all pairs of different rows of a, of b, and of one row of each."""
    for name, x in (("a", a), ("b", b)):
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise TypeError(f"{name} must be a floating-point tensor [n, ...], got {describe(x)}")
        if x.dim() < 2 or len(x) < 2:
            raise ValueError(f"{name} must be [n >= 2, ...], got {describe(x)}")
        check_finite(name, x)
    if a.shape[1:] != b.shape[1:] or a.device != b.device:
        raise ValueError(
            f"a and b must be of one shape and on one device, got {describe(a)} and {describe(b)}"
        )
    # float64, since a small distance is computed as a difference of squared lengths.
    a, b = (x.detach().double().flatten(1) for x in (a, b))
    return torch.pdist(a), torch.pdist(b), torch.cdist(a, b).flatten()
