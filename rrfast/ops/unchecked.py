"""Ops without the checks of their arguments, for callers that know these to be right.

After a pass of a network the checks take as long as the op does: their code is in no cache. The
compiled kernels still refuse what they cannot read, but the references do not.
"""

from __future__ import annotations

from rrfast.ops._direction_seed import _op as direction_seed
from rrfast.ops._fgsm_step import _op as fgsm_step
from rrfast.ops._linear_radius import _op as linear_radius
from rrfast.ops._probe_step import _op as probe_step

__all__ = ["direction_seed", "fgsm_step", "linear_radius", "probe_step"]
