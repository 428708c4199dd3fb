"""DeepFool: steps to the nearest boundary of the linearised model, until the prediction changes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rrfast import ops
from rrfast._checks import check_count, check_number
from rrfast.engine import Engine
from rrfast.methods.boundary import contenders, distance_between, flipped_to, nearest_plane, step_to
from rrfast.methods.method import Estimate
from rrfast.ops import accumulate_dtype, is_undefined


@dataclass(frozen=True, eq=False)
class DeepFool:
    """DeepFool in L-infinity: per step 2 forwards and one backward for each candidate class.

    With y the prediction at x, every step linearises the model at the current point and moves to
    the nearest of the hyperplanes {h_k = h_y}, and beyond it by the factor 1 + overshoot; distances
    are measured inside the box. It stops when a forward shows another prediction, and the radius is
    the distance from x to that point. It is infinite if the prediction has not changed after
    `steps`, or if no element moves any more. The first crossing is the result, including the
    overshoot, and no step back is tried: a cheap upper bound.

    A sample that is done leaves the batch and costs no more passes. To know which are done the host
    waits for the device once per step.

    Source: Moosavi-Dezfooli et al., "DeepFool" (CVPR 2016), Algorithm 2 with q = 1, and the box of
    Croce & Hein (ICML 2020).

    Attributes:
        steps: Largest number of linearisations.
        candidates: How many classes besides the prediction are considered, those with the largest
            logits at x; None for all.
        overshoot: How far beyond the plane, as a fraction of the distance to it.
        bounds: The box, see `rrfast.ops.channel_bounds`; None for none. x itself must lie in it.
        scale: The unit of the radius, see `rrfast.ops.channel_scale`; None for x's own.

    Example:
        >>> from rrfast.engine import Engine
        >>> x = torch.tensor([[1.0, 0.0], [0.5, 0.25]])
        >>> with Engine(torch.nn.Linear(2, 3)) as engine:
        ...     estimate = DeepFool()(engine, x)
        >>> estimate.radius.shape, engine.forwards, engine.backwards
        (torch.Size([2]), 2, 2)
    """

    steps: int = 50
    candidates: int | None = 10
    overshoot: float = 0.02
    bounds: ops.Bounds | None = None
    scale: ops.Scale | None = None

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        if self.candidates is not None:
            check_count("candidates", self.candidates)
        check_number("overshoot", self.overshoot, least=0)

    def __call__(self, engine: Engine, x: Tensor) -> Estimate:  # noqa: D102
        bounds, scale = ops.channel_bounds(self.bounds, x), ops.channel_scale(self.scale, x)
        recorded = engine.record(x)
        prediction, margin, _, runner_up, _ = ops.direction_seed(recorded.logits)
        upper = torch.full_like(margin, math.inf, dtype=accumulate_dtype(x.dtype))
        undefined, rival = margin.isnan(), runner_up.clone()

        # The rest of the batch: its rows, and their data.
        rows = torch.arange(len(x), device=x.device)
        x0, x1, y = x, x, prediction
        classes = contenders(recorded.logits, prediction, self.candidates)
        for step in range(self.steps):
            if step > 0:
                recorded = engine.record(x1)
            plane = nearest_plane(recorded, x1, y, classes, bounds, scale)
            z = step_to(plane, x1, 1 + self.overshoot, bounds, scale)
            distance = distance_between(x0, z, scale)
            logits = engine.forward(z)
            other = flipped_to(logits, y)
            flipped = other >= 0
            upper[rows] = torch.where(flipped, distance, upper[rows])
            rival[rows] = torch.where(flipped, other, rival[rows])
            lost = distance.isnan() | is_undefined(logits)
            undefined[rows] |= lost
            moved = (z != x1).reshape(len(z), -1).any(dim=1)
            left = (~flipped & moved & ~lost).nonzero().squeeze(1)
            if len(left) == 0:
                break
            rows, x0, x1, y, classes = (part[left] for part in (rows, x0, z, y, classes))

        tie = margin == 0
        upper = upper.to(margin.dtype).masked_fill(tie, 0.0)
        radius = upper.masked_fill(undefined & upper.isinf(), math.nan)
        rival = torch.where(tie, runner_up, rival)
        return Estimate(radius, prediction, rival, torch.zeros_like(upper), upper)
