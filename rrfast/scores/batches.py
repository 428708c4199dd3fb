"""Checked batches of a loader, on the model's device."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from rrfast._checks import check_labels, describe, is_integer
from rrfast._processes import shared
from rrfast.engine import Model, check_input
from rrfast.engine.modules_inside import device_of

T = TypeVar("T")


def check_loader(name: str, value: object) -> None:
    """Raise a TypeError unless `value` can be iterated over and is not a tensor.

    A function with several loaders checks all of them before it reads the first, which may take
    hours.
    """
    if isinstance(value, Tensor):
        raise TypeError(
            f"{name} must yield batches, and a tensor yields its rows; give x.split(256), got "
            f"{describe(value)}"
        )
    if not (isinstance(value, Iterable) or hasattr(type(value), "__getitem__")):
        hint = "; call it" if inspect.isfunction(value) or inspect.isclass(value) else ""
        raise TypeError(
            f"{name} must be an iterable of batches, such as a torch.utils.data.DataLoader, got "
            f"{describe(value)}{hint}"
        )


def input_of(name: str, batch: object) -> Tensor:
    """The x of a batch that is x or begins with it; raises a TypeError for anything else."""
    x = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
    if not isinstance(x, Tensor):
        raise TypeError(
            f"{name} must yield tensors, or tuples or lists that begin with one, got "
            + _told(batch, "(batch['image'] for batch in loader)")
        )
    return x


def _told(batch: object, instead: str) -> str:
    """A batch of another form in words, with what to give in place of it, if that is known.

    The batches of Transformers are mappings, but no dicts.
    """
    if isinstance(batch, Mapping):
        keys = ", ".join(map(repr, batch))
        return f"{type(batch).__name__} with the keys {keys}; give {instead}"
    parts = batch if isinstance(batch, (tuple, list)) else (batch,)
    if any(isinstance(part, np.ndarray) for part in parts):
        hint = "; make tensors of arrays: torch.from_numpy(x).float(), torch.from_numpy(y)"
    elif isinstance(batch, Tensor):
        hint = "; give [(x, y)] for data in one batch"
    else:
        hint = _of_samples(parts[-1] if parts else None)
    return describe(batch) + hint


def _of_samples(label: object) -> str:
    """What to give for a data set, which yields its samples one by one, each with one label."""
    if is_integer(label) or (isinstance(label, Tensor) and label.dim() == 0):
        return "; for a data set give torch.utils.data.DataLoader(dataset, batch_size=256)"
    return ""


def no_samples(name: str) -> ValueError:
    """The error for a loader that has yielded nothing."""
    return ValueError(
        f"{name} must yield at least one sample, but yielded none; a generator is read only once"
    )


def of_each(
    function: Callable[[Tensor, Tensor | None], T],
    model: Model,
    loader: Iterable[Any],
    *,
    pairs: bool = False,
    name: str = "loader",
) -> list[T]:
    """The results of `function(x, y)` for the batches of a loader; y is None without labels.

    Batches are x [B, ...], or (x, y [B] integers), which all must be with `pairs`; empty ones are
    left out. They are moved to the device of the model's first parameter or buffer; for a plain
    function nothing is moved. Processes that work together (`rrfast._processes.sharing`) share the
    batches, so the results must be picklable, and depend on nothing but the batch. Errors call the
    loader `name`.

    Raises:
        TypeError: `loader` is no iterable of batches, or yields anything else.
        ValueError: x and y differ in length, a label is negative, or there is no sample.
    """
    check_loader(name, loader)
    device = device_of(model)

    def one(_: int, batch: object) -> tuple[T, ...]:
        x, y = _on(device, *_parts(name, batch, pairs=pairs))
        return (function(x, y),) if len(x) else ()

    found = [result for results in shared(one, loader) for result in results]
    if not found:
        raise no_samples(name)
    return found


def _are_labels(y: Tensor) -> bool:
    """Whether `long` keeps the values: it drops imaginary parts, and fails on quantized tensors."""
    return y.layout is torch.strided and not (
        y.is_floating_point() or y.is_complex() or y.is_quantized
    )


def _on(device: torch.device | None, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor | None]:
    return (
        x if device is None else x.to(device),
        y if device is None or y is None else y.to(device),
    )


def _parts(name: str, batch: object, *, pairs: bool) -> tuple[Tensor, Tensor | None]:
    """X and y of a batch, both checked; with `pairs` it must have both."""
    parts = batch if isinstance(batch, (tuple, list)) else (batch,)
    lengths = (2,) if pairs else (1, 2)
    if len(parts) not in lengths or not all(isinstance(part, Tensor) for part in parts):
        raise TypeError(
            f"{name} must yield pairs of tensors (x [B, ...], y [B])"
            f"{'' if pairs else ', or x alone'}, got "
            + _told(batch, "((b['image'], b['label']) for b in loader)")
        )
    x = check_input(parts[0])
    if len(parts) == 1:
        return x, None
    y = parts[1]
    if not _are_labels(y) or y.dim() != 1 or len(y) != len(x):
        raise ValueError(
            f"{name} must yield one integer label per sample of x, {len(x)} of them, got "
            f"{describe(y)}{_of_samples(y)}"
        )
    y = y.long()
    check_labels("y", y, None)
    return x, y
