"""`rrfast.radius` against its floor: the same passes of the same model, bare, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import rrfast
from rrfast.data import digits_cnn
from rrfast.models import load_model

#: Forwards after the clean one; every method also needs one backward.
PROBES = {"fast": 1, "bs": 24, "search": 5, "grad": 0}


def small() -> tuple[nn.Module, Tensor]:
    return digits_cnn(), torch.rand(512, 1, 8, 8)


def wide() -> tuple[nn.Module, Tensor]:
    """A plain stack of convolutions on 32x32 images, of the kind that CIFAR models are made of."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 32), (32, 64), (64, 128)):
        layers += [
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(2048, 10)), torch.rand(32, 3, 32, 32)


def resnet20() -> tuple[nn.Module, Tensor]:
    pytest.importorskip("pytorchcv", reason="pytorchcv is not installed")
    return load_model("pytorchcv:resnet20_cifar10"), torch.rand(128, 3, 32, 32)


@pytest.mark.parametrize("make", [small, wide, resnet20], ids=lambda make: make.__name__)
@pytest.mark.parametrize("method", PROBES)
def bench_radius(
    method: str,
    make: Callable[[], tuple[nn.Module, Tensor]],
    device: torch.device,
    hold: Callable[..., None],
) -> None:
    model, x = make()
    model, x = model.to(device).eval().requires_grad_(False), x.to(device)
    cotangent = torch.randn(len(x), 10, device=device)

    def floor() -> None:
        leaf = x.detach().requires_grad_()
        torch.autograd.grad(model(leaf), leaf, cotangent)
        with torch.no_grad():
            for _ in range(PROBES[method]):
                model(x)

    hold(
        {"rrfast.radius": lambda: rrfast.radius(model, x, method=method), "bare passes": floor},
        model="radius",
        case=f"{method}, {make.__name__}, batch {len(x)}",
        floor="bare passes",
    )
