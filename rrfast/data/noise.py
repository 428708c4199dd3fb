"""Noise images as out-of-distribution data (ODIN §4.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rrfast._checks import check_count, describe
from rrfast._seeds import seeded


def gaussian_noise(n: int, shape: Sequence[int], *, seed: int = 0) -> Tensor:
    """Every value of every pixel from N(1/2, 1), clipped to [0, 1].

    Args:
        n: Number of images, at least 1.
        shape: Shape of one image, [C, H, W].
        seed: Any integer. The global random state is neither used nor changed.

    Returns:
        [n, C, H, W] float32 in [0, 1], on the CPU. 62 % of the values are at 0 or 1.

    Raises:
        TypeError: `seed` is not an integer, or `shape` not a list.
        ValueError: `n` or a length is not an integer of at least 1, or `shape` does not have three.

    Source: ODIN §4.2 (3).

    Example:
        >>> x = gaussian_noise(100, (3, 32, 32))
        >>> x.shape, round(float(((x == 0) | (x == 1)).double().mean()), 2)
        (torch.Size([100, 3, 32, 32]), 0.62)
    """
    x = torch.empty(batch_shape(n, shape), device="cpu", dtype=torch.float32)
    return x.normal_(generator=seeded(seed)).add_(0.5).clamp_(0, 1)


def uniform_noise(n: int, shape: Sequence[int], *, seed: int = 0) -> Tensor:
    """Every value of every pixel uniform in [0, 1).

    Args:
        n: Number of images, at least 1.
        shape: Shape of one image, [C, H, W].
        seed: Any integer. The global random state is neither used nor changed.

    Returns:
        [n, C, H, W] float32, on the CPU.

    Raises:
        TypeError, ValueError: As `gaussian_noise`.

    Source: ODIN §4.2 (4).

    Example:
        >>> uniform_noise(2, (1, 8, 8)).shape
        torch.Size([2, 1, 8, 8])
    """
    x = torch.empty(batch_shape(n, shape), device="cpu", dtype=torch.float32)
    return x.uniform_(generator=seeded(seed))


def batch_shape(n: int, shape: Sequence[int]) -> tuple[int, ...]:
    """(n, C, H, W), each of them at least 1."""
    check_count("n", n)
    if not isinstance(shape, Sequence):
        raise TypeError(f"shape must be [C, H, W], got {describe(shape)}")
    if len(shape) != 3:
        raise ValueError(f"shape must be [C, H, W], got {list(shape)}")
    for name, length in zip(("channels", "height", "width"), shape, strict=True):
        check_count(f"{name} in shape", length)
    return (n, *shape)
