from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from op_tester import CLASSES, Case, OpTester, logits, non_finite_logits

from rrfast import ops, reference

#: Relative error of one rounding.
UNIT = {torch.float64: 2**-53, torch.float32: 2**-24, torch.bfloat16: 2**-8, torch.float16: 2**-11}


class TestDirectionSeed(OpTester):
    op = "direction_seed"

    def cases(self, dtype: torch.dtype, device: torch.device) -> Iterator[tuple[str, Case]]:
        for classes in CLASSES:
            for temperature in (1.0, 0.2, 1000.0, 0.0):
                yield (
                    f"K={classes}, T={temperature}",
                    (logits(dtype, device, 5, classes), temperature),
                )
            yield f"K={classes}, one sample", (logits(dtype, device, 1, classes), 1.0)
            for temperature in (1.0, 0.0):
                args = (non_finite_logits(dtype, device, classes), temperature)
                yield f"K={classes}, non-finite, T={temperature}", args
        yield "many rows", (logits(dtype, device, 10_000, 10), 1.0)

    def small(self, dtype: torch.dtype, device: torch.device) -> Case:
        return logits(dtype, device, 5, 10), 1.5

    def empty(self, dtype: torch.dtype, device: torch.device) -> Case:
        return torch.empty(0, 10, dtype=dtype, device=device), 1.0

    def tolerance(self, args: Case) -> tuple[float, ...]:
        # seed = w / sum(w) <= 1 with w = e^a, a <= 0, in units u of the accumulation dtype.
        # Rounding a moves w by |a| e^a u < u/2, exponential and quotient cost an ulp each. A sum of
        # K terms is off by the additions its terms go through: K in a chain, as the CPU has them
        # below 128, else at most 64 and a 512th of K in every order used here (lanes, trees,
        # pairwise). Of a row too long for a GPU to keep, the sum's parts are rescaled as they are
        # added: a quotient, an exponential and a product more. Both sides err, and then round to
        # dtype.
        dtype, classes = args[0].dtype, args[0].shape[1]
        unit = UNIT[torch.float64 if dtype == torch.float64 else torch.float32]
        additions = classes if classes < 128 else 64 + classes // 512
        additions *= 5 if classes > 8192 else 1
        rounding = 2 * UNIT[dtype] if dtype in (torch.bfloat16, torch.float16) else 0.0
        return 0.0, 0.0, 2 * (4 + additions) * unit + rounding, 0.0, 0.0

    def invalid(self) -> Iterator[tuple[Case, type[Exception], str]]:
        h = torch.zeros(2, 3)
        yield ([1.0, 2.0],), TypeError, r"logits must be a tensor of float64.*got list \[1.0, 2.0\]"
        yield (h.int(),), TypeError, r"logits must be .* got an int32 tensor of shape \[2, 3\]"
        yield (h[0],), ValueError, r"logits must have shape \[B, K\], got .*\[3\]"
        yield (h[:, :1],), ValueError, r"logits must have at least two classes"
        yield (h, -1.0), ValueError, "temperature must be finite and at least 0, got -1.0"
        yield (h, math.nan), ValueError, "temperature must be finite"
        yield (h, "1"), TypeError, "temperature must be a number, got str '1'"


def test_seed_sums_to_zero_and_points_away_from_the_prediction(
    dtype: torch.dtype, device: torch.device
) -> None:
    prediction, _, seed, *_ = ops.direction_seed(logits(dtype, device, 64, 10)[5:], 1.0)
    rows = torch.arange(len(seed), device=device)
    assert (seed[rows, prediction] == -1).all()
    others = seed.double().scatter(1, prediction[:, None], 0)
    assert (others >= 0).all()
    assert (others.sum(dim=1) - 1).abs().max() <= 10 * UNIT[dtype]


def test_agrees_with_the_gradient_of_the_margin_loss() -> None:
    h = torch.randn(16, 10, dtype=torch.float64, requires_grad=True)
    temperature = 0.7
    prediction, _, seed, *_ = ops.direction_seed(h.detach(), temperature)
    others = h.scatter(1, prediction[:, None], -math.inf)
    loss = temperature * torch.logsumexp(others / temperature, dim=1) - h.gather(
        1, prediction[:, None]
    ).squeeze(1)
    (grad,) = torch.autograd.grad(loss.sum(), h)
    torch.testing.assert_close(seed, grad, rtol=0, atol=1e-15)


@pytest.mark.parametrize("margin", [1.0, 5.0, 12.0])
def test_is_the_cross_entropy_gradient_up_to_a_positive_factor(margin: float) -> None:
    h = torch.randn(8, 10, dtype=torch.float64)
    h[:, 3] = h.amax(dim=1) + margin
    prediction, _, seed, *_ = ops.direction_seed(h, 1.0)
    _, _, naive, *_ = reference.naive_direction_seed(h, 1.0)
    doubt = 1 - torch.softmax(h, dim=1).gather(1, prediction[:, None])
    torch.testing.assert_close(naive, seed * doubt, rtol=1e-9, atol=1e-15)


def test_the_runner_up_is_the_lowest_of_the_best_others() -> None:
    inf = math.inf
    rows = [[1.0, 3.0, 1.0], [2.0, 2.0, 2.0], [0.0, 1.0, 1.0], [-inf, -inf, 4.0], [4.0, -inf, -inf]]
    runner_up = ops.direction_seed(torch.tensor([*rows, [0.0, math.nan, 7.0]]))[3]
    assert runner_up.tolist() == [0, 1, 2, 0, 1, 2]


def test_the_margin_of_overflow_and_of_masked_classes() -> None:
    most = torch.finfo(torch.float32).max
    rows = [[1.0, math.inf], [math.inf] * 2, [-math.inf] * 2, [1.0, -math.inf], [most, -most]]
    margin = ops.direction_seed(torch.tensor(rows))[1]
    torch.testing.assert_close(
        margin, torch.tensor([math.nan, math.nan, math.nan, math.inf, most]), equal_nan=True
    )


def test_a_margin_is_clear_of_the_rounding_of_the_largest_logit(dtype: torch.dtype) -> None:
    """By 32 eps, of float32 for float64; NaN and infinity stay."""
    noise = 32 * max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)
    inf, nan = math.inf, math.nan
    rows = [[4.0, 0.0], [-4.0, -4.0], [4.0, 4.0], [0.0, 0.0], [4.0, -inf], [nan, 1.0], [inf, 1.0]]
    clear = ops.direction_seed(torch.tensor(rows, dtype=dtype))[4]
    expected = [4.0, 4 * noise, 4 * noise, 0.0, inf, nan, nan]
    torch.testing.assert_close(
        clear, torch.tensor(expected, dtype=clear.dtype), rtol=0, atol=0, equal_nan=True
    )
