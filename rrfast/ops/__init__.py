"""The fused ops, typed and checked: one file per op, with its schema, fake and reference.

Each op runs the compiled kernel for the tensors' device if there is one, else the reference, with
the same results. Shapes: B samples, K classes, x of shape [B, ...]. dtypes: float64, float32,
bfloat16, float16; the ops compute in the *accumulation dtype*, float64 for float64 and float32 for
the rest. Contiguous and channels-last inputs are used without a copy, others are copied. No op is
differentiable: outputs are detached. No op waits for the device, so a CUDA graph can capture all.

`out=` of an op with results takes the tensors to write them into, a tuple where there are several,
and returns them. Their shape, dtype, device and layout must be those of the results, and they must
share no memory with the inputs or with one another. On a CPU this saves most of the time of large
results, which goes into fetching new memory from the system.
"""

from __future__ import annotations

from rrfast import _native
from rrfast.ops._bisection_step import bisection_step_
from rrfast.ops._define import OPS
from rrfast.ops._direction_seed import direction_seed, naive_direction_seed
from rrfast.ops._fgsm_step import fgsm_step
from rrfast.ops._linear_radius import linear_radius
from rrfast.ops._loss_seed import LOSS_KINDS, LossKind, check_enough_classes, loss_seed
from rrfast.ops._perturb import perturb
from rrfast.ops._plane_distance import plane_distance
from rrfast.ops._plane_seed import plane_seed
from rrfast.ops._probability_margin import probability_margin
from rrfast.ops._probe_step import extent, probe_step
from rrfast.ops._rat_perturb import Mode, check_mode, rat_perturb
from rrfast.ops._redirect import redirect_
from rrfast.ops._search_step import search_step_
from rrfast.ops.box import Bounds, Scale, channel_bounds, channel_scale, check_options
from rrfast.ops.layout import accumulate_dtype, coarse_eps, memory_format, per_channel
from rrfast.ops.logits import best_other, is_undefined
from rrfast.ops.memory import Memory, Spare

_native.load()  # after the ops, for which it registers kernels

__all__ = [
    "LOSS_KINDS",
    "OPS",
    "Bounds",
    "LossKind",
    "Memory",
    "Mode",
    "Scale",
    "Spare",
    "accumulate_dtype",
    "best_other",
    "bisection_step_",
    "channel_bounds",
    "channel_scale",
    "check_enough_classes",
    "check_mode",
    "check_options",
    "coarse_eps",
    "direction_seed",
    "extent",
    "fgsm_step",
    "is_undefined",
    "linear_radius",
    "loss_seed",
    "memory_format",
    "naive_direction_seed",
    "per_channel",
    "perturb",
    "plane_distance",
    "plane_seed",
    "probability_margin",
    "probe_step",
    "rat_perturb",
    "redirect_",
    "search_step_",
]
