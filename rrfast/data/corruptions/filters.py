"""Linear filters and displacements, with mirrored borders."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def kernel_of(points: Tensor) -> Tensor:
    """The filter that averages a bilinearly interpolated image over points around each pixel.

    A pixel at distance d from a point has weight (1 - |d_row|)_+ (1 - |d_column|)_+. So a kernel
    changes continuously with its points, and has an effect however near they are, while rounding
    them to pixels would ignore a radius below 1/2.

    Points are [N, T, 2], rows and columns in pixels from the centre; kernels [N, k, k] with k odd,
    each of sum 1.
    """
    reach = max(1, math.ceil(float(points.abs().max())))
    steps = torch.arange(-reach, reach + 1, dtype=points.dtype, device=points.device)
    rows, columns = (1 - (points[..., None] - steps.view(1, 1, 1, -1)).abs()).clamp(min=0).unbind(2)
    return torch.einsum("ntr,ntc->nrc", rows, columns) / points.shape[1]


def filtered(x: Tensor, kernel: Tensor) -> Tensor:
    """Filter images [n, C, H, W], with a kernel for all [1, h, w] or for each [n, h, w].

    h and w are odd. Borders are mirrored.
    """
    if x.is_cuda and x.dtype == torch.float32:
        # For float32 cuDNN uses TF32 by default, whose 11 bits would be visible in the images.
        return filtered(x.double(), kernel.double()).float()
    n, height, width = kernel.shape
    padded = F.pad(x, (width // 2, width // 2, height // 2, height // 2), mode="reflect")
    if n == 1:
        return F.conv2d(padded.flatten(0, 1)[:, None], kernel[:, None]).reshape(x.shape)
    # Each image is a group with its own kernel, which its channels share.
    return F.conv2d(padded.transpose(0, 1), kernel[:, None], groups=n).transpose(0, 1)


def gaussian_filtered(x: Tensor, deviation: float) -> Tensor:
    """Gaussian filter with this standard deviation in pixels, cut at three of them."""
    reach = math.ceil(3 * deviation)
    steps = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    weight = torch.exp(-0.5 * (steps / deviation).square())
    weight = weight / weight.sum()
    return filtered(filtered(x, weight[None, :, None]), weight[None, None])


def displaced(x: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Replace every pixel of x [n, C, H, W] by the value `row` pixels below, `column` to the right.

    Both broadcast to [n, H, W]. Bilinear between pixels, mirrored beyond the border.
    """
    n, _, height, width = x.shape
    places = []
    for steps, side, along in ((column, width, (1, 1, -1)), (row, height, (1, -1, 1))):
        place = torch.arange(side, dtype=x.dtype, device=x.device).view(along) + steps
        # grid_sample counts from -1, the centre of the first pixel, to 1, that of the last.
        places.append((place * (2 / (side - 1)) - 1).expand(n, height, width))
    grid = torch.stack(places, dim=-1)
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=True)
