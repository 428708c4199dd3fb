"""What nvcc made of the CUDA kernels, read from the built library. Needs no GPU.

It needs two of NVIDIA's tools: `pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm`.
"""

from __future__ import annotations

import concurrent.futures
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

TYPES = {"f": "float32", "d": "float64", "NS_8bfloat16E": "bfloat16", "NS_7float16E": "float16"}
BYTES = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}
TOOLS = ("cuobjdump", "nvdisasm")
#: Kernels that load a vector from each of two tensors and store none.
TWO_TENSORS = {"plane_distance", "linear_radius"}
#: A line such as  /*01a0*/   @!P0 CALL.REL.NOINC `($__internal_0_$__cuda_sm20_div_s64) ;
#: Comparisons, selections and integers: 64 of them per cycle and SM, where of others it is 128.
HALF_RATE = (
    "FSETP|FSEL|FMNMX|FCHK|ISETP|IADD|VIADD|IMNMX|VIMNMX|SEL|LOP|PLOP|SHF|LEA|PRMT|R2P|P2R|MOV"
)
#: From memory; from a block's; from memory into a block's, past the registers. LD knows at run time
#: alone of which memory.
LOADS, SHARED, COPY = ("LDG", "LD"), "LDS", "LDGSTS"
INSTRUCTION = r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?\w+\s+)?([A-Z]\w*[\w.]*)(.*)"


class Loop(NamedTuple):
    """A loop over vectors as wide as the kernel's, of memory or of a block's, with none within."""

    instructions: int  #: of all its paths
    halves: int  #: those that an SM issues at half the rate, see `HALF_RATE`
    copies: int  #: vectors into the block's memory, for which nothing in the loop waits
    vectors: float  #: of elements that a turn takes; two paths that load are two turns
    in_flight: int  #: most bytes that a thread has asked of memory and not used yet

    @property
    def slots(self) -> int:
        """How many instructions at the full rate take as long."""
        return max(self.instructions, 2 * self.halves)


class Kernel(NamedTuple):
    """One instance of one kernel for one architecture."""

    architecture: str
    name: str
    dtype: str
    width: int
    ragged: bool  #: for samples that begin anywhere between two vectors' boundaries
    opcodes: Counter[str]
    calls: Counter[str]
    loops: tuple[Loop, ...]  #: in the order in which they stand
    singles: tuple[Loop, ...]  #: those over single elements, where a vector has more
    in_flight: int  #: most bytes that a thread has asked of memory and not used yet

    def __str__(self) -> str:
        ragged = ", ragged" if self.ragged else ""
        return f"{self.name}<{self.dtype}, {self.width}{ragged}> for {self.architecture}"

    @property
    def vectors(self) -> bool:
        """Whether it moves vectors of 16 bytes."""
        return self.width * BYTES[self.dtype] == 16

    @property
    def whole(self) -> bool:
        """Whether it moves nothing else."""
        return self.vectors and not self.ragged

    def slots(self, loop: Loop) -> float:
        """How many instructions at the full rate a loop takes as long as, for one element."""
        return loop.slots / self.width / loop.vectors

    @property
    def single_slots(self) -> int:
        """The same of the longest loop over single elements, 0 where there is none.

        A loop over vectors that also loads a word for the signs of one is none.
        """
        known = {(loop.instructions, loop.in_flight) for loop in self.loops}
        singles = (s for s in self.singles if (s.instructions, s.in_flight) not in known)
        return max((loop.slots for loop in singles), default=0)

    def count(self, pattern: str) -> int:
        """Instructions whose opcode matches."""
        return sum(n for opcode, n in self.opcodes.items() if re.fullmatch(pattern, opcode))

    def accesses(self, kind: str) -> Counter[int]:
        """How many global loads ("LDG") or stores ("STG") there are, by bytes."""
        found: Counter[int] = Counter()
        for opcode, n in self.opcodes.items():
            if opcode.split(".", 1)[0] == kind:
                found[size_of(opcode)] += n
        return found


class Resources(NamedTuple):
    """What one instance of a kernel takes of an SM, in one architecture."""

    architecture: str
    name: str
    dtype: str
    width: int
    ragged: bool
    registers: int
    stack: int  #: bytes a thread has outside registers: spills and arrays
    shared: int  #: bytes of a block
    local: int  #: bytes


def size_of(opcode: str) -> int:
    """Bytes that a load or a store moves: LDG.E.128.CONSTANT, STG.E, LDG.E.U8."""
    sizes = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16}
    return next((sizes[part] for part in opcode.split(".") if part in sizes), 4)


def most_in_flight(code: Sequence[tuple[str, str]], targets: Container[int] = ()) -> int:
    """The most bytes that a thread has asked of memory before it uses the first of them.

    Whoever reads a register waits for the load into it, and for all that went out before. Where
    paths come together, at `targets`, nothing is taken to be under way.
    """
    waiting: list[tuple[range, int]] = []  # registers of a load, and its bytes
    most = 0
    for place, (opcode, operands) in enumerate(code):
        if place in targets:
            waiting = []
        used = {int(register) for register in re.findall(r"\bR(\d+)\b", operands)}
        for last in reversed(range(len(waiting))):
            if not used.isdisjoint(waiting[last][0]):
                waiting = waiting[last + 1 :]
                break
        if opcode.startswith(("LDG.", "LD.")):
            first = re.search(r"\bR(\d+)\b", operands)
            assert first, operands
            count = max(size_of(opcode) // 4, 1)
            waiting.append((range(int(first[1]), int(first[1]) + count), size_of(opcode)))
            most = max(most, sum(size for _, size in waiting))
    return most


def tool(name: str) -> str | None:
    """The path of one of `TOOLS`: from NVIDIA's wheels, the PATH, or Triton with its own."""
    for package, folders in (("nvidia", "*/bin"), ("triton", "backends/nvidia/bin")):
        spec = importlib.util.find_spec(package)
        for root in (spec and spec.submodule_search_locations) or ():
            for folder in sorted(Path(root).glob(folders), reverse=True):
                if (folder / name).exists():
                    return str(folder / name)
        if package == "nvidia" and (found := shutil.which(name)):
            return found
    return None


def found_tools() -> dict[str, str]:
    """The path of each of `TOOLS`.

    Raises:
        FileNotFoundError: One is not installed.
    """
    paths = {}
    for name in TOOLS:
        path = tool(name)
        if path is None:
            raise FileNotFoundError(f"no {name} (pip install nvidia-cuda-{name})")
        paths[name] = path
    return paths


def run(*command: str, cwd: Path | None = None) -> str:
    """What a tool prints."""
    path = os.pathsep.join([str(Path(command[0]).parent), os.environ.get("PATH", os.defpath)])
    return subprocess.run(
        command,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, "PATH": path},  # cuobjdump looks for nvdisasm there
    ).stdout


def kernels(tools: Mapping[str, str], library: Path) -> list[Kernel]:
    """All instances for all architectures; none where there is PTX alone."""

    def disassemble(cubin: Path) -> list[Kernel]:
        # Without labels of indirect jumps, which no kernel has, and a sixth of the time.
        options = "--print-code", "--no-dataflow"
        return list(parse(run(tools["nvdisasm"], *options, str(cubin))))

    with tempfile.TemporaryDirectory() as folder:
        run(tools["cuobjdump"], "--extract-elf", "all", str(library), cwd=Path(folder))
        cubins = sorted(Path(folder).glob("*.cubin"))
        # nvdisasm is slow and uses one core: side by side.
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            return [kernel for group in pool.map(disassemble, cubins) for kernel in group]


def resources(tools: Mapping[str, str], library: Path) -> list[Resources]:
    """Registers and memory of every instance for every architecture."""
    listing = run(tools["cuobjdump"], "--dump-resource-usage", str(library))
    found = []
    for part in re.split(r"^arch = ", listing, flags=re.MULTILINE)[1:]:
        uses = re.findall(r"Function (\S+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", part)
        assert len(uses) == part.count("Function "), part
        found += [
            Resources(part.split()[0], *identify(symbol), *map(int, numbers))
            for symbol, *numbers in uses
        ]
    return found


def identify(symbol: str) -> tuple[str, str, int, bool]:
    """Name, element type, vector width and raggedness of the kernel of a mangled name."""
    types = "|".join(TYPES)
    match = re.search(rf"\d([a-z_]+)_kernelI({types})Li(\d+)E(?:Lb([01])E)?E", symbol)
    assert match, f"a kernel that is not known here: {symbol}"
    return match[1], TYPES[match[2]], int(match[3]), match[4] == "1"


def parse(listing: str) -> Iterator[Kernel]:
    """The kernels of one cubin, from nvdisasm's listing of it."""
    architecture = re.search(r"\.target\s+(sm_\w+)", listing)
    assert architecture, "a listing without its architecture"
    for section in re.split(r"^\s*\.section\s+\.text\.", listing, flags=re.MULTILINE)[1:]:
        code: list[tuple[str, str]] = []
        labels: dict[str, int] = {}
        for line in section.splitlines():
            if label := re.match(r"^\s*(\.L_x_\d+):", line):
                labels[label[1]] = len(code)
            elif found := re.match(INSTRUCTION, line):
                code.append((found[1], found[2]))
        name, dtype, width, ragged = identify(section.split(",", 1)[0])
        tensors = 2 if name in TWO_TENSORS else 1
        yield Kernel(
            architecture[1],
            *(name, dtype, width, ragged),
            Counter(opcode for opcode, _ in code),
            Counter(
                operand.strip(" `();") for opcode, operand in code if opcode.startswith("CALL")
            ),
            tuple(_loops(code, labels, width * BYTES[dtype], tensors)),
            tuple(_loops(code, labels, BYTES[dtype], tensors, LOADS) if width > 1 else ()),
            most_in_flight(code, set(labels.values())),
        )


def _loops(
    code: Sequence[tuple[str, str]],
    labels: Mapping[str, int],
    size: int,
    tensors: int,
    kinds: Container[str] = (*LOADS, SHARED, COPY),
) -> Iterator[Loop]:
    """Those over vectors of so many bytes. A loop ends in a jump to where it begins.

    One that reduces, or has another within, goes over rows.
    """

    def count(body: Sequence[tuple[str, str]], *kinds: str) -> int:
        return sum(is_access(opcode, size, kinds) for opcode, _ in body)

    spans = []
    for end, (opcode, operand) in enumerate(code):
        target = re.search(r"\.L_x_\d+", operand)
        if opcode.startswith("BRA") and target and labels.get(target[0], end) < end:
            spans.append((labels[target[0]], end))
    for begin, end in sorted(spans):
        body = code[begin : end + 1]
        reduces = any(re.match("SHFL|BAR", opcode) for opcode, _ in body)
        if reduces or not any(is_access(opcode, size, kinds) for opcode, _ in body):
            continue
        if any(begin <= b and e <= end and (b, e) != (begin, end) for b, e in spans):
            continue
        copies = count(body, COPY)
        waits = any(opcode.startswith("DEPBAR") for opcode, _ in body)
        yield Loop(
            len(body),
            sum(bool(re.match(HALF_RATE, opcode)) for opcode, _ in body),
            0 if waits else copies,
            count(body, "STG") or copies or max(count(body, *LOADS, SHARED) / tensors, 1),
            most_in_flight(body, {at - begin for at in labels.values()}),
        )


def is_access(opcode: str, size: int, kinds: Container[str]) -> bool:
    """Whether it moves so many bytes; of what a block keeps, 16-bit vectors have wider places."""
    kind, moved = opcode.split(".", 1)[0], size_of(opcode)
    return kind in kinds and (moved == size or (kind == SHARED and moved > size))
