"""PGD against a loop written by hand: the same steps, and how many samples each of them flips."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from networks import make
from torch import Tensor, nn
from torch.nn import functional

from rrfast.attacks import PGD

EPS, STEPS = 8 / 255, 20
BATCH = 16


def by_hand(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    z = x
    for _ in range(STEPS):
        z = z.detach().requires_grad_()
        (grad,) = torch.autograd.grad(functional.cross_entropy(model(z), y), z)
        with torch.no_grad():
            z = z + EPS / 4 * grad.sign()
            z = torch.min(torch.max(z, x - EPS), x + EPS).clamp(0, 1)
    return z


@pytest.mark.parametrize("name", ["mlp1000", "conv1d", "separable", "resnet18", "vit"])
def bench_attack(name: str, device: torch.device, hold: Callable[..., None]) -> None:
    model, x = make(name, BATCH, device)
    with torch.no_grad():
        y = model(x).argmax(dim=1)
    last, error = (PGD(EPS, STEPS, keep=keep) for keep in ("last", "error"))
    flipped, expected = (
        int((model(z).argmax(dim=1) != y).sum())
        for z in (last(model, x, y).x, by_hand(model, x, y))
    )
    hold(
        {
            'PGD(keep="last")': lambda: last(model, x, y),
            "PGD": lambda: error(model, x, y),
            "by hand": lambda: by_hand(model, x, y),
        },
        model="PGD",
        case=f"{name}, {STEPS} steps, {flipped} of {BATCH} flipped, by hand {expected}",
        floor="by hand",
    )
