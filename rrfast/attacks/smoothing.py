"""Smooth noise of high contrast: what networks are sure of, though it shows nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from rrfast.reference import accumulate_dtype

#: Standard deviations of the Gaussian, in pixels, and slopes of the contrast.
DEVIATIONS, SLOPES = (1.0, 2.0), (5.0, 30.0)


def smoothed(
    noise: Tensor,
    generator: torch.Generator | None = None,
    *,
    deviation: Tensor | None = None,
    slope: Tensor | None = None,
) -> Tensor:
    """Noise around 1/2 under a Gaussian, and then with its contrast raised, each sample by its own.

        1 / (1 + exp(-gamma (G_sigma * v - 1/2)))

    G_sigma runs over the last two dimensions (over the last of [B, N]), with its whole reach; what
    of it lies beyond the border is shared out among the pixels that there are, so that a constant
    stays one at images of any size.

    Args:
        noise: [B, ...], v, floating point, in [0, 1].
        generator: Of sigma and gamma, on the device of the noise; None: that device's own.
        deviation: [B], sigma > 0 in pixels; None: uniform in [1, 2].
        slope: [B], gamma > 0; None: uniform in [5, 30].

    Returns:
        [B, ...] in (0, 1), accumulation dtype.

    Cost: H + W multiplications a pixel. Nothing waits for the device.

    Source: The distal article, Listing 1, whose sigma and gamma are those of a batch. Its layer for
    the Gaussian is not printed, and so neither is what it does at a border.

    Example:
        >>> smoothed(torch.full((1, 1, 4, 4), 0.5))[0, 0, 0]
        tensor([0.5000, 0.5000, 0.5000, 0.5000])
    """
    v = noise.to(accumulate_dtype(noise.dtype))
    sigma = _between(DEVIATIONS, v, generator) if deviation is None else deviation.to(v)
    gamma = _between(SLOPES, v, generator) if slope is None else slope.to(v)
    # Autocast would leave the noise 8 bits.
    with torch.autocast(v.device.type, enabled=False):
        for dim in range(max(1, v.dim() - 2), v.dim()):
            v = _filtered(v, sigma, dim)
    return torch.sigmoid(gamma.view(-1, *[1] * (v.dim() - 1)) * (v - 0.5))


def _between(ends: tuple[float, float], v: Tensor, generator: torch.Generator | None) -> Tensor:
    """[B], uniform."""
    # In float32, so that a model in another precision has the same.
    share = torch.rand(len(v), generator=generator, device=v.device, dtype=torch.float32)
    return ends[0] + (ends[1] - ends[0]) * share.to(v.dtype)


def _filtered(v: Tensor, sigma: Tensor, dim: int) -> Tensor:
    """Every line along one dimension, under its sample's Gaussian."""
    place = torch.arange(v.shape[dim], dtype=v.dtype, device=v.device)
    apart = (place[:, None] - place) / sigma.view(-1, 1, 1)
    weight = (-0.5 * apart.square()).softmax(dim=2)  # [B, to, from], the sums of rows are 1
    return torch.einsum("b...i,bji->b...j", v.movedim(dim, -1), weight).movedim(-1, dim)
