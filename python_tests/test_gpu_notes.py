"""benchmarks/GPU.md: its counts, which need no GPU, are right and up to date."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import gpu_notes, kernel_facts, op_notes
from benchmarks.roofline import GPU, Kernel, census

ROOT = Path(__file__).parents[1]
SMALL = GPU(
    "small", bandwidth=1e9, flops={"float32": 1e9}, instructions=1e9, launch=1e-6, call=1e-5
)


# ------------------------------------------------------------------------------------ the counting


def meta(*shape: int) -> torch.Tensor:
    return torch.empty(shape, device="meta")


def test_a_convolution_is_counted_by_hand() -> None:
    layer, x = nn.Conv2d(3, 5, 3, bias=False).to("meta").requires_grad_(False), meta(2, 3, 8, 8)
    (kernel,) = census(lambda: layer(x)).kernels
    outputs = 2 * 5 * 6 * 6
    assert kernel.flops == 2 * outputs * 3 * 9
    assert kernel.bytes == 4 * (x.numel() + layer.weight.numel() + outputs)


def test_the_gradient_of_the_input_alone_is_half_of_a_backward() -> None:
    layer, x = nn.Conv2d(8, 8, 3, padding=1, bias=False).to("meta"), meta(2, 8, 8, 8)
    x.requires_grad_()
    forward = census(lambda: layer(x)).kernels[0]

    def backward(*inputs: torch.Tensor) -> Kernel:
        out = layer(x)
        counted = census(lambda: torch.autograd.grad(out, inputs, torch.empty_like(out)))
        return counted.kernels[-1]

    alone, both = backward(x), backward(x, layer.weight)
    assert (alone.flops, both.flops) == (forward.flops, 2 * forward.flops)
    assert alone.bytes == 4 * (2 * x.numel() + layer.weight.numel())


@pytest.mark.parametrize(
    ("run", "bytes_per_element"),
    [
        (lambda x: x.relu_(), 8),
        (lambda x: x.view(-1), 0),
        (lambda x: x.detach(), 0),
        (torch.empty_like, 0),
        (lambda x: x + x, 8),
        (lambda x: x.zero_(), 4),
        (lambda x: x.copy_(torch.empty_like(x)), 8),
        (lambda x: x[:1].expand(4, -1) * 1.0, 5),
    ],
    ids=["in place", "view", "detach", "empty", "twice the same", "zero", "copy", "expanded"],
)
def test_traffic_of_an_elementwise_call(
    run: Callable[[torch.Tensor], object], bytes_per_element: int
) -> None:
    x = meta(4, 100)
    assert sum(k.bytes for k in census(lambda: run(x)).kernels) == bytes_per_element * x.numel()


def test_a_kernel_takes_its_arithmetic_its_traffic_or_a_launch() -> None:
    for kernel, seconds in (
        (Kernel("a", flops=3000, bytes=2000), 3e-6),
        (Kernel("b", flops=2000, bytes=3000), 3e-6),
        (Kernel("c", flops=10, bytes=10), 1e-6),
    ):
        assert kernel.seconds(SMALL, "float32") == pytest.approx(seconds, rel=1e-12)


def test_eager_is_bound_by_the_host_where_kernels_are_short() -> None:
    x = meta(10)
    counted = census(lambda: [x + 1 for _ in range(7)])
    assert counted.seconds(SMALL, "float32") == pytest.approx(7e-6, rel=1e-12)
    assert counted.eager_seconds(SMALL, "float32") == pytest.approx(7e-5, rel=1e-12)


# ------------------------------------------------------------------------------------------ the ops


def test_the_traffic_of_every_op_is_what_its_benchmark_counts() -> None:
    """The benchmarks add up the tensors they hold; the notes count what the op is given."""
    compared = 0
    for path in ROOT.glob("benchmarks/results/*/ops.json"):
        entries = json.loads(path.read_text(encoding="utf-8"))["benchmarks"]
        moved = {(e["op"], e["case"]): e["traffic_bytes"] for e in entries if "op" in e}
        for op, cases in kernel_facts.CASES.items():
            for case in cases:
                if (op, str(case)) in moved:
                    assert op_notes.traffic(op, case) == moved[op, str(case)], (op, str(case))
                    compared += 1
    assert compared


# ---------------------------------------------------------------------------------------- the notes


@pytest.mark.parametrize("name", ["ops", "shares", "misses", "passes", "change"])
def test_the_notes_are_current(name: str) -> None:
    """The quick tables; the others take minutes, or depend on the compiler."""
    notes = gpu_notes.NOTES.read_text(encoding="utf-8")
    (committed,) = re.findall(f"<!-- {name} -->\n\n(.*?)\n\n<!-- /{name} -->", notes, re.DOTALL)
    assert committed == gpu_notes.body(gpu_notes.TABLES[name]()), "python -m benchmarks.gpu_notes"


def test_every_table_has_its_place() -> None:
    notes = gpu_notes.NOTES.read_text(encoding="utf-8")
    for name in gpu_notes.TABLES:
        assert notes.count(f"<!-- {name} -->") == notes.count(f"<!-- /{name} -->") == 1
