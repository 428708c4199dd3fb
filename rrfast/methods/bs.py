"""RR-BS: the radius along the worst-case direction by doubling and bisection (RAT Algorithm 1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rrfast import ops
from rrfast._checks import check_count, check_number
from rrfast.engine import Engine
from rrfast.methods.method import R_MIN, Compat, Estimate, check_compat, seed_of
from rrfast.ops import accumulate_dtype


@dataclass(frozen=True, eq=False)
class BS:
    """RR-BS: `budget` forwards and 1 backward.

    The direction d = sign(grad_x (logsumexp_{k != y}(h_k / T) - h_y / T)) is computed once; the
    search then tries x + r d with r = 2 r_min, 4 r_min, ... until the prediction flips, and
    bisects. Doubling and bisection share the budget: with 25 forwards, 24 radii are tried. The
    radius is the middle of the bracket.

    A tie at x has radius 0. A sample that never flips has radius infinity and the bracket (last
    radius, infinity). A sample that flipped at every radius tried has lower = 0: r_min is where the
    search starts and is not tried itself. x + r d is rounded to the dtype of x, and the bracket
    cannot be finer than that; this matters for 16 bits and for large x.

    Source: RAT Algorithm 1, A.2; errata 3, 4, 5, 6, 7.

    Attributes:
        temperature: T of the direction.
        budget: Forwards in all, including the one at x; at least 2.
        r_min: Where the doubling starts, in units of `scale`.
        bounds: The box for x + r d, see `rrfast.ops.channel_bounds`; None for none. x itself must
            lie in it: otherwise the step into the box would count as part of the step to the
            boundary.
        scale: The unit of the radius, see `rrfast.ops.channel_scale`; None for x's own.
        compat: "released" gives the published code's numbers (it clamps: give bounds=(0, 1)): the
            cross-entropy's direction, no rule for ties, and r_min * 2^(budget - 1) for a
            sample that never flips.

    Example:
        >>> from rrfast.engine import Engine
        >>> x = torch.tensor([[1.0, 0.0], [0.5, 0.25]])
        >>> with Engine(torch.nn.Linear(2, 2)) as engine:
        ...     estimate = BS(budget=10)(engine, x)
        >>> estimate.radius.shape, engine.forwards, engine.backwards
        (torch.Size([2]), 10, 1)
    """

    temperature: float = 1.0
    budget: int = 25
    r_min: float = 1e-6
    bounds: ops.Bounds | None = None
    scale: ops.Scale | None = None
    compat: Compat = "paper"
    capturable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_compat(self.compat)
        check_number("temperature", self.temperature, least=0 if self.compat == "paper" else None)
        check_number("r_min", self.r_min, least=R_MIN)
        check_count("budget", self.budget, least=2)

    def __call__(self, engine: Engine, x: Tensor) -> Estimate:  # noqa: D102
        clean = engine.forward_backward(x, self.temperature, seed_of(self.compat))
        bounds, scale = ops.channel_bounds(self.bounds, x), ops.channel_scale(self.scale, x)
        step_dtype = accumulate_dtype(x.dtype)

        lower = torch.full_like(clean.margin, self.r_min)
        upper = torch.full_like(clean.margin, math.inf)
        if self.compat == "paper":
            # A bracket of (0, 0) or of NaN is a fixed point of the search.
            tie, undefined = clean.margin == 0, clean.margin.isnan()
            lower = lower.masked_fill(tie, 0.0).masked_fill(undefined, math.nan)
            upper = upper.masked_fill(tie, 0.0).masked_fill(undefined, math.nan)
        # At a tie the runner-up: no probe changes an empty bracket, or its rival.
        radius, rival = 2 * lower, clean.runner_up

        probe, direction = engine.memory("probe", x), engine.memory("sign", x, torch.int8)
        first = radius.to(step_dtype)
        ops.fgsm_step(x, clean.grad, first, bounds, scale, out=(probe, direction))
        for tried in range(1, self.budget):
            logits = engine.forward(probe, copy=False)
            ops.bisection_step_(logits, clean.prediction, lower, upper, radius, rival)
            if tried < self.budget - 1:
                ops.perturb(x, direction, radius.to(step_dtype), bounds, scale, out=probe)

        middle = (lower + upper) / 2
        if self.compat == "released":
            middle = torch.where(upper.isinf(), lower, middle)
        else:
            lower = lower.masked_fill(lower <= self.r_min, 0.0)
        return Estimate(middle, clean.prediction, rival, lower, upper)
