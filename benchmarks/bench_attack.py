"""PGD against the loop that one writes by hand: the same steps, the same success."""

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
    wrong = (model(by_hand(model, x, y)).argmax(dim=1) != y).sum()
    assert (model(last(model, x, y).x).argmax(dim=1) != y).sum() == wrong
    hold(
        {
            'PGD(keep="last")': lambda: last(model, x, y),
            "PGD": lambda: error(model, x, y),
            "by hand": lambda: by_hand(model, x, y),
        },
        model="PGD",
        case=f"{name}, batch {BATCH}, {STEPS} steps",
        floor="by hand",
    )
