"""A training step with RAT against a standard one, on the demo's CNN: at most 2.1 times it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from rrfast import RAT
from rrfast.data import digits_cnn

BATCH = 128


@pytest.mark.parametrize("optimise", [False, True], ids=["gradients", "step"])
def bench_rat_step(optimise: bool, device: torch.device, hold: Callable[..., None]) -> None:
    x = torch.rand(BATCH, 1, 8, 8, device=device)
    y = torch.randint(10, (BATCH,), device=device)
    objective = RAT(eps=1e-3)

    def standard(model: nn.Module) -> None:
        nn.functional.cross_entropy(model(x), y).backward()

    def training(gradients: Callable[[nn.Module], Any]) -> Callable[[], None]:
        model = digits_cnn().to(device)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

        def run() -> None:
            optimizer.zero_grad()
            gradients(model)
            if optimise:
                optimizer.step()

        return run

    contenders = {
        "RAT.backward": training(lambda model: objective.backward(model, x, y)),
        "RAT()": training(lambda model: objective(model, x, y).backward()),
        "standard": training(standard),
    }
    hold(
        contenders,
        model="RAT step",
        case=f"digits_cnn, batch {BATCH}, {'with' if optimise else 'without'} SGD",
        floor="standard",
    )
