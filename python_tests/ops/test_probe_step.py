from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from op_tester import SHAPES, Case, OpTester, channels_last, with_non_finite
from steps import box_and_scale
from test_plane_distance import plane, with_nan
from torch import Tensor

from rrfast import ops, reference
from rrfast.ops import accumulate_dtype

FINEST, LONGEST = 6e-5, 0.01


class TestProbeStep(OpTester):
    op = "probe_step"

    def cases(self, dtype: torch.dtype, device: torch.device) -> Iterator[tuple[str, Case]]:
        for shape in (*SHAPES, (40, 3, 6, 6), (3, 1023), (3, 1025)):
            x, normal, gap = plane(dtype, device, shape)
            gap = gap * 0.02  # some beyond the longest step, some not
            ends = FINEST, LONGEST
            yield f"{shape}", (x, normal, gap, *ends)
            yield f"{shape}, coarse", (x, normal, gap, 0.003, LONGEST)
            yield f"{shape}, fine", (x, normal, gap, 0.0, 100.0)
            yield f"{shape}, non-finite gap", (x, normal, with_non_finite(gap), *ends, (0, 1))
            yield f"{shape}, NaN in x", (with_nan(x), normal, gap, *ends)
            yield f"{shape}, non-finite x", (with_non_finite(x), normal, gap, *ends)
            yield f"{shape}, NaN in normal", (x, with_nan(normal), gap, *ends)
            yield f"{shape}, zero normal", (x, torch.zeros_like(normal), gap, *ends)
            yield f"{shape}, zero gap", (x, normal, torch.zeros_like(gap), *ends)
            yield f"{shape}, below zero", (-3 * x, normal, gap, *ends)
            for name, box in box_and_scale(x):
                yield f"{shape}, {name}", (x, normal, gap, *ends, *box)
                if len(shape) >= 4:
                    last = channels_last(x)
                    yield f"{shape}, {name}, channels-last x", (last, normal, gap, *ends, *box)

    def schema_arguments(self, x, normal, gap, finest, longest, bounds=None, scale=None) -> Case:
        box = ops.channel_bounds(bounds, x), ops.channel_scale(scale, x)
        return x, normal, gap, finest, longest, *box

    def check(
        self, actual: tuple[Tensor, ...], expected: tuple[Tensor, ...], args: Case, name: str
    ) -> None:
        """All bits of `largest`, and of the step those that `plane_distance` leaves."""
        x, normal, gap, finest, longest, bounds, scale = self.schema_arguments(*args)
        step, largest = actual
        torch.testing.assert_close(largest, expected[1], rtol=0, atol=0, equal_nan=True, msg=name)
        # As in TestPlaneDistance.check: the gap is off by so much. What lies between two ends that
        # rise with the distance does so too.
        terms = 24 + (x[:1].numel() if x.dtype == torch.float64 else 0)
        error = terms * torch.finfo(step.dtype).eps / 2
        box = [None if part is None else part.double() for part in (bounds, scale)]
        points = x.double(), normal.double()
        low, high = (
            reference.plane_distance(*points, gap.double() * f, *box) * f
            for f in (1 - error, 1 + error)
        )
        tiny = torch.finfo(step.dtype).tiny
        low, high = (
            torch.maximum(
                d.nan_to_num(nan=longest, posinf=longest).to(step.dtype), largest * finest
            ).clamp(max=longest)
            for d in (low - tiny, high + tiny)
        )
        # Rounded to the step's dtype once more.
        low, high = low * (1 - 2 * error), high * (1 + 2 * error)
        within = (low <= step) & (step <= high)
        assert (within | (low.isnan() & step.isnan())).all(), f"{name}: {step}, [{low}, {high}]"

    def small(self, dtype: torch.dtype, device: torch.device) -> Case:
        return *plane(dtype, device, (4, 3, 8, 8)), FINEST, LONGEST, (0.0, 1.0)

    def empty(self, dtype: torch.dtype, device: torch.device) -> Case:
        x = torch.empty(0, 3, 8, 8, dtype=dtype, device=device)
        gap = torch.empty(0, dtype=accumulate_dtype(dtype), device=device)
        return x, x, gap, FINEST, LONGEST, (0, 1)

    def invalid(self) -> Iterator[tuple[Case, type[Exception], str]]:
        x, g = torch.zeros(2, 3), torch.zeros(2)
        ends = FINEST, LONGEST
        yield (x.to(torch.complex64), x, g, *ends), TypeError, "x must be a tensor of float64"
        yield (x, x[:1], g, *ends), ValueError, r"normal must have the shape of x, \[2, 3\], got"
        yield (x, x, g.half(), *ends), TypeError, "gap must be a float32 tensor, got a float16"
        yield (x, x, g, -1.0, 1.0), ValueError, "finest must be finite and at least 0, got -1.0"
        yield (x, x, g, 0.0, 0.0), ValueError, "longest must be finite and greater than 0, got 0.0"
        yield (x, x, g, *ends, (1, 0)), ValueError, r"bounds must have lower <= upper, got \(1, 0\)"


def test_it_is_the_distance_between_its_ends() -> None:
    x, normal = torch.tensor([[4.0, -1.0]]), torch.tensor([[1.0, 3.0]])
    for gap, scale, expected in (
        (0.02, None, 0.005),
        (0.2, None, 0.01),  # too long
        (0.0, None, 0.0004),  # 4 * 1e-4
        (0.0, (0.5, 2.0), 0.0008),  # in the smaller unit
        (math.nan, None, 0.01),
    ):
        unit = None if scale is None else torch.tensor(scale)
        step, largest = ops.probe_step(x, normal, torch.tensor([gap]), 1e-4, 0.01, None, unit)
        assert step.item() == pytest.approx(expected)
        assert largest.item() == (4.0 if scale is None else 8.0)
