"""`fgsm_step`: one step along the sign of the gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from rrfast._checks import check_batch, check_per_sample, check_same
from rrfast.ops._define import define
from rrfast.ops._out import Out, check_out
from rrfast.ops._step import NAN_DIRECTION, moved, sign_of
from rrfast.ops.box import Bounds, Scale, channel_bounds, channel_scale
from rrfast.ops.layout import accumulate_dtype, empty_like


def reference(
    x: Tensor, grad: Tensor, step: Tensor, bounds: Tensor | None = None, scale: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """One step along sign(grad), and that sign packed in int8; see `rrfast.ops.fgsm_step`."""
    sign = sign_of(grad)
    packed = sign.nan_to_num(nan=NAN_DIRECTION)
    direction = empty_like(x, torch.int8).copy_(packed)
    return moved(x, step, sign, bounds, scale), direction


def fake(
    x: Tensor, grad: Tensor, step: Tensor, bounds: Tensor | None = None, scale: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    return empty_like(x, x.dtype), empty_like(x, torch.int8)


_op = define(
    "fgsm_step",
    """(Tensor x, Tensor grad, Tensor step, Tensor? bounds=None, Tensor? scale=None)
        -> (Tensor perturbed, Tensor direction)""",
    reference,
    fake,
)


def fgsm_step(
    x: Tensor,
    grad: Tensor,
    step: Tensor,
    bounds: Bounds | None = None,
    scale: Scale | None = None,
    *,
    out: Out | None = None,
) -> tuple[Tensor, Tensor]:
    """One step along the sign of the gradient, and the direction for further steps.

        perturbed = clamp(x + step_b * scale_c * sign(grad), lower_c, upper_c)

    Args:
        x: [B, ...].
        grad: [B, ...], dtype and shape of `x`.
        step: [B], accumulation dtype, in units of `scale`; may be negative.
        bounds: The box, see `channel_bounds`; None for no clamp.
        scale: The unit of a step, see `channel_scale`; None for 1.
        out: None, or the two tensors to write the results into; see `rrfast.ops`.

    Returns:
        perturbed, shape, dtype and layout of `x`; direction, int8 of the same shape: -1, 0, 1, and
        -128 where the gradient is NaN, which makes the perturbed element NaN.

    Raises:
        TypeError, ValueError: An argument has a wrong type, dtype, shape or device.

    Source: RAT Eq. 3. Cost: reads x and grad, writes x and one byte per element.

    Example:
        >>> x, grad = torch.tensor([[0.25, 0.5]]), torch.tensor([[-3.0, 0.0]])
        >>> fgsm_step(x, grad, torch.tensor([0.5]), bounds=(0, 1))
        (tensor([[0.0000, 0.5000]]), tensor([[-1,  0]], dtype=torch.int8))
    """
    check_batch(x)
    check_same("grad", grad, "x", x)
    check_per_sample("step", step, accumulate_dtype(x.dtype), "x", x)
    inputs = x, grad, step.contiguous(), channel_bounds(bounds, x), channel_scale(scale, x)
    if out is not None:
        check_out(out, inputs, perturbed=(x, x.dtype), direction=(x, torch.int8))
    return _op(*inputs, out=out)
