"""What nvcc made of the CUDA kernels, read from the built library (`benchmarks.cubins`).

What a machine without a GPU can know is here: that the kernels exist for every architecture, live
in registers alone, move memory 16 bytes at a time, and compute in the precision they should.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import pytest

from benchmarks import cubins
from benchmarks.cubins import BYTES, Kernel
from benchmarks.gpu_notes import FIRST
from rrfast import _native

LIBRARY = _native.PACKAGE / "librrfast_cuda.so"

#: Kernels over elements, and how many vectors they load for each that they store.
ELEMENTWISE = {
    "fgsm_step": 2,  # x and grad
    "perturb": 1,  # x; the direction comes in vectors of its own
    "rat_perturb": 2,  # x and grad
}
#: Kernels over rows, and how many vectors they ask of memory at least, one for each visit.
ROWS = {
    "direction_seed": 1,  # kept in the block's memory
    "direction_seed_long": 2,
    "linear_radius": 2,  # one loop over two rows
    "bisection_step": 1,
    "search_step": 1,
    "probability_margin": 1,
    "rat_correct": 1,
    "plane_distance": 2,  # x and normal, kept likewise
    "plane_seed": 1,
    "loss_seed": 1,  # kept
    "loss_seed_long": 3,
    "loss_seed_margin": 4,  # the best two, the next two, their equals, the result
    "probe_step": 1,
    "redirect": 2,  # x and normal
}
KERNELS = ELEMENTWISE | ROWS
#: Those that add up: by every width, since their bits must not depend on where a sample lies; and
#: three beside them that have the same widths.
SUMS = {
    *("direction_seed", "direction_seed_long", "probability_margin", "plane_distance"),
    *("probe_step", "plane_seed", "redirect"),
    *("loss_seed", "loss_seed_long", "loss_seed_margin"),
}
#: Those that keep a row in their block's memory, and of how many tensors.
KEEPING = {"direction_seed": 1, "loss_seed": 1, "plane_distance": 2}
#: Those that write tensors as large as those that they read.
WRITING = {
    *ELEMENTWISE,
    *("direction_seed", "direction_seed_long", "plane_seed", "redirect"),
    *("loss_seed", "loss_seed_long", "loss_seed_margin"),
}
#: Those that divide floats: by fused multiply-adds, and by a subroutine in the rare cases.
DIVIDE = {
    "direction_seed",
    "direction_seed_long",
    "loss_seed",
    "loss_seed_long",
    "loss_seed_margin",
    "linear_radius",
    "plane_distance",
    "probe_step",
    "redirect",
    "search_step",
    "probability_margin",
}
#: Those that take roots, likewise.
ROOTS = {"probability_margin"}
#: Kernels over rows whose elements have channels.
CHANNELED_ROWS = {"plane_distance", "redirect"}

#: What the compiler puts in subroutines, all for rare cases: 64-bit division, to find sample and
#: channel of an element beyond 2^32; the shuffles of a reduction, should its warp have diverged;
#: IEEE division and roots.
ELEMENT_SUBROUTINES = {"div_s64", "div_u64"}
ROW_SUBROUTINES = {"shflsync_bfly_p"}
DIVISION_SUBROUTINES = {
    "div_rn_noftz_f32_slowpath",
    "div_rn_f64_full",
    "rcp_rn_f32_slowpath",
    "dblrcp_rn_slowpath_v3",
}
ROOT_SUBROUTINES = {"sqrt_rn_f32_slowpath", "dsqrt_rn_f64_mediumpath_v1"}

#: Bytes that a thread asks of memory before it looks at the first of them. Of an
#: SM's 1024 threads (`REGISTERS`) 360 then have under way what Little's law wants of an H200:
#: 23 KB, its 4.3 TB/s by 132 SMs, times 700 ns.
IN_FLIGHT = 64

#: What each of 1024 threads can have of the 65,536 registers of an SM. Half of the threads it can
#: hold, each with one 16-byte load under way, are 16 KiB: what it takes to hide the latency of an
#: H100's memory (25 GB/s per SM times 650 ns). The row kernels promise the same by their
#: __launch_bounds__: two blocks of 512.
REGISTERS = 65_536 // 1024


@pytest.fixture(scope="module")
def tools() -> dict[str, str]:
    if not LIBRARY.exists():
        pytest.skip(f"no {LIBRARY.name}: {_native.load()['cuda'].reason}")
    try:
        return cubins.found_tools()
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def kernels(tools: dict[str, str]) -> list[Kernel]:
    found = cubins.kernels(tools, LIBRARY)
    if not found:
        pytest.skip("built as PTX alone: there is no machine code to read")
    return found


def instances(name: str, vector: int) -> list[tuple[int, bool]]:
    """Widths of a kernel, and whether ragged, for a type of which a vector has so many elements."""
    if name in SUMS:
        return [(width, False) for width in (1, 2, 4, 8) if width <= vector]
    return [(1, False), (vector, False), *([(vector, True)] if vector > 2 else [])]


def vector_complaints(kernel: Kernel) -> Iterator[str]:
    """Where a kernel moves its tensors, or a direction, otherwise than in whole vectors.

    Kernels over elements have one place beside that takes element by element what is neither of one
    channel nor of a few.
    """
    loads = kernel.accesses("LDG") + kernel.accesses("LDGSTS")
    stores = kernel.accesses("STG")
    vectors = stores[16]
    # The compiler may copy a loop, but no store of it without the loads.
    needed = (
        ROWS[kernel.name] if kernel.name in ROWS else ELEMENTWISE[kernel.name] * max(vectors, 1)
    )
    if loads[16] < needed:
        yield f"{kernel} has {loads[16]} loads of 16 bytes, fewer than {needed}"
    if not vectors and kernel.name in WRITING:
        yield f"{kernel} has no store of 16 bytes"
    if kernel.name in ELEMENTWISE:
        codes = 16 // BYTES[kernel.dtype]
        expected = Counter({16: vectors}) + Counter({BYTES[kernel.dtype]: 1})
        if kernel.name == "fgsm_step":
            expected += Counter({codes: vectors}) + Counter({1: 1})
        if stores != expected:
            yield f"{kernel} stores {dict(stores)}, by bytes, not {dict(expected)}"
        if kernel.name == "perturb" and (loads[codes] < vectors or loads[1] > 1):
            yield f"{kernel} loads its direction otherwise than in {codes} bytes: {dict(loads)}"


# -------------------------------------------------------------------------------------------- tests


def test_every_architecture_of_the_build_is_there(tools: dict[str, str]) -> None:
    info = _native.build_info()
    assert info is not None
    architectures = info["cuda_architectures"]
    assert isinstance(architectures, list)
    machine_code = set(
        re.findall(r"sm_\w+(?=\.cubin)", cubins.run(tools["cuobjdump"], "--list-elf", str(LIBRARY)))
    )
    ptx = set(
        re.findall(r"sm_\w+(?=\.ptx)", cubins.run(tools["cuobjdump"], "--list-ptx", str(LIBRARY)))
    )
    for architecture in architectures:
        name, _, kind = architecture.partition("-")
        if name in ("native", "all", "all-major"):  # known to the build alone
            assert machine_code | ptx
            continue
        if kind != "virtual":
            assert f"sm_{name}" in machine_code, (
                f"{architecture}: cubins only for {sorted(machine_code)}"
            )
        if kind != "real":
            assert f"sm_{name}" in ptx, f"{architecture}: PTX only for {sorted(ptx) or 'none'}"


def test_every_kernel_is_there_once(kernels: list[Kernel]) -> None:
    expected = {
        (name, dtype, width, ragged)
        for name in KERNELS
        for dtype, size in BYTES.items()
        for width, ragged in instances(name, 16 // size)
    }
    for architecture in {kernel.architecture for kernel in kernels}:
        found = [k[1:5] for k in kernels if k.architecture == architecture]
        assert len(found) == len(set(found))
        assert set(found) == expected, f"in {architecture}"


def test_registers_suffice_and_leave_room_for_occupancy(tools: dict[str, str]) -> None:
    uses = cubins.resources(tools, LIBRARY)
    assert uses
    for use in uses:
        assert (use.stack, use.local) == (0, 0), use
        assert use.registers <= REGISTERS, use


def test_nothing_goes_through_local_memory(kernels: list[Kernel]) -> None:
    assert not [str(kernel) for kernel in kernels if kernel.count(r"(LDL|STL)(\..*)?")]


def test_vector_kernels_move_16_bytes_at_a_time(kernels: list[Kernel]) -> None:
    vectors = [kernel for kernel in kernels if kernel.whole]
    assert [complaint for kernel in vectors for complaint in vector_complaints(kernel)] == []


def test_kernels_over_elements_have_loads_under_way(kernels: list[Kernel]) -> None:
    for kernel in kernels:
        if kernel.name in ELEMENTWISE and kernel.vectors:
            enough = IN_FLIGHT // (2 if kernel.ragged else 1)
            assert max(loop.in_flight for loop in kernel.loops) >= enough, kernel


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", sorted(ROWS))
def test_rows_come_with_loads_under_way(kernels: list[Kernel], name: str, dtype: str) -> None:
    for kernel in kernels:
        if (kernel.name, kernel.dtype) == (name, dtype) and kernel.vectors:
            visit = kernel.loops[0]  # to memory: a row that is kept comes as a whole
            # Half of it is enough of 1024 threads, and what some ragged rows leave registers for.
            enough = IN_FLIGHT // (2 if kernel.ragged else 1)
            assert visit.copies if name in KEEPING else visit.in_flight >= enough, kernel


def test_a_row_that_is_kept_comes_from_memory_once(kernels: list[Kernel]) -> None:
    for kernel in kernels:
        if kernel.name in KEEPING and kernel.vectors:
            copies = [loop.copies for loop in kernel.loops if loop.copies]
            assert copies == [1] * KEEPING[kernel.name], kernel
            assert not kernel.accesses("LDG")[16], kernel


def test_images_too_large_to_be_kept_have_loads_under_way(kernels: list[Kernel]) -> None:
    """32 bytes in each of an SM's 1024 threads are 32 KB, where Little's law wants 23."""
    for kernel in kernels:
        if kernel.name == "plane_distance" and kernel.vectors:
            assert max(loop.in_flight for loop in kernel.loops) >= IN_FLIGHT // 2, kernel


def test_blocks_form_clusters_from_sm_90_on(kernels: list[Kernel]) -> None:
    for kernel in kernels:
        meets = kernel.count("UCGABAR_(ARV|WAIT).*")
        clusters = kernel.name == "plane_distance" and int(kernel.architecture[3:]) >= 90
        assert bool(meets) == clusters, kernel


def test_bytes_in_flight_are_counted_until_one_is_used() -> None:
    load = [("LDG.E.128", f"R{4 * i}, desc[UR4][R40.64]") for i in range(1, 4)]
    use = [("FADD", "R1, R9, R2")]  # of the second load
    assert cubins.most_in_flight(load) == 48
    assert cubins.most_in_flight([*load[:2], *use, load[2]]) == 32
    assert cubins.most_in_flight([*load, *use, ("LDG.E", "R30, desc[UR4][R40.64]")]) == 48
    assert cubins.most_in_flight(load, {2}) == 32  # where two paths meet
    copy = ("LDGSTS.E.BYPASS.128", "[R1], desc[UR4][R40.64]")  # into no register
    assert cubins.most_in_flight([copy, *load]) == 48


def parsed(symbol: str, *lines: str) -> Kernel:
    """A kernel by its code: labels end in a colon, the rest are instructions."""
    code = "\n".join(
        f"{line}" if line.endswith(":") else f"        /*0000*/ {line} ;" for line in lines
    )
    (kernel,) = cubins.parse(f'.target sm_90\n .section .text.{symbol},"ax"\n{code}\n')
    return kernel


def test_loops_are_those_over_vectors_of_the_width() -> None:
    load, jump = "LDG.E.64.CONSTANT R4, desc[UR4][R2.64]", "@P0 BRA `(.L_x_{})"
    within = (".L_x_1:", load, load, "FADD R1, R4, R5", jump.format(1))
    row = (
        ".L_x_0:",
        *within,
        "LDS.128 R8, [R9]",
        "SHFL.BFLY PT, R1, R1, 0x1, 0x1f",
        jump.format(0),
    )
    kernel = parsed("18row_sums_kernelIfLi2EE", *row)
    assert [(loop.instructions, loop.vectors) for loop in kernel.loops] == [(4, 2)]
    assert kernel.slots(kernel.loops[0]) == 4 / 2 / 2
    assert parsed("18row_sums_kernelIfLi4EE", *row).loops == ()


def test_two_tensors_are_copied_one_after_the_other_and_met_together() -> None:
    copy = "LDGSTS.E.BYPASS.128 [R1], desc[UR4][R2.64]"
    meet = [f"LD.E.128 R{r}, desc[UR4][R40.64]" for r in (4, 8)]
    one = "LD.E R4, desc[UR4][R40.64]"
    kernel = parsed(
        "21plane_distance_kernelIfLi4EE",
        *(".L_x_0:", copy, "@P0 BRA `(.L_x_0)"),
        *(".L_x_1:", *meet, "@P0 BRA `(.L_x_1)"),
        *(".L_x_2:", one, one, "@P0 BRA `(.L_x_2)"),
    )
    assert [(kernel.slots(loop), loop.copies) for loop in kernel.loops] == [(2 / 4, 1), (3 / 4, 0)]
    assert kernel.single_slots == 3


def test_a_kernel_without_vectors_would_be_found_out(kernels: list[Kernel]) -> None:
    for kernel in kernels:
        if kernel.width == 1:
            assert not kernel.accesses("LDG")[16] + kernel.accesses("LDGSTS")[16]
            assert not kernel.accesses("STG")[16]
            assert list(vector_complaints(kernel)), kernel


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(
    ("name", "rows"),
    [("linear_radius", 2), ("bisection_step", 1), ("search_step", 1), ("rat_correct", 1)],
)
def test_loops_over_a_row_are_short_enough_for_the_memory_to_be_slower(
    kernels: list[Kernel], name: str, rows: int, dtype: str
) -> None:
    """At 80 % of a copy's bandwidth on an H100; `direction_seed` and `probability_margin` take
    exponentials, and cannot in 16 bits: benchmarks/GPU.md."""
    for kernel in kernels:
        if (kernel.name, kernel.dtype) == (name, dtype) and kernel.whole:
            (loop,) = kernel.loops
            issued = kernel.slots(loop) / FIRST.instructions
            assert issued < rows * BYTES[dtype] / (0.8 * FIRST.bandwidth), (str(kernel), loop)


def test_only_float64_kernels_compute_in_float64(kernels: list[Kernel]) -> None:
    for kernel in kernels:
        doubles = kernel.count(r"D(ADD|MUL|FMA|SETP|MNMX|SET).*|.*\.F64.*|MUFU.*64H")
        assert bool(doubles) == (kernel.dtype == "float64"), kernel


def test_no_product_is_fused_with_a_sum(kernels: list[Kernel]) -> None:
    """The promise of the same bits as on the CPU. A division fuses inside, and is exact so."""
    for kernel in kernels:
        if kernel.name not in DIVIDE:
            # HFMA2 and IMAD also serve as moves and as integer arithmetic, and are no part of this.
            assert not kernel.count(r"(FFMA|DFMA).*"), kernel


def test_calls_are_only_to_what_the_compiler_puts_out_of_line(kernels: list[Kernel]) -> None:
    for kernel in kernels:
        allowed = ELEMENT_SUBROUTINES if kernel.name in ELEMENTWISE else ROW_SUBROUTINES
        if kernel.name in CHANNELED_ROWS:
            allowed = allowed | ELEMENT_SUBROUTINES
        if kernel.name in DIVIDE:
            allowed = allowed | DIVISION_SUBROUTINES
        if kernel.name in ROOTS:
            allowed = allowed | ROOT_SUBROUTINES
        for target in kernel.calls:
            # A label is a jump within the kernel, to where Ampere's warps come together again.
            name = re.fullmatch(r"\$__internal_\d+_\$__cuda_sm\d+x?_(\w+)", target)
            assert target.startswith(".L_x_") or (name and name[1] in allowed), (
                f"{kernel}: {target}"
            )
