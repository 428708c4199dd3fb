"""Checked batches of a loader, on the model's device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

from rrfast._checks import check_labels, describe
from rrfast._processes import shared
from rrfast.engine import Model, check_input
from rrfast.engine.modules_inside import device_of

T = TypeVar("T")
_NOTHING = (
    "loader must yield at least one sample, and it yielded none; a generator can be read only once"
)


def labelled(model: Model, loader: Iterable[Any]) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches (x [B, ...], y [B] integers) of a loader, without empty ones.

    They are moved to the device of the model's first parameter or buffer; for a plain function
    nothing is moved.

    Raises:
        TypeError: `loader` yields anything else.
        ValueError: x and y differ in length, a label is negative, or there is no sample.

    Example:
        >>> import torch
        >>> [(x, y)] = labelled(torch.nn.Linear(4, 3), [(torch.rand(2, 4), torch.tensor([0, 2]))])
        >>> x.shape, y
        (torch.Size([2, 4]), tensor([0, 2]))
    """
    device, samples = device_of(model), 0
    for batch in loader:
        x, y = _on(device, *_parts(_pair(batch)))
        assert y is not None  # of a pair
        if len(x):
            samples += len(x)
            yield x, y
    if not samples:
        raise ValueError(_NOTHING)


def unlabelled(name: str, loader: Iterable[Any]) -> Iterator[Tensor]:
    """The x [B, ...] of a loader that yields x, or begins each batch with it; no empty ones.

    Raises:
        TypeError: `loader`, which errors call `name`, is a tensor or yields anything else.
        ValueError: There is no sample.
    """
    samples = 0
    for batch in loader:
        x = input_of(name, batch)
        samples += len(x)
        if len(x):
            yield x
    if not samples:
        raise ValueError(
            f"{name} must yield at least one input, and it yielded none; a generator can be read "
            "only once"
        )


def input_of(name: str, batch: object) -> Tensor:
    """The x of a batch that is x or begins with it; raises a TypeError for anything else."""
    x = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
    if not isinstance(x, Tensor):
        hint = "; give (batch['image'] for batch in loader)" if isinstance(x, dict) else ""
        raise TypeError(
            f"{name} must yield tensors, or tuples or lists that begin with one, got "
            f"{describe(batch)}{hint}"
        )
    return x


def _pair(batch: object) -> object:
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise TypeError(
            f"loader must yield pairs of tensors (x [B, ...], y [B]), got {describe(batch)}"
        )
    return batch


def of_each(
    function: Callable[[Tensor, Tensor | None], T],
    model: Model,
    loader: Iterable[Any],
    *,
    pairs: bool = False,
) -> list[T]:
    """`function(x, y)` of every batch x or (x, y) of a loader, y None without labels.

    Batches are moved as by `labelled`; empty ones are left out, and with `pairs` all must have
    labels. Processes that work together (`rrfast._processes.sharing`) share the batches: the result
    of `function` can be pickled, and depends on nothing but the batch.

    Raises:
        TypeError, ValueError: As `labelled`; and whatever `function` raises.
    """
    device = device_of(model)

    def one(_: int, batch: object) -> tuple[T, ...]:
        x, y = _on(device, *_parts(_pair(batch) if pairs else batch))
        return (function(x, y),) if len(x) else ()

    found = [result for results in shared(one, loader) for result in results]
    if not found:
        raise ValueError(_NOTHING)
    return found


def _on(device: torch.device | None, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor | None]:
    return (
        x if device is None else x.to(device),
        y if device is None or y is None else y.to(device),
    )


def _parts(batch: object) -> tuple[Tensor, Tensor | None]:
    """X and y of a batch, both checked."""
    parts = batch if isinstance(batch, (tuple, list)) else (batch,)
    if not 1 <= len(parts) <= 2 or not all(isinstance(part, Tensor) for part in parts):
        raise TypeError(
            "loader must yield pairs of tensors (x [B, ...], y [B]), or x alone, got "
            f"{describe(batch)}"
        )
    x = check_input(parts[0])
    if len(parts) == 1:
        return x, None
    y = parts[1]
    if y.dim() != 1 or y.is_floating_point() or len(y) != len(x):
        raise ValueError(
            f"loader must yield one integer label per sample of x, {len(x)} of them, got "
            f"{describe(y)}"
        )
    y = y.long()
    check_labels("y", y, None)
    return x, y
