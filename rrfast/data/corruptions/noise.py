"""Noise: every value of an image is changed independently."""

from __future__ import annotations

import torch
from torch import Tensor

from rrfast.data.corruptions.draws import Draws


def gaussian_noise(x: Tensor, draws: Draws, *, deviation: float) -> Tensor:
    """Normal noise with this standard deviation: x + deviation z."""
    return x + deviation * draws.normal(*x.shape)


def shot_noise(x: Tensor, draws: Draws, *, photons: float) -> Tensor:
    """Poisson(photons x) / photons: mean x, variance x / photons."""
    return draws.poisson(photons * x) / photons


def impulse_noise(x: Tensor, draws: Draws, *, share: float) -> Tensor:
    """A share of the values becomes 0 or 1, each with probability share / 2."""
    u = draws.uniform(*x.shape)
    return torch.where(u < share / 2, 0, torch.where(u >= 1 - share / 2, 1, x))
