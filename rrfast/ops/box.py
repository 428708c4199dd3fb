"""Converts the box and the unit of a step to the form that the ops take."""

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
#: The box that inputs are clamped to: (lower, upper), each a number or one value per channel; or
#: both as a tensor [2, C].
Bounds = tuple[Values, Values] | Tensor
#: The unit of a step, in x's units: a number or one value per channel.
Scale = Values


def _channels(x: Tensor) -> int:
    return x.shape[1] if x.dim() > 1 else 1


def _numbers_of(values: Any) -> Tensor | None:
    """A list or an array of numbers as a tensor; None if it holds anything else, such as text."""
    try:
        array = np.asarray(values)
    except ValueError:  # lists of different lengths
        return None
    return torch.tensor(array.astype(np.float64)) if array.dtype.kind in "iuf" else None


def _channel_values(name: str, value: Any, x: Tensor) -> Tensor:
    """[1] or [C] in the accumulation dtype, on the values' device; for a number, on x's device."""
    dtype = accumulate_dtype(x.dtype)
    if is_number(value):
        # Beyond the dtype's range it is infinite: a cast does so, `full` does not.
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
    """Raise a ValueError unless they are a valid box and valid units; waits for their device.

    `channel_bounds` and `channel_scale`, whose results these are, check only what they convert, and
    not a tensor that already has the form of their results, because ops receive it at every step.
    So call this where the options come from the user.
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

    Call it once if many steps share the bounds.

    Args:
        bounds: None, or (lower, upper), each a number or one value per channel of `x` (a tensor, an
            array or a list), or both as a tensor [2, C].
        x: The inputs, [B, C, ...].

    Raises:
        TypeError, ValueError: `bounds` is not a pair, does not fit the channels, or has lower >
            upper or NaN. The values of a tensor [2, C], or of one that is not on the CPU, are not
            checked: see `check_options`.

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
        TypeError, ValueError: `scale` has another type, does not fit the channels, or is not finite
            and greater than 0, also in the accumulation dtype. The values of tensors are not
            checked: see `check_options`.

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
