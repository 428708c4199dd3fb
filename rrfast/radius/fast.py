"""RR-Fast: the radius from a straight-line extrapolation of the logits (RAT Algorithm 2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rrfast import ops
from rrfast.checks import check_number
from rrfast.engine import Engine
from rrfast.radius.estimate import Compat, Estimate, at_hand, check_compat, seed_of
from rrfast.reference import accumulate_dtype, is_undefined


@dataclass(frozen=True, eq=False)
class Fast:
    """RR-Fast: 2 forwards and 1 backward.

    With d = sign(grad_x (logsumexp_{k != y}(h_k / T) - h_y / T)) the logits along x + t d are taken
    for lines through t = 0 and t = alpha, and the radius is where the first class overtakes the
    prediction y:

        radius = min_{i != y} alpha * gap_i(0) / (gap_i(0) - gap_i(alpha)),
        gap_i(t) = h_y(t) - h_i(t),

    infinite if no class gains. Exact where the logits are lines.

    Source: RAT Eq. 3 to 8; errata 2, 3, 4, 7, 8.

    Attributes:
        temperature: T of the direction; dividing all logits by it changes nothing else.
        alpha: The finite-difference step, in units of `scale`. None: 0.01 as in the paper, and
            1e-3 with compat="released". It must be far above the rounding of x. Where that may take
            more than a thousandth of it, as of 16-bit x and of float32 near 1e5, what is left is
            measured, each element by the share of its gradient, and where nothing is left the
            radius is NaN; not with compat="released". For 16 bits float32 inputs under autocast are
            the better way, for large inputs float64 or inputs less their mean.
        bounds: The box for x + alpha d, see `rrfast.ops.channel_bounds`; None for none. x itself
            must lie in it: the step into the box would count as part of the step to the boundary.
        scale: The unit of the radius, see `rrfast.ops.channel_scale`; None for x's own.
        compat: "released" gives the published code's numbers: the cross-entropy's direction, clean
            logits divided by T and perturbed ones not, 1 in place of every ratio that is not
            positive, no clamp. That code always ran at T = 0.2: give temperature=0.2.

    Example:
        >>> from rrfast.engine import Engine
        >>> x = torch.tensor([[1.0, 0.0], [0.5, 0.25]])
        >>> with Engine(torch.nn.Linear(2, 2)) as engine:
        ...     estimate = Fast(alpha=0.02)(engine, x)
        >>> estimate.radius.shape, engine.forwards, engine.backwards
        (torch.Size([2]), 2, 1)
    """

    temperature: float = 1.0
    alpha: float | None = None
    bounds: ops.Bounds | None = None
    scale: ops.Scale | None = None
    compat: Compat = "paper"
    capturable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_compat(self.compat)
        check_number("temperature", self.temperature, zero=self.compat == "paper")
        if self.alpha is not None:
            check_number("alpha", self.alpha)
        if self.compat == "released" and self.bounds is not None:
            raise ValueError(
                "bounds must be None with method='fast' and compat='released': the released code "
                "does not clamp"
            )

    def __call__(self, engine: Engine, x: Tensor) -> Estimate:  # noqa: D102
        released = self.compat == "released"
        alpha = self.alpha if self.alpha is not None else (1e-3 if released else 0.01)
        clean = engine.forward_backward(x, self.temperature, seed_of(self.compat))
        bounds, scale = ops.channel_bounds(self.bounds, x), ops.channel_scale(self.scale, x)
        step = x.new_full(x.shape[:1], alpha, dtype=accumulate_dtype(x.dtype))
        moved, _ = ops.fgsm_step(x, clean.grad, step, bounds, scale)
        h1 = engine.forward(moved)
        if released:
            radius = _released_ratio(clean.logits / self.temperature, h1, clean.prediction, alpha)
        else:
            radius = ops.linear_radius(clean.logits, h1, clean.prediction, alpha)
            rough = _may_be_rounded_away(x, alpha, scale)
            if rough is not None:
                share = _share_taken(x, moved, clean.grad, alpha, bounds, scale)
                radius = torch.where(rough, radius * share, radius)
        return Estimate(radius, clean.prediction)


def _may_be_rounded_away(x: Tensor, alpha: float, scale: Tensor | None) -> Tensor | None:
    """Whether rounding may take more than a thousandth of a sample's step, [B]; None for no sample.

    It takes eps |x| / 2 at most. Where it can be seen that there is none, that costs less than what
    follows.
    """
    least = alpha if scale is None else alpha * scale.amin()
    enough = least * (2e-3 / torch.finfo(x.dtype).eps)
    if at_hand(x):
        smallest, largest = torch.aminmax(x)
        if -enough <= smallest.item() and largest.item() <= enough:
            return None
    # Not len(x), which torch.export takes for a constant. NaN is rough: it stays NaN.
    return ~(x.reshape(x.shape[0], -1).abs().amax(dim=1) <= enough)


def _share_taken(
    x: Tensor,
    moved: Tensor,
    grad: Tensor,
    alpha: float,
    bounds: Tensor | None,
    scale: Tensor | None,
) -> Tensor:
    """How much of alpha is left after rounding, [B].

    The alpha whose step, not rounded, does as much as the one that was taken, by the gradient: each
    element counts as far as it changes the logits. NaN where nothing is left of any that does; 1
    where none does.
    """
    dtype = accumulate_dtype(x.dtype)
    way = moved.to(dtype) - x.to(dtype)
    done = (grad.to(dtype) * way).reshape(x.shape[0], -1).sum(dim=1)
    # Something, to see whether any element moves at all: then it is not infinitely far.
    gap = torch.where(done == 0, torch.finfo(dtype).tiny, done)
    taken = ops.plane_distance(x, grad, gap, bounds, scale)
    lost = torch.where(taken == math.inf, 1.0, math.nan)
    return torch.where(done == 0, lost, taken / alpha)


def _released_ratio(h0: Tensor, h1: Tensor, prediction: Tensor, alpha: float) -> Tensor:
    """The released ratio: not positive becomes 1, the prediction's own entry is 1, NaN stays.

    Overflow, of which the released code makes some number, is NaN too.
    """
    top = prediction[:, None]
    gap0, gap1 = h0.gather(1, top) - h0, h1.gather(1, top) - h1
    ratio = gap0 / ((gap0 - gap1) / alpha)
    ratio = torch.where(ratio <= 0, 1.0, ratio).scatter(1, top, 1.0)
    undefined = is_undefined(h0) | is_undefined(h1)
    return ratio.amin(dim=1).to(accumulate_dtype(h0.dtype)).masked_fill(undefined, math.nan)
