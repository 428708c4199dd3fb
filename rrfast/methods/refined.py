"""The radius along a ray whose direction is recomputed at the boundary several times."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rrfast import ops
from rrfast._checks import check_count
from rrfast.engine import Engine
from rrfast.methods.boundary import contenders, linearised, nearest_plane, of_samples
from rrfast.methods.method import Estimate
from rrfast.methods.search import START, before_probes
from rrfast.ops import accumulate_dtype, unchecked

#: Where the final search starts, as a factor of the estimated crossing of its ray.
BEYOND = 1.01


@dataclass(frozen=True, eq=False)
class Refined:
    """Redirected rays: 1 + `rounds` + `final_search` forwards, `classes` + `rounds` backwards.

    The boundary point nearest to x, inside the box, is x + r d, where d is the sign of the gradient
    of the lead g = max_{k != y} h_k - h_y at *that point*, not at x. So every round takes the
    gradient at the estimated crossing z of the ray, and redirects the ray:

        G <- G / 2 + grad g(z) / ||scale grad g(z)||_1 / 2,    d = sign(G),

    The next z is where the new ray meets the plane {g + grad g . (. - z) = 0}: all of it one op,
    `rrfast.ops.redirect_`. Without the half of the old G, rays would alternate between two facets
    of the boundary. The first G is the normal of the nearest plane of the model linearised at x,
    among the `classes` likeliest classes. The ray with the nearest linearised crossing is then
    searched along as in "search". The radius is the interpolated crossing of that ray, or the
    smallest step that was seen to flip on another ray if that is smaller. upper is the smallest
    step seen to flip on any ray, lower the largest on the searched ray seen to keep the prediction
    (0 if that is beyond the radius).

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

        first = torch.where((plane.distance > 0) & plane.distance.isfinite(), plane.distance, START)
        fresh = before_probes(margin, first.to(margin.dtype)).to(first.dtype)
        step = fresh[5]
        nearest = torch.cat((fresh, torch.full_like(fresh[:1], math.nan), fresh[1:2]))
        flipped_to, z = runner_up.clone(), engine.memory("probe", x)
        direction, nearest_direction = (
            engine.memory(name, x, torch.int8) for name in ("sign", "nearest sign")
        )
        aim = engine.memory("aim", x, step.dtype).copy_(_normalised(plane.normal, scale))
        unchecked.fgsm_step_into(z, direction, x, aim.to(x.dtype), step, bounds, scale)
        for _ in range(self.rounds):
            recorded = engine.record(z, copy=False)
            state, rival = fresh.clone(), runner_up.clone()
            _search(recorded.logits, prediction, state, rival)
            normal, gap = linearised(recorded, prediction, rival, last=True)
            changed = step, aim, z, direction, nearest, nearest_direction, flipped_to
            unchecked.redirect_(x, normal, gap, state, rival, *changed, bounds, scale)

        state, flipped_at = nearest[:6], nearest[7]
        lower, upper, *_, probe = state
        # A probe exactly at the crossing often falls short, and says nothing about the points
        # beyond.
        torch.where(upper == math.inf, BEYOND * probe, probe, out=probe)
        for _ in range(self.final_search):
            unchecked.perturb_into(z, x, nearest_direction, probe, bounds, scale)
            _search(engine.forward(z, copy=False), prediction, state, rival)
            flipped_at, flipped_to = _nearer_flip(upper, rival, flipped_at, flipped_to)
        radius = torch.where(upper == math.inf, math.inf, probe).minimum(flipped_at)
        lower = torch.where(lower > radius, 0.0, lower)
        radius, lower, upper = (v.to(margin.dtype) for v in (radius, lower, flipped_at))
        return Estimate(radius, prediction, flipped_to, lower, upper)


def _search(logits: Tensor, prediction: Tensor, state: Tensor, rival: Tensor) -> None:
    """`rrfast.ops.search_step_`; the logits may be float64 where x and so the state is not."""
    own = state.to(accumulate_dtype(logits.dtype))
    unchecked.search_step_(logits, prediction, own, 0.0, rival)
    if own is not state:
        state.copy_(own)


def _nearer_flip(
    at: Tensor, to: Tensor, before: Tensor, before_to: Tensor
) -> tuple[Tensor, Tensor]:
    """The smaller step and its class; a value from before a NaN stays."""
    nearer = at < before
    return torch.where(nearer, at, before), torch.where(nearer, to, before_to)


def _normalised(normal: Tensor, scale: Tensor | None) -> Tensor:
    """The normal over the mean of scale |normal|, or 0, in the accumulation dtype."""
    dtype = accumulate_dtype(normal.dtype)
    count = torch.full((len(normal),), normal[0].numel(), dtype=dtype, device=normal.device)
    factor = unchecked.plane_distance(normal, normal, count, None, scale)
    return normal.to(dtype) * of_samples(factor.masked_fill(factor.isinf(), 0.0), normal)
