"""A training step with RAT against a standard one: at most 2.05 times it, and its memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from rrfast import RAT
from rrfast.data import digits_cnn
from rrfast.models import load_model

BATCH = 128
MODELS = {"digits_cnn": (1, 8), "resnet20": (3, 32)}


def make(name: str) -> nn.Module:
    if name == "digits_cnn":
        return digits_cnn()
    pytest.importorskip("pytorchcv", reason="pytorchcv is not installed")
    return load_model("pytorchcv:resnet20_cifar10")


@pytest.mark.parametrize("optimise", [False, True], ids=["gradients", "step"])
@pytest.mark.parametrize("name", MODELS)
def bench_rat_step(
    name: str, optimise: bool, device: torch.device, hold: Callable[..., None]
) -> None:
    channels, size = MODELS[name]
    x = torch.rand(BATCH, channels, size, size, device=device)
    y = torch.randint(10, (BATCH,), device=device)
    objective = RAT(eps=1e-3)

    def standard(model: nn.Module) -> None:
        nn.functional.cross_entropy(model(x), y).backward()

    def training(gradients: Callable[[nn.Module], Any]) -> Callable[[], None]:
        model = make(name).to(device)
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
        case=f"{name}, batch {BATCH}, {'with' if optimise else 'without'} SGD",
        floor="standard",
    )
