"""The first-order margin: the cheapest radius, one forward and one backward."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rrfast import ops
from rrfast.engine import Engine
from rrfast.methods.method import Estimate
from rrfast.ops import accumulate_dtype


@dataclass(frozen=True, eq=False)
class Grad:
    """First-order margin: 1 forward and 1 backward.

        radius = (h_y - h_2) / ||grad_x (h_y - h_2)||_1

    with y the prediction and 2 the runner-up: the L-infinity distance to the boundary of the
    linearised model, and the limit T -> 0, alpha -> 0 of RR-Fast when the runner-up is the first to
    overtake. With `bounds` the step of each element ends at the face of its box, and the radius
    solves sum_i |g_i| min(radius, room_i) = margin. A tie has radius 0. The radius is infinite if
    the gradient is zero, or too small to reach the boundary inside the box. Exact if the logits are
    linear and the runner-up is the nearest class.

    Source: ours; the first step of an L-infinity DeepFool with two classes.

    Attributes:
        bounds: The box for x, see `rrfast.ops.channel_bounds`; None for none.
        scale: The unit of the radius, see `rrfast.ops.channel_scale`; None for x's own.

    Example:
        >>> import torch
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
        bounds, scale = ops.channel_bounds(self.bounds, x), ops.channel_scale(self.scale, x)
        # The logits may be more precise than x.
        gap = clean.margin.to(accumulate_dtype(x.dtype))
        radius = ops.plane_distance(x, clean.grad, gap, bounds, scale).to(clean.margin.dtype)
        radius = radius.masked_fill(clean.margin == 0, 0.0)
        # The largest finite number stands for all larger differences.
        too_large = clean.margin == torch.finfo(clean.margin.dtype).max
        radius = radius.masked_fill(too_large, math.nan)
        return Estimate(radius, clean.prediction, clean.runner_up)
