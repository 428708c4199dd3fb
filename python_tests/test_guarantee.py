"""The bound, against scipy's and the binomial itself; and that the guarantee is kept."""

from __future__ import annotations

import math

import pytest
import torch

from rrfast.selective import NoThresholdError, guaranteed_risk, risk_bound


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999999])
@pytest.mark.parametrize(
    ("errors", "accepted"), [(0, 1), (0, 59), (1, 2), (3, 100), (99, 100), (50, 10_000)]
)
def test_against_scipy(errors: int, accepted: int, confidence: float) -> None:
    beta = pytest.importorskip("scipy.stats").beta
    expected = beta.ppf(confidence, errors + 1, accepted - errors)
    assert risk_bound(errors, accepted, confidence) == pytest.approx(expected, rel=1e-10)


def test_a_bound_is_where_the_binomial_has_the_probability() -> None:
    bound = risk_bound(2, 30, 0.9)
    tail = sum(math.comb(30, k) * bound**k * (1 - bound) ** (30 - k) for k in range(3))
    assert tail == pytest.approx(0.1, rel=1e-9)


def test_nothing_and_only_errors() -> None:
    assert risk_bound(0, 0) == 1
    assert risk_bound(5, 5) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((3, 2), "errors must be at most accepted, 2, got 3"),
        ((-1, 2), "errors must be an integer of at least 0, got -1"),
        ((1, 2, 1.0), "confidence must be between 0 and 1, got 1.0"),
    ],
)
def test_wrong_arguments(arguments: tuple[float, ...], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        risk_bound(*arguments)  # type: ignore[arg-type]


def draw(n: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores u uniform in [0, 1), and P(wrong | u) = (1 - u) / 2."""
    score = torch.rand(n, generator=generator, dtype=torch.float64)
    return score, torch.rand(n, generator=generator, dtype=torch.float64) < (1 + score) / 2


def true_risk(threshold: float) -> float:
    """The mean of (1 - u) / 2 above it."""
    return (1 - max(threshold, 0.0)) / 4


@pytest.mark.parametrize("target", [0.15, 0.2])
def test_the_guarantee_is_kept(target: float) -> None:
    """Over 1000 calibration sets the true risk passes the target in at most one of ten.

    At 0.2 four fifths of the coverage keep it, at 0.15 three.
    """
    generator = torch.Generator().manual_seed(0)
    violated = found = 0
    for _ in range(1000):
        score, correct = draw(500, generator)
        try:
            chosen = guaranteed_risk(score, correct, target, confidence=0.9)
        except NoThresholdError:
            continue
        found += 1
        assert chosen.risk <= chosen.bound <= target
        violated += true_risk(chosen.threshold) > target
    assert found > 50
    assert violated <= 100


def test_the_risk_need_not_fall_with_the_coverage() -> None:
    """The most confident are wrong as often as not: no reason to promise anything false."""
    generator = torch.Generator().manual_seed(0)
    violated = found = 0
    for _ in range(1000):
        score = torch.rand(400, generator=generator)
        bad = (score > 0.9) | (score < 0.3)
        correct = torch.rand(400, generator=generator) > torch.where(bad, 0.5, 0.0)
        try:
            chosen = guaranteed_risk(score, correct, 0.1, confidence=0.9)
        except NoThresholdError:
            continue
        found += 1
        t = max(chosen.threshold, 0.0)
        wrong = 0.05 * min(1.0, (1 - t) / 0.1) + 0.5 * max(0.0, 0.3 - t)
        violated += wrong / (1 - t) > 0.1
    assert found > 100
    assert violated <= 100


def test_it_finds_what_is_there() -> None:
    """With many samples the coverage comes near the largest that keeps the target, 0.4."""
    score, correct = draw(200_000, torch.Generator().manual_seed(1))
    chosen = guaranteed_risk(score, correct, 0.1)
    assert 0.6 <= chosen.threshold <= 0.63
    kept = score >= chosen.threshold
    assert chosen.coverage == pytest.approx(kept.double().mean().item())
    assert chosen.risk == pytest.approx((~correct[kept]).double().mean().item())


def test_what_scores_as_a_rejected_sample_is_rejected() -> None:
    score = torch.tensor([2.0] * 300 + [1.0] * 100)  # float32
    chosen = guaranteed_risk(score, score > 1, 0.05)
    assert chosen.threshold > 1
    assert (score >= chosen.threshold).sum() == 300


def test_a_useless_score_gets_no_threshold() -> None:
    correct = torch.rand(500, generator=torch.Generator().manual_seed(2)) < 0.7
    for score in (torch.zeros(500), torch.rand(500, generator=torch.Generator().manual_seed(3))):
        with pytest.raises(
            NoThresholdError, match=r"no threshold keeps the risk .* 500 samples, \d+ of"
        ):
            guaranteed_risk(score, correct, 0.01)


def test_infinite_scores_are_ordinary() -> None:
    score = torch.tensor([float("inf")] * 200 + [-float("inf")] * 10)
    chosen = guaranteed_risk(score, score > 0, 0.05)
    assert -3.5e38 < chosen.threshold < float("inf")
    assert chosen.coverage == pytest.approx(200 / 210)
    with pytest.raises(ValueError, match="score must not contain NaN"):
        guaranteed_risk([float("nan"), 1.0], [True, True], 0.5)
