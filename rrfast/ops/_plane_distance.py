"""`plane_distance`: how far a hyperplane is in the L-infinity norm, inside a box."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rrfast._checks import check_batch, check_per_sample, check_same
from rrfast.ops._define import define
from rrfast.ops._out import check_out
from rrfast.ops.box import Bounds, Scale, channel_bounds, channel_scale
from rrfast.ops.layout import accumulate_dtype, per_channel


def reference(
    x: Tensor,
    normal: Tensor,
    gap: Tensor,
    bounds: Tensor | None = None,
    scale: Tensor | None = None,
) -> Tensor:
    """The distance to a hyperplane inside a box; see `rrfast.ops.plane_distance`.

    Solves sum_i w_i min(t, room_i) = |gap| for t: w_i = scale_c |n_i|, and room_i is the distance
    to the face ahead in units of scale. The left side is concave and piecewise linear in t with
    corners at the rooms: sort them and find the piece. In float64, because the weight left after a
    corner is a difference of sums.
    """
    unit = torch.ones(1, dtype=torch.float64, device=x.device) if scale is None else scale.double()
    unit = per_channel(unit, x)
    weight = (normal.double().abs() * unit).reshape(x.shape[0], math.prod(x.shape[1:]))
    wanted = gap.double().abs()[:, None]
    # A sum beyond the range of the accumulation dtype cannot be represented.
    undefined = gap.isnan() | ~weight.sum(dim=1).to(gap.dtype).isfinite()
    if bounds is None or weight.shape[1] == 0:
        distance = wanted / weight.sum(dim=1, keepdim=True)
    else:
        lower, upper = (per_channel(bound.double(), x) for bound in bounds)
        rising = (normal > 0) == (gap.reshape(-1, *[1] * (x.dim() - 1)) > 0)
        face = torch.where(rising, upper - x, x - lower).clamp(min=0)
        room = (face / unit).reshape(weight.shape)
        undefined |= room.isnan().any(dim=1) | bounds.isnan().any()
        room, order = room.sort(dim=1)
        weight = weight.gather(1, order)
        # Before corner j: the weight still moving, and the gap closed by elements at their faces.
        # Rooms may be infinite: their product with a weight of zero must not become NaN.
        moving = weight.flip(1).cumsum(dim=1).flip(1)
        closed = torch.where(weight > 0, weight * room, 0.0)
        spent = torch.cat((torch.zeros_like(closed[:, :1]), closed[:, :-1].cumsum(dim=1)), dim=1)
        reached = (moving > 0) & (spent + room * moving >= wanted)
        first = reached.int().argmax(dim=1, keepdim=True)
        distance = (wanted - spent.gather(1, first)) / moving.gather(1, first)
        distance = torch.where(reached.any(dim=1, keepdim=True), distance, math.inf)
    distance = distance.squeeze(1).masked_fill(gap == 0, 0.0).masked_fill(undefined, math.nan)
    return distance.to(accumulate_dtype(x.dtype))


def fake(
    x: Tensor,
    normal: Tensor,
    gap: Tensor,
    bounds: Tensor | None = None,
    scale: Tensor | None = None,
) -> Tensor:
    return x.new_empty(x.shape[0], dtype=accumulate_dtype(x.dtype))


_op = define(
    "plane_distance",
    """(Tensor x, Tensor normal, Tensor gap, Tensor? bounds=None,
        Tensor? scale=None) -> Tensor""",
    reference,
    fake,
)


def plane_distance(
    x: Tensor,
    normal: Tensor,
    gap: Tensor,
    bounds: Bounds | None = None,
    scale: Scale | None = None,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """How far a hyperplane is from each sample in the L-infinity norm, inside a box.

    The distance from x_b to {z: normal_b . (z - x_b) = gap_b} is the smallest t >= 0 with

        sum_i scale_c |normal_i| min(t, room_i) = |gap_b|,

    where room_i is the distance to the face of the box in the direction sign(gap) sign(normal_i) of
    the element's move, in units of scale. Without bounds: |gap| / sum_i scale_c |normal_i|. The
    nearest point is `fgsm_step(x, normal, sign(gap) * distance, bounds, scale)`.

    Args:
        x: [B, ...]. Read only with `bounds`, in which it must lie; an element outside does not move
            further out.
        normal: [B, ...], dtype and shape of `x`.
        gap: [B], accumulation dtype.
        bounds: The box, see `channel_bounds`; None for none.
        scale: The unit of the distance, see `channel_scale`; None for 1.
        out: None, or the tensor to write the result into; see `rrfast.ops`.

    Returns:
        [B], accumulation dtype, in units of `scale`. 0 if gap is 0, infinite if the box ends before
        the plane or normal is zero, NaN if an input is NaN or the sum is beyond the range of the
        dtype. The result is exact for a gap that differs by a few units in the last place.

    Raises:
        TypeError, ValueError: An argument has a wrong type, dtype, shape or device.

    Source: the dual norm of L-infinity, and the box of FAB (Croce & Hein 2020, Eq. 7), solved by
    Newton's method in place of a sort. Cost: reads x and normal once from memory, and a few times
    from cache if many elements reach their faces.

    Example:
        >>> x, normal, gap = torch.tensor([[0.5, 0.75]]), torch.tensor([[1.0, 2.0]]), torch.ones(1)
        >>> plane_distance(x, normal, gap)
        tensor([0.3333])
        >>> plane_distance(x, normal, gap, bounds=(0, 1))  # the second stops after 0.25
        tensor([0.5000])
    """
    check_batch(x)
    check_same("normal", normal, "x", x)
    check_per_sample("gap", gap, accumulate_dtype(x.dtype), "x", x)
    inputs = x, normal, gap.contiguous(), channel_bounds(bounds, x), channel_scale(scale, x)
    if out is not None:
        check_out(out, inputs, distance=(gap, gap.dtype))
    return _op(*inputs, out=out)
