"""The direction keeps its signs where the cross-entropy of the paper loses them (errata 4)."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from rrfast import reference
from rrfast.engine import Engine, SeedOf
from rrfast.ops import direction_seed

CLASSES = 10
PREDICTED = 3


class Shifted(nn.Module):
    """Class `PREDICTED` leads by about `margin`; the shift is constant and changes no gradient."""

    def __init__(self, network: nn.Module, margin: float) -> None:
        super().__init__()
        self.network = network
        self.register_buffer(
            "shift", margin * nn.functional.one_hot(torch.tensor(PREDICTED), CLASSES).double()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x) + self.shift.to(x.dtype)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(72, CLASSES),
    )


def wrong_signs(model: nn.Module, x: Tensor, seed_of: SeedOf) -> float:
    """Share of the elements with a float64 gradient whose sign is another in model precision."""
    with Engine(model) as engine:
        grad = engine.forward_backward(x, 1.0, seed_of).grad
    with Engine(model.double()) as engine:
        truth = engine.forward_backward(x.double(), 1.0, reference.direction_seed).grad
    assert (truth != 0).any()
    return (grad.sign() != truth.sign())[truth != 0].double().mean().item()


@pytest.mark.parametrize("margin", [5.0, 20.0, 100.0, 1000.0])
def test_signs_of_a_float32_network(margin: float, device: torch.device) -> None:
    model, x = Shifted(network(), margin).to(device), torch.rand(16, 3, 10, 10, device=device)
    assert wrong_signs(model.float(), x, direction_seed) == 0
    naive = wrong_signs(model.float(), x, reference.naive_direction_seed)
    assert naive == 0 if margin == 5.0 else naive > 0.1


class Exact(nn.Module):
    """A linear model whose arithmetic 16-bit formats do exactly, so that only the cotangent can be
    at fault.

    Four classes compete with weights close to 8, 4, 2 and 1 fifteenths and with rows of +-1, the
    prediction has rows of 0 and +-2: no element of the gradient is smaller than 1/15 minus
    rounding, but which sign it has depends on every one of the weights.
    """

    def __init__(self, margin: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randint(0, 2, (CLASSES, 256)).double() * 2 - 1)
        self.weight.data[PREDICTED] = torch.randint(-1, 2, (256,)).double() * 2
        bias = torch.full((CLASSES,), -60.0)
        bias[[0, 1, 2, 4]] = torch.tensor([8.0, 4.0, 2.0, 1.0]).log()
        bias[PREDICTED] = math.log(8.0) + margin
        self.bias = nn.Parameter(bias.double())

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight, self.bias)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("margin", [5.0, 20.0, 100.0])
def test_signs_of_a_16_bit_model(margin: float, half: torch.dtype, device: torch.device) -> None:
    x = torch.zeros(4, 256, dtype=half, device=device)
    model = Exact(margin).to(device)
    assert wrong_signs(model.to(half), x, direction_seed) == 0
    if margin > 5.0:
        assert wrong_signs(model.to(half), x, reference.naive_direction_seed) > 0.1


def test_the_naive_gradient_vanishes_where_the_stable_one_does_not() -> None:
    model, x = Shifted(network(), 200.0), torch.rand(4, 3, 10, 10)
    with Engine(model.float()) as engine:
        assert (engine.forward_backward(x, 1.0, reference.naive_direction_seed).grad == 0).all()
        assert (engine.forward_backward(x, 1.0).grad != 0).any()
