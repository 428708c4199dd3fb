"""Random numbers, the same for every dtype and device, and noise: each value by itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

#: Named, because torch's defaults may be others.
HOST: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}


class Draws:
    """Draws from a generator with a seed, in the dtype and on the device of a batch.

    They are made on the CPU in float32, also the means of Poisson counts, so that an image gets the
    same corruption on every device.
    """

    def __init__(self, seed: int, like: Tensor) -> None:
        self.generator = torch.Generator("cpu").manual_seed(seed)
        self.like = like

    def uniform(self, *shape: int) -> Tensor:
        """Uniform on [0, 1)."""
        return torch.rand(shape, generator=self.generator, **HOST).to(self.like)

    def normal(self, *shape: int) -> Tensor:
        """Normal with mean 0 and variance 1."""
        return torch.randn(shape, generator=self.generator, **HOST).to(self.like)

    def poisson(self, mean: Tensor) -> Tensor:
        """Poisson counts with these means, one per value.

        A count uses a varying number of random numbers, so a change in the last place of its mean
        can also change the counts after it.
        """
        mean = mean.to("cpu", torch.float32)
        return torch.poisson(mean, generator=self.generator).to(self.like)


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
