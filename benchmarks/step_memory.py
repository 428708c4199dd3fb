"""Peak memory of a training step with each objective: `python -m benchmarks.step_memory`.

resnet20 of pytorchcv, batch 128. On a CPU the sum of what torch's allocator holds, from its
profiler's record of every allocation: it does not depend on what else the machine does. On CUDA
`torch.cuda.max_memory_allocated`. Weights are not counted, what a step allocates is.

Writes results/<device>/step_memory.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.__main__ import slug
from rrfast.machine import machine
from rrfast.models import load_model
from rrfast.objectives import RAT, Mixup, OpenMix, RegMixup, Standard

HERE = Path(__file__).parent
MODEL, BATCH = "pytorchcv:resnet20_cifar10", 128
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
    """Bytes that a step has allocated at once."""
    step()  # gradients are there from now on
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


def main(argv: Sequence[str] | None = None) -> int:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        "python -m benchmarks.step_memory", description=__doc__.split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    device = torch.device(parser.parse_args(argv).device)
    model = load_model(MODEL).to(device)
    x = torch.rand(BATCH, 3, 32, 32, device=device)
    y = torch.randint(10, (BATCH,), device=device)
    steps: dict[str, Callable[[], object]] = {
        name: lambda objective=objective: objective.backward(model, x, y)
        for name, objective in OBJECTIVES.items()
    }
    steps["RAT()(...).backward()"] = lambda: RAT()(model, x, y).backward()
    peaks = {name: peak(step, device) for name, step in steps.items()}
    where = machine(device)
    rows = "\n".join(
        f"| {name} | {value / 1e6:.1f} | {value / peaks['standard']:.3f} |"
        for name, value in peaks.items()
    )
    text = (
        f"# Peak memory of a step: {MODEL}, batch {BATCH}, float32\n\n"
        f"{where['device']}; torch {where['versions']['torch']}; {where['date']}. "
        f"`python -m benchmarks.step_memory --device {device}`\n\n"
        f"| objective | MB | ÷ standard |\n|---|--:|--:|\n{rows}\n"
    )
    path = HERE / "results" / slug(where["device"].removeprefix("CPU (").rstrip(")"))
    path.mkdir(parents=True, exist_ok=True)
    (path / "step_memory.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
