"""`linear_radius`: where linearly extrapolated logits change the prediction."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rrfast._checks import check_logits, check_number, check_per_sample, check_same
from rrfast.ops._define import define
from rrfast.ops._out import Out, check_out
from rrfast.ops.layout import accumulate_dtype
from rrfast.ops.logits import is_undefined


def reference(
    h0: Tensor, h1: Tensor, prediction: Tensor, alpha: float, unit: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The closed form of RR-Fast (RAT Eq. 8, errata 2 and 3); see `rrfast.ops.linear_radius`."""
    dtype = accumulate_dtype(h0.dtype)
    known = (prediction >= 0) & (prediction < h0.shape[1])
    top = prediction.clamp(0, h0.shape[1] - 1)[:, None]
    # Dividing by 4 is exact, and then no difference of differences overflows.
    quarter0, quarter1 = 0.25 * h0.to(dtype), 0.25 * h1.to(dtype)
    gap0 = quarter0.gather(1, top) - quarter0
    gap1 = quarter1.gather(1, top) - quarter1
    q = torch.where(gap1 < gap0, alpha * (gap0 / (gap0 - gap1)), math.inf)
    q = q.masked_fill(gap0 <= 0, 0.0).scatter(1, top, math.inf)
    masked = gap0.minimum(gap1).scatter(1, top, 0.0).amin(dim=1) == -math.inf  # y, and not all
    undefined = is_undefined(h0) | is_undefined(h1) | masked | ~known
    radius, rival = q.min(dim=1)  # the lowest index among equals
    radius = radius.masked_fill(undefined, math.nan)
    rival = rival.masked_fill(~radius.isfinite(), -1)
    return radius if unit is None else radius * unit, rival


def fake(
    h0: Tensor, h1: Tensor, prediction: Tensor, alpha: float, unit: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    samples = h0.shape[0]
    return (
        h0.new_empty(samples, dtype=accumulate_dtype(h0.dtype)),
        h0.new_empty(samples, dtype=torch.int64),
    )


_op = define(
    "linear_radius",
    """(Tensor h0, Tensor h1, Tensor prediction, float alpha, Tensor? unit=None)
        -> (Tensor radius, Tensor rival)""",
    reference,
    fake,
)


def linear_radius(
    h0: Tensor,
    h1: Tensor,
    prediction: Tensor,
    alpha: float = 0.01,
    unit: Tensor | None = None,
    *,
    out: Out | None = None,
) -> tuple[Tensor, Tensor]:
    """The radius at which linearly extrapolated logits change the prediction, and to which class.

    The closed form of RR-Fast:

        radius = min_{i != y} q_i,    q_i = alpha * gap_i(0) / (gap_i(0) - gap_i(alpha)),
        rival = argmin_{i != y} q_i,    gap_i(t) = h_y(t) - h_i(t)

    q_i is infinite where class i does not gain on y, and 0 at a tie (or if y is not the largest).

    Args:
        h0: Logits at x, [B, K].
        h1: Logits at x + alpha * direction, [B, K], dtype of `h0`.
        prediction: y, [B] int64.
        alpha: The step from h0 to h1, > 0.
        unit: What alpha and the radius are counted in, for each sample: [B], accumulation dtype.
            The radius is multiplied by it. None: 1.
        out: None, or the two tensors to write the results into; see `rrfast.ops`.

    Returns:
        radius [B], accumulation dtype. Infinite if no class gains; NaN if a logit is NaN or
        +infinity, all of a row or only y's are -infinity, or y is not a class. rival [B] int64, the
        lowest index among equals; -1 where the radius is infinite or NaN.

    Raises:
        TypeError, ValueError: An argument has a wrong type, dtype, shape or device,
            or alpha is not positive.

    Source: RAT Eq. 6 to 8; errata 2 (the printed sign is wrong) and 3. Cost: reads 2 * B * K once.

    Example:
        >>> h0, h1 = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1.5, 1.0, 0.5]])
        >>> linear_radius(h0, h1, torch.tensor([0]), alpha=0.25)
        (tensor([0.5000]), tensor([1]))
    """
    check_logits("h0", h0)
    check_same("h1", h1, "h0", h0)
    check_per_sample("prediction", prediction, torch.int64, "h0", h0)
    check_number("alpha", alpha)
    if unit is not None:
        check_per_sample("unit", unit, accumulate_dtype(h0.dtype), "h0", h0)
        unit = unit.contiguous()
    if out is not None:
        radius = prediction, accumulate_dtype(h0.dtype)
        check_out(out, (h0, h1, prediction, unit), radius=radius, rival=(prediction, torch.int64))
    return _op(h0, h1, prediction, alpha, unit, out=out)
