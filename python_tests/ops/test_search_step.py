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


class TestSearchStep(OpTester):
    op = "search_step_"

    def state(self, dtype: torch.dtype, device: torch.device, samples: int) -> Tensor:
        lower, width, share = torch.rand(3, samples)
        number = torch.arange(samples)
        upper = torch.where(number % 2 == 0, math.inf, lower + width)
        radius = torch.where(upper.isinf(), 1 + lower, lower + share * width)
        side = (number % 3 - 1).float()
        rows = [lower, upper, 3 * torch.rand(samples), -3 * torch.rand(samples), side, radius]
        state = torch.stack(rows)
        if samples >= 5:
            state[5, 4] = math.nan
            state[:2, 3] = state[5, 3] = 0.0  # a tie
            state[2:4, 1] = math.nan  # interpolation that leads nowhere
        return state.to(device, accumulate_dtype(dtype))

    def cases(self, dtype: torch.dtype, device: torch.device) -> Iterator[tuple[str, Case]]:
        for classes in CLASSES:
            for samples in (1, 5):
                h = logits(dtype, device, samples, classes)
                kept = h.argmax(dim=1)
                state = self.state(dtype, device, samples)
                rival = torch.full((samples,), -1, device=device)
                yield f"K={classes}, B={samples}, kept", (h, kept, state.clone(), 0.0, rival)
                flipped = (kept + 1) % classes
                yield f"K={classes}, B={samples}, flipped", (h, flipped, state, 0.01, rival)
            h = non_finite_logits(dtype, device, classes)
            rival = torch.full((12,), -1, device=device)
            state = self.state(dtype, device, 12)
            yield f"K={classes}, non-finite", (h, h.argmax(dim=1), state, 0.0, rival)
        h = logits(dtype, device, 10_000, 10)
        y = torch.randint(-1, 11, (10_000,)).to(device)
        state = self.state(dtype, device, 10_000)
        yield "many rows, some of no class", (h, y, state, 0.25, torch.full_like(y, -1))

    def small(self, dtype: torch.dtype, device: torch.device) -> Case:
        y = torch.full((7,), 3, device=device)
        state = self.state(dtype, device, 7)
        return logits(dtype, device, 7, 10), y, state, 0.0, torch.full_like(y, -1)

    def empty(self, dtype: torch.dtype, device: torch.device) -> Case:
        return (
            torch.empty(0, 10, dtype=dtype, device=device),
            torch.empty(0, dtype=torch.int64, device=device),
            torch.empty(6, 0, dtype=accumulate_dtype(dtype), device=device),
            0.0,
            torch.empty(0, dtype=torch.int64, device=device),
        )

    def must_be_contiguous(self, index: int) -> bool:
        return index in (2, 4)

    def results(self, output: Any, args: Case) -> tuple[Tensor, ...]:
        assert output is None
        return args[2], args[4]

    def invalid(self) -> Iterator[tuple[Case, type[Exception], str]]:
        h, y, s = torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64), torch.zeros(6, 2)
        yield (h.bool(), y, s, 0.0), TypeError, "logits must be a tensor of float64"
        yield (h, y.float(), s, 0.0), TypeError, "prediction must be an int64 tensor"
        yield (h, y, s.double(), 0.0), TypeError, "state must be a float32 tensor, got a float64"
        yield (h, y, s[:5], 0.0), ValueError, r"state must have shape \[6, B\], \[6, 2\], got"
        strided = torch.zeros(2, 6).T
        yield (h, y, strided, 0.0), ValueError, "state must be contiguous, because it is changed"
        yield (h, y, s, 0.5), ValueError, "nudge must be at least 0 and less than 0.5, got 0.5"
        yield (h, y, s, 0.0, s), TypeError, "rival must be an int64 tensor, got a float32"


def step(state: tuple[float, ...], margin: float, nudge: float = 0.0) -> list[float]:
    """The state after a probe where the prediction, class 0, has that margin."""
    tensor = torch.tensor(state, dtype=torch.float64)[:, None].contiguous()
    h = torch.tensor([[margin, 0.0]], dtype=torch.float64)
    ops.search_step_(h, torch.tensor([0]), tensor, nudge)
    return tensor.squeeze(1).tolist()


INF = math.inf


def test_goes_on_along_the_secant_until_something_flips() -> None:
    # Margin 4 at 0 and 1 at 3: the root of the secant is 4.
    assert step((0, INF, 4, 0, 0, 3), 1) == [3, INF, 1, 0, -1, pytest.approx(4.2)]
    assert step((0, INF, 4, 0, 0, 3), 3)[5] == 6  # at most twice as far
    assert step((0, INF, 4, 0, 0, 3), 5)[5] == 6  # and so where the margin grows
    assert step((0, INF, 4, 0, 0, 3), 1e-6)[5] == pytest.approx(3 * 1.05)


def test_interpolates_from_then_on_and_halves_an_end_that_stays() -> None:
    assert step((0, INF, 4, 0, 0, 3), -2) == [0, 3, 4, -2, 1, 2]
    assert step((0, 3, 4, -2, 1, 2), -4) == [0, 2, 2, -4, 1, pytest.approx(2 / 3)]
    assert step((0, 3, 4, -2, 1, 2), 1) == [2, 3, 1, -2, -1, pytest.approx(2 + 1 / 3)]
    assert step((0, 3, 4, -2, -1, 2), 1) == [2, 3, 1, -1, -1, 2.5]


def test_bisects_where_interpolation_leads_nowhere() -> None:
    assert step((0, 3, math.nan, -2, 0, 2), -1)[5] == 1
    assert step((1, 4, 1, -1, 0, 3), -math.inf)[5] == 2
    assert step((0, 3, math.inf, -2, 0, 2), -1)[5] == 1


def test_an_end_that_is_the_root_stays_the_root() -> None:
    assert step((1, 3, 0, -2, 0, 2), -1)[5] == 1
    assert step((1, 3, 1e-17, -2, 0, 2), -1)[5] == 1
    assert step((1, 3, 2, -1e-17, 0, 2), 1)[5] == 3


def test_the_nudge_keeps_away_from_both_ends() -> None:
    assert step((0, INF, 1, 0, 0, 2), -1e9, nudge=0.1)[5] == pytest.approx(0.2)
    assert step((0, 2, 9, -1e-9, 0, 1), 1e3, nudge=0.1)[5] == pytest.approx(1.8)


def test_the_rival_is_what_is_predicted_at_the_upper_end() -> None:
    state = torch.tensor([0.0, INF, 1.0, 0.0, 0.0, 2.0])[:, None].contiguous()
    rival, y = torch.tensor([7]), torch.tensor([0])
    seen = []
    # Kept twice, and the best of the others then; flipped, kept, flipped, and nothing is said.
    rows = ([9, 0, 1], [9, 2, 1], [0, 1, 2], [9, 2, 1], [0, 2, 1], [0, 2, math.nan])
    for row in rows:
        ops.search_step_(torch.tensor([row]).float(), y, state, rival=rival)
        seen.append(rival.item())
    assert seen == [2, 1, 2, 2, 1, 1]
    tie, rival = torch.zeros(6, 1), torch.tensor([7])
    ops.search_step_(torch.tensor([[0.0, 1.0]]), y, tie, rival=rival)
    assert rival.item() == 7


def test_a_tie_with_a_lower_index_is_a_flip_and_with_a_higher_one_is_not() -> None:
    for prediction, flipped in ((1, True), (0, False)):
        state = torch.tensor([[0.0], [INF], [1.0], [0.0], [0.0], [2.0]])
        ops.search_step_(torch.ones(1, 2), torch.tensor([prediction]), state)
        assert (state[1].item() == 2.0) == flipped


@pytest.mark.parametrize(
    "row", [[1.0, math.inf], [math.inf, 1.0], [-math.inf] * 2, [math.nan, 1.0]]
)
def test_logits_that_say_nothing_make_it_nan(row: list[float]) -> None:
    state = torch.tensor([[0.0], [math.inf], [1.0], [0.0], [0.0], [2.0]])
    ops.search_step_(torch.tensor([row]), torch.tensor([0]), state)
    assert state[[0, 1, 2, 3, 5]].isnan().all()
