"""Faults that the emulator must catch: one edit of a kernel's source each.

What catches them is `every_kernel`, so a mutant costs the compilation of one file. A mutant that
survives means that the checks have a hole, or that the line it breaks is not needed.
"""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    fault: str
    file: str  #: in csrc
    old: str
    new: str
    op: str  #: whose kernel shows it, as `every_kernel` names it
    source: str = ""  #: its file, where that is not the op's name
    huge: bool = False  #: shows beyond 2^31 elements only
    times: int = 1  #: that `old` is there


FIRST_BARRIER = "        __syncthreads();  // all have read the result of the previous reduction\n"
SECOND_BARRIER = "        __syncthreads();\n        value = load_shared"
STORE = (
    "        if (threadIdx.x % kWarp == 0) {\n"
    "            store_shared(&partial[threadIdx.x / kWarp], value);\n        }\n"
)

MUTANTS = (
    # barriers and shuffles
    Mutant(
        "a reduction's first barrier is left out",
        "kernels/row_reduce.cuh",
        FIRST_BARRIER,
        "",
        "bisection_step",
    ),
    Mutant(
        "a reduction's second barrier is left out",
        "kernels/row_reduce.cuh",
        SECOND_BARRIER,
        "        value = load_shared",
        "bisection_step",
    ),
    Mutant(
        "both barriers of a reduction come after its writes",
        "kernels/row_reduce.cuh",
        FIRST_BARRIER + STORE,
        STORE + FIRST_BARRIER,
        "search_step",
    ),
    Mutant(
        "one warp alone comes to a barrier",
        "kernels/row_reduce.cuh",
        FIRST_BARRIER,
        "        if (threadIdx.x < kWarp) __syncthreads();\n",
        "bisection_step",
    ),
    Mutant(
        "a shuffle that names half of its lanes",
        "kernels/row_reduce.cuh",
        "__shfl_xor_sync(0xffffffffu",
        "__shfl_xor_sync(0x0000ffffu",
        "rat_correct",
        source="rat_perturb",
    ),
    Mutant(
        "half a warp shuffles",
        "kernels/row_reduce.cuh",
        "        value = combine(value, shuffle_xor(value, mask));\n    }\n    return value;",
        "        if (threadIdx.x % kWarp < 16) value = combine(value, shuffle_xor(value, mask));\n"
        "    }\n    return value;",
        "bisection_step",
    ),
    Mutant(
        "a reduction begins at half of its lanes",
        "kernels/row_reduce.cuh",
        "reduce_lanes<kLanes, kWarp>",
        "reduce_lanes<2 * kLanes, kWarp>",
        "bisection_step",
    ),
    Mutant(
        "a reduction over warps leaves one half out",
        "kernels/row_reduce.cuh",
        "mask * kWarp < blockDim.x",
        "2 * mask * kWarp < blockDim.x",
        "bisection_step",
    ),
    Mutant(
        "few threads' row with the places of many",
        "kernels/row_reduce.cuh",
        "threadIdx.x & (blockDim.x / kWarp - 1)",
        "threadIdx.x % (kRowThreads / kWarp)",
        "direction_seed",
    ),
    Mutant(
        "a thread leaves Newton's loop alone",
        "kernels/plane_distance.cu",
        "while (!newton.last) {",
        "while (!newton.last && threadIdx.x != 77) {",
        "plane_distance",
    ),
    Mutant(
        "a cluster does not wait for what its blocks have found",
        "kernels/row_reduce.cuh",
        "        cluster_barrier();\n        value =",
        "        value =",
        "plane_distance",
    ),
    Mutant(
        "a cluster's block goes on while others read its memory",
        "kernels/row_reduce.cuh",
        "        cluster_barrier();  // all have read:",
        "        // all have read:",
        "plane_distance",
    ),
    Mutant(
        "half of a cluster's blocks come to its barrier",
        "kernels/row_reduce.cuh",
        "        cluster_barrier();\n        value =",
        "        if (cluster_rank() % 2 == 0) cluster_barrier();\n        value =",
        "plane_distance",
    ),
    Mutant(
        "a block of a cluster is left out",
        "kernels/row_reduce.cuh",
        "for (unsigned b = 1; b < blocks; ++b) {",
        "for (unsigned b = 2; b < blocks; ++b) {",
        "plane_distance",
    ),
    Mutant(
        "clusters on a GPU that has none",
        "kernels/device.cuh",
        "capability >= 9 ? 8u : 1u",
        "8u",
        "plane_distance",
    ),
    Mutant(
        "every block of a cluster begins with the first channel",
        "kernels/plane_distance.cu",
        "RowIndex channel = begin / plane;",
        "RowIndex channel = 0;",
        "plane_distance",
    ),
    # memory
    Mutant(
        "a kept row is looked at before it has come",
        "kernels/kept_row.cuh",
        "        wait_for_copies();\n",
        "",
        "direction_seed",
    ),
    Mutant(
        "the rows of a block are kept in the same places",
        "kernels/kept_row.cuh",
        " + threadIdx.y * kPieces * vectors_",
        "",
        "direction_seed",
    ),
    Mutant(
        "the pieces of a kept place overlap",
        "kernels/kept_row.cuh",
        "(p * vectors_ + k / Width)",
        "(p + k / Width)",
        "direction_seed",
    ),
    Mutant(
        "rows are kept that a block has no memory for",
        "kernels/direction_seed.cu",
        "kept <= Device::current().shared;",
        "kept > 0;",
        "direction_seed",
    ),
    Mutant(
        "a block's memory beyond 48 KB is not asked for",
        "kernels/device.cuh",
        "if (grid.shared > always) {",
        "if (grid.shared > 1024 * always) {",
        "plane_distance",
    ),
    Mutant(
        "vectors at any address",
        "kernels/vec.cuh",
        "vectors = vectors && behind_boundary<Width>(tensor) == 0;",
        "",
        "plane_distance",
    ),
    Mutant(
        "vectors in samples that they do not fill",
        "kernels/vec.cuh",
        "bool vectors = elements % Width == 0;",
        "bool vectors = true;",
        "plane_distance",
    ),
    Mutant(
        "tensors by the vectors of the first",
        "kernels/vec.cuh",
        "alike = alike && behind_boundary<Vector>(tensor) == behind;",
        "",
        "linear_radius",
    ),
    Mutant(
        "a direction by the vectors of x",
        "kernels/vec.cuh",
        "bool alike = direction == nullptr || behind_boundary<Vector>(direction) == behind;",
        "bool alike = true;",
        "fgsm_step",
    ),
    Mutant(
        "ragged samples without their first elements",
        "kernels/vec.cuh",
        "lane < count && low > 0",
        "lane < count && low > Width",
        "perturb",
    ),
    Mutant(
        "ragged samples without their last element",
        "kernels/vec.cuh",
        "tail + lane < count",
        "tail + lane + 1 < count",
        "fgsm_step",
    ),
    Mutant(
        "ragged samples as if the first began on a boundary",
        "kernels/vec.cuh",
        "(start + tiles.behind) % Width",
        "start % Width",
        "rat_perturb",
    ),
    Mutant(
        "ragged rows without their last classes",
        "kernels/row_reduce.cuh",
        "last % blockDim.x == threadIdx.x",
        "last % blockDim.x == threadIdx.x + 1",
        "bisection_step",
    ),
    Mutant(
        "classes of ragged rows from a boundary on",
        "kernels/row_reduce.cuh",
        "return vector * Width + e - behind_;",
        "return vector * Width + e;",
        "search_step",
    ),
    Mutant(
        "what is beside a ragged row is its neighbour's",
        "kernels/row_reduce.cuh",
        "const { return !Ragged || k < classes_; }",
        "const { return true; }",
        "rat_correct",
        source="rat_perturb",
    ),
    Mutant(
        "an element beyond the sample's end",
        "kernels/vec.cuh",
        "first + a * round < count",
        "first + a * round <= count",
        "perturb",
        times=2,
    ),
    Mutant(
        "an offset of 32 bits",
        "kernels/vec.cuh",
        "const index_t own = corner + first;",
        "const index_t own = static_cast<std::int32_t>(corner + first);",
        "perturb",
        huge=True,
    ),
    # loops and rows
    Mutant(
        "no second tile for a block",
        "kernels/vec.cuh",
        "tile < tiles.total; tile += gridDim.x",
        "tile < tiles.total; tile += tiles.total",
        "perturb",
    ),
    Mutant(
        "no second row for a warp",
        "kernels/row_reduce.cuh",
        "         first += stride) {",
        "         first += rows) {",
        "rat_correct",
        source="rat_perturb",
    ),
    Mutant(
        "threads without a row leave",
        "kernels/row_reduce.cuh",
        "        body(writes ? row",
        "        if (writes) body(writes ? row",
        "linear_radius",
    ),
    Mutant(
        "threads without a row write the last one's",
        "kernels/row_reduce.cuh",
        "static_cast<RowIndex>(classes) : 0, writes);",
        "static_cast<RowIndex>(classes) : 0, true);",
        "search_step",
    ),
    Mutant(
        "Newton's method by a quarter of a warp",
        "kernels/kept_row.cuh",
        "Grid grid = row_grid(rows, elements);",
        "Grid grid = row_grid(rows, elements, width);",
        "plane_distance",
    ),
    Mutant(
        "threads of a long row that are no power of two",
        "kernels/row_reduce.cuh",
        "dim3(per_row, per_block)};",
        "dim3(per_row == kRowThreads ? per_row / 4 * 3 : per_row, per_block)};",
        "direction_seed",
    ),
    Mutant(
        "a long row's first class weighs among the others",
        "math/direction_seed.h",
        "leads_earlier(next, first) ? first.value : next.value;",
        "next.value;",
        "direction_seed",
    ),
    Mutant(
        "a thread takes the ends of its classes for the row's",
        "kernels/plane_seed.cu",
        "        range = row_reduce(range, [](const auto& a, const auto& b) "
        "{ return combine(a, b); });\n",
        "",
        "plane_seed",
    ),
    Mutant(
        "a thread takes its classes that are as good as the best for the row's",
        "kernels/loss_seed.cu",
        "        equals = row_reduce(equals, [](A a, A b) { return a + b; });\n",
        "",
        "loss_seed",
    ),
    Mutant(
        "a thread takes its third best class for the row's",
        "kernels/loss_seed.cu",
        "            next = row_reduce(next, [](const auto& a, const auto& b) "
        "{ return combine(a, b); });\n",
        "",
        "loss_seed",
    ),
    Mutant(
        "a label shares a gradient with those as good",
        "kernels/loss_seed.cu",
        "equal & (k + e != label.index)",
        "equal",
        "loss_seed",
    ),
    Mutant(
        "what is infinite has a gradient",
        "kernels/loss_seed.cu",
        "weights.element[e] = unless_infinite(weight, logit);",
        "weights.element[e] = weight;",
        "loss_seed",
    ),
    # order
    Mutant(
        "what is masked has no index",
        "kernels/row_reduce.cuh",
        "    settle(top, span.classes());\n",
        "",
        "direction_seed",
    ),
    Mutant(
        "ties go to the higher index",
        "kernels/row_reduce.cuh",
        "either(leads(b, a), b, a)",
        "either(ranks_above(b.value, a.value) ||\n"
        "       (b.value == a.value && b.index > a.index), b, a)",
        "bisection_step",
    ),
    Mutant(
        "every tile is a full one",
        "kernels/vec.cuh",
        "rest < kRounds * round ? static_cast<int>(rest) : kRounds * round;",
        "kRounds * round;",
        "perturb",
    ),
    Mutant(
        "the first channel's plane for all",
        "kernels/vec.cuh",
        "channels.at(channel);",
        "channels.at(0);",
        "fgsm_step",
    ),
    Mutant(
        "planes that vectors do not fill",
        "kernels/vec.cuh",
        "channels.inner % width == 0",
        "width > 0",
        "rat_perturb",
    ),
    Mutant(
        "a pattern of channels that always begins with the first",
        "kernels/vec.cuh",
        "(lane * Width + c) % count_of % few",
        "c % few",
        "perturb",
    ),
    Mutant(
        "threads beyond whole pixels take part in a pattern",
        "kernels/vec.cuh",
        "if (lane * Width < round) {",
        "if (lane < kThreads) {",
        "fgsm_step",
    ),
    Mutant(
        "the first channel's unit for the largest x",
        "kernels/probe_step.cu",
        "if (channels.scale_stride != 0) {",
        "if (channels.scale_stride > 1) {",
        "probe_step",
    ),
    Mutant(
        "the largest x is not the largest |x|",
        "kernels/probe_step.cu",
        "value < A(0) ? -value : value",
        "value",
        "probe_step",
    ),
    Mutant(
        "the size of a normal with its signs",
        "kernels/redirect.cu",
        "size += n < A(0) ? -n : n;",
        "size += n;",
        "redirect",
    ),
    Mutant(
        "a normal measured in the first channel's unit",
        "kernels/redirect.cu",
        "channels.unit(c)",
        "channels.unit(0)",
        "redirect",
    ),
    Mutant(
        "vectors of several channels, all taken for the first one's",
        "kernels/redirect.cu",
        "channels.inner % Width == 0",
        "true",
        "redirect",
    ),
    Mutant(
        "channels that do not repeat where they are innermost",
        "kernels/redirect.cu",
        "%\n                                    static_cast<RowIndex>(channels.channels)",
        "",
        "redirect",
    ),
    Mutant(
        "every ray is the nearest",
        "kernels/redirect.cu",
        "        if (nearer) {",
        "        if (true) {",
        "redirect",
    ),
    Mutant(
        "the new ray is looked at where the old one was",
        "kernels/redirect.cu",
        "seen.nearer, factor, seen.probe,",
        "seen.nearer, factor, step[sample],",
        "redirect",
    ),
    Mutant(
        "what the new ray closes is that of a thread",
        "kernels/redirect.cu",
        "way = row_reduce(way, add);",
        "row_reduce(way, add);",
        "redirect",
    ),
    Mutant(
        "an aim at any address",
        "kernels/redirect.cu",
        "behind_boundary<kVectorWidth<accumulate_t<T>>>(aim) == 0 &&\n                       ",
        "",
        "redirect",
    ),
    Mutant(
        "the aim's sign before it is rounded to storage",
        "kernels/redirect.cu",
        "pack_sign(widen(narrow<T>::from(aimed.element[e])))",
        "pack_sign(aimed.element[e])",
        "redirect",
    ),
    Mutant(
        "the directions of several samples are kept in one place",
        "kernels/redirect.cu",
        "nearest_direction + first, count",
        "nearest_direction, count",
        "redirect",
    ),
    Mutant(
        "a channel too far",
        "kernels/vec.cuh",
        "inner_ = offset - row * channels.inner;",
        "inner_ = offset - row * channels.inner + 1;",
        "plane_distance",
    ),
)
