"""The radius along a direction that is aimed again at the boundary, and once more from there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from rrfast import ops
from rrfast.checks import check_count
from rrfast.engine import Engine
from rrfast.radius.boundary import contenders, nearest_plane, of_samples
from rrfast.radius.estimate import Estimate
from rrfast.radius.search import START, before_probes
from rrfast.reference import accumulate_dtype

#: The share of the directions so far in the next. Without any the walk goes back and forth between
#: two facets of the boundary.
MOMENTUM = 0.5


@dataclass(frozen=True, eq=False)
class Refined:
    """Re-aimed rays: 1 + `rounds` + `final_search` forwards, `classes` + `rounds` backwards.

    Nearest to x on the boundary, inside the box, is a point x + r d where d is the sign of the
    gradient of the lead g = max_{k != y} h_k - h_y *there*, not at x. So every round takes the
    gradient at the point z where the ray seems to cross the boundary, and aims again:

        G <- G / 2 + grad g(z) / mean |grad g(z)| / 2,    d = sign(G),

    with the next z where d meets the plane {g + grad g . (. - z) = 0}. The first G is the normal of
    the nearest of the planes that the model linearised at x has for the `classes` likeliest
    classes. Of all rays the one whose linearised crossing is nearest is searched along to the end,
    as "search" does. The radius is where that ray seems to cross, by interpolation, or the smallest
    step that was seen to flip on another if that is smaller. upper is the smallest step seen to
    flip on any ray, lower the largest on the searched ray seen to keep the prediction (0 if that is
    beyond the radius).

    Nothing waits for the device. A tie at x has radius 0, a sample that never flipped infinity.

    Source: ours, from the optimality condition of min ||d||_inf with g(x + d) = 0.

    Attributes:
        rounds: Gradients taken near the boundary.
        classes: Classes that the first direction is chosen from, K - 1 at most; each costs a
            backward.
        final_search: Forwards spent on the best ray at the end.
        bounds: The box for x + r d, see `rrfast.ops.channel_bounds`; None for none. x itself must
            lie in it.
        scale: The unit of the radius, see `rrfast.ops.channel_scale`; None for x's own.

    Example:
        >>> from rrfast.engine import Engine
        >>> x = torch.tensor([[1.0, 0.0], [0.5, 0.25]])
        >>> with Engine(torch.nn.Linear(2, 3)) as engine:
        ...     estimate = Refined()(engine, x)
        >>> estimate.radius.shape, engine.forwards, engine.backwards
        (torch.Size([2]), 10, 7)
    """

    rounds: int = 5
    classes: int = 2
    final_search: int = 4
    bounds: ops.Bounds | None = None
    scale: ops.Scale | None = None
    capturable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_count("rounds", self.rounds)
        check_count("classes", self.classes)
        check_count("final_search", self.final_search)

    def __call__(self, engine: Engine, x: Tensor) -> Estimate:  # noqa: D102
        bounds, scale = ops.channel_bounds(self.bounds, x), ops.channel_scale(self.scale, x)
        clean = engine.record(x)
        prediction, margin, _ = ops.direction_seed(clean.logits)
        classes = contenders(clean.logits, prediction, self.classes)
        plane = nearest_plane(clean, x, prediction, classes, bounds, scale)

        aim = _normalised(plane.normal)
        first = torch.where((plane.distance > 0) & plane.distance.isfinite(), plane.distance, START)
        state = before_probes(margin, first.to(margin.dtype))
        best: Ray | None = None
        flipped_at = state[1]
        for _ in range(self.rounds):
            at = state[5].to(aim.dtype, copy=True)
            z, direction = ops.fgsm_step(x, aim.to(x.dtype), at, bounds, scale)
            recorded = engine.record(z)
            ops.search_step_(recorded.logits, prediction, state)
            flipped_at = flipped_at.minimum(state[1])
            rival = contenders(recorded.logits, prediction, 1)
            plane = nearest_plane(recorded, z, prediction, rival, None, scale)

            way = (plane.normal.to(aim.dtype) * (z - x)).reshape(len(x), -1).sum(dim=1)
            gap = plane.gap + way
            state[5] = _positive((at * gap / way).to(margin.dtype), state[5])
            best = Ray(direction, state).or_nearer(best)

            aim = torch.lerp(_normalised(plane.normal), aim, MOMENTUM)
            at = state[5].to(aim.dtype)
            z, _ = ops.fgsm_step(x, aim.to(x.dtype), at, bounds, scale)
            way = (plane.normal.to(aim.dtype) * (z - x)).reshape(len(x), -1).sum(dim=1)
            reach = _positive((at * gap / way).to(margin.dtype), state[5])
            state = before_probes(margin, reach.minimum(flipped_at))

        assert best is not None  # there is one round at least
        direction, state = best
        for _ in range(self.final_search):
            probe = ops.perturb(x, direction, state[5].to(aim.dtype), bounds, scale)
            ops.search_step_(engine.forward(probe), prediction, state)
            flipped_at = flipped_at.minimum(state[1])
        crossing = torch.where(state[1] == math.inf, math.inf, state[5])
        radius = crossing.minimum(flipped_at)
        lower = torch.where(state[0] > radius, 0.0, state[0])
        return Estimate(radius, prediction, lower, flipped_at)


class Ray(NamedTuple):
    """A direction from x and what `rrfast.ops.search_step_` knows of the lead along it."""

    direction: Tensor  #: [B, ...] int8
    state: Tensor  #: [6, B]; state[5] is where it seems to cross the boundary

    def or_nearer(self, other: Ray | None) -> Ray:
        """Of the two, per sample, the one that crosses first."""
        if other is None:
            return self
        nearer = self.state[5] < other.state[5]
        return Ray(
            torch.where(of_samples(nearer, self.direction), self.direction, other.direction),
            torch.where(nearer, self.state, other.state),
        )


def _positive(radius: Tensor, otherwise: Tensor) -> Tensor:
    return torch.where((radius > 0) & radius.isfinite(), radius, otherwise)


def _normalised(gradient: Tensor) -> Tensor:
    """With a mean absolute value of 1, or as it is where that is 0; accumulation dtype."""
    g = gradient.to(accumulate_dtype(gradient.dtype))
    mean = g.abs().reshape(len(g), -1).mean(dim=1).clamp(min=torch.finfo(g.dtype).tiny)
    return g / of_samples(mean, g)
