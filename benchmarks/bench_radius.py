"""`rrfast.radius` against its floor: the same passes of the same model, bare, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

import rrfast
from rrfast.models import digits_cnn, load_model

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


def bare(model: nn.Module, x: Tensor, probes: int) -> Callable[[], None]:
    """The same passes and nothing else."""
    cotangent = torch.randn(len(x), 10, device=x.device, dtype=x.dtype)

    def run() -> None:
        leaf = x.detach().requires_grad_()
        torch.autograd.grad(model(leaf), leaf, cotangent)
        with torch.no_grad():
            for _ in range(probes):
                model(x)

    return run


@pytest.mark.parametrize("make", [small, wide, resnet20], ids=lambda make: make.__name__)
@pytest.mark.parametrize("method", PROBES)
def bench_radius(
    method: str,
    make: Callable[[], tuple[nn.Module, Tensor]],
    device: torch.device,
    hold: Callable[..., None],
) -> None:
    if device.type == "cuda":
        pytest.skip("too small to say anything of a GPU: bench_radius_large, bench_radius_captured")
    model, x = make()
    model, x = model.to(device).eval().requires_grad_(False), x.to(device)
    hold(
        {
            "rrfast.radius": lambda: rrfast.radius(model, x, method=method),
            "bare passes": bare(model, x, PROBES[method]),
        },
        model="radius",
        case=f"{method}, {make.__name__}, batch {len(x)}",
        floor="bare passes",
    )


#: What a large network may compute in, on a GPU: whether TF32 may stand in for it, and its type.
PRECISIONS = {
    "float32": (False, torch.float32),
    "TF32": (True, torch.float32),
    "bfloat16": (True, torch.bfloat16),
}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("method", ["fast", "grad", "search"])
def bench_radius_large(
    method: str,
    precision: str,
    device: torch.device,
    hold: Callable[..., None],
) -> None:
    """WRN-28-10 in channels-last: at most 1.05 of the bare passes, and what a graph makes of it."""
    if device.type == "cpu":
        pytest.skip("wrn28_10 takes a GPU")
    pytest.importorskip("pytorchcv", reason="pytorchcv is not installed")
    if precision == "float32" and method != "fast":
        pytest.skip("a second for every run")
    tf32, dtype = PRECISIONS[precision]
    model = load_model("pytorchcv:wrn28_10_cifar10").to(device, dtype).eval()
    model.requires_grad_(False).to(memory_format=torch.channels_last)
    x = torch.rand(1024, 3, 32, 32, device=device, dtype=dtype)
    x = x.to(memory_format=torch.channels_last)
    captured = rrfast.RadiusEstimator(model, method, cuda_graph=True)
    with allowing_tf32(tf32):
        hold(
            {
                "rrfast.radius": lambda: rrfast.radius(model, x, method=method),
                "captured": lambda: captured(x),
                "bare passes": bare(model, x, PROBES[method]),
            },
            model="radius, wrn28_10, batch 1024, channels-last",
            case=f"{method}, {precision}",
            floor="bare passes",
        )


@contextmanager
def allowing_tf32(allowed: bool) -> Iterator[None]:
    """In convolutions and in products. By hand: pytest's monkeypatch cannot undo the latter."""
    modules = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [module.allow_tf32 for module in modules]
    for module in modules:
        module.allow_tf32 = allowed
    try:
        yield
    finally:
        for module, value in zip(modules, before, strict=True):
            module.allow_tf32 = value


@pytest.mark.parametrize("batch", [1, 16, 64])
@pytest.mark.parametrize("method", PROBES)
def bench_radius_captured(
    method: str, batch: int, device: torch.device, hold: Callable[..., None]
) -> None:
    """A replayed CUDA graph against the same calls one by one, where the host is the slower."""
    if device.type == "cpu":
        pytest.skip("CUDA graphs take a GPU")
    pytest.importorskip("pytorchcv", reason="pytorchcv is not installed")
    model = load_model("pytorchcv:resnet110_cifar10").to(device).eval().requires_grad_(False)
    x = torch.rand(batch, 3, 32, 32, device=device)
    eager = rrfast.RadiusEstimator(model, method, cuda_graph=False)
    captured = rrfast.RadiusEstimator(model, method, cuda_graph=True)
    hold(
        {"captured": lambda: captured(x), "eager": lambda: eager(x)},
        model="CUDA graph, resnet110",
        case=f"{method}, batch {batch}",
        floor="eager",
    )
