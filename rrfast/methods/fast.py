"""RR-Fast: the radius from a straight-line extrapolation of the logits (RAT Algorithm 2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rrfast import ops
from rrfast._checks import check_number
from rrfast._reading import is_on_host
from rrfast.engine import Clean, Engine
from rrfast.methods.method import Compat, Estimate, check_compat, seed_of
from rrfast.ops import accumulate_dtype, coarse_eps, is_undefined, unchecked

#: The longest step per sample, and the paper's step, in units of `scale`.
LONGEST = 0.01
#: Elements of x from which on a call looks for memory of an earlier one.
LARGE = 1 << 20
#: Samples whose numbers are read one by one in less time than an op takes.
FEW = 16


@dataclass(frozen=True, eq=False)
class Fast:
    """RR-Fast: 2 forwards and 1 backward.

    With d = sign(grad_x (logsumexp_{k != y}(h_k / T) - h_y / T)) the logits along x + t d are
    extrapolated linearly from t = 0 and t = alpha, and the radius is where the first class
    overtakes the prediction y:

        radius = min_{i != y} alpha * gap_i(0) / (gap_i(0) - gap_i(alpha)),
        gap_i(t) = h_y(t) - h_i(t),

    infinite if no class gains. Exact where the logits are lines.

    Without `alpha` each sample has its own step: its first-order radius, margin over the L1 norm of
    the gradient, inside `bounds`, but at most 0.01. If the logits are linear along the ray, the
    probe is then at the boundary; if not, the secant covers just the distance to be measured. 0.01
    is far beyond the boundary of ImageNet networks, and radii from a step that long rank badly
    (errata 22).

    Source: RAT Eq. 3 to 8; errata 2, 3, 4, 7, 8, 22.

    Attributes:
        temperature: T of the direction; dividing all logits by it changes nothing else.
        alpha: The step of all samples, in units of `scale`: 0.01 in the paper. None: one step per
            sample, or 1e-3 with compat="released". The step per sample is lengthened, up to 0.01,
            where rounding could take more than a thousandth of it from x, or a sixteenth of its
            effect from the logits. If rounding can take more than a thousandth even of 0.01, as for
            16-bit x and for float32 near 1e5, the step left after rounding is measured, each
            element weighted by its gradient; if nothing is left, the radius is NaN. With
            compat="released" this is not done. For 16 bits it is better to use float32 inputs under
            autocast, for large inputs float64 or inputs minus their mean.
        bounds: The box for x + alpha d, see `rrfast.ops.channel_bounds`; None for none. x itself
            must lie in it: otherwise the step into the box would count as part of the step to the
            boundary.
        scale: The unit of the radius, see `rrfast.ops.channel_scale`; None for x's own.
        compat: "released" gives the published code's numbers: the cross-entropy's direction, clean
            logits but not perturbed ones divided by T, 1 in place of every ratio that is not
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
        check_number("temperature", self.temperature, least=0 if self.compat == "paper" else None)
        if self.alpha is not None:
            check_number("alpha", self.alpha)
        if self.compat == "released" and self.bounds is not None:
            raise ValueError(
                "bounds must be None with method='fast' and compat='released': the released code "
                "does not clamp"
            )

    def __call__(self, engine: Engine, x: Tensor) -> Estimate:  # noqa: D102
        clean = engine.forward_backward(x, self.temperature, seed_of(self.compat))
        bounds, scale = ops.channel_bounds(self.bounds, x), ops.channel_scale(self.scale, x)
        if self.compat == "released":
            return self._released(engine, x, clean, scale)
        alpha = self.alpha
        if alpha is None:
            step, largest = _own_step(x, clean, bounds, scale)
            # Logits may be more precise than x.
            unit = step if step.dtype == clean.margin.dtype else step.to(clean.margin.dtype)
        else:
            unit = None
            step = x.new_full(x.shape[:1], alpha, dtype=accumulate_dtype(x.dtype))
            largest = ops.extent(x, scale)
        if x.numel() < LARGE:
            moved, _ = unchecked.fgsm_step(x, clean.grad, step, bounds, scale)
        else:
            moved, sign = engine.memory("probe", x), engine.memory("sign", x, torch.int8)
            ops.fgsm_step(x, clean.grad, step, bounds, scale, out=(moved, sign))
        h1 = engine.forward(moved, copy=False)
        # A Python number has more digits than a step in x's precision.
        radius, rival = unchecked.linear_radius(
            clean.logits, h1, clean.prediction, alpha or 1.0, unit
        )
        # Above this limit rounding may take more than a thousandth of the longest step.
        limit = (alpha or LONGEST) * 2e-3 / torch.finfo(x.dtype).eps
        if not _all_below(limit, largest):
            share = _share_taken(x, moved, clean.grad, step, bounds, scale)
            radius = torch.where(largest <= limit, radius, radius * share)
        return Estimate(radius, clean.prediction, rival)

    def _released(self, engine: Engine, x: Tensor, clean: Clean, scale: Tensor | None) -> Estimate:
        alpha = self.alpha or 1e-3
        step = x.new_full(x.shape[:1], alpha, dtype=accumulate_dtype(x.dtype))
        h1 = engine.forward(unchecked.fgsm_step(x, clean.grad, step, None, scale)[0])
        h0 = clean.logits / self.temperature
        ratio, rival = _released_ratio(h0, h1, clean.prediction, alpha)
        return Estimate(ratio, clean.prediction, rival)


def _own_step(
    x: Tensor, clean: Clean, bounds: Tensor | None, scale: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The first-order radius, [B]: the expected distance to the boundary, at most `LONGEST`.

    It is longer where rounding would take too much: more than a thousandth of the step from x, or
    more than a sixteenth of its effect on the logits, which is the margin if they are linear.
    Returns the largest |x| of each sample, [B], too.
    """
    change, dtype = clean.clear, accumulate_dtype(x.dtype)
    change = change if change.dtype == dtype else change.to(dtype)  # logits may be more precise
    finest = coarse_eps(x.dtype) / 2e-3
    return unchecked.probe_step(x, clean.grad, change, finest, LONGEST, bounds, scale)


def _all_below(limit: float, values: Tensor) -> bool:
    """Whether all are known to be at most the limit; NaN is not."""
    if not is_on_host(values):
        return False
    if values.shape[0] <= FEW:
        return all(value <= limit for value in values.tolist())
    return values.amax().item() <= limit


def _share_taken(
    x: Tensor,
    moved: Tensor,
    grad: Tensor,
    step: Tensor,
    bounds: Tensor | None,
    scale: Tensor | None,
) -> Tensor:
    """The fraction of a step [B] that is left after rounding, [B].

    Elements are weighted by their gradient, that is by their effect on the logits. NaN if nothing
    is left of any element with an effect; 1 if no element has one.
    """
    dtype = accumulate_dtype(x.dtype)
    way = moved.to(dtype) - x.to(dtype)
    done = (grad.to(dtype) * way).reshape(x.shape[0], -1).sum(dim=1)
    # A small positive value, to see whether any element moves at all.
    gap = torch.where(done == 0, torch.finfo(dtype).tiny, done)
    taken = ops.plane_distance(x, grad, gap, bounds, scale)
    lost = torch.where(taken == math.inf, 1.0, math.nan)
    return torch.where(done == 0, lost, taken / step)


def _released_ratio(
    h0: Tensor, h1: Tensor, prediction: Tensor, alpha: float
) -> tuple[Tensor, Tensor]:
    """The released ratio: 1 for the prediction and in place of values that are not positive.

    NaN stays NaN. Overflow is NaN too, where the released code gives some number. The second result
    is the class of the least ratio, -1 if that ratio is such a replaced 1.
    """
    top = prediction[:, None]
    gap0, gap1 = h0.gather(1, top) - h0, h1.gather(1, top) - h1
    ratio = gap0 / ((gap0 - gap1) / alpha)
    ratio = torch.where(ratio <= 0, math.inf, ratio).scatter(1, top, math.inf)
    smallest, rival = ratio.min(dim=1)
    radius = smallest.clamp(max=1.0).to(accumulate_dtype(h0.dtype))
    undefined = is_undefined(h0) | is_undefined(h1)
    return radius.masked_fill(undefined, math.nan), rival.masked_fill(smallest > 1, -1)
