"""FAB: the fast adaptive boundary attack, which walks along the decision boundary towards x."""

from __future__ import annotations

from dataclasses import dataclass

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
    nearest_plane,
    of_samples,
    step_to,
)
from rrfast.methods.method import Estimate
from rrfast.methods.nearest import Seen, Walked, between


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
        check_number("alpha_max", self.alpha_max, least=0, most=1)
        check_number("eta", self.eta)
        check_number("beta", self.beta, most=1)
        if self.targets is not None:
            check_count("targets", self.targets)
        check_count("final_search", self.final_search, least=0)

    def __call__(self, engine: Engine, x: Tensor) -> Estimate:  # noqa: D102
        return self.walk(engine, x).estimate()

    def walk(self, engine: Engine, x: Tensor) -> Walked:
        """The nearest point that changes the prediction, and prediction and margin at x."""
        bounds, scale = ops.channel_bounds(self.bounds, x), ops.channel_scale(self.scale, x)
        clean = engine.record(x)
        prediction, margin, _, runner_up, _ = ops.direction_seed(clean.logits)
        classes = contenders(clean.logits, prediction, self.targets)
        seen, undefined = Seen.at(x, margin, runner_up), margin.isnan()

        recorded: Recorded | None = clean
        for run in [classes] if self.targets is None else classes.split(1, dim=1):
            x1 = x
            for _ in range(self.steps):
                # The first forward of the first run is the one that gave the prediction.
                recorded = recorded or engine.record(x1)
                plane = nearest_plane(recorded, x1, prediction, run, None, scale)
                recorded = None
                x1 = self._step(engine.memory, x, x1, plane, bounds, scale)
                lost = distance_between(x, x1, scale).isnan()
                seen, flipped, lead = seen.or_nearer(x, x1, engine.forward(x1), prediction, scale)
                undefined = undefined | lost | lead.isnan()
                x1 = torch.where(of_samples(flipped, x), between(x, x1, self.beta), x1)

        seen = seen.searched(engine, x, prediction, margin, scale, self.final_search)
        return Walked(seen, prediction, margin, undefined)

    def _step(
        self,
        memory: ops.Memory,
        x: Tensor,
        x1: Tensor,
        plane: Plane,
        bounds: Tensor | None,
        scale: Tensor | None,
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
        near_x1 = memory("near x1", x1), memory("sign", x1, torch.int8)
        near_x = memory("near x", x), memory("sign", x, torch.int8)
        return between(
            step_to(from_x1, x1, self.eta, bounds, scale, near_x1),
            step_to(from_x, x, self.eta, bounds, scale, near_x),
            bias,
        )
