"""Peak memory of a training step with each objective: `python -m benchmarks.step_memory`.

Batch 128; resnet20 of pytorchcv, and on CUDA the large models of `bench_rat_step`. On a CPU, the
sum over torch's allocator, from its profiler's record of every allocation, which does not depend on
other work of the machine. On CUDA, `torch.cuda.max_memory_allocated`. Only memory that a step
allocates is counted, so weights are not.

Writes results/<device>/step_memory.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.__main__ import slug
from benchmarks.bench_rat_step import BATCH, LARGE, make
from rrfast._machine import machine
from rrfast.objectives import RAT, Mixup, OpenMix, RegMixup, Standard

HERE = Path(__file__).parent
#: Of bench_rat_step.
SMALL = ("resnet20",)
OBJECTIVES = {
    "standard": Standard(),
    "RAT": RAT(),
    "RAT, PGD of 3 steps": RAT(steps=3),
    "RAT with Mixup": RAT(mixup=1.0),
    "Mixup": Mixup(),
    "RegMixup": RegMixup(),
    "OpenMix": OpenMix(torch.rand_like),
}


def peak(step: Callable[[], object], device: torch.device) -> int:
    """The peak of the bytes that a step has allocated."""
    step()  # gradients exist from now on
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step()
    assert record.profiler is not None
    assert record.profiler.kineto_results is not None
    changes = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    changes.sort(key=lambda event: event.start_ns())
    return max(accumulate(event.nbytes() for event in changes))


def table(name: str, device: torch.device) -> Iterator[str]:
    """A line per objective."""
    model, x, y = make(name, device)
    y = y.clamp(max=8)  # OpenMix has the last of the ten classes for itself
    steps: dict[str, Callable[[], object]] = {
        label: lambda objective=objective: objective.backward(model, x, y)
        for label, objective in OBJECTIVES.items()
    }
    steps["RAT()(...).backward()"] = lambda: RAT()(model, x, y).backward()
    peaks = {label: peak(step, device) for label, step in steps.items()}
    for label, value in peaks.items():
        yield f"| {name} | {label} | {value / 1e6:.1f} | {value / peaks['standard']:.3f} |"


def main(argv: Sequence[str] | None = None) -> int:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        "python -m benchmarks.step_memory", description=__doc__.split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="of bench_rat_step")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="a folder")
    arguments = parser.parse_args(argv)
    device = torch.device(arguments.device)
    where = machine(device)
    text = (
        f"# Peak memory of a step, batch {BATCH}, float32\n\n"
        f"{where['device']}; torch {where['versions']['torch']}; {where['date']}. "
        f"`python -m benchmarks.step_memory --device {device}`\n\n"
        "| model | objective | MB | ÷ standard |\n|---|---|--:|--:|\n"
    )
    path = arguments.results / slug(where["device"].removeprefix("CPU (").rstrip(")"))
    path.mkdir(parents=True, exist_ok=True)
    for name in arguments.models or (SMALL if device.type == "cpu" else (*SMALL, *LARGE)):
        text += "".join(f"{line}\n" for line in table(name, device))
        (path / "step_memory.md").write_text(text)  # so that an interrupted run keeps its results
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
