"""`rrfast.radius` against its floor: the same passes of the same model, bare, and nothing else."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from networks import NETWORKS, make
from torch import Tensor, nn

import rrfast
from rrfast.bench.contestants import msr
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
    cotangent = torch.randn_like(model(x))

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


def by_hand(model: nn.Module, x: Tensor, alpha: float = 0.01) -> Tensor:
    """RR-Fast as one writes it for oneself: no checks, no care for what is not finite."""
    leaf = x.detach().requires_grad_()
    h0 = model(leaf)
    top = h0.argmax(dim=1, keepdim=True)
    others = h0.scatter(1, top, -torch.inf).logsumexp(dim=1) - h0.gather(1, top).squeeze(1)
    (grad,) = torch.autograd.grad(others.sum(), leaf)
    with torch.no_grad():
        h1 = model(x + alpha * grad.sign())
        gap0, gap1 = h0.gather(1, top) - h0, h1.gather(1, top) - h1
        gained = gap0 - gap1
        radius = torch.where(gained > 0, alpha * gap0 / gained, torch.inf)
        return radius.scatter(1, top, torch.inf).amin(dim=1)


def grad_by_hand(model: nn.Module, x: Tensor) -> Tensor:
    """Method `grad`, likewise."""
    leaf = x.detach().requires_grad_()
    top = model(leaf).topk(2, dim=1).values
    margin = top[:, 0] - top[:, 1]
    (grad,) = torch.autograd.grad(margin.sum(), leaf)
    return margin.detach() / grad.abs().flatten(1).sum(dim=1)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("method", ["fast", "grad"])
def bench_radius_of_one(
    method: str, name: str, device: torch.device, hold: Callable[..., None]
) -> None:
    """At batch 1, where what is not the model shows most; also of a model in training.

    There, and in no other contender, each flag of the model is to be set, and set back.
    """
    model, x = make(name, 1, device)
    training = copy.deepcopy(model).train().requires_grad_(True)
    training.load_state_dict(model.state_dict(), assign=True)  # the same memory, as of one model
    estimator = rrfast.RadiusEstimator(model, method)
    hand = by_hand if method == "fast" else grad_by_hand
    hold(
        {
            "RadiusEstimator": lambda: estimator(x),
            "rrfast.radius": lambda: rrfast.radius(model, x, method=method),
            "in training": lambda: rrfast.radius(training, x, method=method),
            "by hand": lambda: hand(model, x),
            "bare passes": bare(model, x, PROBES[method]),
        },
        model="radius",
        case=f"{method}, {name}, batch 1",
        floor="bare passes",
    )


@pytest.mark.parametrize("name", ["mlp1000", "mlp21841"])
def bench_refined_many_classes(name: str, device: torch.device, hold: Callable[..., None]) -> None:
    """Where the logits are as large as all that is before them."""
    model, x = make(name, 32, device)
    measured = rrfast.radius(model, x, method="refined", full_output=True)
    forwards, backwards = round(measured.forwards), round(measured.backwards)
    gradient, forward = bare(model, x, 0), no_grad_forward(model, x)

    def passes() -> None:
        for _ in range(backwards):
            gradient()
        for _ in range(forwards - backwards):
            forward()

    hold(
        {
            "rrfast.radius": lambda: rrfast.radius(model, x, method="refined"),
            "bare passes": passes,
        },
        model="radius",
        case=f"refined, {name}, batch 32",
        floor="bare passes",
    )


def no_grad_forward(model: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    def run() -> Tensor:
        with torch.no_grad():
            return model(x)

    return run


#: What a large network may compute in, on a GPU: whether TF32 may stand in for it, and its type.
#: The targets are set on the first two.
PRECISIONS = {
    "bfloat16": (True, torch.bfloat16),
    "float32": (False, torch.float32),
    "TF32": (True, torch.float32),
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
    with allowing_tf32(convolutions=tf32, products=tf32):
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
def allowing_tf32(*, convolutions: bool, products: bool) -> Iterator[None]:
    """By hand: pytest's monkeypatch cannot undo the latter."""
    modules = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [module.allow_tf32 for module in modules]
    for module, value in zip(modules, (convolutions, products), strict=True):
        module.allow_tf32 = value
    try:
        yield
    finally:
        for module, value in zip(modules, before, strict=True):
            module.allow_tf32 = value


@pytest.mark.parametrize("tf32", [True, False], ids=["TF32", "float32"])
@pytest.mark.parametrize(("name", "batch"), [("wrn28_10", 1024), ("resnet110", 64)])
def bench_radius_free(
    name: str, batch: int, tf32: bool, device: torch.device, hold: Callable[..., None]
) -> None:
    """`fast` in bfloat16 as a graph, against what a user has without rrfast: an eager float32
    forward and a softmax, with TF32 in convolutions (torch's default) or without."""
    if device.type == "cpu":
        pytest.skip("CUDA graphs take a GPU")
    pytest.importorskip("pytorchcv", reason="pytorchcv is not installed")
    plain = load_model(f"pytorchcv:{name}_cifar10").to(device).eval().requires_grad_(False)
    low = copy.deepcopy(plain).to(torch.bfloat16, memory_format=torch.channels_last)
    x = torch.rand(batch, 3, 32, 32, device=device)
    captured = rrfast.RadiusEstimator(low, "fast", cuda_graph=True)
    with allowing_tf32(convolutions=tf32, products=False):
        hold(
            {
                "fast, bfloat16, captured": lambda: captured(
                    x.to(torch.bfloat16, memory_format=torch.channels_last)
                ),
                "MSR, eager": lambda: msr(plain)(x),
            },
            model="is the radius free?",
            case=f"{name}, batch {batch}, MSR in {'TF32' if tf32 else 'float32'}",
            floor="MSR, eager",
        )


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
