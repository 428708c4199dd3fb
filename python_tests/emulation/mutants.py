"""Faults that the emulator must catch: one edit of a kernel's source each.

What catches them is `every_kernel`, so a mutant costs the compilation of one file. A mutant that
survives means that the checks have a hole, or that the line it breaks is not needed.
"""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    fault: str
    file: str  #: in csrc/kernels
    old: str
    new: str
    op: str  #: whose kernel shows it, as `every_kernel` names it
    source: str = ""  #: its file, where that is not the op's name
    huge: bool = False  #: shows beyond 2^31 elements only
    times: int = 1  #: that `old` is there


FIRST_BARRIER = "        __syncthreads();  // the previous reduction's readers are done\n"
SECOND_BARRIER = "        __syncthreads();\n        value = load_shared"

MUTANTS = (
    # barriers and shuffles
    Mutant(
        "a reduction's first barrier is left out",
        "row_reduce.cuh",
        FIRST_BARRIER,
        "",
        "bisection_step",
    ),
    Mutant(
        "a reduction's second barrier is left out",
        "row_reduce.cuh",
        SECOND_BARRIER,
        "        value = load_shared",
        "bisection_step",
    ),
    Mutant(
        "one warp alone comes to a barrier",
        "row_reduce.cuh",
        FIRST_BARRIER,
        "        if (threadIdx.x < kWarp) __syncthreads();\n",
        "bisection_step",
    ),
    Mutant(
        "half a warp shuffles",
        "row_reduce.cuh",
        "        value = combine(value, shuffle_xor(value, mask));\n    }\n    return value;",
        "        if (threadIdx.x % kWarp < 16) value = combine(value, shuffle_xor(value, mask));\n"
        "    }\n    return value;",
        "bisection_step",
    ),
    Mutant(
        "a reduction begins at half of its lanes",
        "row_reduce.cuh",
        "reduce_lanes<kLanes, kWarp>",
        "reduce_lanes<2 * kLanes, kWarp>",
        "bisection_step",
    ),
    Mutant(
        "a reduction over warps leaves one half out",
        "row_reduce.cuh",
        "reduce_lanes<1, warps>",
        "reduce_lanes<1, warps / 2>",
        "bisection_step",
    ),
    Mutant(
        "a thread leaves Newton's loop alone",
        "plane_distance.cu",
        "while (!newton.last) {",
        "while (!newton.last && threadIdx.x != 77) {",
        "plane_distance",
    ),
    # memory
    Mutant(
        "a kernel's own stores are read through the read-only path",
        "direction_seed.cu",
        "load_own<T, Width>(result + k)",
        "load<T, Width>(result + k)",
        "direction_seed",
    ),
    Mutant(
        "vectors at any address",
        "vec.cuh",
        "vectors = vectors && is_aligned(tensor, Vector);",
        "",
        "perturb",
    ),
    Mutant(
        "vectors in samples that they do not fill",
        "vec.cuh",
        "bool vectors = elements % Vector == 0 && ",
        "bool vectors = ",
        "perturb",
    ),
    Mutant(
        "an element beyond the sample's end",
        "vec.cuh",
        "first + a * round < count",
        "first + a * round <= count",
        "perturb",
        times=2,
    ),
    Mutant(
        "an offset of 32 bits",
        "vec.cuh",
        "const index_t own = corner + first;",
        "const index_t own = static_cast<std::int32_t>(corner + first);",
        "perturb",
        huge=True,
    ),
    # loops and rows
    Mutant(
        "no second tile for a block",
        "vec.cuh",
        "tile < tiles.total; tile += gridDim.x",
        "tile < tiles.total; tile += tiles.total",
        "perturb",
    ),
    Mutant(
        "no second row for a warp",
        "row_reduce.cuh",
        "         first += stride) {",
        "         first += rows) {",
        "rat_correct",
        source="rat_perturb",
    ),
    Mutant(
        "threads without a row leave",
        "row_reduce.cuh",
        "        body(writes ? row",
        "        if (writes) body(writes ? row",
        "linear_radius",
    ),
    Mutant(
        "threads without a row write the last one's",
        "row_reduce.cuh",
        "writes ? classes : 0, writes);",
        "writes ? classes : 0, true);",
        "search_step",
    ),
    Mutant(
        "Newton's method by a quarter of a warp",
        "plane_distance.cu",
        "const RowGrid grid(samples, elements);",
        "const RowGrid grid(samples, elements, width);",
        "plane_distance",
    ),
    Mutant(
        "half of a long row's threads",
        "row_reduce.cuh",
        "threads = dim3(per_row, per_block);",
        "threads = dim3(per_row == kRowThreads ? per_row / 2 : per_row, per_block);",
        "bisection_step",
    ),
    # order
    Mutant(
        "what is masked has no index",
        "row_reduce.cuh",
        "    settle(best, count);\n",
        "",
        "direction_seed",
    ),
    Mutant(
        "ties go to the higher index",
        "row_reduce.cuh",
        "either(leads(b, a), b, a)",
        "either(ranks_above(b.value, a.value) ||\n"
        "       (b.value == a.value && b.index > a.index), b, a)",
        "bisection_step",
    ),
    Mutant(
        "every tile is a full one",
        "vec.cuh",
        "rest < kRounds * round ? static_cast<int>(rest) : kRounds * round;",
        "kRounds * round;",
        "perturb",
    ),
    Mutant(
        "the first channel's plane for all",
        "vec.cuh",
        "channels.at(channel);",
        "channels.at(0);",
        "fgsm_step",
    ),
    Mutant(
        "planes that vectors do not fill",
        "vec.cuh",
        " && channels.inner % Width == 0;",
        ";",
        "rat_perturb",
    ),
    Mutant(
        "a channel too far",
        "vec.cuh",
        "inner_ = offset - row * channels.inner;",
        "inner_ = offset - row * channels.inner + 1;",
        "fgsm_step",
    ),
)
