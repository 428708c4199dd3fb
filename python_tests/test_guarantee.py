"""The bound, against scipy's and the binomial itself; and that the guarantee is kept."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal, localcontext

import pytest
import torch

from rrfast.selective import Guarantee, NoThresholdError, guaranteed_risk, risk_bound
from rrfast.selective.guarantee import looks


def test_a_bound_is_where_the_binomial_has_the_probability() -> None:
    bound = risk_bound(2, 30, 0.9)
    tail = sum(math.comb(30, k) * bound**k * (1 - bound) ** (30 - k) for k in range(3))
    assert tail == pytest.approx(0.1, rel=1e-9)


@pytest.mark.parametrize("accepted", [59, 10**4, 10**8])
def test_no_error_has_a_closed_form(accepted: int) -> None:
    expected = -math.expm1(math.log(1 - 0.95) / accepted)
    assert risk_bound(0, accepted) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("errors", "accepted"), [(1, 2), (99, 100), (1, 10**6), (10, 10**6), (3, 10**8), (300, 10**4)]
)
def test_a_bound_is_that_of_the_binomial(errors: int, accepted: int) -> None:
    """In 60 digits, where a relative d of the bound is some (errors + 1) d or more of the tail."""
    bound, tail = risk_bound(errors, accepted), Decimal(0)
    with localcontext() as digits:
        digits.prec = 60
        r = Decimal(bound)
        for k in range(errors + 1):
            tail += math.comb(accepted, k) * r**k * (1 - r) ** (accepted - k)
        assert abs(tail / Decimal(1 - 0.95) - 1) < Decimal("1e-8")


def test_a_bound_of_many_samples() -> None:
    """Terms far from the largest do not spoil the sum: 1.645 deviations, as for a normal."""
    bound = risk_bound(50_000, 200_000, 0.95)
    assert bound == pytest.approx(0.25 + 1.645 * math.sqrt(0.25 * 0.75 / 200_000), abs=1e-5)


def test_nothing_and_only_errors() -> None:
    assert risk_bound(0, 0) == 1
    assert risk_bound(5, 5) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((3, 2), "errors must be at most accepted, 2, got 3"),
        ((-1, 2), "errors must be an integer of at least 0, got -1"),
        ((1, 2, 1.0), "confidence must be greater than 0 and less than 1, got 1.0"),
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


#: Three scores, one of them infinite, with P(score, right) and P(score, wrong); the risk above
#: 0 is 0.4, above -inf 1/3, of all 0.5: neither rising nor falling.
ATOMS = {math.inf: (0.18, 0.12), 0.0: (0.22, 0.08), -math.inf: (0.1, 0.3)}
RISKS = {0.0: 0.4, -math.inf: 1 / 3, None: 0.5}


def samples_of_atoms(n: int) -> Iterator[tuple[float, torch.Tensor, torch.Tensor]]:
    """Every multiset of n samples of ATOMS: its probability, scores and answers."""
    cells = [(score, right) for score in ATOMS for right in (True, False)]
    chances = [p for pair in ATOMS.values() for p in pair]

    def counts(left: int, places: int) -> Iterator[tuple[int, ...]]:
        if places == 1:
            yield (left,)
            return
        for first in range(left + 1):
            for rest in counts(left - first, places - 1):
                yield first, *rest

    for count in counts(n, len(cells)):
        chance = float(math.factorial(n))
        for c, p in zip(count, chances, strict=True):
            chance *= p**c / math.factorial(c)
        each = [cell for c, cell in zip(count, cells, strict=True) for _ in range(c)]
        yield chance, torch.tensor([e[0] for e in each]), torch.tensor([e[1] for e in each])


def test_the_errors_above_an_order_statistic_are_binomial() -> None:
    """Step 1 of the proof, exactly, ties and infinite scores among them: 1287 multisets of 8."""
    for rank in range(1, 8):
        seen: dict[tuple[float, int], list[float]] = defaultdict(lambda: [0.0] * 9)
        for chance, score, correct in samples_of_atoms(8):
            value = score.sort(descending=True).values[rank]
            above = score > value
            seen[float(value), int(above.sum())][int((above & ~correct).sum())] += chance
        assert len(seen) > 2
        for (value, m), chances in seen.items():
            if m == 0:
                continue
            r = RISKS[value]
            expected = [math.comb(m, k) * r**k * (1 - r) ** (m - k) for k in range(m + 1)]
            total = sum(chances)
            assert [c / total for c in chances[: m + 1]] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("confidence", [0.1, 0.5])
def test_the_guarantee_exactly(confidence: float) -> None:
    """The probability to be wrong, summed over all multisets of 8 and not simulated."""
    found = wrong = 0.0
    for chance, score, correct in samples_of_atoms(8):
        try:
            chosen = guaranteed_risk(score, correct, 0.39, confidence)
        except NoThresholdError:
            continue
        found += chance
        t = chosen.threshold
        value = 0.0 if t > 0 else -math.inf if t > -math.inf else None
        wrong += chance * (RISKS[value] > chosen.bound)
    assert found > 0.02
    assert 0 < wrong <= 1 - confidence


def test_all_bounds_hold_at_once() -> None:
    """So that the best of several targets may be kept: here the lowest that has a threshold."""
    generator = torch.Generator().manual_seed(4)
    violated = 0
    for _ in range(200):
        score, correct = draw(300, generator)
        chosen: Guarantee | None = None
        for target in (0.3, 0.2, 0.1):
            try:
                chosen = guaranteed_risk(score, correct, target, confidence=0.9)
            except NoThresholdError:
                break
        assert chosen is not None
        violated += true_risk(chosen.threshold) > chosen.bound
    assert violated <= 20


def test_looks_are_a_function_of_the_number_of_samples() -> None:
    for n in (1, 2, 7, 10, 99, 1000, 1499, 3000, 123_456):
        ranks = looks(n)
        assert ranks == sorted(set(ranks))
        assert len(ranks) <= 40
        assert ranks[0] >= 1
        assert ranks[-1] == n
        steps = [b - a for a, b in zip([0, *ranks], ranks, strict=False)]
        assert max(steps) - min(steps) <= 1


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
    score = torch.tensor([float("inf")] * 200 + [-float("inf")] * 40)
    chosen = guaranteed_risk(score, score > 0, 0.05)
    assert -3.5e38 < chosen.threshold < float("inf")
    assert chosen.coverage == pytest.approx(200 / 240)
    everything = guaranteed_risk(score, torch.ones(240, dtype=torch.bool), 0.05)
    assert everything.threshold == -math.inf
    assert everything.coverage == 1
    with pytest.raises(ValueError, match="score must not contain NaN"):
        guaranteed_risk([float("nan"), 1.0], [True, True], 0.5)


def test_a_confidence_next_to_one() -> None:
    """A tenth of 1 - confidence is no confidence in float64, which ends at 1 - 1.1e-16."""
    confidence = math.nextafter(1, 0)
    chosen = guaranteed_risk(
        torch.arange(500.0), torch.ones(500, dtype=torch.bool), 0.1, confidence
    )
    assert chosen.coverage == 1
    assert chosen.bound == pytest.approx(-math.expm1(math.log((1 - confidence) / 10) / 500))


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.int16, torch.int64]
)
def test_dtypes(dtype: torch.dtype) -> None:
    # Integers up to 256 are numbers of every dtype.
    score = torch.arange(250).to(dtype)
    chosen = guaranteed_risk(score, score > 99, 0.05)
    assert chosen.coverage == 0.6
    for compared in (score, score.double()):
        assert (compared >= chosen.threshold).tolist() == (score > 99).tolist()
