"""The radius along the worst-case direction by a safeguarded root search on the margin."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rrfast import ops
from rrfast._checks import check_count, check_number
from rrfast.engine import Engine
from rrfast.methods.method import Estimate
from rrfast.ops import accumulate_dtype

#: Where the search starts if there is no usable first-order radius, in units of `scale`.
START = 0.01
#: Interpolations after the fixed part before the tail bisects.
PATIENCE = 8


@dataclass(frozen=True, eq=False)
class Search:
    """Root search on the ray of RR-BS: `budget` forwards and 1 backward.

    The direction d is that of RR-BS and RR-Fast. The radius is the root of

        margin(r) = h_y(x + r d) - max_{k != y} h_k(x + r d)

    found from the values of the margin, where RR-BS uses only its sign. The first probe is at the
    first-order radius margin / ||gradient||_1, which takes no further pass. Secants follow until a
    probe flips, then regula falsi with the Illinois weights, or bisection where interpolation leads
    out of the bracket. The number of forwards is the same for every batch, and nothing waits for
    the device. The radius is the interpolated root; lower and upper are the largest radius seen to
    keep the prediction and the smallest seen to flip it. A tie at x has radius 0, a sample that
    never flipped infinity. If the prediction changes back and forth along the ray, any of the
    crossings may be found.

    With `tol`, the search continues for samples that have flipped and have upper - lower > tol *
    upper, until there are none or no number lies between the two ends. Every probe is then at least
    0.45 tol * upper away from both ends, and after a while the search bisects. The host then waits
    for the device once per round.

    Source: ours, on the direction of RAT Eq. 3 (errata 3, 4, 7); Illinois: Dowell & Jarratt 1971.

    Attributes:
        temperature: T of the direction.
        budget: Forwards in all, including the one at x; at least 2.
        tol: None, or the relative width that the bracket must reach, at least 1e-6.
        bounds: The box for x + r d, see `rrfast.ops.channel_bounds`; None for none. x itself must
            lie in it.
        scale: The unit of the radius, see `rrfast.ops.channel_scale`; None for x's own.

    Example:
        >>> from rrfast.engine import Engine
        >>> x = torch.tensor([[1.0, 0.0], [0.5, 0.25]])
        >>> with Engine(torch.nn.Linear(2, 2)) as engine:
        ...     estimate = Search()(engine, x)
        >>> estimate.radius.shape, engine.forwards, engine.backwards
        (torch.Size([2]), 6, 1)
    """

    temperature: float = 1.0
    budget: int = 6
    tol: float | None = None
    bounds: ops.Bounds | None = None
    scale: ops.Scale | None = None

    def __post_init__(self) -> None:
        check_number("temperature", self.temperature, least=0)
        check_count("budget", self.budget, least=2)
        if self.tol is not None:
            check_number("tol", self.tol, least=1e-6, below=1)

    @property
    def capturable(self) -> bool:
        """Whether a CUDA graph can capture a call: not with `tol`, where the host waits."""
        return self.tol is None

    def __call__(self, engine: Engine, x: Tensor) -> Estimate:  # noqa: D102
        clean = engine.forward_backward(x, self.temperature)
        bounds, scale = ops.channel_bounds(self.bounds, x), ops.channel_scale(self.scale, x)
        step_dtype = accumulate_dtype(x.dtype)

        first = ops.plane_distance(x, clean.grad, clean.margin.to(step_dtype), bounds, scale)
        first = torch.where((first > 0) & first.isfinite(), first, START)
        state = before_probes(clean.margin, first.to(clean.margin.dtype))
        rival = clean.runner_up
        probe, direction = engine.memory("probe", x), engine.memory("sign", x, torch.int8)
        first = state[5].to(step_dtype)
        ops.fgsm_step(x, clean.grad, first, bounds, scale, out=(probe, direction))
        for tried in range(1, self.budget):
            ops.search_step_(
                engine.forward(probe, copy=False), clean.prediction, state, rival=rival
            )
            if tried < self.budget - 1:
                ops.perturb(x, direction, state[5].to(step_dtype), bounds, scale, out=probe)

        if self.tol is not None:
            self._tail(engine, x, direction, clean.prediction, state, rival, bounds, scale)
        lower, upper, radius = state[0], state[1], state[5]
        radius = torch.where(upper == math.inf, math.inf, radius)
        return Estimate(radius, clean.prediction, rival, lower, upper)

    def _tail(
        self,
        engine: Engine,
        x: Tensor,
        direction: Tensor,
        prediction: Tensor,
        state: Tensor,
        rival: Tensor,
        bounds: Tensor | None,
        scale: Tensor | None,
    ) -> None:
        """Continue with the samples whose bracket is wider than tol, until there are none."""
        assert self.tol is not None
        nudge = 0.45 * self.tol
        rounds = 0
        while True:
            lower, upper = state[0], state[1]
            middle = (lower + upper) / 2
            wide = upper.isfinite() & (upper - lower > self.tol * upper)
            # If a logit jumps next to x, no number lies in between, and lower stays 0.
            wide &= (lower < middle) & (middle < upper)
            rows = wide.nonzero().squeeze(1)
            if len(rows) == 0:
                return
            part, others = state[:, rows].contiguous(), rival[rows]
            low, high = part[0], part[1]
            part[5] = part[5].clamp(low + nudge * high, high - nudge * high)
            if rounds >= PATIENCE:
                part[5] = (low + high) / 2
            radius = part[5].to(accumulate_dtype(x.dtype))
            probe = ops.perturb(x[rows], direction[rows], radius, bounds, scale)
            ops.search_step_(
                engine.forward(probe, copy=False), prediction[rows], part, nudge, others
            )
            state[:, rows], rival[rows] = part, others
            rounds += 1


def before_probes(margin: Tensor, first: Tensor) -> Tensor:
    """The initial state of `rrfast.ops.search_step_`, with the first probe at `first`.

    A tie has the bracket (0, 0), which no probe changes; NaN gives a bracket of NaN.
    """
    tie, undefined = margin == 0, margin.isnan()
    zero = torch.zeros_like(margin)
    lower = zero.masked_fill(undefined, math.nan)
    upper = torch.full_like(margin, math.inf).masked_fill(tie, 0.0)
    upper = upper.masked_fill(undefined, math.nan)
    radius = first.masked_fill(tie, 0.0).masked_fill(undefined, math.nan)
    return torch.stack((lower, upper, margin, zero, zero, radius))
