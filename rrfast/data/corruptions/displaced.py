"""Images read at other places than their own pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def displaced(x: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Every pixel takes the value that the image has `row` and `column` pixels from it.

    Args:
        x: [n, C, H, W].
        row: Displacement in pixels, down; broadcasts to [n, H, W].
        column: In pixels, to the right; as `row`.

    Returns:
        [n, C, H, W]: the values between pixels are bilinear, those beyond the border mirrored.
    """
    n, _, height, width = x.shape
    places = []
    for steps, side, along in ((column, width, (1, 1, -1)), (row, height, (1, -1, 1))):
        place = torch.arange(side, dtype=x.dtype, device=x.device).view(along) + steps
        # grid_sample counts from -1, the centre of the first pixel, to 1, that of the last.
        places.append((place * (2 / (side - 1)) - 1).expand(n, height, width))
    grid = torch.stack(places, dim=-1)
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=True)
