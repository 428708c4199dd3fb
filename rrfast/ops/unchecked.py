"""Ops without the checks of their arguments, for callers that know these to be right.

After a pass of a network the checks take as long as the op does: their code is in no cache. The
compiled kernels still refuse what they cannot read, but the references do not. `thing_into` writes
into its first arguments, and autograd does not learn of the change: no graph may need what was in
them, and they may share no memory with the others.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# These define the ops.
from rrfast.ops import (  # noqa: F401
    _fgsm_step,
    _linear_radius,
    _loss_seed,
    _perturb,
    _plane_distance,
    _plane_seed,
    _probe_step,
    _redirect,
    _search_step,
)
from rrfast.ops._direction_seed import Seed

__all__ = [
    "direction_seed",
    "fgsm_step",
    "fgsm_step_into",
    "linear_radius",
    "loss_seed",
    "perturb_into",
    "plane_distance",
    "plane_seed",
    "probe_step",
    "redirect_",
    "search_step_",
]

Two = Callable[..., tuple[Tensor, Tensor]]

direction_seed: Callable[..., Seed] = torch.ops.rrfast.direction_seed.default
fgsm_step: Two = torch.ops.rrfast.fgsm_step.default
linear_radius: Two = torch.ops.rrfast.linear_radius.default
loss_seed: Two = torch.ops.rrfast.loss_seed.default
plane_distance: Callable[..., Tensor] = torch.ops.rrfast.plane_distance.default
plane_seed: Two = torch.ops.rrfast.plane_seed.default
probe_step: Two = torch.ops.rrfast.probe_step.default
redirect_: Callable[..., None] = torch.ops.rrfast.redirect_.default
search_step_: Callable[..., None] = torch.ops.rrfast.search_step_.default


def fgsm_step_into(perturbed: Tensor, direction: Tensor, *inputs: Tensor | None) -> None:
    """`rrfast.ops.fgsm_step(*inputs)` into the first two."""
    torch.ops.rrfast.fgsm_step.out(*inputs, perturbed=perturbed, direction=direction)


def perturb_into(perturbed: Tensor, *inputs: Tensor | None) -> None:
    """`rrfast.ops.perturb(*inputs)` into the first."""
    torch.ops.rrfast.perturb.out(*inputs, out=perturbed)
