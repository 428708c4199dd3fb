"""Random numbers of a seed: the same for every dtype and on every device."""

from __future__ import annotations

import torch
from torch import Tensor


class Draws:
    """Draws from one generator, handed out in the dtype and on the device of a batch.

    They are made on the CPU and in float32, the means of Poisson counts too, so that an image is
    corrupted alike wherever it lies.

    Args:
        stream: Seed of the generator.
        like: The batch.
    """

    def __init__(self, stream: int, like: Tensor) -> None:
        self.generator = torch.Generator("cpu").manual_seed(stream)
        self.like = like

    def uniform(self, *shape: int) -> Tensor:
        """Uniform on [0, 1)."""
        draw = torch.rand(shape, generator=self.generator, dtype=torch.float32, device="cpu")
        return draw.to(self.like)

    def normal(self, *shape: int) -> Tensor:
        """Normal, of mean 0 and variance 1."""
        draw = torch.randn(shape, generator=self.generator, dtype=torch.float32, device="cpu")
        return draw.to(self.like)

    def poisson(self, mean: Tensor) -> Tensor:
        """Counts of that mean, one per value of it.

        A count takes as many random numbers as it needs, so another last place of its mean can
        change those after it too.
        """
        mean = mean.to("cpu", torch.float32)
        return torch.poisson(mean, generator=self.generator).to(self.like)
