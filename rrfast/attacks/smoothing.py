"""Smoothed noise with high contrast, on which networks are often confident."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from rrfast.ops import accumulate_dtype

#: How the Gaussian is handled beyond the border of an image.
Border = Literal["shared", "article"]
#: Ranges of the Gaussian's standard deviation, in pixels, and of the contrast's slope.
DEVIATIONS, SLOPES = (1.0, 2.0), (5.0, 30.0)
#: Largest reach of the article's layer in pixels: the largest deviation, rounded up.
REACH = 2


def smoothed(
    noise: Tensor,
    generator: torch.Generator | None = None,
    *,
    deviation: Tensor | None = None,
    slope: Tensor | None = None,
    border: Border = "shared",
) -> Tensor:
    """Smooth noise around 1/2 by a Gaussian and raise its contrast, with parameters per sample.

        1 / (1 + exp(-gamma (G_sigma * v - 1/2)))

    G_sigma acts on the last two dimensions (on the last of [B, N]) with its full reach; the weight
    beyond the border is distributed over the existing pixels, so that a constant image stays
    constant at any size. `border="article"` is the layer of the article's code: 2 ceil(sigma) + 1
    pixels wide, with the Gaussian wrapped around within these, and the image mirrored at its
    border. It smooths less: at sigma = 2 uniform noise of 32 x 32 has a deviation of 0.062 after
    it, and of 0.044 with the full reach.

    Args:
        noise: [B, ...], v, floating point, in [0, 1].
        generator: Generator for sigma and gamma, on the device of the noise; None: that device's
            default.
        deviation: [B], sigma > 0 in pixels; None: uniform in [1, 2].
        slope: [B], gamma > 0; None: uniform in [5, 30].
        border: "shared", or "article", which needs deviations up to 2 and lines of at least 3
            pixels.

    Returns:
        [B, ...] in (0, 1), accumulation dtype.

    Cost: H + W multiplications per pixel. Nothing waits for the device.

    Raises:
        ValueError: A line is too short to be mirrored.

    Source: The distal article, Listing 1, which draws sigma and gamma per batch. It does not print
    its layer; `border="article"` follows the article's code, whose kernel is an impulse of that
    width after scipy.ndimage.gaussian_filter, which folds back at the ends of the array. Errata 39.

    Example:
        >>> smoothed(torch.full((1, 1, 4, 4), 0.5))[0, 0, 0]
        tensor([0.5000, 0.5000, 0.5000, 0.5000])
    """
    v = noise.to(accumulate_dtype(noise.dtype))
    sigma = _between(DEVIATIONS, v, generator) if deviation is None else deviation.to(v)
    gamma = _between(SLOPES, v, generator) if slope is None else slope.to(v)
    # Autocast would reduce the noise to 8 bits.
    with torch.autocast(v.device.type, enabled=False):
        for dim in range(max(1, v.dim() - 2), v.dim()):
            weight = _shared if border == "shared" else _mirrored
            through = weight(v.shape[dim], sigma)
            v = torch.einsum("b...i,bji->b...j", v.movedim(dim, -1), through).movedim(-1, dim)
    return torch.sigmoid(gamma.view(-1, *[1] * (v.dim() - 1)) * (v - 0.5))


def _between(ends: tuple[float, float], v: Tensor, generator: torch.Generator | None) -> Tensor:
    """[B], uniform."""
    # In float32, so that a model in another precision gets the same noise.
    share = torch.rand(len(v), generator=generator, device=v.device, dtype=torch.float32)
    return ends[0] + (ends[1] - ends[0]) * share.to(v.dtype)


def _shared(length: int, sigma: Tensor) -> Tensor:
    """[B, to, from]: a Gaussian with its full reach; rows sum to 1."""
    place = torch.arange(length, dtype=sigma.dtype, device=sigma.device)
    apart = (place[:, None] - place) / sigma.view(-1, 1, 1)
    return (-0.5 * apart.square()).softmax(dim=2)


def _mirrored(length: int, sigma: Tensor) -> Tensor:
    """[B, to, from]: the article's kernel, on a line mirrored about its end pixels."""
    if length <= REACH:
        raise ValueError(f"noise must have lines of at least {REACH + 1} pixels, got {length}")
    apart = torch.arange(-REACH, REACH + 1, dtype=sigma.dtype, device=sigma.device)
    wide = sigma.ceil().view(-1, 1, 1)
    # The taps of a Gaussian up to 4 sigma, rounded, and the position that each is wrapped onto.
    wraps = torch.arange(-2, 3, dtype=sigma.dtype, device=sigma.device).view(-1, 1)
    tap = (2 * wide + 1) * wraps - apart
    across = sigma.view(-1, 1, 1)
    inside = (tap.abs() <= (4 * across + 0.5).floor()) & (apart.abs() <= wide)
    kernel = torch.exp(-0.5 * (tap / across).square()).masked_fill(~inside, 0.0).sum(dim=1)
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    place = torch.arange(length, device=sigma.device)
    there = (place[:, None] + torch.arange(-REACH, REACH + 1, device=sigma.device)).abs()
    there = length - 1 - (length - 1 - there).abs()
    lands = (there[..., None] == place).to(sigma.dtype)  # [to, tap, from]
    return torch.einsum("bd,jdi->bji", kernel, lands)
