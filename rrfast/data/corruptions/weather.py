"""Weather from noise: snow, frost, fog; and brightness."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from rrfast.data.corruptions.blur import line
from rrfast.data.corruptions.filters import filtered
from rrfast.data.corruptions.noise import Draws

#: Cells of the noise field for flakes, along the shorter side of the image.
FLAKE_CELLS = 32
#: Length of a falling flake, in image sides.
FALL = 0.12
#: The value of thick fog.
AIRLIGHT = 0.8


def snow(x: Tensor, draws: Draws, *, haze: float, threshold: float) -> Tensor:
    """Flakes over haze; each falls in the direction of its image, at most 45 degrees off."""
    field = _enlarged(draws, x, min(FLAKE_CELLS, *x.shape[-2:]))
    angle = (draws.uniform(len(x)) + 0.5) * (math.pi / 2)
    flakes = (2 * (field - threshold)).clamp(0, 1)
    fallen = filtered(flakes, line(FALL * min(x.shape[-2:]), angle).to(x))
    return 1 - (1 - haze) * (1 - x) * (1 - (2 * fallen).clamp(0, 1))


def frost(x: Tensor, draws: Draws, *, kept: float, ice: float) -> Tensor:
    """Needles of ice, where noise changes its sign: f sums (1 - |field|)_+^2 over finer fields."""
    height, width = x.shape[-2:]
    f = x.new_zeros(len(x), 1, height, width)
    strength, cells = 1.0, 4
    while cells <= min(height, width):
        f += strength * (1 - _enlarged(draws, x, cells).abs()).clamp(min=0).square()
        strength, cells = strength / 2, 2 * cells
    row, column = (
        torch.linspace(-1, 1, side, dtype=torch.float64, device="cpu").to(x).square()
        for side in (height, width)
    )
    border = torch.maximum(row[:, None], column)
    f = f * (0.5 + border)
    return kept * x + ice * f / f.amax(dim=(1, 2, 3), keepdim=True)


def fog(x: Tensor, draws: Draws, *, density: float) -> Tensor:
    """Koschmieder's law in a cloud: noise on grids of 2, 4, 8, ... cells, each half as strong."""
    cloud = x.new_zeros(len(x), 1, *x.shape[-2:])
    strength, cells = 1.0, 2
    while cells <= min(x.shape[-2:]):
        cloud += strength * _enlarged(draws, x, cells)
        strength, cells = strength / 2, 2 * cells
    least, most = cloud.amin(dim=(1, 2, 3), keepdim=True), cloud.amax(dim=(1, 2, 3), keepdim=True)
    through = torch.exp(-density * (cloud - least) / (most - least))
    return AIRLIGHT + (x - AIRLIGHT) * through


def brightness(x: Tensor, draws: Draws, *, more: float) -> Tensor:
    """HSV's value plus `more`; a black pixel has no hue and becomes grey."""
    value = x.amax(dim=1, keepdim=True)
    brighter = (value + more).clamp(max=1)
    return torch.where(value > 0, x / value, 1) * brighter


def _enlarged(draws: Draws, x: Tensor, cells: int) -> Tensor:
    """Normal noise [n, 1, H, W] on square cells, `cells` along the shorter side."""
    height, width = x.shape[-2:]
    side = min(height, width)
    grid = (math.ceil(cells * height / side), math.ceil(cells * width / side))
    noise = draws.normal(len(x), 1, *grid)
    return F.interpolate(noise, size=(height, width), mode="bicubic", align_corners=False)
