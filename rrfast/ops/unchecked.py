"""Ops without the checks of their arguments, for callers that know these to be right.

After a pass of a network the checks take as long as the op does: their code is in no cache. The
compiled kernels still refuse what they cannot read, but the references do not.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# These define the ops.
from rrfast.ops import _fgsm_step, _linear_radius, _probe_step  # noqa: F401
from rrfast.ops._direction_seed import Seed

__all__ = ["direction_seed", "fgsm_step", "linear_radius", "probe_step"]

Two = Callable[..., tuple[Tensor, Tensor]]

direction_seed: Callable[..., Seed] = torch.ops.rrfast.direction_seed.default
fgsm_step: Two = torch.ops.rrfast.fgsm_step.default
linear_radius: Two = torch.ops.rrfast.linear_radius.default
probe_step: Two = torch.ops.rrfast.probe_step.default
