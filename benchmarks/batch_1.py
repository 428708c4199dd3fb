"""Where the time of `fast` goes at batch 1, and of PGD: `python -m benchmarks.batch_1 vit`.

Prints the stages within whole calls, in turns with the loop by hand of `bench_radius.py`, as
medians of the CPU time of one thread; then PGD beside its loop by hand, with the pages of memory
that either touches for the first time. `batch_1.md` says what they mean.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

import rrfast
from rrfast.attacks import PGD
from rrfast.engine import engine as engine_module
from rrfast.methods import fast

sys.path.append(str(Path(__file__).parent))
from bench_attack import BATCH, EPS, STEPS, by_hand
from bench_radius import by_hand as fast_by_hand
from networks import NETWORKS, make

#: What is looked at: where it stands, its name there, and what it is called here.
STAGES: tuple[tuple[Any, str, str], ...] = (
    (engine_module, "output_of", "forward"),
    (engine_module, "input_gradient", "backward"),
    (engine_module.Engine, "__enter__", "modules walked, flags set"),
    (fast, "_own_step", "the step is chosen"),
    (fast.unchecked, "fgsm_step", "fgsm_step"),
    (fast.unchecked, "linear_radius", "linear_radius"),
)


def stages(model: nn.Module, x: Tensor, seconds: float) -> dict[str, float]:
    """Microseconds of each stage, of what is between them, and of the loop by hand."""
    estimator = rrfast.RadiusEstimator(model)
    spent: dict[str, list[float]] = {}
    now: dict[str, float] = {}

    def watched(label: str, run: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            start = time.thread_time_ns()
            found = run(*args, **options)
            now[label] = now.get(label, 0.0) + (time.thread_time_ns() - start) / 1e3
            return found

        return call

    with contextlib.ExitStack() as stack:
        for place, name, label in STAGES:
            run = watched(label, getattr(place, name))
            stack.enter_context(mock.patch.object(place, name, run))
        ours, other = watched("all", estimator), watched("all, by hand", fast_by_hand)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            now.clear()
            ours(x)
            now["outside the passes"] = now["all"] - now["forward"] - now["backward"]
            other(model, x)
            for label, time_of in now.items():
                spent.setdefault(label, []).append(time_of)
    return {label: statistics.median(times) for label, times in spent.items()}


def pgd(model: nn.Module, x: Tensor, calls: int) -> tuple[float, dict[str, tuple[float, float]]]:
    """The median ratio of PGD to the loop by hand; milliseconds and new pages of either."""
    with torch.no_grad():
        y = model(x).argmax(dim=1)
    attack = PGD(EPS, STEPS, keep="last")
    runs = {"PGD": lambda: attack(model, x, y), "by hand": lambda: by_hand(model, x, y)}
    times: dict[str, list[float]] = {name: [] for name in runs}
    pages: dict[str, list[int]] = {name: [] for name in runs}
    for _ in range(calls):
        for name, run in runs.items():
            before, start = _new_pages(), time.thread_time_ns()
            run()
            times[name].append((time.thread_time_ns() - start) / 1e6)
            pages[name].append(_new_pages() - before)
    ratio = statistics.median(a / b for a, b in zip(times["PGD"], times["by hand"], strict=True))
    median = statistics.median
    return ratio, {name: (median(times[name]), median(pages[name])) for name in runs}


def _new_pages() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="+", choices=NETWORKS)
    parser.add_argument("--seconds", type=float, default=10.0, help="for the stages of each (10)")
    parser.add_argument("--calls", type=int, default=9, help="of PGD on each (9)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.networks:
        torch.manual_seed(0)
        print(f"\n{name}, batch 1: `fast`, µs")
        for label, time_of in stages(
            *make(name, 1, torch.device("cpu")), arguments.seconds
        ).items():
            print(f"  {label:28}{time_of:10,.0f}")
        for seed in range(3):
            torch.manual_seed(seed)
            ratio, runs = pgd(*make(name, BATCH, torch.device("cpu")), arguments.calls)
            told = ", ".join(
                f"{run} {ms:.1f} ms, {new:,} new pages" for run, (ms, new) in runs.items()
            )
            print(f"  PGD, batch {BATCH}, seed {seed}: ratio {ratio:.3f}; {told}")


if __name__ == "__main__":
    main()
