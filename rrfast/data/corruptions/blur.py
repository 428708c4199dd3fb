"""Blur: defocus, glass, motion, zoom. Lengths are in image sides."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rrfast.data.corruptions.filters import displaced, filtered, gaussian_filtered, kernel_of
from rrfast.data.corruptions.noise import Draws


def defocus_blur(x: Tensor, draws: Draws, *, radius: float) -> Tensor:
    """The mean over a disc around every pixel."""
    return filtered(x, disc(radius * min(x.shape[-2:])).to(x))


def disc(radius: float) -> Tensor:
    """Kernel [1, k, k] float64 of a disc, its radius in pixels."""
    # Seventeen points along a diameter: 197 points in the disc, symmetric like it.
    steps = torch.linspace(-1, 1, 17, dtype=torch.float64, device="cpu")
    points = torch.cartesian_prod(steps, steps)
    # 1.01, so that the four points on the axes are inside in spite of rounding.
    inside = points.square().sum(dim=1) <= 1.01
    return kernel_of(radius * points[inside][None])


def glass_blur(x: Tensor, draws: Draws, *, deviation: float, reach: float) -> Tensor:
    """A Gaussian, a random displacement of every pixel by up to `reach` per axis, a Gaussian."""
    n, _, height, width = x.shape
    side = min(height, width)
    row, column = (2 * draws.uniform(2, n, height, width) - 1) * (reach * side)
    seen = displaced(gaussian_filtered(x, deviation * side), row, column)
    return gaussian_filtered(seen, deviation * side)


def motion_blur(x: Tensor, draws: Draws, *, length: float) -> Tensor:
    """The mean along a line through every pixel, at a random angle of at most 45 degrees."""
    angle = (draws.uniform(len(x)) - 0.5) * (math.pi / 2)
    return filtered(x, line(length * min(x.shape[-2:]), angle).to(x))


def line(length: float, angle: Tensor) -> Tensor:
    """Kernels [n, k, k] float64 of lines, their length in pixels, at angles [n] to the rows."""
    angle = angle.double()
    count = math.ceil(4 * length)  # at most a quarter of a pixel apart
    place = (
        (torch.arange(count, dtype=angle.dtype, device=angle.device) + 0.5) / count - 0.5
    ) * length
    return kernel_of(place[:, None] * torch.stack([angle.sin(), angle.cos()], dim=-1)[:, None])


def zoom_blur(x: Tensor, draws: Draws, *, zoom: float) -> Tensor:
    """The mean over zooms about the centre, evenly from 1 to `zoom`."""
    height, width = x.shape[-2:]
    row, column = (
        torch.arange(side, dtype=x.dtype, device=x.device) - (side - 1) / 2
        for side in (height, width)
    )
    # From one zoom to the next no pixel moves by more than half a pixel.
    count = math.ceil((zoom - 1) * max(height, width)) + 1
    total = torch.zeros_like(x)
    for step in range(count):
        factor = 1 + (zoom - 1) * step / (count - 1)
        nearer = 1 / factor - 1
        total += displaced(x, nearer * row[None, :, None], nearer * column[None, None])
    return total / count
