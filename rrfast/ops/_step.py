"""A step along signs, inside a box: the common part of the elementwise ops."""

from __future__ import annotations

import math

from torch import Tensor

from rrfast.ops.layout import accumulate_dtype, empty_like, per_channel

#: The code for NaN in a packed direction.
NAN_DIRECTION = -128


def moved(
    x: Tensor, length: Tensor, sign: Tensor, bounds: Tensor | None, scale: Tensor | None
) -> Tensor:
    """clamp(x + length_b * scale_c * sign), in the dtype and layout of `x`."""
    step = length.reshape(-1, *[1] * (x.dim() - 1))
    if scale is not None:
        step = step * per_channel(scale, x)
    value = x.to(accumulate_dtype(x.dtype)) + step * sign
    if bounds is not None:
        value = value.clamp(per_channel(bounds[0], x), per_channel(bounds[1], x))
    return empty_like(x, x.dtype).copy_(value)


def sign_of(grad: Tensor) -> Tensor:
    """-1, 0, +1; NaN stays NaN, unlike in `torch.sign`."""
    value = grad.to(accumulate_dtype(grad.dtype))
    return value.sign().masked_fill(value.isnan(), math.nan)
