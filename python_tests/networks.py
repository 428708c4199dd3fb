"""Small networks, and batches for them: what tests of objectives train, and attacks attack."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def dense(classes: int) -> nn.Sequential:
    """[n, 6] to logits, smooth, in float64."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, classes)).double()


def convolutional(outputs: int) -> nn.Sequential:
    """[n, 1, 8, 8] to logits, with BatchNorm, in float64."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(216, outputs)
    ).double()


def steep(inputs: int, classes: int, factor: float = 3) -> nn.Sequential:
    """[n, inputs] to logits that steps of an attack change, in float64."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(inputs, 24), nn.Tanh(), nn.Linear(24, classes)).double()
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(factor)
    return net


def linear(classes: int) -> nn.Sequential:
    """[n, 3, 4, 4] to logits, in float32."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, classes))


def images(samples: int = 8) -> Tensor:
    """For `linear`, in [0, 1)."""
    return torch.rand(samples, 3, 4, 4, generator=torch.Generator().manual_seed(1))


def batch(shape: tuple[int, ...], classes: int) -> tuple[Tensor, Tensor]:
    """Inputs of that shape in [0, 1), in float64, and labels."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(shape, generator=generator, dtype=torch.float64)
    return x, torch.randint(classes, shape[:1], generator=generator)
