"""GPU.md's tables of ops: what they must move, how long that should take, and what was measured."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import kernel_facts
from benchmarks.__main__ import ELEMENTWISE
from benchmarks.contest import Images, Logits
from benchmarks.predictions import predicted
from benchmarks.roofline import GPUS, Census, census
from rrfast import ops
from rrfast._tables import Block
from rrfast.ops import accumulate_dtype

RESULTS = Path(__file__).parent / "results"
META = torch.device("meta")


def image_op(op: str, case: Images) -> Census:
    """What an op on images launches."""
    x = case.random(META)
    step, (bounds, scale) = case.step(META), case.box(META)
    logits, labels = torch.empty(len(x), 10, device=META), rows_of(len(x))
    if op == "plane_distance" and bounds is None:
        bounds = torch.empty(2, 1, device=META)
    samples, signs = len(x), x.to(torch.int8)
    numbers = [torch.empty(rows, samples, dtype=step.dtype, device=META) for rows in (6, 8)]
    ray = step.clone(), x.to(step.dtype, copy=True), x.clone(), signs
    found = numbers[1], signs.clone(), rows_of(samples)
    calls: dict[str, Callable[[], object]] = {
        "redirect_": lambda: ops.redirect_(
            x, x.clone(), step, numbers[0], rows_of(samples), *ray, *found, bounds, scale
        ),
        "fgsm_step": lambda: ops.fgsm_step(x, x.clone(), step, bounds, scale),
        "perturb": lambda: ops.perturb(x, x.to(torch.int8), step, bounds, scale),
        "rat_perturb": lambda: ops.rat_perturb(
            x, x.clone(), logits, labels, 1e-3, "rat", bounds, scale
        ),
        "plane_distance": lambda: ops.plane_distance(x, x.clone(), step, bounds, scale),
        "probe_step": lambda: ops.probe_step(x, x.clone(), step, 0.0, 1.0, None, scale),
    }
    return census(calls[op])


def row_op(op: str, case: Logits) -> Census:
    """What an op on rows of logits launches."""
    logits, prediction = case.random(META), rows_of(case.shape[0])
    state = torch.empty(6, case.shape[0], dtype=accumulate_dtype(case.dtype), device=META)
    calls: dict[str, Callable[[], object]] = {
        "direction_seed": lambda: ops.direction_seed(logits),
        "linear_radius": lambda: ops.linear_radius(logits, logits.clone(), prediction),
        "bisection_step_": lambda: ops.bisection_step_(logits, prediction, *state[:3].unbind()),
        "search_step_": lambda: ops.search_step_(logits, prediction, state),
        "plane_seed": lambda: ops.plane_seed(logits, prediction, prediction.clone()),
        "loss_seed": lambda: ops.loss_seed(logits, prediction, "ce"),
        "probability_margin": lambda: ops.probability_margin(logits, prediction),
    }
    return census(calls[op])


def rows_of(samples: int) -> Tensor:
    return torch.empty(samples, dtype=torch.int64, device=META)


def traffic(op: str, case: Images | Logits) -> int:
    """Bytes that the op must move at least."""
    counted = image_op(op, case) if isinstance(case, Images) else row_op(op, case)
    return sum(kernel.bytes for kernel in counted.kernels if kernel.name.rstrip("_") in op)


def op_table() -> Block:
    facts, measured = kernel_facts.read(), measurements()
    rows = []
    for op, cases in kernel_facts.CASES.items():
        for case in cases:
            if case in kernel_facts.BENCHMARKED[op]:
                moved = traffic(op, case)
                of_gpus = [predicted(facts, op, case, moved, gpu) for gpu in GPUS]
                cells = [f"{moved / 1e6:.2f}", f"{of_gpus[0].in_flight / 1e3:.0f}"]
                cells.append(str(of_gpus[0].waves))
                for gpu, of_gpu in zip(GPUS, of_gpus, strict=True):
                    floor = moved / gpu.bandwidth
                    cells += [f"{1e6 * floor:.1f}", f"{1e6 * of_gpu.seconds:.1f}", of_gpu.bound]
                rows.append([op, str(case), *cells, *measured_cells(measured, op, case)])
    head = [
        *("op", "case", "MB", "KB in flight, an SM", "waves"),
        *(
            f"{what} {gpu.name}{unit}"
            for gpu in GPUS
            for what, unit in (("floor", " (µs)"), ("predicted", " (µs)"), ("bound", ""))
        ),
        *(f"measured {device} (µs)" for device in measured),
    ]
    return Block("Ops: traffic, floor, prediction", head, rows, 2)


def share_table() -> Block:
    """Per cent of a copy's rate, on each of `GPUS`."""
    facts, rows = kernel_facts.read(), []
    for op in kernel_facts.CASES:
        for dtype in (torch.float32, torch.bfloat16):
            cells = []
            for cases in kernel_facts.SHARES.values():
                (case,) = (c for c in cases if c.dtype == dtype and c in kernel_facts.CASES[op])
                moved = traffic(op, case)
                shares = [
                    moved / gpu.bandwidth / predicted(facts, op, case, moved, gpu).seconds
                    for gpu in GPUS
                ]
                cells.append(" / ".join(f"{100 * s:.{0 if s > 0.1 else 1}f}" for s in shares))
            rows.append([op, str(dtype).removeprefix("torch."), *cells])
    head = ["op", "type", *kernel_facts.SHARES]
    return Block("Ops: predicted part of a copy's rate", head, rows, 2)


def target(op: str, case: Images | Logits) -> float | None:
    """The part of a copy's rate that is asked of a large case."""
    if op in ELEMENTWISE:
        return 0.9 if math.prod(case.shape) * case.dtype.itemsize >= 64e6 else None
    rows = isinstance(case, Logits) and case.shape[1] >= 1000 and math.prod(case.shape) >= 16e6
    return 0.8 if rows else None


def miss_table() -> Block:
    """The large cases that are predicted to miss what is asked of them, on a GPU or on both."""
    facts, rows = kernel_facts.read(), []
    for op, cases in kernel_facts.BENCHMARKED.items():
        for case in cases:
            least, moved = target(op, case), traffic(op, case)
            of_gpus = [predicted(facts, op, case, moved, gpu) for gpu in GPUS]
            cells, missed = [], False
            for gpu, of_gpu in zip(GPUS, of_gpus, strict=True):
                share = moved / gpu.bandwidth / of_gpu.seconds
                missed |= share < (least or 0)
                cells += [f"{100 * share:.0f} %", of_gpu.bound]
            if missed:
                rows.append([op, str(case), f"{100 * (least or 0):.0f} %", *cells])
    head = ["op", "case", "target", *(f"{gpu.name}{what}" for gpu in GPUS for what in ("", ", by"))]
    return Block("Ops: predicted misses", head, rows, 2)


def measurements() -> dict[str, dict[str, Any]]:
    """Of every GPU that has results: seconds by op and case, and the bandwidth of its copy."""
    found = {}
    for path in sorted(RESULTS.glob("*/ops.json")):
        results = json.loads(path.read_text(encoding="utf-8"))
        if results["environment"]["cuda"]:
            entries = [entry for entry in results["benchmarks"] if "op" in entry]
            of_device: dict[str, Any] = {
                f"{entry['op']} {entry['case']}": 1e-3 * entry["ms"]["fused"] for entry in entries
            }
            copy = results["yardsticks"]["copy"]
            of_device["copy"] = copy["bytes"] / copy["ms"] * 1e3
            found[results["environment"]["device"]] = of_device
    return found


def measured_cells(
    measured: dict[str, dict[str, Any]], op: str, case: Images | Logits
) -> Iterable[str]:
    for of_device in measured.values():
        seconds = of_device.get(f"{op} {case}")
        yield "–" if seconds is None else f"{1e6 * seconds:.1f}"
