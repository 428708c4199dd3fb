"""The specification: every op and both algorithms of RAT in plain PyTorch, slow and obvious.

The compiled kernels are tested against these functions, which also run where there is no kernel. In
doubtful cases these functions decide. Shapes: B samples, K classes, x of shape [B, ...].
"accumulation dtype" is float64 for float64 and float32 for everything else. The reference of each
op is in its file of `rrfast.ops`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from rrfast.ops import accumulate_dtype, naive_direction_seed
from rrfast.ops._bisection_step import reference as bisection_step_
from rrfast.ops._direction_seed import reference as direction_seed
from rrfast.ops._fgsm_step import reference as fgsm_step
from rrfast.ops._linear_radius import reference as linear_radius
from rrfast.ops._loss_seed import reference as loss_seed
from rrfast.ops._perturb import reference as perturb
from rrfast.ops._plane_distance import reference as plane_distance
from rrfast.ops._plane_seed import reference as plane_seed
from rrfast.ops._probability_margin import reference as probability_margin
from rrfast.ops._probe_step import reference as probe_step
from rrfast.ops._rat_perturb import reference as rat_perturb
from rrfast.ops._redirect import reference as redirect_
from rrfast.ops._search_step import reference as search_step_
from rrfast.ops._step import sign_of

__all__ = [
    "bisection_step_",
    "direction_seed",
    "fgsm_step",
    "linear_radius",
    "loss_seed",
    "naive_direction_seed",
    "perturb",
    "plane_distance",
    "plane_seed",
    "probability_margin",
    "probe_step",
    "radius_bs",
    "radius_fast",
    "rat_perturb",
    "redirect_",
    "search_step_",
]

Numerics = Literal["stable", "naive"]


def _direction(
    model: Callable[[Tensor], Tensor], x: Tensor, temperature: float, numerics: Numerics
) -> tuple[Tensor, Tensor, Tensor]:
    """Clean logits, prediction and the worst-case direction sign(grad) (RAT Eq. 3)."""
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        logits = model(x)
        seed_of = direction_seed if numerics == "stable" else naive_direction_seed
        prediction, _, seed, *_ = seed_of(logits.detach(), temperature)
        (grad,) = torch.autograd.grad(logits, x, seed)
    return logits.detach(), prediction, sign_of(grad)


def _at(x: Tensor, radius: Tensor, sign: Tensor, bounds: tuple[float, float] | None) -> Tensor:
    moved = x.detach() + radius.reshape(-1, *[1] * (x.dim() - 1)) * sign
    return moved if bounds is None else moved.clamp(*bounds)


def radius_fast(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    temperature: float = 1.0,
    alpha: float = 0.01,
    bounds: tuple[float, float] | None = None,
    numerics: Numerics = "stable",
) -> tuple[Tensor, Tensor]:
    """RR-Fast, RAT Algorithm 2, sample by sample: radius and rival, each [B].

    The model must be in eval mode, its parameters without gradients. `numerics="naive"` takes the
    direction from the cross-entropy, as the paper prints it.
    """
    rows = []
    for sample in x.split(1):
        logits, prediction, sign = _direction(model, sample, temperature, numerics)
        with torch.no_grad():
            moved = model(
                _at(sample, torch.full_like(prediction, alpha, dtype=sample.dtype), sign, bounds)
            )
        h0, h1, y = logits[0], moved[0], int(prediction[0])
        radius, rival = math.inf, -1
        for i in range(len(h0)):
            if i != y:
                gap0, gap1 = float(h0[y] - h0[i]), float(h1[y] - h1[i])
                q = math.inf
                if math.isnan(gap0) or math.isnan(gap1):
                    q = math.nan
                elif gap0 <= 0:
                    q = 0.0
                elif gap1 < gap0:
                    q = alpha * gap0 / (gap0 - gap1)
                if q < radius or math.isnan(q):
                    radius, rival = q, i
        rows.append((radius, -1 if math.isnan(radius) else rival))
    table = torch.tensor(rows, dtype=torch.float64, device=x.device).reshape(-1, 2)
    return table[:, 0].to(accumulate_dtype(x.dtype)), table[:, 1].long()


def radius_bs(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    temperature: float = 1.0,
    budget: int = 25,
    r_min: float = 1e-6,
    bounds: tuple[float, float] | None = None,
    numerics: Numerics = "stable",
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """RR-BS, RAT Algorithm 1, sample by sample: radius, lower, upper and rival, each [B].

    `budget` counts forwards, including the one at x; the next radius is min((lower + upper) / 2, 2
    * lower), and the search starts with lower = r_min, upper = infinity, as released (errata 5).
    """
    rows = []
    for sample in x.split(1):
        logits, prediction, sign = _direction(model, sample, temperature, numerics)
        _, margin, _, runner_up, _ = direction_seed(logits, temperature)
        if bool(margin == 0):
            rows.append((0.0, 0.0, 0.0, int(runner_up)))  # a tie: errata 3
            continue
        lower, upper, rival = r_min, math.inf, -1
        for _ in range(budget - 1):
            radius = min((lower + upper) / 2, 2 * lower)
            with torch.no_grad():
                probe = model(_at(sample, sample.new_tensor([radius]), sign, bounds))
            if bool(probe.isnan().any()):
                lower = upper = math.nan
                rival = -1
                break
            if int(probe.argmax(dim=1)) != int(prediction):
                upper, rival = radius, int(probe.argmax(dim=1))
            else:
                lower = radius
        least = lower if lower > r_min or math.isnan(lower) else 0.0
        rows.append(((lower + upper) / 2, least, upper, rival))
    table = torch.tensor(rows, dtype=torch.float64, device=x.device).reshape(-1, 4)
    radii = table[:, :3].to(accumulate_dtype(x.dtype))
    return radii[:, 0], radii[:, 1], radii[:, 2], table[:, 3].long()
