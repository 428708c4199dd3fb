from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from op_tester import CLASSES, Case, OpTester, logits, non_finite_logits, with_non_finite

from rrfast import ops
from rrfast.ops import accumulate_dtype


class TestLinearRadius(OpTester):
    op = "linear_radius"

    def pair(self, dtype: torch.dtype, device: torch.device, samples: int, classes: int) -> Case:
        h0 = logits(dtype, device, samples, classes)
        h1 = (h0.float() + 0.1 * torch.randn(samples, classes, device=device)).to(dtype)
        return h0, h1, h0.argmax(dim=1), 0.01

    def cases(self, dtype: torch.dtype, device: torch.device) -> Iterator[tuple[str, Case]]:
        for classes in CLASSES:
            yield f"K={classes}", self.pair(dtype, device, 5, classes)
            yield f"K={classes}, one sample", self.pair(dtype, device, 1, classes)
            h0, h1, _, alpha = self.pair(dtype, device, 12, classes)
            broken = non_finite_logits(dtype, device, classes)
            yield f"K={classes}, non-finite h0", (broken, h1, broken.argmax(dim=1), alpha)
            yield f"K={classes}, non-finite h1", (h0, broken, h0.argmax(dim=1), alpha)
            yield f"K={classes}, non-finite both", (broken, broken, broken.argmax(dim=1), alpha)
            yield (
                f"K={classes}, not the argmax",
                (h0, h1, torch.zeros(12, dtype=torch.int64, device=device), alpha),
            )
        h0, h1, _, alpha = self.pair(dtype, device, 5, 10)
        wrong = torch.tensor([-1, 10, 1 << 40, -(1 << 40), 3], device=device)
        yield "no such class", (h0, h1, wrong, alpha)
        yield "many rows", self.pair(dtype, device, 10_000, 10)
        for samples, classes in ((12, 33), (12, 1000), (40, 10)):
            h0, h1, top, _ = self.pair(dtype, device, samples, classes)
            unit = with_non_finite(torch.rand(samples, device=device).to(accumulate_dtype(dtype)))
            yield f"K={classes}, a unit for each of {samples}", (h0, h1, top, 1.0, unit)

    def small(self, dtype: torch.dtype, device: torch.device) -> Case:
        return self.pair(dtype, device, 5, 10)

    def empty(self, dtype: torch.dtype, device: torch.device) -> Case:
        h = torch.empty(0, 10, dtype=dtype, device=device)
        return h, h, torch.empty(0, dtype=torch.int64, device=device), 0.01

    def invalid(self) -> Iterator[tuple[Case, type[Exception], str]]:
        h, y = torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)
        yield (h.long(), h, y), TypeError, "h0 must be a tensor of float64"
        yield (
            (h, h[:, :2], y),
            ValueError,
            r"h1 must have the shape of h0, \[2, 3\], got .*\[2, 2\]",
        )
        yield (h, h.double(), y), TypeError, "h1 must have the dtype of h0, float32, got a float64"
        yield (h, None, y), TypeError, "h1 must be a tensor, got NoneType None"
        yield (h, h, y.int()), TypeError, "prediction must be an int64 tensor, got an int32"
        yield (
            (h, h, y[:1]),
            ValueError,
            r"prediction must have one value per sample, shape \[2\], got",
        )
        yield (h, h, y, 0.0), ValueError, "alpha must be finite and greater than 0, got 0.0"
        yield (h, h, y, 1.0, h[0]), ValueError, r"unit must have one value per sample, shape \[2\]"
        yield (h, h, y, 1.0, h[:, 0].double()), TypeError, "unit must be a float32 tensor, got a"
        yield (h, h.to("meta"), y), ValueError, "h1 must be on the device of h0, cpu, got meta"


def radius_of(h0: list[float], h1: list[float], prediction: int = 0, alpha: float = 0.5) -> float:
    rows = torch.tensor([h0], dtype=torch.float64), torch.tensor([h1], dtype=torch.float64)
    return ops.linear_radius(*rows, torch.tensor([prediction]), alpha)[0].item()


def rival_of(h0: list[float], h1: list[float], prediction: int = 0) -> int:
    rows = torch.tensor([h0], dtype=torch.float64), torch.tensor([h1], dtype=torch.float64)
    return ops.linear_radius(*rows, torch.tensor([prediction]), 0.5)[1].item()


def test_solves_for_the_crossing() -> None:
    # gap 2 shrinks by 1 in half a unit: gone after 1. The other class needs (3 * 0.5) / 0.5 = 3.
    assert radius_of([3.0, 1.0, 0.0], [3.0, 2.0, 0.5]) == 1.0


def test_a_class_that_does_not_gain_never_overtakes() -> None:
    assert radius_of([3.0, 1.0], [3.0, 1.0]) == math.inf
    assert (
        radius_of([3.0, 1.0], [3.0, 0.5]) == math.inf
    )  # Eq. 8 as printed would give a finite radius here (errata 2)


def test_a_tie_has_radius_zero_whatever_the_slope() -> None:
    assert radius_of([1.0, 1.0], [1.0, 2.0]) == 0.0
    assert radius_of([1.0, 1.0], [2.0, 1.0]) == 0.0
    assert radius_of([1.0, 1.0], [1.0, 1.0]) == 0.0


def test_nan_is_never_hidden() -> None:
    for place in range(3):
        for broken in (0, 1):
            rows = [[3.0, 1.0, 0.0], [3.0, 2.0, 0.5]]
            rows[broken][place] = math.nan
            assert math.isnan(radius_of(*rows))


def test_a_masked_class_stays_masked() -> None:
    assert radius_of([3.0, 1.0, -math.inf], [3.0, 2.0, -math.inf]) == 1.0


def test_overflow_is_not_a_number_and_a_difference_is_not_lost() -> None:
    for place in range(3):
        for broken in (0, 1):
            rows = [[3.0, 1.0, 0.0], [3.0, 2.0, 0.5]]
            rows[broken][place] = math.inf
            assert math.isnan(radius_of(*rows))
    assert math.isnan(radius_of([3.0, 1.0], [-math.inf, 2.0]))  # the prediction, masked there
    most = torch.finfo(torch.float64).max
    assert radius_of([most, -most], [0.5 * most, -0.5 * most]) == 1.0
    assert radius_of([1e-308, 0.0], [0.0, 0.0], alpha=1e-3) == 1e-3


@pytest.mark.parametrize("classes", [2, 3, 40, 300, 1025])
def test_the_rival_is_the_first_to_overtake(classes: int, dtype: torch.dtype) -> None:
    """Among equals the lowest index, wherever in a row: two classes that are as fast."""
    for first in {1, classes // 2, classes - 1}:
        for second in {1, classes - 1}:
            h0, h1 = torch.zeros(2, 1, classes, dtype=dtype)
            h0[0, 0] = h1[0, 0] = 4.0
            h1[0, 1:] = 1.0
            h1[0, first] = h1[0, second] = 2.0
            radius, rival = ops.linear_radius(h0, h1, torch.tensor([0]), 0.5)
            assert (radius.item(), rival.item()) == (1.0, min(first, second))


def test_the_rival_of_what_nobody_overtakes() -> None:
    assert rival_of([3.0, 1.0], [3.0, 1.0]) == -1
    assert rival_of([3.0, 1.0, math.nan], [3.0, 2.0, 0.5]) == -1
    assert rival_of([3.0, math.inf], [3.0, 2.0]) == -1
    assert rival_of([3.0, 1.0], [3.0, 2.0], prediction=2) == -1
    assert rival_of([3.0, -math.inf, 1.0], [3.0, -math.inf, 2.0]) == 2


def test_at_a_tie_the_rival_is_the_lowest_that_ties() -> None:
    assert rival_of([1.0, 0.0, 1.0, 1.0], [1.0, 9.0, 1.0, 2.0]) == 2
    assert rival_of([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], prediction=1) == 0
