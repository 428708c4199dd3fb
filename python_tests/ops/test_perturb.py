from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from op_tester import (
    SHAPES,
    Case,
    OpTester,
    channels_last,
    inputs,
    unaligned,
    with_non_finite,
)
from steps import box_and_scale
from torch import Tensor

from rrfast import _native, ops
from rrfast.ops._step import NAN_DIRECTION


def direction_like(x: Tensor) -> Tensor:
    direction = torch.randint(-1, 2, x.shape, dtype=torch.int8, device=x.device)
    direction.view(-1)[-1:] = NAN_DIRECTION
    return direction


class TestPerturb(OpTester):
    op = "perturb"

    def cases(self, dtype: torch.dtype, device: torch.device) -> Iterator[tuple[str, Case]]:
        for shape in SHAPES:
            x, _, step = inputs(dtype, device, shape)
            direction = direction_like(x)
            yield f"{shape}", (x, direction, step)
            yield f"{shape}, non-finite", (with_non_finite(x), direction, with_non_finite(step))
            for name, box in box_and_scale(x):
                yield f"{shape}, {name}", (x, direction, step, *box)
            if len(shape) >= 4:
                last = channels_last(x)
                yield f"{shape}, channels-last x", (last, direction, step)
                yield (
                    f"{shape}, channels-last direction",
                    (x, channels_last(direction), step),
                )

    def schema_arguments(self, x, direction, step, bounds=None, scale=None) -> Case:
        return x, direction, step, ops.channel_bounds(bounds, x), ops.channel_scale(scale, x)

    def small(self, dtype: torch.dtype, device: torch.device) -> Case:
        x, grad, step = inputs(dtype, device, (4, 3, 8, 8))
        return x, grad.sign().to(torch.int8), step, (0.1, 0.9)

    def empty(self, dtype: torch.dtype, device: torch.device) -> Case:
        x, _, step = inputs(dtype, device, (0, 3, 8, 8))
        return x, direction_like(x), step

    def invalid(self) -> Iterator[tuple[Case, type[Exception], str]]:
        x, d, s = torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.int8), torch.zeros(2)
        yield (x.to(torch.complex64), d, s), TypeError, "x must be a tensor of float64"
        yield (
            (x, d.float(), s),
            TypeError,
            "direction must be an int8 tensor, as fgsm_step returns it, got a float32",
        )
        yield (x, d[:1], s), ValueError, r"direction must have the shape of x, \[2, 3\], got"
        yield (x, d, s.half()), TypeError, "step must be a float32 tensor, got a float16"
        yield (x.double(), d, s), TypeError, "step must be a float64 tensor, got a float32"


def test_repeats_the_step_that_made_the_direction(dtype: torch.dtype, device: torch.device) -> None:
    x, grad, step = inputs(dtype, device, (4, 3, 8, 8))
    moved, direction = ops.fgsm_step(x, grad, step, (0, 1), 2.0)
    assert torch.equal(ops.perturb(x, direction, step, (0, 1), 2.0), moved)


@pytest.mark.parametrize("layout", [torch.clone, unaligned, channels_last])
def test_results_larger_than_the_cache(
    layout: Callable[[Tensor], Tensor], dtype: torch.dtype, device: torch.device
) -> None:
    """On a CPU they are streamed past it from 8 MiB on, and those of one sample are not."""
    x, grad, step = inputs(dtype, device, (5, 3, 577, 577))
    x, h = layout(x), torch.eye(5, device=device)
    y, out = torch.zeros(5, dtype=torch.int64, device=device), layout(torch.zeros_like(x))
    assert x[:1].nbytes < 8 * 2**20 <= x.nbytes
    for scale in (None, torch.linspace(0.5, 2.0, 3)):
        box = (0.1, 0.9), scale
        moved, direction = ops.fgsm_step(x, grad, step, *box)
        assert ops.perturb(x, direction, step, *box, out=out) is out
        assert torch.equal(out, moved)
        trained, _ = ops.rat_perturb(x, grad, h, y, 0.1, "rat", *box)
        for i in range(len(x)):
            one = slice(i, i + 1)
            expected = ops.fgsm_step(x[one], grad[one], step[one], *box)
            assert torch.equal(moved[one], expected[0])
            assert torch.equal(direction[one], expected[1])
            expected = ops.rat_perturb(x[one], grad[one], h[one], y[one], 0.1, "rat", *box)
            assert torch.equal(trained[one], expected[0])


@pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="no huge pages in this kernel"
)
def test_a_large_new_result_asks_for_huge_pages() -> None:
    """Its mapping has the flag; whether the system has such pages to give is its affair."""
    if _native.load()["cpu"].state != "loaded":
        pytest.skip("no compiled kernels")
    x, _, step = inputs(torch.float32, torch.device("cpu"), (4, 3, 1024, 1024))
    moved = ops.perturb(x, torch.zeros_like(x, dtype=torch.int8), step)
    assert "hg" in flags_at(moved.data_ptr() + moved.nbytes // 2)


def flags_at(address: int) -> list[str]:
    """The kernel's flags of the mapping in which an address lies."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, *flags = line.split()
        if not first.endswith(":"):
            begin, end = (int(edge, 16) for edge in first.split("-"))
            inside = begin <= address < end
        elif inside and first == "VmFlags:":
            return flags
    raise AssertionError(f"{address:x} is not mapped")


def test_a_backward_that_needs_what_out_replaced_fails(device: torch.device) -> None:
    x, grad, step = inputs(torch.float32, device, (4, 8))
    moved, direction = ops.fgsm_step(x, grad, step)
    weight = torch.ones(8, device=device, requires_grad=True)
    loss = (moved * weight).sum()
    ops.perturb(x, direction, step, out=moved)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_out_must_not_require_a_gradient(device: torch.device) -> None:
    x, grad, step = inputs(torch.float32, device, (4, 8))
    _, direction = ops.fgsm_step(x, grad, step)
    out = torch.empty_like(x).requires_grad_()
    with pytest.raises(ValueError, match="out must not require a gradient"):
        ops.perturb(x, direction, step, out=out)


def test_slices_of_one_tensor_do_not_share_memory(device: torch.device) -> None:
    x, grad, step = inputs(torch.float32, device, (4, 3, 8, 8))
    expected, direction = ops.fgsm_step(x[:2], grad[:2], step[:2])
    ops.perturb(x[:2], direction, step[:2], out=x[2:])
    assert torch.equal(x[2:], expected)
    with pytest.raises(ValueError, match="out must have memory of its own"):
        ops.perturb(x[:2], direction, step[:2], out=x[1:3])
    weight = torch.nn.Parameter(x, requires_grad=False)
    with pytest.raises(ValueError, match="out must have memory of its own"):
        ops.perturb(weight, ops.fgsm_step(x, grad, step)[1], step, out=x)
