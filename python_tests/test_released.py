"""`compat="released"` gives the published code's numbers, written out here (errata 5 to 8)."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import rrfast


@pytest.fixture
def model() -> nn.Module:
    network = (
        nn.Sequential(nn.Conv2d(1, 8, 3), nn.SiLU(), nn.Flatten(), nn.Linear(288, 10))
        .double()
        .eval()
    )
    return network.requires_grad_(False)


@pytest.fixture
def x() -> Tensor:
    return torch.rand(16, 1, 8, 8, dtype=torch.float64)


def cross_entropy_direction(
    model: nn.Module, x: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    h = model(x)
    nn.functional.cross_entropy(h / temperature, h.argmax(dim=1)).backward()
    assert x.grad is not None
    return h.detach(), x.grad.sign()


@pytest.mark.parametrize("temperature", [0.2, 1.0, 1000.0])
def test_fast(model: nn.Module, x: Tensor, temperature: float) -> None:
    h, d = cross_entropy_direction(model, x, temperature)
    z, moved = h / temperature, model(x + 1e-3 * d)
    expected = []
    for before, after, y in zip(z, moved, h.argmax(dim=1).tolist(), strict=True):
        ratios = []
        for k in range(10):
            slope = float((after[k] - after[y]) - (before[k] - before[y])) / 1e-3
            ratio = float(before[y] - before[k]) / slope if slope else math.nan
            ratios.append(1.0 if k == y or ratio <= 0 else ratio)
        expected.append(min(ratios))
    r = rrfast.radius(model, x, temperature=temperature, compat="released")
    torch.testing.assert_close(r, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=0)
    assert (r <= 1).all()


@pytest.mark.parametrize("temperature", [0.2, 1.0, 1000.0])
def test_bs(model: nn.Module, x: Tensor, temperature: float) -> None:
    h, d = cross_entropy_direction(model, x, temperature)
    y = h.argmax(dim=1)
    lower, upper = (
        torch.full((16,), 1e-6, dtype=torch.float64),
        torch.full((16,), math.inf, dtype=torch.float64),
    )
    for _ in range(24):
        r = torch.minimum((lower + upper) / 2, 2 * lower)
        flipped = model((x + r.reshape(-1, 1, 1, 1) * d).clamp(0, 1)).argmax(dim=1) != y
        lower, upper = torch.where(flipped, lower, r), torch.where(flipped, r, upper)
    expected = torch.where(upper.isinf(), lower, (lower + upper) / 2)
    result = rrfast.radius(
        model,
        x,
        method="bs",
        bounds=(0, 1),
        temperature=temperature,
        compat="released",
        full_output=True,
    )
    assert torch.equal(result.radius, expected)
    assert torch.equal(result.found, upper.isfinite())


def test_fast_calls_a_tie_certain_and_a_flat_tie_nan() -> None:
    """The published formula that errata 3 corrects."""
    tied = nn.Linear(2, 2, bias=False).double()
    tied.weight.data = torch.eye(2, dtype=torch.float64)
    x = torch.full((1, 2), 0.5, dtype=torch.float64)
    assert rrfast.radius(tied, x, compat="released").item() == 1.0
    assert rrfast.radius(tied, x).item() == 0.0
    tied.weight.data = torch.ones(2, 2, dtype=torch.float64)
    assert math.isnan(rrfast.radius(tied, x, compat="released").item())
    assert rrfast.radius(tied, x).item() == 0.0


def test_fast_released_does_not_clamp(model: nn.Module, x: Tensor) -> None:
    with pytest.raises(
        ValueError, match="bounds must be None with method='fast' and compat='released'"
    ):
        rrfast.radius(model, x, compat="released", bounds=(0, 1))
