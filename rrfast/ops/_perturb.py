"""`perturb`: a further step along a packed direction."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rrfast._checks import check_batch, check_device, check_per_sample, describe
from rrfast.ops._define import define
from rrfast.ops._out import check_out
from rrfast.ops._step import NAN_DIRECTION, moved
from rrfast.ops.box import Bounds, Scale, channel_bounds, channel_scale
from rrfast.ops.layout import accumulate_dtype, empty_like


def reference(
    x: Tensor,
    direction: Tensor,
    step: Tensor,
    bounds: Tensor | None = None,
    scale: Tensor | None = None,
) -> Tensor:
    """A step along a packed direction; see `rrfast.ops.perturb`."""
    sign = direction.to(accumulate_dtype(x.dtype)).masked_fill(direction == NAN_DIRECTION, math.nan)
    return moved(x, step, sign, bounds, scale)


def fake(
    x: Tensor,
    direction: Tensor,
    step: Tensor,
    bounds: Tensor | None = None,
    scale: Tensor | None = None,
) -> Tensor:
    return empty_like(x, x.dtype)


_op = define(
    "perturb",
    """(Tensor x, Tensor direction, Tensor step, Tensor? bounds=None, Tensor? scale=None)
        -> Tensor""",
    reference,
    fake,
)


def perturb(
    x: Tensor,
    direction: Tensor,
    step: Tensor,
    bounds: Bounds | None = None,
    scale: Scale | None = None,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """A step along a direction that `fgsm_step` returned.

        perturbed = clamp(x + step_b * scale_c * direction, lower_c, upper_c)

    Args:
        x: [B, ...].
        direction: [B, ...], int8: -1, 0, 1, or -128 for NaN.
        step: [B], accumulation dtype, in units of `scale`; may be negative.
        bounds: The box, see `channel_bounds`; None for no clamp.
        scale: The unit of a step, see `channel_scale`; None for 1.
        out: None, or the tensor to write the result into; see `rrfast.ops`.

    Returns:
        perturbed, shape, dtype and layout of `x`.

    Raises:
        TypeError, ValueError: An argument has a wrong type, dtype, shape or device.

    Source: RAT Eq. 4. Cost: reads x and one byte per element, writes x.

    Example:
        >>> direction = torch.tensor([[-1, 0]], dtype=torch.int8)
        >>> perturb(torch.tensor([[0.25, 0.5]]), direction, torch.tensor([0.125]))
        tensor([[0.1250, 0.5000]])
    """
    check_batch(x)
    if not isinstance(direction, Tensor) or direction.dtype != torch.int8:
        raise TypeError(
            f"direction must be an int8 tensor, as fgsm_step returns it, got {describe(direction)}"
        )
    if direction.shape != x.shape:
        raise ValueError(
            f"direction must have the shape of x, {list(x.shape)}, got {describe(direction)}"
        )
    check_device("direction", direction, "x", x)
    check_per_sample("step", step, accumulate_dtype(x.dtype), "x", x)
    inputs = x, direction, step.contiguous(), channel_bounds(bounds, x), channel_scale(scale, x)
    if out is not None:
        check_out(out, inputs, perturbed=(x, x.dtype))
    return _op(*inputs, out=out)
