from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from op_tester import CLASSES, Case, OpTester, logits, non_finite_logits
from torch import Tensor

from rrfast import ops


def runner_up(h: Tensor) -> tuple[Tensor, Tensor]:
    prediction, _, _, second, _ = ops.direction_seed(h)
    return prediction, second


class TestPlaneSeed(OpTester):
    op = "plane_seed"

    def cases(self, dtype: torch.dtype, device: torch.device) -> Iterator[tuple[str, Case]]:
        for classes in CLASSES:
            for samples in (1, 5):
                h = logits(dtype, device, samples, classes)
                y, k = runner_up(h)
                yield f"K={classes}, B={samples}, ahead", (h, y, k)
                yield f"K={classes}, B={samples}, behind", (h, k, y)
            h = non_finite_logits(dtype, device, classes)
            yield f"K={classes}, non-finite", (h, *runner_up(h))
            for size in (torch.finfo(dtype).tiny, 1e-6, 1e4, torch.finfo(dtype).max / 64):
                h = logits(dtype, device, 5, classes)
                h = h.clamp(-64, 64).double().mul(size).to(dtype)
                yield f"K={classes}, of size {size}", (h, *runner_up(h))
        h = logits(dtype, device, 10_000, 10)
        y, k = torch.randint(-1, 11, (2, 10_000)).to(device)
        yield "many rows, some of no class, some of one", (h, y, k)

    def small(self, dtype: torch.dtype, device: torch.device) -> Case:
        h = logits(dtype, device, 5, 10)
        return h, *runner_up(h)

    def empty(self, dtype: torch.dtype, device: torch.device) -> Case:
        y = torch.empty(0, dtype=torch.int64, device=device)
        return torch.empty(0, 10, dtype=dtype, device=device), y, y.clone()

    def invalid(self) -> Iterator[tuple[Case, type[Exception], str]]:
        h, y = torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)
        yield (h.int(), y, y), TypeError, r"logits must be .* got an int32 tensor of shape \[2, 3\]"
        yield (h[:, :1], y, y), ValueError, "logits must have at least two classes"
        yield (h, y.int(), y), TypeError, "prediction must be an int64 tensor"
        yield (h, y, y.float()), TypeError, "target must be an int64 tensor"
        yield (h, y, y[:1]), ValueError, "target must have one value per sample"


def test_its_backward_is_the_plane_of_the_linearised_model(dtype: torch.dtype) -> None:
    """n / gap, which no unit changes, against autograd in float64."""
    weight = torch.randn(7, 10, dtype=torch.float64).to(dtype).double()
    x = torch.randn(5, 7, dtype=torch.float64).to(dtype).double()
    h = (x @ weight).to(dtype)
    y, k = runner_up(h)
    seed, gap = ops.plane_seed(h, y, k)
    rows = torch.arange(5)
    normal = (weight[:, k] - weight[:, y]).T
    distance = (h.double()[rows, y] - h.double()[rows, k])[:, None]
    found = seed.double() @ weight.T / gap.double()[:, None]
    torch.testing.assert_close(found, normal / distance, rtol=1e-6, atol=0)


def test_neither_end_of_the_range_is_near(dtype: torch.dtype) -> None:
    """The seed and the gap lie around 1, whatever the logits; of float16 as they come."""
    most = torch.finfo(dtype).max
    h = torch.tensor([[most, -most], [most / 2, most / 4], [2**-10, 2**-12]], dtype=dtype)
    seed, gap = ops.plane_seed(h, torch.zeros(3, dtype=int), torch.ones(3, dtype=int))
    assert gap.isfinite().all()
    if dtype == torch.float16:
        assert (seed == torch.tensor([-1.0, 1.0], dtype=dtype)).all()
    else:
        assert (gap[2], seed[2, 1]) == (0.75 * 2**-10 * 2**9, 2**9)
        assert (seed[:2].abs() > 0).all()
        assert (seed.abs().double().square().log2().abs() <= math.log2(most) + 2).all()


def test_a_tie_is_one_digit_away_and_a_class_behind_is_not(dtype: torch.dtype) -> None:
    digit = torch.finfo(dtype).eps
    h = torch.tensor([[4.0, 4.0], [4.0, 5.0], [0.0, 0.0]], dtype=dtype)
    _, gap = ops.plane_seed(h, torch.zeros(3, dtype=int), torch.ones(3, dtype=int))
    unit = 1.0 if dtype == torch.float16 else 0.125
    assert gap.tolist() == [4 * unit * digit, -unit, 0.0]


@pytest.mark.parametrize(
    "row", [[1.0, math.inf], [math.inf, 1.0], [-math.inf] * 2, [math.nan, 1.0]]
)
def test_logits_that_say_nothing_have_no_gap(row: list[float]) -> None:
    _, gap = ops.plane_seed(torch.tensor([row]), torch.tensor([0]), torch.tensor([1]))
    assert gap.isnan().all()
