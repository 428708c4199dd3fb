"""Labelled batches, checked, where the model is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor

from rrfast.checks import describe
from rrfast.engine import Model, check_input
from rrfast.inside import device_of


def labelled(model: Model, loader: Iterable[Any]) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of a loader on the model's device; empty ones are left out.

    Args:
        model: Its first parameter or buffer says where to; a plain function gets them as they come.
        loader: Yields (x [B, ...], y [B] integers).

    Raises:
        TypeError: `loader` yields something else.
        ValueError: x and y differ in length, a label is negative, or there is not one sample.

    Example:
        >>> import torch
        >>> [(x, y)] = labelled(torch.nn.Linear(4, 3), [(torch.rand(2, 4), torch.tensor([0, 2]))])
        >>> x.shape, y
        (torch.Size([2, 4]), tensor([0, 2]))
    """
    device, samples = device_of(model), 0
    for batch in loader:
        pair = isinstance(batch, (tuple, list)) and len(batch) == 2
        if not pair or not all(isinstance(part, Tensor) for part in batch):
            raise TypeError(
                f"loader must yield pairs of tensors (x [B, ...], y [B]), got {describe(batch)}"
            )
        x, y = batch
        x = check_input(x)
        if y.dim() != 1 or y.is_floating_point() or len(y) != len(x):
            raise ValueError(
                f"loader must yield one integer label per sample of x, {len(x)} of them, got "
                f"{describe(y)}"
            )
        if len(y) and int(y.min()) < 0:
            raise ValueError(f"loader must yield labels of at least 0, got {int(y.min())}")
        if len(x):
            samples += len(x)
            yield (x, y) if device is None else (x.to(device), y.to(device))
    if not samples:
        raise ValueError(
            "loader must yield at least one sample, and it yielded none; a generator can be read "
            "only once"
        )
