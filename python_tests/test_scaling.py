"""Scaling until the model is sure: known roots, and the theorems of ACET on small networks."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from waiting import Calls

from rrfast.engine import logits
from rrfast.evaluate.ood.scaling import confidence_scaling

N, K = 8, 5


@pytest.fixture
def relu() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(N, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, K)
    ).double()


@pytest.fixture
def noise() -> Tensor:
    return torch.rand(100, N, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def confidence(model: nn.Module, x: Tensor) -> Tensor:
    return logits(model, x).double().softmax(dim=1).amax(dim=1)


def test_two_classes_on_a_line() -> None:
    """Without a bias the odds are linear in alpha."""
    model = nn.Linear(N, 2, bias=False).double()
    x = torch.rand(50, N, dtype=torch.float64)
    odds = (logits(model, x)[:, 1] - logits(model, x)[:, 0]).abs()
    expected = (math.log(999) / odds).clamp(min=1)
    found = confidence_scaling(model, x)
    torch.testing.assert_close(found.alpha, expected, rtol=1e-9, atol=0)
    assert bool(((found.lower <= found.alpha) & (found.alpha <= found.upper)).all())


def test_the_root_is_a_crossing(relu: nn.Module, noise: Tensor) -> None:
    found = confidence_scaling(relu, noise, 0.99)
    assert bool(found.found.all())
    at = confidence(relu, found.alpha[:, None] * noise)
    torch.testing.assert_close(at, torch.full_like(at, 0.99), rtol=1e-6, atol=0)
    below = confidence(relu, found.lower[:, None] * noise)
    above = confidence(relu, found.upper[:, None] * noise)
    # The odds of a probe and of the same point made again here differ by rounding.
    assert bool((below <= 0.99 + 1e-9).all())
    assert bool((above >= 0.99 - 1e-9).all())


def test_confident_as_it_is(relu: nn.Module, noise: Tensor) -> None:
    sure = noise * 1e4
    assert bool((confidence(relu, sure) > 0.999).all())
    found = confidence_scaling(relu, sure)
    assert torch.equal(found.alpha, torch.ones_like(found.alpha))


def test_in_the_box_there_may_be_none(relu: nn.Module, noise: Tensor) -> None:
    found = confidence_scaling(relu, noise, 0.95, bounds=(0, 1))
    assert not bool(found.found.any())  # this network is flat
    assert torch.equal(found.alpha, torch.full_like(found.alpha, math.inf))
    assert bool((found.confidence < 0.95).all())
    # Far enough up every pixel is 1.
    ones = confidence(relu, torch.ones(1, N, dtype=torch.float64))
    assert bool((found.confidence >= ones - 1e-12).all())


def test_in_the_box_hardly_any_is_missed() -> None:
    """Against thousands of factors: a search that doubles walks over 1 to 5 of 100."""
    missed = []
    for seed in range(4):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)).double()
        with torch.no_grad():
            model[2].weight.mul_(20)
        x = torch.rand(300, 64, dtype=torch.float64)
        last = (1 / x).amax(dim=1).log()
        factors = (torch.linspace(0, 1, 2000, dtype=torch.float64)[:, None] * last).exp()
        dense = torch.stack([confidence(model, (a[:, None] * x).clamp(0, 1)) for a in factors])
        # Half of them come that far somewhere on the way.
        wanted = dense.amax(dim=0).median().item()
        found = confidence_scaling(model, x, wanted, bounds=(0, 1), budget=48)
        reached = (dense >= wanted).any(dim=0)
        missed.append((reached & ~found.found).double().mean().item())
        # What is found is there.
        at = confidence(model, (found.upper[:, None] * x).clamp(0, 1))[found.found]
        assert bool((at >= wanted - 1e-9).all())
        at = confidence(model, (found.lower[:, None] * x).clamp(0, 1))
        assert bool(((at < wanted + 1e-9) | (found.upper == 1)).all())
        assert bool(
            ((found.lower <= found.alpha) & (found.alpha <= found.upper))[found.found].all()
        )
    assert max(missed) <= 0.01, missed


def test_in_the_box_the_first_crossing_is_bracketed() -> None:
    """Two pixels and odds that are known: up to where the first is full, then down again."""
    model = nn.Linear(2, 2, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[4.0, -3.0], [0.0, 0.0]]))
    x = torch.tensor([[0.5, 0.05], [0.5, 0.05], [0.0, 0.05], [0.0, 0.0]], dtype=torch.float64)
    # Odds (4 / 2 - 3 / 20) alpha until alpha is 2, that is 3.7, then down to 4 - 3; or 3 at last.
    wanted = 1 / (1 + math.exp(-2.9))
    found = confidence_scaling(model, x, wanted, bounds=(0, 1))
    assert found.found.tolist() == [True, True, True, False]
    roots = torch.tensor([2.9 / 1.85, 2.9 / 1.85, 2.9 / 3 * 20], dtype=torch.float64)
    torch.testing.assert_close(found.alpha[:3], roots, rtol=1e-3, atol=0)
    assert bool(((found.lower < found.alpha) & (found.alpha < found.upper))[:3].all())
    assert found.confidence[3].item() == pytest.approx(0.5)
    # Below zero, where the box ends elsewhere.
    found = confidence_scaling(model, -x[:1] / 10, wanted, bounds=(-1, 0.2))
    assert found.alpha.item() == pytest.approx(2.9 / 0.185, rel=1e-3)


def test_far_roots_are_found() -> None:
    """ACET's model of MNIST has a median of 3e15."""
    model = nn.Linear(N, 2, bias=False).double()
    with torch.no_grad():
        model.weight.mul_(1e-20)
    x = torch.rand(20, N, dtype=torch.float64)
    odds = (logits(model, x)[:, 1] - logits(model, x)[:, 0]).abs()
    found = confidence_scaling(model, x)
    torch.testing.assert_close(found.alpha, math.log(999) / odds, rtol=1e-6, atol=0)


def test_nan_empty_and_waiting(relu: nn.Module, noise: Tensor) -> None:
    noise[0, 0] = math.nan
    for box in (None, (0.0, 1e6)):
        found = confidence_scaling(relu, noise[:2], bounds=box)
        assert bool(found.alpha[0].isnan())
        assert not bool(found.found[0])
        assert bool(found.alpha[1].isfinite())
        assert confidence_scaling(relu, noise[:0], bounds=box).alpha.shape == (0,)
        with Calls() as calls:
            confidence_scaling(relu, noise, bounds=box)
        assert calls.waiting == set()


def test_errors(relu: nn.Module, noise: Tensor) -> None:
    with pytest.raises(ValueError, match=r"confidence must be between 0\.5 and 1, got 0\.3"):
        confidence_scaling(relu, noise, 0.3)
    with pytest.raises(ValueError, match="budget must be an integer of at least 2"):
        confidence_scaling(relu, noise, budget=1)


# ------------------------------------------------------------------------------------ the theorems


def test_theorem_31_confidence_goes_to_1(relu: nn.Module, noise: Tensor) -> None:
    """For almost every x and every eps > 0 some alpha x has a confidence of 1 - eps."""
    x = torch.randn(200, N, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for eps in (1e-1, 1e-3, 1e-6):
        found = confidence_scaling(relu, x, 1 - eps, budget=64)
        assert bool(found.found.all())
        assert bool((confidence(relu, found.upper[:, None] * x) >= 1 - eps - 1e-12).all())
    # At any temperature: T is a scale of the logits.
    cooled = nn.Sequential(relu, nn.Linear(K, K, bias=False)).double()
    with torch.no_grad():
        cooled[1].weight.copy_(torch.eye(K) / 1000)
    assert bool(confidence_scaling(cooled, noise, budget=64).found.all())


def test_theorem_31_needs_rows_that_differ() -> None:
    """With the two largest rows the same, the limit is 1/2."""
    model = nn.Linear(N, 3, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.stack([torch.ones(N), torch.ones(N), torch.zeros(N)]))
    x = torch.rand(10, N, dtype=torch.float64)
    torch.testing.assert_close(confidence(model, 1e8 * x), torch.full((10,), 0.5).double())
    assert not bool(confidence_scaling(model, x, 0.6).found.any())


@pytest.mark.parametrize("eps", [0.2, 0.02, 1e-4])
def test_theorem_e1_rbf_networks_know_when_they_do_not_know(eps: float) -> None:
    generator = torch.Generator().manual_seed(3)
    centres = torch.randn(30, 3, dtype=torch.float64, generator=generator)
    weight = 10 * torch.randn(K, 30, dtype=torch.float64, generator=generator)
    gamma = 0.7
    spread = (weight[:, None] - weight[None]).abs().sum(dim=2).max()
    squared = torch.log(spread / math.log1p(K * eps)) / gamma

    def odds(x: Tensor) -> Tensor:
        return (weight @ torch.exp(-gamma * torch.cdist(x, centres).square()).T).T.softmax(dim=1)

    direction = torch.randn(500, 3, dtype=torch.float64, generator=generator)
    direction /= direction.norm(dim=1, keepdim=True)
    # Along each direction to where the nearest centre is exactly as far as the theorem asks.
    low, high = torch.zeros(500, 1).double(), torch.full((500, 1), 100.0).double()
    for _ in range(80):
        middle = (low + high) / 2
        far = torch.cdist(middle * direction, centres).amin(dim=1, keepdim=True).square() >= squared
        low, high = torch.where(far, low, middle), torch.where(far, middle, high)
    p = odds(high * direction)
    assert bool(((p >= 1 / K - eps) & (p <= 1 / K + eps)).all())
    # And it is no empty claim: near the centres it does not hold.
    p = odds(centres)
    assert bool(((p < 1 / K - eps) | (p > 1 / K + eps)).any())
