"""Checks that inputs lie in their box, and corrects rounding errors at its faces."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from rrfast import ops
from rrfast._checks import check_dense, is_number
from rrfast._reading import may_read
from rrfast.ops import per_channel

#: How far outside counts as rounding, as a fraction of the width of the box.
TOLERANCE = 1e-6


def within(
    x: Tensor,
    bounds: ops.Bounds | None,
    scale: ops.Scale | None,
    model: object,
    *,
    name: str = "x",
) -> Tensor:
    """`x`, which must lie in the box: itself, or a copy whose rounding errors are moved to a face.

    The only check of radii, scores, attacks and objectives. A value outside by at most 1e-6 of the
    width of the box, or by one rounding of the dtype at its faces, is moved to the face; one
    further out is an error. NaN stays.

    On a CPU every call checks. On another device the first call with a model waits for the device
    and checks. Later calls do not wait; there a value outside becomes NaN, so that radius, score
    and loss are NaN and never the result for another point.

    Args:
        x: [B, ...], floating point; not modified.
        bounds: The box, see `rrfast.ops.channel_bounds`; None for none.
        scale: The unit of steps in the box, see `rrfast.ops.channel_scale`; a tensor's values are
            checked here, because the ops do not check them.
        model: The model whose first call waits; None: every call waits.
        name: What the error message calls x.

    Raises:
        ValueError: `x` lies outside, and the message says how far; `bounds` or `scale` are invalid.

    Cost: reads x twice, at the speed of memory.

    Example:
        >>> within(torch.tensor([[0.5, 1 + 1e-7]]), (0, 1), None, None)
        tensor([[0.5000, 1.0000]])
        >>> within(torch.tensor([[0.5, 1 + 2e-6]]), (0, 1), None, None)
        Traceback (most recent call last):
        ValueError: x must lie within bounds=(0, 1), got values from 0.5 to 1 + 2e-06
    """
    tensors = isinstance(scale, Tensor) or not numbers(bounds)
    if bounds is None and not tensors:
        return x
    check_dense(name, x)
    looking = may_read("box", model, x)
    if looking and bounds is not None and not tensors and _surely_inside(x, bounds):
        return x
    box = ops.channel_bounds(bounds, x)
    if looking and tensors:
        ops.check_options(box, ops.channel_scale(scale, x))
    if bounds is None or box is None:
        return x
    x, wanted = x.detach(), x.requires_grad
    if looking:
        return _looked_at(x, box, bounds, name).requires_grad_(wanted)
    slack = _slack(box, x.dtype)
    low, high = (per_channel(end, x) for end in (box[0] - slack, box[1] + slack))
    # Neither comparison is true of NaN.
    moved = _clamped(x, box).masked_fill((x < low) | (x > high), math.nan)
    return moved.requires_grad_(wanted)


def numbers(bounds: ops.Bounds | None) -> bool:
    """Whether the bounds are numbers, not tensors."""
    return bounds is None or (isinstance(bounds, (tuple, list)) and all(map(is_number, bounds)))


def _surely_inside(x: Tensor, bounds: ops.Bounds) -> bool:
    """A fast check of the usual case: numbers as bounds, and all of x between them."""
    if not numbers(bounds) or len(bounds) != 2 or x.numel() == 0:
        return False
    lower, upper = bounds
    x = x.detach()
    return bool(lower <= x.amin().item() and x.amax().item() <= upper)  # type: ignore[operator]


def _looked_at(x: Tensor, box: Tensor, bounds: ops.Bounds, name: str) -> Tensor:
    if x.numel() == 0:
        return x
    low, high = _range(x, box)
    columns = (end.tolist() for end in (*box, low, high))
    if all(
        lower <= least and most <= upper for lower, upper, least, most in zip(*columns, strict=True)
    ):
        return x
    # On the host in float64, which not every device supports.
    ends = box.cpu().double()
    low, high = (end.cpu().double() for end in (low, high))
    if bool(low.isnan().any()):
        # A NaN would hide other values: replace it by a value of the box, which is finite.
        inner = torch.zeros_like(box[0]).clamp(*box)
        x_there = torch.where(x.isnan(), per_channel(inner, x).to(x.dtype), x)
        low, high = (end.cpu().double() for end in _range(x_there, box))
    # Infinity minus infinity counts as 0; as NaN it would hide the other end.
    excess = torch.stack((ends[0] - low, high - ends[1]))
    excess = excess.nan_to_num(0.0, posinf=math.inf, neginf=-math.inf).amax(dim=0)
    if not bool((excess > 0).any()):
        return x
    beyond = excess - _slack(ends, x.dtype)
    if not bool((beyond > 0).any()):
        return _clamped(x, box)
    channel = int(beyond.argmax())
    lower, upper = (float(end[channel]) for end in ends)
    shown = repr(tuple(bounds)) if numbers(bounds) else f"({lower:g}, {upper:g})"
    where = f" in channel {channel}" if len(excess) > 1 else ""
    raise ValueError(
        f"{name} must lie within bounds={shown}, got values from "
        f"{_seen(float(low[channel]), lower)} to {_seen(float(high[channel]), upper)}{where}"
    )


def _range(x: Tensor, box: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the largest value for each column of the box."""
    dims = [dim for dim in range(x.dim()) if dim != 1 or box.shape[1] == 1]
    return x.amin(dim=dims).reshape(-1), x.amax(dim=dims).reshape(-1)


def _slack(box: Tensor, dtype: torch.dtype) -> Tensor:
    """How far outside each column of the box rounding may have taken a value."""
    width = box[1] - box[0]
    finite = box.masked_fill(box.isinf(), 0.0)
    rounding = torch.finfo(dtype).eps * finite.abs().amax(dim=0)
    return torch.maximum(TOLERANCE * width.masked_fill(width.isinf(), 0.0), rounding)


def _clamped(x: Tensor, box: Tensor) -> Tensor:
    least, most = faces(box, x)
    return torch.clamp(x, least, most)


def faces(box: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The lower and the upper faces in the dtype of x, rounded inwards; they broadcast over x.

    Args:
        box: [2, C] or [2, 1], as `rrfast.ops.channel_bounds` gives it.
        x: [B, C, ...].
    """
    lower, upper = (per_channel(end, x) for end in box)
    return rounded_inside(lower, x.dtype, up=True), rounded_inside(upper, x.dtype, up=False)


@functools.lru_cache(maxsize=64)
def number_faces(lower: float, upper: float, dtype: torch.dtype) -> tuple[float, float]:
    """`faces` of a box of numbers, as numbers: kept, because they take as many ops as an image.

    Raises:
        ValueError: As `rrfast.ops.channel_bounds`.
    """
    like = torch.empty(1, dtype=torch.float64, device="cpu")
    box = ops.channel_bounds((lower, upper), like)
    assert box is not None
    # Plus 0: whether a face was first given as 0 or as -0 changes nothing.
    least, most = ((face + 0.0).item() for face in faces(box, like.to(dtype)))
    return least, most


def rounded_inside(exact: Tensor, dtype: torch.dtype, *, up: bool) -> Tensor:
    """`exact` in a possibly coarser dtype: itself, else one of the next two numbers up or down.

    What is beyond the dtype's range becomes its last number, or infinity where that is inside.
    """
    finfo = torch.finfo(dtype)
    if exact.dtype == dtype:
        return exact.clamp_min(finfo.min) if up else exact.clamp_max(finfo.max)
    rounded = exact.to(dtype).clamp(finfo.min, finfo.max)
    # Near 0 the spacing is the least number itself, where the product would vanish.
    spacing = (rounded * finfo.eps).abs_().clamp_min_(finfo.tiny * finfo.eps)
    if up:
        return torch.where(rounded < exact, rounded + spacing, rounded)
    return torch.where(rounded > exact, rounded - spacing, rounded)


def _seen(value: float, face: float) -> str:
    """A number for a message; as a sum if it rounds to the face."""
    if f"{value:g}" != f"{face:g}" or value == face:
        return f"{value:g}"
    return f"{face:g} {'+' if value > face else '-'} {abs(value - face):.2g}"
