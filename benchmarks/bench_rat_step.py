"""A training step with RAT against a standard one: at most 2.05 times its time, and memory."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from rrfast import RAT
from rrfast.models import load_model

BATCH = 128
#: Specification of a model, and the shape of its images.
MODELS = {
    "digits_cnn": ("rrfast.models:digits_cnn", (1, 8, 8)),
    "resnet20": ("pytorchcv:resnet20_cifar10", (3, 32, 32)),
}
#: Models that need a GPU.
LARGE = {
    "wrn28_10": ("pytorchcv:wrn28_10_cifar10", (3, 32, 32)),
    "resnet50": ("pytorchcv:resnet50b", (3, 224, 224)),  # what torchvision calls resnet50
}


def make(name: str, device: torch.device) -> tuple[nn.Module, Tensor, Tensor]:
    """A model in training mode, and a batch."""
    if name in LARGE and device.type == "cpu":
        pytest.skip(f"{name} takes a GPU")
    spec, shape = (MODELS | LARGE)[name]
    package = spec.partition(":")[0].partition(".")[0]
    pytest.importorskip(package, reason=f"{package} is not installed")
    x = torch.rand(BATCH, *shape, device=device)
    y = torch.randint(10, (BATCH,), device=device)
    return load_model(spec).to(device), x, y


@pytest.mark.parametrize("optimise", [False, True], ids=["gradients", "step"])
@pytest.mark.parametrize("name", [*MODELS, *LARGE])
def bench_rat_step(
    name: str, optimise: bool, device: torch.device, hold: Callable[..., None]
) -> None:
    model, x, y = make(name, device)
    objective = RAT(eps=1e-3)

    def training(gradients: Callable[[nn.Module], Tensor]) -> Callable[[], None]:
        own = copy.deepcopy(model)
        optimizer = torch.optim.SGD(own.parameters(), lr=0.01, momentum=0.9)

        def run() -> None:
            optimizer.zero_grad()
            gradients(own)
            if optimise:
                optimizer.step()

        return run

    def backward(loss: Tensor) -> Tensor:
        loss.backward()
        return loss

    contenders = {
        "RAT.backward": training(lambda m: objective.backward(m, x, y)),
        "RAT()": training(lambda m: backward(objective(m, x, y))),
        "standard": training(lambda m: backward(nn.functional.cross_entropy(m(x), y))),
    }
    hold(
        contenders,
        model="RAT step",
        case=f"{name}, batch {BATCH}, {'with' if optimise else 'without'} SGD",
        floor="standard",
    )
