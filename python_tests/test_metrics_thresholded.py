"""Errors and false acceptances at a threshold: literal loops, with ties, infinities and NaN."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from rrfast.metrics import acceptance_threshold, false_acceptance, thresholded_error

SHARES = (0.01, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 1.0)


def samples(seed: int, n: int) -> tuple[Tensor, Tensor]:
    """Scores with ties, infinities and NaN, and answers."""
    generator = torch.Generator().manual_seed(seed)
    score = torch.randint(-6, 7, (n,), generator=generator).double() / 4
    score[score == 1.5], score[score == -1.5] = math.inf, -math.inf
    if seed % 2:
        score[torch.rand(n, generator=generator) < 0.2] = math.nan
    return score, torch.rand(n, generator=generator) < 0.7


def same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


@pytest.mark.parametrize("n", [0, 1, 2, 7, 100, 1000])
@pytest.mark.parametrize("tpr", SHARES)
def test_the_threshold_is_the_highest_that_the_share_reaches(n: int, tpr: float) -> None:
    for seed in range(6):
        score, correct = samples(seed, n)
        right = [s for s, c in zip(score.tolist(), correct.tolist(), strict=True) if c]
        best = math.nan
        for t in sorted(set(right)):
            reached = sum(s >= t for s in right)
            # The decimal that was written: 0.99 of 100 is 99.
            if right and Fraction(reached, len(right)) >= Fraction(str(tpr)) and not t < best:
                best = t
        assert same(acceptance_threshold(score, correct, tpr), best)


def test_shares_are_not_rounded() -> None:
    """The release takes 99.5 % for 99 %."""
    score, correct = torch.arange(1000.0), torch.ones(1000, dtype=torch.bool)
    found = {t: acceptance_threshold(score, correct, t) for t in (0.98, 0.99, 0.995, 0.999, 1.0)}
    assert found == {0.98: 20.0, 0.99: 10.0, 0.995: 5.0, 0.999: 1.0, 1.0: 0.0}


def literal_error(
    versions: list[tuple[Tensor, Tensor]], threshold: float, n: int
) -> tuple[int, int]:
    wrong = accepted = 0
    for i in range(n):
        any_accepted = any_wrong = False
        for score, correct in versions:
            if float(score[i]) >= threshold:
                any_accepted = True
                any_wrong = any_wrong or not bool(correct[i])
        accepted += any_accepted
        wrong += any_wrong
    return wrong, accepted


@pytest.mark.parametrize("n", [0, 1, 2, 7, 100])
@pytest.mark.parametrize("attacks", [0, 1, 3])
@pytest.mark.parametrize("threshold", [-math.inf, -0.75, 0.0, 1.25, 2.0, math.inf, math.nan])
def test_the_error_is_the_literal_loop(n: int, attacks: int, threshold: float) -> None:
    for seed in range(4):
        versions = [samples(10 * seed + a, n) for a in range(attacks + 1)]
        found = thresholded_error(*versions[0], threshold, attacked=versions[1:])
        wrong, accepted = literal_error(versions, threshold, n)
        assert same(found, wrong / accepted if accepted else math.nan)


@pytest.mark.parametrize("n", [0, 1, 100])
@pytest.mark.parametrize("threshold", [-math.inf, 0.25, math.inf, math.nan])
def test_false_acceptance_is_the_literal_loop(n: int, threshold: float) -> None:
    for seed in range(4):
        score, _ = samples(seed, n)
        expected = sum(s >= threshold for s in score.tolist()) / n if n else math.nan
        assert same(false_acceptance(score, threshold), expected)
        assert same(false_acceptance(score.tolist(), threshold), expected)


def test_a_float32_score_is_compared_as_it_is() -> None:
    score, correct = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([True, True, True])
    tau = acceptance_threshold(score, correct, 1.0)
    assert tau == float(score[0])
    assert false_acceptance(score, tau) == 1.0
    assert false_acceptance(score, math.nextafter(tau, 1)) == 2 / 3


def test_errors_say_what_is_expected() -> None:
    score, correct = torch.rand(3), torch.ones(3, dtype=torch.bool)
    with pytest.raises(
        ValueError, match="keep_correct must be greater than 0 and at most 1, got 0"
    ):
        acceptance_threshold(score, correct, 0)
    with pytest.raises(TypeError, match="correct must be boolean"):
        acceptance_threshold(score, correct.float())
    with pytest.raises(ValueError, match="the same 3 samples, got 2 from attack 0"):
        thresholded_error(score, correct, attacked=[(score[:2], correct[:2])])
    with pytest.raises(TypeError, match="threshold must be a number, got str 'high'"):
        thresholded_error(score, correct, "high")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="threshold must be a number, got NoneType None"):
        false_acceptance(score, None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="score must be"):
        false_acceptance("high", 0.0)
