"""Put what can be known without a GPU into GPU.md: `python -m benchmarks.gpu_notes`.

What stands between `<!-- NAME -->` and `<!-- /NAME -->` there is replaced by the tables of that
name: traffic and passes, counted; the floors that they give on `GPUS`; the times of ops that
`predictions` expects by kernel_facts.json, which `python -m benchmarks.kernel_facts` makes; and
what the machine code of the built library says of each kernel. Once results/ has a GPU's ops.json,
the measured times stand beside the predicted ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import rrfast
from benchmarks import cubins, kernel_facts
from benchmarks.__main__ import ELEMENTWISE
from benchmarks.bench_rat_step import BATCH
from benchmarks.cubins import BYTES, Kernel, Resources
from benchmarks.kernel_facts import Code
from benchmarks.op_notes import META, miss_table, op_table, rows_of, share_table
from benchmarks.predictions import resident_warps
from benchmarks.roofline import GPUS, Census, census
from rrfast import _native
from rrfast._tables import Block, markdown
from rrfast.bench import contestants
from rrfast.methods import METHODS
from rrfast.models import digits_cnn, load_model
from rrfast.objectives import RAT, Standard

HERE = Path(__file__).parent
NOTES = HERE / "GPU.md"
FIRST = GPUS[0]

# --------------------------------------------------------------------------------------- pipelines

#: Model and the batch that it is measured at. resnet50b is what torchvision calls resnet50.
MODELS = {
    "resnet20": ("pytorchcv:resnet20_cifar10", (128, 3, 32, 32)),
    "resnet110": ("pytorchcv:resnet110_cifar10", (128, 3, 32, 32)),
    "wrn28_10": ("pytorchcv:wrn28_10_cifar10", (1024, 3, 32, 32)),
    "resnet50": ("pytorchcv:resnet50b", (128, 3, 224, 224)),
}
#: Those whose passes do not depend on the data, and that a graph can hold.
PIPELINES = ("msr", "grad", "fast", "search", "refined", "bs")


def subject(name: str, dtype: torch.dtype, batch: int | None = None) -> tuple[Any, Tensor]:
    """A model on meta, in eval mode, its weights frozen, and a batch for it."""
    spec, shape = MODELS[name]
    model = load_model(spec).eval().requires_grad_(False).to(META, dtype)
    return model, torch.empty(batch or shape[0], *shape[1:], dtype=dtype, device=META)


def pipeline(name: str, model: Any, x: Tensor) -> Census:
    """What one call of a pipeline launches."""
    if name == "msr":
        return census(lambda: contestants.msr(model)(x))
    return census(lambda: rrfast.radius(model, x, method=name))


def passes_table() -> Block:
    """Forwards and backwards, as every result counts them."""
    torch.manual_seed(0)
    model, x = digits_cnn().eval(), torch.rand(64, 1, 8, 8)
    counts = {"MSR": (1.0, 0.0)}
    for method in METHODS:
        result = rrfast.radius(model, x, method=method, full_output=True)
        counts[method] = result.forwards, result.backwards
    naive = contestants.naive_loop(model)(x)
    counts["naive loop"] = naive.forwards, naive.backwards
    rows = []
    for name, (f, b) in counts.items():
        # A mean over samples that end at different steps is no property of the method.
        whole = f.is_integer() and b.is_integer()
        rows.append([name, *(f"{n:g}" if whole else "by the data" for n in (f, b, f + b))])
    return Block("Pipelines: passes", ["method", "forwards", "backwards", "sum"], rows, 1)


def model_table() -> Block:
    rows = []
    for name, (_, shape) in MODELS.items():
        for dtype, precision in ((torch.float32, "tf32"), (torch.bfloat16, "bfloat16")):
            model, x = subject(name, dtype)
            floor = pipeline("msr", model, x)
            cells = [
                f"{floor.flops / len(x) / 1e9:.3g}",
                f"{floor.bytes / len(x) / 1e6:.3g}",
                str(len(floor.kernels)),
                f"{1e3 * floor.seconds(FIRST, precision):.3g}",
            ]
            for method in PIPELINES[1:]:
                of_method = pipeline(method, model, x)
                ratio = of_method.seconds(FIRST, precision) / floor.seconds(FIRST, precision)
                cells.append(f"{ratio:.3g}")
            rows.append([name, str(shape[0]), precision, *cells])
    head = [
        *("model", "batch", "precision", "GFLOP / image", "MB / image", "kernels", "MSR (ms)"),
        *(f"{name} ÷ MSR" for name in PIPELINES[1:]),
    ]
    return Block(f"Pipelines: floors on an {FIRST.name}", head, rows, 1)


def graph_table() -> Block:
    rows = []
    for batch in (1, 16, 64):
        model, x = subject("resnet110", torch.float32, batch)
        cells = []
        for method in ("fast", "search", "bs"):
            counted = pipeline(method, model, x)
            device, host = counted.seconds(FIRST, "tf32"), counted.eager_seconds(FIRST, "tf32")
            cells += [
                str(len(counted.kernels)),
                f"{1e3 * host:.3g}",
                f"{1e3 * device:.3g}",
                f"{host / device:.2f}",
            ]
        rows.append([str(batch), *cells])
    head = ["batch"]
    for method in ("fast", "search", "bs"):
        head += [f"{method}: kernels", "eager (ms)", "graph (ms)", "speed-up"]
    return Block(f"CUDA graphs: resnet110 on an {FIRST.name}", head, rows, 0)


def free_table() -> Block:
    """Is the radius free? In bfloat16, against an eager float32 forward."""
    rows = []
    for name in MODELS:
        plain = pipeline("msr", *subject(name, torch.float32))
        low = subject(name, torch.bfloat16)
        cells = []
        for precision in ("tf32", "float32"):
            msr = plain.eager_seconds(FIRST, precision)
            cells += [
                f"{pipeline(method, *low).seconds(FIRST, 'bfloat16') / msr:.2f}"
                for method in ("grad", "fast")
            ]
        rows.append([name, *cells])
    head = [
        "model",
        *(
            f"`{method}` ÷ MSR in {precision}"
            for precision in ("TF32", "float32")
            for method in ("grad", "fast")
        ),
    ]
    return Block(f"Is the radius free? Floors on an {FIRST.name}", head, rows, 1)


def step_table() -> Block:
    rows = []
    for name in ("wrn28_10", "resnet50"):
        spec, shape = MODELS[name]
        for dtype, precision in ((torch.float32, "tf32"), (torch.bfloat16, "bfloat16")):
            model = load_model(spec).train().to(META, dtype)
            x, y = torch.empty(BATCH, *shape[1:], dtype=dtype, device=META), rows_of(BATCH)
            seconds = [
                census(partial(objective.backward, model, x, y)).seconds(FIRST, precision)
                for objective in (Standard(), RAT())
            ]
            times = (f"{1e3 * s:.3g}" for s in seconds)
            ratio = f"{seconds[1] / seconds[0]:.3f}"
            rows.append([name, str(BATCH), precision, *times, ratio])
    head = ["model", "batch", "precision", "standard (ms)", "RAT (ms)", "÷"]
    return Block(f"Training step: floors on an {FIRST.name}", head, rows, 1)


# ----------------------------------------------------------------------------------------- kernels

#: Threads of a block; of row kernels on short rows and images, and on long ones.
ELEMENTWISE_THREADS, ROW_THREADS = (256,), (128, 512)
DTYPES = ("float32", "float64", "bfloat16", "float16")


def kernel_table(architecture: str = "sm_90") -> Block:
    tools, library = cubins.found_tools(), _native.PACKAGE / "librrfast_cuda.so"
    resources = {
        (r.name, r.dtype): r
        for r in cubins.resources(tools, library)
        if r.architecture == architecture and not r.ragged and r.width * BYTES[r.dtype] == 16
    }
    kernels = {
        (k.name, k.dtype): k
        for k in cubins.kernels(tools, library)
        if k.architecture == architecture and k.whole
    }
    rows = []
    for name in sorted({name for name, _ in kernels}):
        of_types = [(kernels[name, dtype], resources[name, dtype]) for dtype in DTYPES]
        counts = ELEMENTWISE_THREADS if name in ELEMENTWISE else ROW_THREADS
        rows.append(
            [
                f"`{name}`",
                slashed(counts),
                slashed(r.registers for _, r in of_types),
                slashed(r.stack + r.local for _, r in of_types),
                slashed(k.in_flight for k, _ in of_types),
                slashed(k.accesses("LDG")[16] for k, _ in of_types),
                slashed(k.accesses("STG")[16] for k, _ in of_types),
                "; ".join(map(slashed, per_element(of_types))),
                *(
                    slashed(resident_warps(r.registers, threads) for _, r in of_types)
                    for threads in (counts[0], counts[-1])
                ),
            ]
        )
    head = [
        *("kernel", "threads", "registers", "spilled bytes", "bytes in flight, a thread"),
        *("16-byte loads", "16-byte stores"),
        "issue slots per element of each loop",
        *("warps of 64, small block", "warps of 64, large block"),
    ]
    return Block(f"Kernels: machine code for {architecture}", head, rows, 1)


def per_element(of_types: Sequence[tuple[Kernel, Resources]]) -> Iterator[list[str]]:
    """Issue slots of each loop over a row for one element, by type; a type may have fewer."""
    loops = [kernel.loops for kernel, _ in of_types]
    for same in zip_longest(*loops):
        yield [
            f"{kernel.slots(loop):.0f}" if loop else "–"
            for loop, (kernel, _) in zip(same, of_types, strict=True)
        ]


#: Of what was, and is: those that networks are run in.
COMPARED = ("float32", "bfloat16")


def change_table() -> Block:
    """What the machine code of each kernel said at an earlier commit, and says now."""
    facts, rows = kernel_facts.read(), []
    codes = facts.before, kernel_facts.whole(facts.kernels)
    for name in sorted({key.split()[0] for key in codes[1]}):
        keys = [f"{name} {dtype} {16 // BYTES[dtype]}" for dtype in COMPARED]
        pairs = [[code.get(key) for key in keys] for code in codes]
        cells = [
            slashed(of_code(code) if code else "–" for code in of_types)
            for of_code in (_registers, _in_flight, _slots)
            for of_types in pairs
        ]
        rows.append([f"`{name}`", *cells])
    head = [
        "kernel",
        *(
            f"{what}, {when}"
            for what in ("registers", "bytes in flight", "issue slots per element of each loop")
            for when in (facts.commit, "now")
        ),
    ]
    return Block(f"Kernels: {facts.commit} and now", head, rows, 1)


def _registers(code: Code) -> str:
    return str(code.registers)


def _in_flight(code: Code) -> str:
    return "all of a row" if code.copying else str(code.in_flight)


def _slots(code: Code) -> str:
    copies = [f"{code.copying:.0f}"] if code.copying else []
    return "; ".join([*copies, *(f"{slots:.0f}" for _, slots in code.loops)])


def slashed(values: Iterable[object]) -> str:
    texts = [str(value) for value in values]
    return texts[0] if len(set(texts)) == 1 else " / ".join(texts)


# ------------------------------------------------------------------------------------------- notes

TABLES: dict[str, Callable[[], Block]] = {
    "ops": op_table,
    "shares": share_table,
    "misses": miss_table,
    "passes": passes_table,
    "models": model_table,
    "graphs": graph_table,
    "free": free_table,
    "step": step_table,
    "change": change_table,
    "kernels": kernel_table,
}


def body(block: Block) -> str:
    """A table without its title: the notes have headings of their own."""
    return markdown([block]).partition("\n\n")[2]


def assembled(notes: str) -> str:
    """The notes with every table as it comes out now."""
    for name, table in TABLES.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        text = f"{begin}\n\n{body(table())}\n\n{end}"
        notes, found = re.subn(f"{begin}.*?{end}", lambda _, t=text: t, notes, flags=re.DOTALL)
        if found != 1:
            raise SystemExit(f"{NOTES.name} must have {begin} ... {end} exactly once")
    return notes


if __name__ == "__main__":
    NOTES.write_text(assembled(NOTES.read_text(encoding="utf-8")), encoding="utf-8")
