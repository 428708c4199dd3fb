"""What the predictions know of the kernels: `python -m benchmarks.kernel_facts`.

Two sources, neither of which needs a GPU. The machine code of the built library says what a thread
takes of an SM, how many bytes it asks of memory before it waits, and how many instructions an
element costs. The launchers, run by emulation on tensors of every shape that is benchmarked, say
which kernel they choose, how many blocks of how many threads, and what one of these does: bytes
moved, shuffles, barriers. Both go to kernel_facts.json, from which `gpu_notes` predicts. Needs a
build with nvcc, and what `make emulate` builds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import cubins
from benchmarks.contest import FEWER_IMAGES, IMAGES, LOGITS, Images, Logits
from rrfast import _native

HERE = Path(__file__).parent
ROOT = HERE.parent
FILE = HERE / "kernel_facts.json"
PROGRAM = ROOT / "build" / "emulation" / "python_tests" / "emulation" / "emulated_launches"
ARCHITECTURE = "sm_90"

#: Elements per sample of the papers' data: CIFAR-10 and CIFAR-100, ImageNet.
SMALL_IMAGE, LARGE_IMAGE = (3, 32, 32), (3, 224, 224)
#: Of rows of logits that `rat_perturb` takes the predictions from, as its benchmark has them.
RAT_CLASSES = 10

CPP_TYPES = {"float": "float32", "double": "float64"}


class Work(NamedTuple):
    """What a thread did, or all of a cluster."""

    loaded: int  #: bytes that came through registers
    copied: int  #: bytes that came past them, into the block's memory
    kept: int  #: bytes that came from there
    stored: int  #: bytes of results
    shuffles: int
    steps: int  #: shuffles one after the other; the words of one value go together


class Launch(NamedTuple):
    """What a launcher asked for, and what its first cluster of blocks did."""

    kernel: str  #: name, element type and width, as in `kernels`
    blocks: int
    threads: int
    cluster: int  #: blocks
    shared: int  #: bytes of a block
    barriers: int
    cluster_barriers: int
    all: Work
    most: Work  #: of any thread


class Code(NamedTuple):
    """What the machine code of a kernel says."""

    registers: int
    in_flight: int  #: bytes that a thread asks of memory before it waits, at most
    copying: float  #: issue slots per element of loops that copy it into the block's memory
    single: float  #: of the loop that takes elements one by one, 0 if there is none
    loops: tuple[tuple[int, float], ...]  #: of other loops over vectors: bytes, issue slots


class Facts(NamedTuple):
    """All that is known."""

    sources: str  #: a digest of csrc/kernels and csrc/math
    kernels: dict[str, Code]
    launches: dict[str, tuple[Launch, ...]]  #: of "op case"
    before: dict[str, Code]  #: kernels of whole vectors, as they were at another commit
    commit: str  #: that one


def sources() -> str:
    """A digest of the kernels' code, comments and layout aside."""
    digest = hashlib.sha256()
    folders = (ROOT / "csrc" / name for name in ("kernels", "math"))
    for path in sorted(path for folder in folders for path in folder.iterdir()):
        code = re.sub(r"//.*", "", path.read_text(encoding="utf-8"))
        digest.update(" ".join([path.name, *code.split()]).encode())
    return digest.hexdigest()[:16]


# --------------------------------------------------------------------------------------- launches


def images_of(size: int, image: tuple[int, int, int]) -> Sequence[Images]:
    """So many megabytes of images, in float32 and in bfloat16."""
    full = Images((1, *image)).shape
    each = full[1] * full[2] * full[3]
    return [
        Images((round(size * 1e6 / each / dtype.itemsize), *image), dtype)
        for dtype in (IMAGES[0].dtype, IMAGES[1].dtype)
    ]


#: Shapes of the table of shares: 64 MB of input, and batches of 128 as the papers have them.
SHARES: dict[str, Sequence[Images | Logits]] = {
    "64 MB": [
        *images_of(64, LARGE_IMAGE),
        *(Logits((64_000 // d.itemsize, 1000), d) for d in (IMAGES[0].dtype, IMAGES[1].dtype)),
    ],
    **{
        data: [
            case
            for dtype in (IMAGES[0].dtype, IMAGES[1].dtype)
            for case in (Images((128, *image), dtype), Logits((128, classes), dtype))
        ]
        for data, image, classes in (
            ("CIFAR-10", SMALL_IMAGE, 10),
            ("CIFAR-100", SMALL_IMAGE, 100),
            ("ImageNet", LARGE_IMAGE, 1000),
        )
    },
}
SHARED = list(dict.fromkeys(case for cases in SHARES.values() for case in cases))
ROW_OPS = (
    *("direction_seed", "linear_radius", "bisection_step_", "search_step_"),
    *("plane_seed", "loss_seed", "probability_margin"),
)
#: The cases of the benchmarks.
BENCHMARKED: dict[str, Sequence[Images | Logits]] = {
    **dict.fromkeys(("fgsm_step", "perturb", "rat_perturb"), IMAGES),
    **dict.fromkeys(("plane_distance", "probe_step", "redirect_"), FEWER_IMAGES),
    **dict.fromkeys(ROW_OPS, LOGITS),
}
#: Those, and the shapes of the shares: what is predicted.
CASES = {
    op: list(dict.fromkeys([*cases, *(c for c in SHARED if type(c) is type(cases[0]))]))
    for op, cases in BENCHMARKED.items()
}


def lines(op: str, case: Images | Logits) -> Iterable[str]:
    """What the program has to be asked."""
    dtype = str(case.dtype).removeprefix("torch.")
    types = {mended: name for name, mended in CPP_TYPES.items()}
    samples, *sizes = case.shape
    if isinstance(case, Images):
        if op == "rat_perturb":
            yield f"rat_correct float {samples} {RAT_CLASSES}"
        sizes = [sizes[0], sizes[1] * sizes[2]]
    more = " by-channel channels-last" if isinstance(case, Images) and case.normalised else ""
    yield f"{op} {types.get(dtype, dtype)} {samples} {' '.join(map(str, sizes))}{more}"


def launches(program: Path) -> dict[str, tuple[Launch, ...]]:
    """Of every op and case."""
    asked = {f"{op} {case}": [*lines(op, case)] for op, cases in CASES.items() for case in cases}
    every = [line for of_case in asked.values() for line in of_case]
    done = subprocess.run(
        [program], input="\n".join(every), check=True, stdout=subprocess.PIPE, text=True
    )
    told = iter(json.loads(line) for line in done.stdout.splitlines())
    return {
        key: tuple(launch(one) for _ in of_case for one in next(told))
        for key, of_case in asked.items()
    }


def launch(told: dict[str, Any]) -> Launch:
    name = re.fullmatch(r"(\w+)_kernel<(\w+), (\d+)(, ragged)?>", told["kernel"])
    assert name, told["kernel"]
    dtype = CPP_TYPES.get(name[2], name[2])
    key = kernel_key(name[1], dtype, int(name[3]), ragged=bool(name[4]))
    work = {of: Work(**told[of]) for of in ("all", "most")}
    fields = {field: told[field] for field in Launch._fields if field not in ("kernel", *work)}
    return Launch(kernel=key, **fields, **work)


# ------------------------------------------------------------------------------------ machine code


def kernel_key(name: str, dtype: str, width: int, *, ragged: bool) -> str:
    return f"{name} {dtype} {width}{' ragged' if ragged else ''}"


def kernels(library: Path) -> dict[str, Code]:
    """Of every instance for `ARCHITECTURE`."""
    tools = cubins.found_tools()
    registers = {
        kernel_key(use.name, use.dtype, use.width, ragged=use.ragged): use.registers
        for use in cubins.resources(tools, library)
        if use.architecture == ARCHITECTURE
    }
    found = {}
    for kernel in cubins.kernels(tools, library):
        if kernel.architecture == ARCHITECTURE:
            key = kernel_key(kernel.name, kernel.dtype, kernel.width, ragged=kernel.ragged)
            slots = {loop: round(kernel.slots(loop), 1) for loop in kernel.loops}
            found[key] = Code(
                registers[key],
                kernel.in_flight,
                sum(slots[loop] for loop in kernel.loops if loop.copies),
                kernel.single_slots,
                tuple((loop.in_flight, slots[loop]) for loop in kernel.loops if not loop.copies),
            )
    return found


def whole(found: dict[str, Code]) -> dict[str, Code]:
    """Of them those that move whole vectors of 16 bytes, and nothing else."""
    return {
        key: code
        for key, code in found.items()
        for _, dtype, width, *ragged in [key.split()]
        if not ragged and int(width) * cubins.BYTES[dtype] == 16
    }


# -------------------------------------------------------------------------------------- the file


def read() -> Facts:
    """What is committed."""
    told = json.loads(FILE.read_text(encoding="utf-8"))

    def codes(rows: dict[str, Any]) -> dict[str, Code]:
        return {
            key: Code(*plain, tuple((flying, slots) for flying, slots in loops))
            for key, (*plain, loops) in rows.items()
        }

    return Facts(
        told["sources"],
        codes(told["kernels"]),
        {
            key: tuple(Launch(*plain, Work(*every), Work(*most)) for *plain, every, most in rows)
            for key, rows in told["launches"].items()
        },
        codes(told["before"]),
        told["commit"],
    )


def write(facts: Facts) -> None:
    """A line for each kernel and case."""

    def block(rows: dict[str, Any]) -> str:
        return ",\n".join(f"  {json.dumps(key)}: {json.dumps(row)}" for key, row in rows.items())

    FILE.write_text(
        f'{{\n "sources": "{facts.sources}",\n "kernels": {{\n{block(facts.kernels)}\n }},\n'
        f' "launches": {{\n{block(facts.launches)}\n }},\n'
        f' "before": {{\n{block(facts.before)}\n }},\n "commit": "{facts.commit}"\n}}\n',
        encoding="utf-8",
    )


def main(argv: Sequence[str] | None = None) -> int:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        "python -m benchmarks.kernel_facts", description=__doc__.split("\n", maxsplit=1)[0]
    )
    library = _native.PACKAGE / "librrfast_cuda.so"
    parser.add_argument("--library", type=Path, default=library, help="librrfast_cuda.so")
    parser.add_argument("--program", type=Path, default=PROGRAM, help="emulated_launches")
    parser.add_argument(
        "--check", action="store_true", help="only whether launches are as the file has them"
    )
    parser.add_argument(
        "--before", metavar="COMMIT", help="the library is that of this commit, to compare with"
    )
    arguments = parser.parse_args(argv)
    needs = {} if arguments.before else {arguments.program: "make emulate"}
    if not arguments.check:
        needs[arguments.library] = "a build with nvcc"
    for path, how in needs.items():
        if not path.exists():
            parser.error(f"there is no {path}; {how} makes it")
    if arguments.check:
        return check(launches(arguments.program))
    found, facts = kernels(arguments.library), read()
    if arguments.before:
        write(facts._replace(before=whole(found), commit=arguments.before))
    else:
        launched = launches(arguments.program)
        write(facts._replace(sources=sources(), kernels=found, launches=launched))
    return 0


def check(found: dict[str, tuple[Launch, ...]]) -> int:
    """Say which launches are not as the file has them."""
    known = read().launches
    stale = [key for key in {**found, **known} if found.get(key) != known.get(key)]
    for key in stale:
        print(f"{FILE.name} has {known.get(key)} of {key}, which is {found.get(key)}")
    print(f"{len(found) - len(stale)} of {len(found)} launches are as {FILE.name} has them")
    return int(bool(stale))


if __name__ == "__main__":
    raise SystemExit(main())
