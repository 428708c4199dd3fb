"""The first-order margin: the cheapest radius, one forward and one backward."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rrfast import ops
from rrfast.engine import Engine
from rrfast.radius.estimate import Estimate
from rrfast.reference import accumulate_dtype, per_channel


@dataclass(frozen=True, eq=False)
class Grad:
    """First-order margin: 1 forward and 1 backward.

        radius = (h_y - h_2) / ||grad_x (h_y - h_2)||_1

    with y the prediction and 2 the runner-up: the L-infinity distance to the boundary of the
    linearised model, and the limit T -> 0, alpha -> 0 of RR-Fast when the runner-up is the first to
    overtake. With `bounds` the step of each element ends at the face of its box, and the radius
    solves sum_i |g_i| min(radius, room_i) = margin. A tie has radius 0; a gradient that is zero, or
    too small for the box, infinity. Exact where the logits are linear and the runner-up is the
    nearest class. With `bounds`, some ten float64 arrays of x's size live for a moment.

    Source: ours; the first step of an L-infinity DeepFool with two classes.

    Attributes:
        bounds: The box for x, see `rrfast.ops.channel_bounds`; None for none.
        scale: The unit of the radius, see `rrfast.ops.channel_scale`; None for x's own.

    Example:
        >>> from rrfast.engine import Engine
        >>> x = torch.tensor([[1.0, 0.0], [0.5, 0.25]])
        >>> with Engine(torch.nn.Linear(2, 2)) as engine:
        ...     estimate = Grad(scale=0.5)(engine, x)
        >>> estimate.radius.shape, engine.forwards, engine.backwards
        (torch.Size([2]), 1, 1)
    """

    bounds: ops.Bounds | None = None
    scale: ops.Scale | None = None
    capturable: ClassVar[bool] = True

    def __call__(self, engine: Engine, x: Tensor) -> Estimate:  # noqa: D102
        clean = engine.forward_backward(x, temperature=0.0)
        scale = ops.channel_scale(self.scale, x)
        bounds = ops.channel_bounds(self.bounds, x)
        if bounds is None:
            radius = clean.margin / _scaled_l1_norm(clean.grad, scale)
        else:
            radius = _radius_in_box(x, clean.grad, clean.margin, bounds, scale)
        return Estimate(radius.masked_fill(clean.margin == 0, 0.0), clean.prediction)


def _scaled_l1_norm(grad: Tensor, scale: Tensor | None) -> Tensor:
    """sum_i scale_c |g_i| per sample, without writing a scaled gradient."""
    grad = grad if grad.dim() > 1 else grad[:, None]
    dtype = accumulate_dtype(grad.dtype)
    if scale is None:
        return _l1_norm(grad, tuple(range(1, grad.dim())), dtype)
    pixels = tuple(range(2, grad.dim()))
    channels = _l1_norm(grad, pixels, dtype) if pixels else grad.abs().to(dtype)
    return (channels * scale).sum(dim=1)


def _l1_norm(grad: Tensor, dim: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(grad, ord=1, dim=dim, dtype=dtype)
    return norm


def _radius_in_box(
    x: Tensor, grad: Tensor, margin: Tensor, bounds: Tensor, scale: Tensor | None
) -> Tensor:
    """The t with sum_i w_i min(t, room_i) = margin.

    w_i = scale_c |g_i|, and room_i is the way to the face ahead in units of scale. The left side
    is concave and piecewise linear in t with its corners at the rooms: sort them, find the piece.
    In float64, because what is left of the weights past a corner is a difference of sums.
    """
    unit = torch.ones(1, dtype=torch.float64, device=x.device) if scale is None else scale.double()
    unit = per_channel(unit, x)
    face = torch.where(grad > 0, per_channel(bounds[1], x) - x, x - per_channel(bounds[0], x))
    room = (face.double().clamp(min=0) / unit).reshape(x.shape[0], -1)
    weight = (grad.double().abs() * unit).reshape(x.shape[0], -1)
    room, order = room.sort(dim=1)
    weight = weight.gather(1, order)

    # Before corner j: the weight still moving, and the margin used up by what has met its face.
    # Rooms may be infinite; no product with a weight of zero may become NaN of that.
    moving = weight.flip(1).cumsum(dim=1).flip(1)
    used = torch.where(weight > 0, weight * room, 0.0)
    spent = torch.cat((torch.zeros_like(used[:, :1]), used[:, :-1].cumsum(dim=1)), dim=1)
    target = margin.double()[:, None]
    reached = (moving > 0) & (spent + room * moving >= target)
    first = reached.int().argmax(dim=1, keepdim=True)
    radius = (target - spent.gather(1, first)) / moving.gather(1, first)
    radius = torch.where(reached.any(dim=1, keepdim=True), radius, math.inf)
    undefined = margin.isnan() | weight.isnan().any(dim=1) | room.isnan().any(dim=1)
    return radius.squeeze(1).masked_fill(undefined, math.nan).to(margin.dtype)
