"""FAB: the fast adaptive boundary attack, which walks along the decision boundary towards x."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from rrfast import ops
from rrfast._checks import check_count, check_number
from rrfast.engine import Engine, Recorded
from rrfast.methods.boundary import (
    FAR,
    Plane,
    contenders,
    distance_between,
    flipped_to,
    lead_of,
    nearest_plane,
    of_samples,
    step_to,
)
from rrfast.methods.method import Estimate
from rrfast.ops import accumulate_dtype

#: How far beyond the root the search tries, as a fraction of the way to the far end of the bracket.
LEANING = 0.1


@dataclass(frozen=True, eq=False)
class FAB:
    """FAB in L-infinity: 2 `steps` + `final_search` forwards and (K - 1) `steps` backwards.

    With y the prediction at x, every step linearises the model at x1, which starts at x, takes the
    nearest of the hyperplanes {h_k = h_y}, and moves to a weighted mean of two points slightly
    beyond it: those nearest to x1 and to x within the box:

        x1 <- (1 - a) (x1 + eta p(x1)) + a (x + eta p(x)),    a = min(|p(x1)| / (|p(x1)| + |p(x)|),
                                                                      alpha_max)

    Where the prediction has changed there, the point is kept if it is the nearest so far, and x1
    goes back towards x: x1 <- x + beta (x1 - x). The radius is the distance of the nearest point at
    which a forward showed another prediction; infinite if there is none. FAB-T (`targets`) does a
    separate run for each of the likeliest classes, with one backward per step: 2 `steps` T +
    `final_search` forwards and `steps` T backwards in all.

    Nothing waits for the device. If the prediction has not changed, the two forwards of a step are
    at the same point; to find this out, the host would have to wait.

    Source: Croce & Hein, "Minimally distorted adversarial examples with a fast adaptive boundary
    attack" (ICML 2020), Algorithm 1, without random restarts.

    Attributes:
        steps: Linearisations per run.
        alpha_max: The largest weight of the point nearest to x.
        eta: How far beyond the plane, as a factor of the distance to it.
        beta: How far x1 stays away after it has changed the prediction.
        targets: None for all classes at once; T for FAB-T with the T largest logits at x besides
            the prediction.
        final_search: Forwards of a regula falsi at the end, on the margin between x and the nearest
            point, which brings the point back to the boundary.
        bounds: The box for x1, see `rrfast.ops.channel_bounds`; None for none. x itself must lie
            in it.
        scale: The unit of the radius, see `rrfast.ops.channel_scale`; None for x's own.

    Example:
        >>> from rrfast.engine import Engine
        >>> x = torch.tensor([[1.0, 0.0], [0.5, 0.25]])
        >>> with Engine(torch.nn.Linear(2, 3)) as engine:
        ...     estimate = FAB(steps=10)(engine, x)
        >>> estimate.radius.shape, engine.forwards, engine.backwards
        (torch.Size([2]), 23, 20)
    """

    steps: int = 100
    alpha_max: float = 0.1
    eta: float = 1.05
    beta: float = 0.9
    targets: int | None = None
    final_search: int = 3
    bounds: ops.Bounds | None = None
    scale: ops.Scale | None = None

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        check_number("alpha_max", self.alpha_max, zero=True)
        check_number("eta", self.eta)
        check_number("beta", self.beta)
        for name, value in (("alpha_max", self.alpha_max), ("beta", self.beta)):
            if value > 1:
                raise ValueError(f"{name} must be at most 1, got {value!r}")
        if self.targets is not None:
            check_count("targets", self.targets)
        check_count("final_search", self.final_search, least=0)

    def __call__(self, engine: Engine, x: Tensor) -> Estimate:  # noqa: D102
        walked = self.walk(engine, x)
        upper = walked.seen.distance.to(walked.margin.dtype)
        radius = upper.masked_fill(walked.undefined & upper.isinf(), math.nan)
        lower = torch.zeros_like(upper)
        return Estimate(radius, walked.prediction, walked.seen.rival, lower, upper)

    def walk(self, engine: Engine, x: Tensor) -> Walked:
        """The nearest point that changes the prediction, and prediction and margin at x."""
        bounds, scale = ops.channel_bounds(self.bounds, x), ops.channel_scale(self.scale, x)
        clean = engine.record(x)
        prediction, margin, _, runner_up = ops.direction_seed(clean.logits)
        classes = contenders(clean.logits, prediction, self.targets)
        tie, undefined = margin == 0, margin.isnan()
        distance = torch.full_like(margin, math.inf).masked_fill(tie, 0.0)
        seen = Seen(x, distance.to(accumulate_dtype(x.dtype)), -margin, runner_up)

        recorded: Recorded | None = clean
        for run in [classes] if self.targets is None else classes.split(1, dim=1):
            x1 = x
            for _ in range(self.steps):
                # The first forward of the first run is the one that gave the prediction.
                recorded = recorded or engine.record(x1)
                plane = nearest_plane(recorded, x1, prediction, run, None, scale)
                recorded = None
                x1 = self._step(x, x1, plane, bounds, scale)
                lost = distance_between(x, x1, scale).isnan()
                seen, flipped, lead = seen.or_nearer(x, x1, engine.forward(x1), prediction, scale)
                undefined = undefined | lost | lead.isnan()
                x1 = torch.where(of_samples(flipped, x), _between(x, x1, self.beta), x1)

        seen = self._search(engine, seen, x, prediction, margin, scale)
        return Walked(seen, prediction, margin, undefined)

    def _step(
        self, x: Tensor, x1: Tensor, plane: Plane, bounds: Tensor | None, scale: Tensor | None
    ) -> Tensor:
        """A point beyond the plane, between those nearest to x1 and to x."""
        offset = plane.normal.to(plane.gap.dtype) * (x1 - x)
        shift = offset.reshape(len(x), -1).sum(dim=1)
        from_x1, from_x = (
            plane._replace(
                gap=gap, distance=ops.plane_distance(z, plane.normal, gap, bounds, scale)
            )
            for z, gap in ((x1, plane.gap), (x, plane.gap + shift))
        )
        way, whole_way = from_x1.distance.clamp(max=FAR), from_x.distance.clamp(max=FAR)
        bias = torch.where(way > 0, way / (way + whole_way), 0.0).clamp(max=self.alpha_max)
        return _between(
            step_to(from_x1, x1, self.eta, bounds, scale),
            step_to(from_x, x, self.eta, bounds, scale),
            bias,
        )

    def _search(
        self,
        engine: Engine,
        seen: Seen,
        x: Tensor,
        prediction: Tensor,
        margin: Tensor,
        scale: Tensor | None,
    ) -> Seen:
        """Regula falsi between x and the nearest point; every trial is shifted towards the latter.

        A trial exactly at the root would often fall short of the boundary, and the point known to
        be beyond it would never come closer.
        """
        end = seen.point
        low, low_lead = torch.zeros_like(margin), margin
        high, high_lead = torch.ones_like(margin), seen.lead
        for _ in range(self.final_search):
            root = low + (high - low) * low_lead / (low_lead - high_lead)
            trial = root + LEANING * (high - root)
            z = _between(x, end, trial)
            seen, flipped, lead = seen.or_nearer(x, z, engine.forward(z), prediction, scale)
            low, low_lead = torch.where(flipped, low, trial), torch.where(flipped, low_lead, lead)
            high, high_lead = (
                torch.where(flipped, trial, high),
                torch.where(flipped, lead, high_lead),
            )
        return seen


class Seen(NamedTuple):
    """The nearest point that was seen to change the prediction."""

    point: Tensor  #: [B, ...]; x where there is none
    distance: Tensor  #: [B], infinite where there is none
    lead: Tensor  #: [B], lead of the prediction over the other classes
    rival: Tensor  #: [B] int64, the class predicted there; the runner-up at x where there is none

    def or_nearer(
        self, x: Tensor, z: Tensor, logits: Tensor, prediction: Tensor, scale: Tensor | None
    ) -> tuple[Seen, Tensor, Tensor]:
        """The nearer of this point and z; whether the prediction differs at z; the lead there."""
        other, lead = flipped_to(logits, prediction), lead_of(logits, prediction)
        flipped, distance = other >= 0, distance_between(x, z, scale)
        nearer = flipped & (distance < self.distance)
        chosen = Seen(
            torch.where(of_samples(nearer, x), z, self.point),
            torch.where(nearer, distance, self.distance),
            torch.where(nearer, lead, self.lead),
            torch.where(nearer, other, self.rival),
        )
        return chosen, flipped, lead


class Walked(NamedTuple):
    """What a walk has found, and prediction and margin at its start."""

    seen: Seen
    prediction: Tensor  #: [B] int64, at x
    margin: Tensor  #: [B], at x
    undefined: Tensor  #: [B] bool: some step was NaN


def _between(x: Tensor, z: Tensor, share: float | Tensor) -> Tensor:
    """(1 - share) x + share z, in the accumulation dtype, and rounded to that of x."""
    dtype = accumulate_dtype(x.dtype)
    if isinstance(share, Tensor):
        share = of_samples(share, x).to(dtype)
    return torch.lerp(x.to(dtype), z.to(dtype), share).to(x.dtype)
