"""Random crops and flips of a whole batch on its device, from a given generator."""

from __future__ import annotations

import torch
from torch import Tensor

from rrfast._checks import check_bool, check_count, describe


def augment(
    x: Tensor, generator: torch.Generator, *, padding: int = 4, flip: bool = True
) -> Tensor:
    """Shift every image by up to `padding` pixels along both axes, and mirror half of them.

    This is the usual augmentation for CIFAR: pad the image with zeros, crop to the original size at
    a random place, then mirror with probability 1/2, each image independently. It is one gather on
    the device of the batch, without a loop over images and without waiting for the device.

    The same generator state gives the same result on the same kind of device. `flip` does not
    change the crops. The global random state is neither used nor changed.

    Args:
        x: [B, C, H, W], any dtype and device; not changed.
        generator: On the device of `x`; advanced by every call.
        padding: Width of the zeros on each side in pixels. Zero is black for pixels in [0, 1], and
            the mean for normalised ones.
        flip: Whether to mirror.

    Returns:
        [B, C, H, W], a new tensor with the dtype and device of `x`.

    Raises:
        TypeError: `x` is not a tensor, `generator` not a generator, or `flip` not a bool.
        ValueError: `x` is not [B, C, H, W], `padding` is not an integer of at least 0, or the
            generator is on another device.

    Source: He et al. (2016), "Deep Residual Learning for Image Recognition", section 4.2.

    Example:
        >>> x = torch.rand(8, 3, 32, 32)
        >>> augment(x, torch.Generator().manual_seed(0)).shape
        torch.Size([8, 3, 32, 32])
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be a tensor, got {describe(x)}")
    if x.dim() != 4:
        raise ValueError(f"x must have shape [B, C, H, W], got {describe(x)}")
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {describe(generator)}")
    if generator.device.type != x.device.type:
        raise ValueError(
            f"generator must be on the device of x, {x.device}, got {generator.device}"
        )
    check_count("padding", padding, least=0)
    check_bool("flip", flip)
    batch, channels, height, width = x.shape
    # First row and column of the crop in the padded image.
    place = torch.randint(2 * padding + 1, (2, batch, 1), generator=generator, device=x.device)
    row, column = (torch.arange(side, device=x.device) for side in (height, width))
    if flip:
        mirrored = torch.randint(2, (batch, 1), generator=generator, device=x.device).bool()
        column = torch.where(mirrored, width - 1 - column, column)
    # Indices in the image itself: a padded copy would grow with the square of the padding.
    rows, columns = place[0] + row - padding, place[1] + column - padding  # [B, H], [B, W]
    pixel = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None, :]
    outside = _beyond(rows, height)[:, :, None] | _beyond(columns, width)[:, None, :]  # [B, H, W]
    # One index per pixel, shared by all channels: four times as fast as indexing with four tensors.
    index = pixel.flatten(1)[:, None].expand(batch, channels, height * width)
    moved = x.flatten(2).gather(2, index).reshape(x.shape)
    return moved.masked_fill_(outside[:, None], 0)


def _beyond(places: Tensor, side: int) -> Tensor:
    return (places < 0) | (places >= side)
