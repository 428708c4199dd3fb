"""FMN: the fast minimum-norm attack, which shrinks a ball around x while it searches in it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rrfast import ops
from rrfast._checks import check_count, check_number
from rrfast.engine import Engine
from rrfast.engine.box import faces
from rrfast.methods.boundary import distance_between, linearised, of_samples
from rrfast.methods.method import Estimate
from rrfast.methods.nearest import Seen, Walked
from rrfast.ops import accumulate_dtype, best_other, per_channel

#: What is left of the step size and of gamma at the last step.
LAST_STEP, LAST_GAMMA = 0.01, 0.001
#: How far beyond the expected boundary the ball reaches: rounding must not keep it short of it.
BEYOND = 1.02


@dataclass(frozen=True, eq=False)
class FMN:
    """FMN in L-infinity: `steps` + 1 + `final_search` forwards and `steps` backwards.

    With y the prediction at x and d = x1 - x, in units of `scale`, every step linearises the lead
    l = h_y - max_{k != y} h_k at x1, adapts the radius of a ball around x, and descends in it:

        eps <- min(eps (1 - gamma), |d*|)      if the prediction has changed at x1
        eps <- |d| + 1.02 way                  if it has never changed
        eps <- eps (1 + gamma)                 otherwise
        d   <- clip(d - a eps grad l / rms(grad l), -eps, eps), then into the box

    d* is the nearest point that changed the prediction, rms the root mean square, and way the
    distance, within the box, of the plane where the linearised lead ends: l / |grad l|_1 without a
    box. Along half a cosine a falls from `step_size` to a hundredth of it, and gamma from `gamma`
    to 0.001. The radius is the distance of the nearest point at which a forward showed another
    prediction; infinite if there is none.

    Nothing waits for the device.

    Source: Pintor, Roli, Brendel & Biggio, "Fast minimum-norm adversarial attacks through adaptive
    norm constraints" (NeurIPS 2021), Algorithm 1, without targets. Four things differ: the step is
    in units of eps, where the paper has an L2 length, so that the units of x do not matter; eps
    reaches a little beyond the expected boundary, which is looked for within the box; the last
    point is evaluated, too; and a regula falsi between x and the nearest point ends the search.

    Attributes:
        steps: Gradient steps.
        step_size: The root mean square of the first step, in units of eps: from 1 on the ball, not
            the step, decides how far most elements move.
        gamma: The relative change of eps in the first step.
        final_search: Forwards of the regula falsi.
        bounds: The box for x1, see `rrfast.ops.channel_bounds`; None for none. x itself must lie
            in it.
        scale: The unit of the radius, see `rrfast.ops.channel_scale`; None for x's own.

    Example:
        >>> from rrfast.engine import Engine
        >>> x = torch.tensor([[1.0, 0.0], [0.5, 0.25]])
        >>> with Engine(torch.nn.Linear(2, 3)) as engine:
        ...     estimate = FMN(steps=10)(engine, x)
        >>> estimate.radius.shape, engine.forwards, engine.backwards
        (torch.Size([2]), 14, 10)
    """

    steps: int = 100
    step_size: float = 3.0
    gamma: float = 0.05
    final_search: int = 3
    bounds: ops.Bounds | None = None
    scale: ops.Scale | None = None

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        check_number("step_size", self.step_size)
        check_number("gamma", self.gamma, below=1)
        check_count("final_search", self.final_search, least=0)

    def __call__(self, engine: Engine, x: Tensor) -> Estimate:  # noqa: D102
        bounds, scale = ops.channel_bounds(self.bounds, x), ops.channel_scale(self.scale, x)
        recorded = engine.record(x)
        prediction, margin, _, runner_up, _ = ops.direction_seed(recorded.logits)
        seen, undefined = Seen.at(x, margin, runner_up), margin.isnan()
        flipped, x1 = seen.distance == 0, x
        eps = torch.full_like(seen.distance, math.inf)
        for step in range(self.steps):
            rival = best_other(recorded.logits, prediction)
            normal, gap = linearised(recorded, prediction, rival, last=True)
            eps = self._resized(eps, seen, flipped, x, x1, normal, gap, step, bounds, scale)
            share = _annealed(self.step_size, LAST_STEP * self.step_size, step, self.steps)
            x1 = _stepped(x, x1, normal, share, eps, bounds, scale)
            lost = distance_between(x, x1, scale).isnan()
            last = step == self.steps - 1
            if last:
                logits = engine.forward(x1)
            else:
                recorded = engine.record(x1)
                logits = recorded.logits
            seen, flipped, lead = seen.or_nearer(x, x1, logits, prediction, scale)
            undefined = undefined | lost | lead.isnan()
        seen = seen.searched(engine, x, prediction, margin, scale, self.final_search)
        return Walked(seen, prediction, margin, undefined).estimate()

    def _resized(
        self,
        eps: Tensor,
        seen: Seen,
        flipped: Tensor,
        x: Tensor,
        x1: Tensor,
        normal: Tensor,
        gap: Tensor,
        step: int,
        bounds: Tensor | None,
        scale: Tensor | None,
    ) -> Tensor:
        """The radius of the ball for the next step, [B]."""
        gamma = _annealed(self.gamma, LAST_GAMMA, step, self.steps)
        way = ops.plane_distance(x1, normal, gap, bounds, scale)
        if bounds is not None:
            # Infinite where the box ends before the plane, which may well be curved.
            freely = ops.plane_distance(x1, normal, gap, None, scale)
            way = torch.where(way.isinf(), freely, way)
        least = torch.finfo(x.dtype).eps * ops.extent(x, scale)
        ahead = distance_between(x, x1, scale) + (BEYOND * way).maximum(least)
        outside = torch.where(seen.distance.isfinite(), eps * (1 + gamma), ahead)
        return torch.where(flipped, (eps * (1 - gamma)).minimum(seen.distance), outside)


def _annealed(first: float, last: float, step: int, steps: int) -> float:
    """From first to last along half a cosine."""
    return last + (first - last) * (1 + math.cos(math.pi * step / steps)) / 2


def _stepped(
    x: Tensor,
    x1: Tensor,
    normal: Tensor,
    share: float,
    eps: Tensor,
    bounds: Tensor | None,
    scale: Tensor | None,
) -> Tensor:
    """A step along the normal into ball and box, whose root mean square is this share of eps."""
    dtype = accumulate_dtype(x.dtype)
    unit = 1.0 if scale is None else per_channel(scale, x)
    slope = normal.to(dtype) * unit
    size = slope.reshape(len(x), -1).square().mean(dim=1).sqrt()
    usable = (size > 0) & eps.isfinite()
    factor = torch.where(usable, share * eps / size, 0.0)
    way = (x1.to(dtype) - x.to(dtype)) / unit + of_samples(factor, x) * slope
    ball = of_samples(eps, x)
    moved = (x.to(dtype) + unit * way.clamp(-ball, ball)).to(x.dtype)
    return moved if bounds is None else torch.clamp(moved, *faces(bounds, x))
