"""The radius along a ray whose direction is recomputed at the boundary several times."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from rrfast import ops
from rrfast._checks import check_count
from rrfast.engine import Engine
from rrfast.methods.boundary import contenders, linearised, nearest_plane, of_samples
from rrfast.methods.method import Estimate
from rrfast.methods.search import START, before_probes
from rrfast.ops import accumulate_dtype, unchecked

#: The weight of the previous directions in the next. With 0 the rays would alternate between two
#: facets of the boundary.
MOMENTUM = 0.5
#: Where the final search starts, as a factor of the estimated crossing of its ray.
BEYOND = 1.01


@dataclass(frozen=True, eq=False)
class Refined:
    """Redirected rays: 1 + `rounds` + `final_search` forwards, `classes` + `rounds` backwards.

    The boundary point nearest to x, inside the box, is x + r d, where d is the sign of the gradient
    of the lead g = max_{k != y} h_k - h_y at *that point*, not at x. So every round takes the
    gradient at the estimated crossing z of the ray, and redirects the ray:

        G <- G / 2 + grad g(z) / ||scale grad g(z)||_1 / 2,    d = sign(G),

    The next z is where the new ray meets the plane {g + grad g . (. - z) = 0}. The first G is the
    normal of the nearest plane of the model linearised at x, among the `classes` likeliest classes.
    The ray with the nearest linearised crossing is then searched along as in "search". The radius
    is the interpolated crossing of that ray, or the smallest step that was seen to flip on another
    ray if that is smaller. upper is the smallest step seen to flip on any ray, lower the largest on
    the searched ray seen to keep the prediction (0 if that is beyond the radius).

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
        clean = engine.record(x, copy=False)  # not used after the planes at x
        prediction, margin, _, runner_up, _ = unchecked.direction_seed(clean.logits, 1.0)
        classes = contenders(clean.logits, prediction, self.classes)
        plane = nearest_plane(clean, x, prediction, classes, bounds, scale)

        count, dtype = torch.full_like(plane.gap, x[0].numel()), margin.dtype
        aim = _normalised(plane.normal, scale, count)
        first = torch.where((plane.distance > 0) & plane.distance.isfinite(), plane.distance, START)
        fresh = before_probes(margin, first.to(dtype))
        at, nowhere = fresh[5], fresh.new_full((), math.inf)
        best: Ray | None = None
        flipped_at, flipped_to = fresh[1], runner_up
        z, unused = engine.memory("probe", x), engine.memory("sign", x, torch.int8)
        for _ in range(self.rounds):
            state, step = fresh.clone(), at.to(aim.dtype)
            probe, direction = state[5].copy_(at), torch.empty_like(unused)
            unchecked.fgsm_step_into(z, direction, x, aim.to(x.dtype), step, bounds, scale)
            recorded, rival = engine.record(z, copy=False), runner_up.clone()
            unchecked.search_step_(recorded.logits, prediction, state, 0.0, rival)
            flipped_at, flipped_to = _nearer_flip(state[1], rival, flipped_at, flipped_to)
            normal, gap = linearised(recorded, prediction, rival, last=True)

            way = _inner(normal, z - x)
            gap = gap + way
            crossing = (step * gap / way).to(dtype)
            crossing = torch.where(crossing > 0, crossing, nowhere)
            torch.where(crossing < nowhere, crossing, probe, out=probe)
            best = Ray(crossing, direction, state).or_nearer(best)

            aim = torch.lerp(_normalised(normal, scale, count), aim, MOMENTUM)
            step = probe.to(aim.dtype)
            unchecked.fgsm_step_into(z, unused, x, aim.to(x.dtype), step, bounds, scale)
            reach = (step * gap / _inner(normal, z - x)).to(dtype)
            reach = torch.where((reach > 0) & (reach < nowhere), reach, probe)
            at = reach.minimum(flipped_at)  # 0 for a tie, NaN without a margin

        assert best is not None  # there is at least one round
        _, direction, state = best
        # A probe exactly at the crossing often falls short, and says nothing about the points
        # beyond.
        state[5] = torch.where(state[1] == math.inf, BEYOND * state[5], state[5])
        for _ in range(self.final_search):
            unchecked.perturb_into(z, x, direction, state[5].to(aim.dtype), bounds, scale)
            logits = engine.forward(z, copy=False)
            unchecked.search_step_(logits, prediction, state, 0.0, rival)
            flipped_at, flipped_to = _nearer_flip(state[1], rival, flipped_at, flipped_to)
        crossing = torch.where(state[1] == math.inf, math.inf, state[5])
        radius = crossing.minimum(flipped_at)
        lower = torch.where(state[0] > radius, 0.0, state[0])
        return Estimate(radius, prediction, flipped_to, lower, flipped_at)


class Ray(NamedTuple):
    """A direction from x, and the state of `rrfast.ops.search_step_` along it."""

    crossing: Tensor  #: [B], where its linearisation crosses the boundary; infinite for nowhere
    direction: Tensor  #: [B, ...] int8
    state: Tensor  #: [6, B]

    def or_nearer(self, other: Ray | None) -> Ray:
        """For each sample the one of the two rays that crosses first."""
        if other is None:
            return self
        nearer = self.crossing < other.crossing
        return Ray(
            torch.where(nearer, self.crossing, other.crossing),
            torch.where(of_samples(nearer, self.direction), self.direction, other.direction),
            torch.where(nearer, self.state, other.state),
        )


def _nearer_flip(
    at: Tensor, to: Tensor, before: Tensor, before_to: Tensor
) -> tuple[Tensor, Tensor]:
    """The smaller step and its class; a value from before a NaN stays."""
    nearer = at < before
    return torch.where(nearer, at, before), torch.where(nearer, to, before_to)


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """The inner products of a and b, [B], in the accumulation dtype."""
    dtype = accumulate_dtype(a.dtype)
    return (a.to(dtype) * b.to(dtype)).reshape(len(a), -1).sum(dim=1)


def _normalised(normal: Tensor, scale: Tensor | None, count: Tensor) -> Tensor:
    """The normal over the mean of scale |normal|, or 0, in the accumulation dtype.

    `count` [B] is the number of its elements, in that dtype.
    """
    factor = unchecked.plane_distance(normal, normal, count, None, scale)
    return normal.to(count.dtype) * of_samples(factor.masked_fill(factor.isinf(), 0.0), normal)
