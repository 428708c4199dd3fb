"""Digital: contrast, elastic deformation, coarse pixels, JPEG."""

from __future__ import annotations

import io

import numpy as np
import torch
from torch import Tensor

from rrfast._checks import describe
from rrfast._errors import require
from rrfast.data.corruptions.filters import displaced, gaussian_filtered
from rrfast.data.corruptions.noise import Draws

#: Standard deviation of the Gaussian that makes an elastic deformation smooth, in image sides.
SMOOTH = 0.08


def contrast(x: Tensor, draws: Draws, *, kept: float) -> Tensor:
    """Contrast reduced to the mean, m + kept (x - m), with m the channel's mean."""
    mean = x.mean(dim=(2, 3), keepdim=True)
    return mean + kept * (x - mean)


def elastic_transform(x: Tensor, draws: Draws, *, displacement: float) -> Tensor:
    """Pixels moved by a smooth random field: root mean square `displacement` sides per axis."""
    n, _, height, width = x.shape
    side = min(height, width)
    field = gaussian_filtered(2 * draws.uniform(n, 2, height, width) - 1, SMOOTH * side)
    field = field / field.square().mean(dim=(2, 3), keepdim=True).sqrt()
    row, column = (displacement * side * field).unbind(dim=1)
    return displaced(x, row, column)


def pixelate(x: Tensor, draws: Draws, *, kept: float) -> Tensor:
    """Means over the blocks of a grid with `kept` times as many cells along each side."""
    # In float64, whose products no setting of torch computes at a lower precision.
    rows, columns = (blocks(side, kept).to(x.device) for side in x.shape[-2:])
    return (rows @ x.double() @ columns).to(x.dtype)


def blocks(side: int, kept: float) -> Tensor:
    """[side, side] float64: the mean over a pixel's block, symmetric.

    There are round(kept side) blocks; a pixel belongs to the block that contains its centre.
    """
    pixel = torch.arange(side, dtype=torch.float64, device="cpu")
    block = ((pixel + 0.5) * round(kept * side) / side).floor()
    together = (block[:, None] == block).double()
    return together / together.sum(dim=1)


def jpeg_compression(x: Tensor, draws: Draws, *, quality: int) -> Tensor:
    """Encode and decode by Pillow, with values rounded to 8 bits."""
    if x.shape[1] not in (1, 3):
        raise ValueError(
            f"x must have 1 channel or 3 for corruption 'jpeg_compression', got {describe(x)}"
        )
    require("corruption 'jpeg_compression'", "PIL.Image", "Pillow")
    from PIL import Image

    pixels = (255 * x).round().byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()
    result = np.empty_like(pixels)
    for image, decoded in zip(pixels, result, strict=True):
        file = io.BytesIO()
        grey = image.shape[-1] == 1
        Image.fromarray(image[..., 0] if grey else image).save(file, "JPEG", quality=quality)
        with Image.open(file) as opened:
            decoded[...] = np.asarray(opened).reshape(image.shape)
    return torch.from_numpy(result).permute(0, 3, 1, 2).to(x) / 255
