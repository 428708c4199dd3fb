from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from op_tester import CLASSES, Case, OpTester, logits, non_finite_logits
from torch import Tensor

from rrfast import ops
from rrfast.ops import accumulate_dtype


class TestBisectionStep(OpTester):
    op = "bisection_step_"

    def state(
        self, dtype: torch.dtype, device: torch.device, samples: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        lower = torch.rand(samples).to(device, accumulate_dtype(dtype))
        upper = torch.where(torch.arange(samples, device=device) % 2 == 0, math.inf, 2 * lower + 1)
        radius = torch.minimum((lower + upper) / 2, 2 * lower)
        if samples >= 5:
            lower[4] = upper[4] = radius[4] = math.nan
            lower[3] = upper[3] = radius[3] = 0.0  # a tie
        return lower, upper, radius, torch.full((samples,), -1, device=device)

    def cases(self, dtype: torch.dtype, device: torch.device) -> Iterator[tuple[str, Case]]:
        for classes in CLASSES:
            for samples in (1, 5):
                h = logits(dtype, device, samples, classes)
                kept = h.argmax(dim=1)
                state = self.state(dtype, device, samples)
                yield f"K={classes}, B={samples}, kept", (h, kept, *state)
                yield f"K={classes}, B={samples}, flipped", (h, (kept + 1) % classes, *state)
            h = non_finite_logits(dtype, device, classes)
            yield f"K={classes}, non-finite", (h, h.argmax(dim=1), *self.state(dtype, device, 12))
        yield (
            "many rows",
            (
                logits(dtype, device, 10_000, 10),
                torch.full((10_000,), 3, device=device),
                *self.state(dtype, device, 10_000),
            ),
        )

    def small(self, dtype: torch.dtype, device: torch.device) -> Case:
        return (
            logits(dtype, device, 7, 10),
            torch.full((7,), 3, device=device),
            *self.state(dtype, device, 7),
        )

    def empty(self, dtype: torch.dtype, device: torch.device) -> Case:
        return (
            torch.empty(0, 10, dtype=dtype, device=device),
            torch.empty(0, dtype=torch.int64, device=device),
            *(torch.empty(0, dtype=accumulate_dtype(dtype), device=device) for _ in range(3)),
            torch.empty(0, dtype=torch.int64, device=device),
        )

    def must_be_contiguous(self, index: int) -> bool:
        return index >= 2

    def results(self, output: Any, args: Case) -> tuple[Tensor, ...]:
        assert output is None
        return args[2:]

    def invalid(self) -> Iterator[tuple[Case, type[Exception], str]]:
        h, y, s = torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64), torch.zeros(2)
        yield (h.bool(), y, s, s, s), TypeError, "logits must be a tensor of float64"
        yield (h, y.float(), s, s, s), TypeError, "prediction must be an int64 tensor"
        yield (h, y, s.double(), s, s), TypeError, "lower must be a float32 tensor, got a float64"
        yield (h, y, s, s[:1], s), ValueError, "upper must have one value per sample"
        yield (
            (h, y, s, s, torch.zeros(4)[::2]),
            ValueError,
            r"radius must be contiguous, because it is changed in place",
        )
        yield (h, y, s, s, s, s), TypeError, "rival must be an int64 tensor, got a float32"
        yield (h, y, s, s, s, y[:1]), ValueError, "rival must have one value per sample"
        strided = torch.zeros(4, dtype=torch.int64)[::2]
        yield (h, y, s, s, s, strided), ValueError, "rival must be contiguous, because it is"


def step(lower: float, upper: float, radius: float, flipped: bool) -> tuple[float, float, float]:
    state = [torch.tensor([v], dtype=torch.float64) for v in (lower, upper, radius)]
    ops.bisection_step_(
        torch.tensor([[0.0, 1.0]], dtype=torch.float64), torch.tensor([0 if flipped else 1]), *state
    )
    return tuple(s.item() for s in state)


def test_doubles_until_something_flips_then_bisects() -> None:
    assert step(1.0, math.inf, 2.0, flipped=False) == (2.0, math.inf, 4.0)
    assert step(2.0, math.inf, 4.0, flipped=True) == (2.0, 4.0, 3.0)
    assert step(2.0, 4.0, 3.0, flipped=True) == (2.0, 3.0, 2.5)
    assert step(2.0, 4.0, 3.0, flipped=False) == (3.0, 4.0, 3.5)
    assert step(1.0, 8.0, 4.0, flipped=False) == (4.0, 8.0, 6.0)


def test_the_rival_is_what_is_predicted_at_the_upper_end() -> None:
    state = [torch.tensor([v]) for v in (1.0, math.inf, 2.0)]
    rival, y = torch.tensor([7]), torch.tensor([0])
    seen = []
    # Kept, flipped to 2, kept, flipped to 1, and nothing new where nothing is said.
    for row in ([9, 0, 1], [0, 1, 2], [9, 0, 1], [0, 2, 1], [0, 2, math.nan]):
        ops.bisection_step_(torch.tensor([row]).float(), y, *state, rival)
        seen.append(rival.item())
    assert seen == [7, 2, 2, 1, 1]
    without = [torch.tensor([v]) for v in (1.0, math.inf, 2.0)]
    ops.bisection_step_(torch.tensor([[0.0, 1.0]]), y, *without)
    assert without[1].item() == 2.0


def test_no_probe_moves_the_rival_of_a_tie() -> None:
    state, rival = [torch.zeros(1) for _ in range(3)], torch.tensor([7])
    ops.bisection_step_(torch.tensor([[0.0, 1.0]]), torch.tensor([0]), *state, rival)
    assert rival.item() == 7


def test_a_tie_with_a_lower_index_is_a_flip_and_with_a_higher_one_is_not() -> None:
    for prediction, flipped in ((1, True), (0, False)):
        state = [torch.tensor([v]) for v in (1.0, math.inf, 2.0)]
        ops.bisection_step_(torch.ones(1, 2), torch.tensor([prediction]), *state)
        assert (state[1].item() == 2.0) == flipped


@pytest.mark.parametrize(
    "row", [[1.0, math.inf], [math.inf, 1.0], [-math.inf] * 2, [math.nan, 1.0]]
)
def test_logits_that_say_nothing_make_it_nan(row: list[float]) -> None:
    state = [torch.tensor([v]) for v in (1.0, math.inf, 2.0)]
    ops.bisection_step_(torch.tensor([row]), torch.tensor([0]), *state)
    assert torch.cat(state).isnan().all()
