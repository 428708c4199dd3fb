"""`plane_seed`: the cotangent and the gap of the plane on which two classes tie."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rrfast._checks import check_logits, check_per_sample
from rrfast.ops._define import define
from rrfast.ops._out import Out, check_out
from rrfast.ops.layout import accumulate_dtype
from rrfast.ops.logits import is_undefined


def reference(logits: Tensor, prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The cotangent of a difference of logits, and its value; see `rrfast.ops.plane_seed`."""
    h = logits.to(accumulate_dtype(logits.dtype))
    classes = torch.arange(h.shape[1], device=h.device)
    top, other = prediction[:, None], target[:, None]
    unit = _unit(h, logits.dtype)
    seed = torch.where(classes == other, unit, 0.0)
    seed = torch.where(classes == top, -unit, seed)

    first, second = (h.gather(1, k.clamp(0, h.shape[1] - 1)) * unit for k in (top, other))
    gap = first - second
    digit = torch.finfo(logits.dtype).eps
    gap = torch.where(gap < 0, gap, gap.maximum(digit * first.abs())).squeeze(1)
    known = (prediction >= 0) & (prediction < h.shape[1]) & (target >= 0) & (target < h.shape[1])
    return seed.to(logits.dtype), gap.masked_fill(is_undefined(h) | ~known, math.nan)


def _unit(h: Tensor, dtype: torch.dtype) -> Tensor:
    """1 over a power of two near the largest |logit| of a row, [B, 1]."""
    least, largest = h.amin(dim=1, keepdim=True), h.amax(dim=1, keepdim=True)
    one = torch.ones_like(largest)
    if dtype == torch.float16:
        return one
    size = torch.maximum(least.abs().nan_to_num(0.0, posinf=0.0), largest.abs())
    most = math.frexp(torch.finfo(dtype).max)[1] // 2
    usable = (size > 0) & (size < math.inf)
    exponent = torch.where(usable, size, one).frexp().exponent.clamp(-most, most)
    return torch.ldexp(one, -exponent)


def fake(logits: Tensor, prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    gap = logits.new_empty(logits.shape[0], dtype=accumulate_dtype(logits.dtype))
    return logits.new_empty(logits.shape), gap


_op = define(
    "plane_seed",
    "(Tensor logits, Tensor prediction, Tensor target) -> (Tensor seed, Tensor gap)",
    reference,
    fake,
)


def plane_seed(
    logits: Tensor, prediction: Tensor, target: Tensor, *, out: Out | None = None
) -> tuple[Tensor, Tensor]:
    """The cotangent whose backward is the normal of the plane where two classes tie, and the gap.

    The model linearised at x ties the prediction y with the class k on the plane

        {z: n . (z - x) = gap},    n = grad u (h_k - h_y) at x,    gap = u (h_y - h_k),

    and the seed, u at k, -u at y and 0 elsewhere, has the gradient n. u is a power of two near 1 /
    max_i |h_i|, within the square root of the dtype's range. The plane is the same with any u; with
    this one neither difference nor gradient overflows or underflows if logits are near the ends of
    their range. For float16, whose range is too small for scaled gradients, u is 1.

    Args:
        logits: h, [B, K].
        prediction: y, [B] int64.
        target: k, [B] int64.
        out: None, or the two tensors to write the results into; see `rrfast.ops`.

    Returns:
        seed, [B, K], dtype of `logits`; and gap, [B], accumulation dtype. Unless y is behind k,
        the gap is at least one unit in the last place of h_y: 16-bit logits tie over a wide strip
        before the boundary, where a step of length 0 would make no progress. It is NaN for
        undefined logits (one is NaN or +infinity, or all are -infinity), and where y or k is not a
        class.

    Raises:
        TypeError, ValueError: An argument has a wrong type, dtype, shape or device.

    Source: ours. Cost: reads and writes B * K once.

    Example:
        >>> h = torch.tensor([[1.0, 7.0, 3.0]])
        >>> seed, gap = plane_seed(h, torch.tensor([1]), torch.tensor([2]))
        >>> seed.tolist(), gap.item()  # in units of 1 / 8
        ([[0.0, -0.125, 0.125]], 0.5)
    """
    check_logits("logits", logits)
    for name, classes in (("prediction", prediction), ("target", target)):
        check_per_sample(name, classes, torch.int64, "logits", logits)
    if out is not None:
        each, dtype = logits[:, 0], accumulate_dtype(logits.dtype)
        inputs = logits, prediction, target
        check_out(out, inputs, seed=(logits, logits.dtype), gap=(each, dtype))
    return _op(logits, prediction, target, out=out)
