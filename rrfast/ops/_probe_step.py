"""`probe_step`: how far to go towards a hyperplane to see what lies there."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rrfast._checks import check_batch, check_number, check_per_sample, check_same
from rrfast.ops import _plane_distance
from rrfast.ops._define import define
from rrfast.ops._out import Out, check_out
from rrfast.ops.box import Bounds, Scale, channel_bounds, channel_scale
from rrfast.ops.layout import accumulate_dtype


def reference(
    x: Tensor,
    normal: Tensor,
    gap: Tensor,
    finest: float,
    longest: float,
    bounds: Tensor | None = None,
    scale: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The step to a hyperplane, neither too fine nor too long; see `rrfast.ops.probe_step`."""
    distance = _plane_distance.reference(x, normal, gap, bounds, scale)
    size = extent(x, scale)
    # Infinite without a normal or in a box that ends before the plane, NaN where sums overflow.
    step = distance.nan_to_num(nan=longest, posinf=longest)
    return torch.maximum(step, size * finest).clamp(max=longest), size


def fake(
    x: Tensor,
    normal: Tensor,
    gap: Tensor,
    finest: float,
    longest: float,
    bounds: Tensor | None = None,
    scale: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    step = x.new_empty(x.shape[0], dtype=accumulate_dtype(x.dtype))
    return step, torch.empty_like(step)


_op = define(
    "probe_step",
    """(Tensor x, Tensor normal, Tensor gap, float finest, float longest, Tensor? bounds=None,
        Tensor? scale=None) -> (Tensor step, Tensor largest)""",
    reference,
    fake,
)


def probe_step(
    x: Tensor,
    normal: Tensor,
    gap: Tensor,
    finest: float,
    longest: float,
    bounds: Bounds | None = None,
    scale: Scale | None = None,
    *,
    out: Out | None = None,
) -> tuple[Tensor, Tensor]:
    """How far to go from each sample towards a hyperplane, to see what lies there.

        step = min(longest, max(distance, finest * largest))
        largest = max_i |x_i| / min_c scale_c

    with `rrfast.ops.plane_distance`, or `longest` where that is infinite or NaN. Rounding takes
    something of any step from x: of one that is shorter than `finest` times the largest |x| too
    much.

    Args:
        x: [B, ...].
        normal: [B, ...], dtype and shape of `x`.
        gap: [B], accumulation dtype.
        finest: The shortest step, in units of the largest |x|; >= 0.
        longest: The longest one, > 0, in units of `scale`.
        bounds: The box, see `channel_bounds`; None for none.
        scale: The unit of a step, see `channel_scale`; None for 1.
        out: None, or the two tensors to write the results into; see `rrfast.ops`.

    Returns:
        step, [B], accumulation dtype, in units of `scale`; and largest, [B], likewise. NaN where x
        is.

    Raises:
        TypeError, ValueError: An argument has another type, dtype, shape or device than said here.

    Source: ours, the step of RR-Fast (errata 22). Cost: that of `plane_distance`, and x once.

    Example:
        >>> x, normal = torch.tensor([[0.5, -0.25]]), torch.tensor([[1.0, 1.0]])
        >>> for gap in (0.004, 0.2):
        ...     probe_step(x, normal, torch.tensor([gap]), finest=0.001, longest=0.01)
        (tensor([0.0020]), tensor([0.5000]))
        (tensor([0.0100]), tensor([0.5000]))
    """
    check_batch(x)
    check_same("normal", normal, "x", x)
    check_per_sample("gap", gap, accumulate_dtype(x.dtype), "x", x)
    check_number("finest", finest, least=0)
    check_number("longest", longest)
    box = channel_bounds(bounds, x), channel_scale(scale, x)
    if out is not None:
        each = gap, gap.dtype
        check_out(out, (x, normal, gap, *box), step=each, largest=each)
    return _op(x, normal, gap.contiguous(), finest, longest, *box, out=out)


def extent(x: Tensor, scale: Tensor | None = None) -> Tensor:
    """The largest |x| of each sample, [B], in the smallest unit of `scale`; NaN where x is.

    Example:
        >>> extent(torch.tensor([[0.5, -2.0]]), torch.tensor([0.5, 1.0]))
        tensor([4.])
    """
    # Not len(x), which torch.export takes for a constant.
    size = (
        x.reshape(x.shape[0], math.prod(x.shape[1:]))
        .abs()
        .amax(dim=1)
        .to(accumulate_dtype(x.dtype))
    )
    return size if scale is None else size / scale.amin()
