"""The box and the unit of a step, in the form that the ops take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rrfast._checks import check_number, describe, is_number
from rrfast._reading import is_on_host
from rrfast.ops.layout import accumulate_dtype

#: A number, or one value per channel (dimension 1 of x).
Values = float | Tensor | npt.NDArray[Any] | Sequence[float]
#: The box inputs are clamped to: (lower, upper), each a number or one value per channel; or both as
#: a tensor [2, C].
Bounds = tuple[Values, Values] | Tensor
#: The unit of a step, in x's units: a number or one value per channel.
Scale = Values


def _channels(x: Tensor) -> int:
    return x.shape[1] if x.dim() > 1 else 1


def _numbers_of(values: Any) -> Tensor | None:
    """A list or an array of numbers as a tensor; None of anything else in it, such as text."""
    try:
        array = np.asarray(values)
    except ValueError:  # lists of different lengths
        return None
    return torch.tensor(array.astype(np.float64)) if array.dtype.kind in "iuf" else None


def _channel_values(name: str, value: Any, x: Tensor) -> Tensor:
    """[1] or [C], in the accumulation dtype, where the values are; a number is put where x is."""
    dtype = accumulate_dtype(x.dtype)
    if is_number(value):
        # Beyond the dtype's range is infinite, as a cast has it and `full` has not.
        number = float(value) if abs(value) <= torch.finfo(dtype).max else value * math.inf
        return torch.full((1,), number, dtype=dtype, device=x.device)
    if isinstance(value, (list, tuple, np.ndarray)):
        value = _numbers_of(value)
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name} must be a number or a tensor with one value per channel (an array or a list "
            f"will do), got {describe(value)}"
        )
    if value.numel() not in (1, _channels(x)):
        raise ValueError(
            f"{name} must be a number or hold one value for each of the {_channels(x)} channels "
            f"(dimension 1) of x, got {describe(value)}"
        )
    return value.detach().to(dtype).reshape(-1)


def check_options(box: Tensor | None, units: Tensor | None) -> None:
    """Raise a ValueError unless they are a box and units; waits for the device that they lie on.

    `channel_bounds` and `channel_scale`, whose results these are, look at numbers and at what they
    have to convert, and not at a tensor in the form that they give: an op is called with it at
    every step. So this is for where options come in.
    """
    if box is not None:
        _check_ends(*box.tolist())
    if units is not None:
        _check_units(units.tolist())


def _check_ends(lower: list[float], upper: list[float]) -> None:
    for channel, (low, high) in enumerate(zip(lower, upper, strict=True)):
        if not low <= high:
            where = f" in channel {channel}" if len(lower) > 1 else ""
            raise ValueError(f"bounds must have lower <= upper, got ({low:g}, {high:g}){where}")


def _check_units(scale: list[float]) -> None:
    for channel, unit in enumerate(scale):
        if not 0 < unit < math.inf:
            where = f" in channel {channel}" if len(scale) > 1 else ""
            raise ValueError(f"scale must be finite and greater than 0, got {unit:g}{where}")


def channel_bounds(bounds: Bounds | None, x: Tensor) -> Tensor | None:
    """`bounds` in the form the ops take: [2, C] or [2, 1] on x's device, in its accumulation dtype.

    Do this once where many steps share the bounds.

    Args:
        bounds: None, or (lower, upper), each a number or one value per channel of `x` (a tensor, an
            array or a list), or both as a tensor [2, C].
        x: The inputs, [B, C, ...].

    Raises:
        TypeError, ValueError: `bounds` is no pair, does not fit the channels, or has lower > upper
            or NaN. Not looked at, see `check_options`: a tensor [2, C], which is that form, and
            what is not on the CPU.

    Example:
        >>> channel_bounds((0, 1), torch.rand(4, 3, 8, 8))
        tensor([[0.],
                [1.]])
    """
    if bounds is None:
        return None
    pair = isinstance(bounds, (tuple, list)) or (isinstance(bounds, Tensor) and bounds.dim() > 0)
    if not pair or len(bounds) != 2:
        raise TypeError(f"bounds must be None or a pair (lower, upper), got {describe(bounds)}")
    if isinstance(bounds, Tensor) and bounds.shape in ((2, 1), (2, _channels(x))):
        return bounds.detach().to(x.device, accumulate_dtype(x.dtype))
    lower, upper = bounds[0], bounds[1]
    low, high = (_channel_values("bounds", end, x) for end in (lower, upper))
    if is_number(lower) and is_number(upper):
        if not lower <= upper:
            raise ValueError(f"bounds must have lower <= upper, got ({lower!r}, {upper!r})")
        return torch.stack((low, high))
    if low.device != high.device:
        low, high = low.to(x.device), high.to(x.device)
    box = torch.stack(torch.broadcast_tensors(low, high))
    if is_on_host(box):
        _check_ends(*box.tolist())
    return box.to(x.device)


def channel_scale(scale: Scale | None, x: Tensor) -> Tensor | None:
    """`scale` in the form the ops take: [C] or [1] on x's device, in its accumulation dtype.

    Args:
        scale: None, a number, or one value per channel of `x` (a tensor, an array or a list).
        x: The inputs, [B, C, ...].

    Raises:
        TypeError, ValueError: `scale` is neither, does not fit the channels, or is not finite and
            greater than 0, also in the accumulation dtype. Tensors are not looked at, see
            `check_options`.

    Example:
        >>> channel_scale(torch.tensor([4.0, 2.0, 1.0]), torch.rand(4, 3, 8, 8))
        tensor([4., 2., 1.])
    """
    if scale is None:
        return None
    if is_number(scale):
        check_number("scale", scale)
        finfo = torch.finfo(accumulate_dtype(x.dtype))
        if not finfo.tiny <= scale <= finfo.max:
            raise ValueError(
                f"scale must be from {finfo.tiny:g} to {finfo.max:g}, the numbers of "
                f"{finfo.dtype}, got {scale!r}"
            )
        return _channel_values("scale", scale, x)
    units = _channel_values("scale", scale, x)
    if not isinstance(scale, Tensor):
        _check_units(units.tolist())
    return units.to(x.device)
