"""RR-BS with PGD: the smallest ball in which PGD changes the prediction."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rrfast import ops
from rrfast._checks import check_count, check_number
from rrfast.engine import Clean, Engine
from rrfast.methods.boundary import distance_between, flipped_to, of_samples
from rrfast.methods.method import R_MIN, Estimate
from rrfast.ops import accumulate_dtype, per_channel


@dataclass(frozen=True, eq=False)
class PGD:
    """RR-BS with PGD: 1 + `radii` `steps` forwards, 1 + `radii` (`steps` - 1) backwards.

    The doubling and bisection of RR-BS, in which each sample's radius r is tried by an attack
    within the ball |z - x| <= r: from z = x, `steps` times

        z <- clip(z + step_size r sign(grad_z (logsumexp_{k != y}(h_k / T) - h_y / T)), ball, box)

    and r counts as flipped if any iterate flips. The first gradient, at x, is the same for all
    radii and is taken once. The radius is the distance of the nearest iterate that flipped, which
    may lie well inside its ball; the bisection continues from that distance. If nothing flipped it
    is infinite, and found is False. lower is the largest radius at which the attack failed, or 0 if
    an iterate flipped nearer than that; it proves nothing, as another attack may succeed.

    There is no random start: the same x gives the same radius, whatever else is in the batch. With
    16 bits the ball is rounded, and distances are measured after rounding. Nothing waits for the
    device; but a call takes hundreds of passes, too many for a CUDA graph.

    Source: RAT Algorithm 1 with the attack of Madry et al. (2018) in place of FGSM; errata 3 to 7.

    Attributes:
        temperature: T of the direction.
        steps: Steps of PGD per radius.
        step_size: Step size of PGD, as a fraction of the radius; at least 1 / `steps`.
        radii: Number of radii tried, in doubling and bisection together.
        r_min: Where the doubling starts, in units of `scale`.
        bounds: The box for z, see `rrfast.ops.channel_bounds`; None for none. x itself must lie in
            it.
        scale: The unit of the radius, see `rrfast.ops.channel_scale`; None for x's own.

    Example:
        >>> from rrfast.engine import Engine
        >>> x = torch.tensor([[1.0, 0.0], [0.5, 0.25]])
        >>> with Engine(torch.nn.Linear(2, 2)) as engine:
        ...     estimate = PGD(steps=5)(engine, x)
        >>> estimate.radius.shape, engine.forwards, engine.backwards
        (torch.Size([2]), 121, 97)
    """

    temperature: float = 1.0
    steps: int = 10
    step_size: float = 0.25
    radii: int = 24
    r_min: float = 1e-6
    bounds: ops.Bounds | None = None
    scale: ops.Scale | None = None

    def __post_init__(self) -> None:
        check_number("temperature", self.temperature, least=0)
        check_count("steps", self.steps)
        check_number("step_size", self.step_size)
        if self.steps * self.step_size < 1 - 1e-9:
            raise ValueError(
                "step_size must be at least 1 / steps, or no iterate reaches the end of its ball, "
                f"got {self.step_size!r} with {self.steps} steps"
            )
        check_count("radii", self.radii)
        check_number("r_min", self.r_min, least=R_MIN)

    def __call__(self, engine: Engine, x: Tensor) -> Estimate:  # noqa: D102
        clean = engine.forward_backward(x, self.temperature)
        bounds, scale = ops.channel_bounds(self.bounds, x), ops.channel_scale(self.scale, x)

        # As in RR-BS, a bracket of (0, 0) or of NaN is a fixed point of the bisection.
        tie, undefined = clean.margin == 0, clean.margin.isnan()
        lower = torch.full_like(clean.margin, self.r_min)
        lower = lower.masked_fill(tie, 0.0).masked_fill(undefined, math.nan)
        upper = torch.full_like(clean.margin, math.inf)
        upper = upper.masked_fill(tie, 0.0).masked_fill(undefined, math.nan)
        nearest, radius, rival = upper.clone(), 2 * lower, clean.runner_up
        for _ in range(self.radii):
            logits, distance, other = self._attack(engine, x, clean, radius, bounds, scale)
            rival = torch.where(distance < nearest, other, rival)
            nearest = nearest.minimum(distance)
            # An iterate that flips nearer than a radius at which the attack failed does not narrow
            # the bracket.
            radius = torch.where((lower < distance) & (distance < radius), distance, radius)
            ops.bisection_step_(logits, clean.prediction, lower, upper, radius)

        failed = (lower > self.r_min) & (lower <= nearest)
        undefined = lower.isnan()  # or a gradient, and the iterates after it
        nearest = nearest.masked_fill(undefined & (nearest.isinf() | tie), math.nan)
        lower = torch.where(failed | undefined, lower, 0.0)
        return Estimate(nearest, clean.prediction, rival, lower, nearest.clone())

    def _attack(
        self,
        engine: Engine,
        x: Tensor,
        clean: Clean,
        radius: Tensor,
        bounds: Tensor | None,
        scale: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of an iterate that flips, if any; distance and prediction of the nearest one.

        The distance is infinite if none flips.
        """
        r = radius.to(accumulate_dtype(x.dtype))
        reach = of_samples(r, x) * (1.0 if scale is None else per_channel(scale, x))
        x = x.detach()  # where results are written into memory, autograd cannot follow
        least, most = (x - reach).to(x.dtype), (x + reach).to(x.dtype)
        moved, probe = engine.memory("moved", x), engine.memory("probe", x)
        sign = engine.memory("sign", x, torch.int8)
        z, gradient, last = x, clean.grad, clean.logits
        flipped, nearest = torch.zeros_like(r, dtype=torch.bool), torch.full_like(r, math.inf)
        rival = clean.prediction
        for step in range(self.steps):
            ops.fgsm_step(z, gradient, self.step_size * r, bounds, scale, out=(moved, sign))
            z = torch.clamp(moved, least, most, out=probe)
            if step < self.steps - 1:
                recorded = engine.record(z)
                logits = recorded.logits
                # The direction away from y, also where another class is ahead by now.
                ahead = logits.scatter(1, clean.prediction[:, None], torch.finfo(logits.dtype).max)
                seed = ops.direction_seed(ahead, self.temperature)[2]
                gradient = recorded.grad(seed, last=True)
            else:
                logits = engine.forward(z)
            last = torch.where(flipped[:, None], last, logits)
            other, distance = flipped_to(logits, clean.prediction), distance_between(x, z, scale)
            flips = other >= 0
            rival = torch.where(flips & (distance < nearest), other, rival)
            nearest = torch.where(flips, nearest.minimum(distance), nearest)
            flipped = flipped | flips
        return last, nearest.to(radius.dtype), rival
