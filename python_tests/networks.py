"""Small networks in float64, and batches for them: what tests of objectives train."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def dense(classes: int) -> nn.Sequential:
    """[n, 6] to logits, smooth."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, classes)).double()


def convolutional(outputs: int) -> nn.Sequential:
    """[n, 1, 8, 8] to logits, with BatchNorm."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(216, outputs)
    ).double()


def batch(shape: tuple[int, ...], classes: int) -> tuple[Tensor, Tensor]:
    """Inputs of that shape in [0, 1), and labels."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(shape, generator=generator, dtype=torch.float64)
    return x, torch.randint(classes, shape[:1], generator=generator)
