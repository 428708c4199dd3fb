"""The estimators and RAT on every device there is: same numbers, nothing waits for the host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

import rrfast
from rrfast.methods import METHODS

#: Methods whose host waits for the device, to compact the batch.
WAITING = {"deepfool"}


def network(device: torch.device) -> nn.Sequential:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.SiLU(), nn.Flatten(), nn.Linear(512, 10))
    return nn.Sequential(*layers).to(device)


def batch(device: torch.device) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(16, 3, 10, 10, generator=generator)
    return x.to(device), torch.randint(10, (16,), generator=generator).to(device)


@contextmanager
def no_waiting(device: torch.device) -> Iterator[None]:
    """On CUDA, raises where the host waits for the device."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("options", [{}, {"bounds": (0.0, 1.0)}, {"scale": 2.0}], ids=str)
def test_radius(device: torch.device, method: str, options: dict[str, object]) -> None:
    model, (x, _) = network(device), batch(device)
    rrfast.radius(model, x, method=method, **options)  # warm: libraries load and tune themselves
    with no_waiting(torch.device("cpu") if method in WAITING else device):
        result = rrfast.radius(model, x, method=method, full_output=True, **options)
    exact = rrfast.radius(
        network(torch.device("cpu")).double(), x.cpu().double(), method=method, **options
    )
    assert result.radius.device.type == device.type
    # Two logits and their slope in float32; `bs` in a bracket of 2^-9 of the radius.
    torch.testing.assert_close(result.radius.cpu().double(), exact, rtol=5e-3, atol=0)


@pytest.mark.parametrize("mode", ["rat", "at", "reverse_at"])
def test_rat(device: torch.device, mode: rrfast.ops.Mode) -> None:
    gradients = []
    for where, precision in ((device, torch.float32), (torch.device("cpu"), torch.float64)):
        model, (x, y) = network(where).to(precision), batch(where)
        objective = rrfast.RAT(eps=0.05, mode=mode)
        objective.backward(model, x.to(precision), y)
        model.zero_grad()
        with no_waiting(where):
            objective.backward(model, x.to(precision), y)
        gradients.append(torch.cat([p.grad.flatten().cpu().double() for p in model.parameters()]))
    inexact, exact = gradients
    assert (inexact - exact).norm() < 1e-3 * exact.norm()


def test_metrics_and_scores(device: torch.device) -> None:
    model, (x, y) = network(device).eval(), batch(device)
    score = rrfast.scores.MSR()(model, x)
    correct = rrfast.engine.logits(model, x).argmax(dim=1) == y
    assert rrfast.metrics.aurc(score, correct) == rrfast.metrics.aurc(score.cpu(), correct.cpu())
