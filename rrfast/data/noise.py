"""Noise images: out-of-distribution data (ODIN §4.2), and for training with CEDA and ACET."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rrfast._checks import check_count, describe
from rrfast._seeds import own_draws, own_generator, seeded
from rrfast.data.outliers import Outliers

#: Pixels of the filter to each side of its centre: a kernel of 15 x 15.
REACH = 7
#: Range of the filter's standard deviation, in pixels.
LEAST_STD, MOST_STD = 1.0, 2.5
#: Number of images with one standard deviation in `smoothed_noise`: a batch of the paper.
BATCH = 128


def gaussian_noise(n: int, shape: Sequence[int], *, seed: int = 0) -> Tensor:
    """Every value of every pixel from N(1/2, 1), clipped to [0, 1].

    Args:
        n: Number of images, at least 1.
        shape: Shape of one image, [C, H, W].
        seed: Any integer. The global random state is neither used nor changed.

    Returns:
        [n, C, H, W] float32 in [0, 1], on the CPU. 62 % of the values are at 0 or 1.

    Raises:
        TypeError: `seed` is not an integer, or `shape` not a list.
        ValueError: `n` or a length is not an integer of at least 1, or `shape` does not have three.

    Source: ODIN §4.2 (3).

    Example:
        >>> x = gaussian_noise(100, (3, 32, 32))
        >>> x.shape, round(float(((x == 0) | (x == 1)).double().mean()), 2)
        (torch.Size([100, 3, 32, 32]), 0.62)
    """
    x = torch.empty(batch_shape(n, shape), device="cpu", dtype=torch.float32)
    return x.normal_(generator=seeded(seed)).add_(0.5).clamp_(0, 1)


def uniform_noise(n: int, shape: Sequence[int], *, seed: int = 0) -> Tensor:
    """Every value of every pixel uniform in [0, 1).

    Args:
        n: Number of images, at least 1.
        shape: Shape of one image, [C, H, W].
        seed: Any integer. The global random state is neither used nor changed.

    Returns:
        [n, C, H, W] float32, on the CPU.

    Raises:
        TypeError, ValueError: As `gaussian_noise`.

    Source: ODIN §4.2 (4).

    Example:
        >>> uniform_noise(2, (1, 8, 8)).shape
        torch.Size([2, 1, 8, 8])
    """
    x = torch.empty(batch_shape(n, shape), device="cpu", dtype=torch.float32)
    return x.uniform_(generator=seeded(seed))


def batch_shape(n: int, shape: Sequence[int]) -> tuple[int, ...]:
    """(n, C, H, W), each of them at least 1."""
    check_count("n", n)
    if not isinstance(shape, Sequence):
        raise TypeError(f"shape must be [C, H, W], got {describe(shape)}")
    if len(shape) != 3:
        raise ValueError(f"shape must be [C, H, W], got {list(shape)}")
    for name, length in zip(("channels", "height", "width"), shape, strict=True):
        check_count(f"{name} in shape", length)
    return (n, *shape)


class SmoothedNoise:
    """Draws a batch of noise images as large as a given batch: `noise(x)`.

    The first floor(B / 2) are training images, drawn with replacement, with permuted pixels: every
    image has its own permutation, shared by its channels. The others are uniform in [0, 1). All
    then go through the same low-pass filter, and each is stretched to [0, 1]:

        v = sum over -7 <= i, j <= 7 of w_i w_j u(row + i, column + j),
            w_i = exp(-i^2 / (2 s^2)) / sum_j exp(-j^2 / (2 s^2)),    s ~ U[1, 2.5] per batch
        z = (v - min v) / (max v - min v),    over all pixels and channels of the image

    Beyond its borders u is mirrored, including the border pixel, repeatedly for small images, as by
    `numpy.pad` with mode "symmetric". An image of a single value, or one without contrast after the
    filter, has no range to stretch and is left unchanged.

    As in `Outliers`, torch's default CPU generator decides which images are drawn. The rest is
    drawn, in this order, from a generator on the device of x, seeded for the batch from the default
    CPU generator: the sort keys of the permutations, the uniform pixels, s. So `torch.manual_seed`
    decides everything, for one kind of device. Under `torch.distributed` processes with the same
    seed together draw the images that one process would draw for the joint batch, provided that all
    shares have the same even size; permutations, pixels and s are each process's own.

    Args:
        images: The training images, [n, C, H, W] as for `Outliers`.

    Attributes:
        images: As given.

    Raises:
        TypeError: `images` has another type or dtype.
        ValueError: `images` is not [n >= 1, C, H, W], or has pixels outside [0, 1].

    Source: ACET (Hein, Andriushchenko & Bitterwolf 2019), section 5 and appendix F. Kernel,
    borders, one s per batch and the range over all channels follow the released code. That code
    permutes the images of the batch; here, as in the paper, any training images.

    Example:
        >>> noise = SmoothedNoise(torch.rand(100, 3, 32, 32))
        >>> z = noise(torch.rand(4, 3, 32, 32))
        >>> z.shape, z.amin((1, 2, 3)).tolist(), z.amax((1, 2, 3)).tolist()
        (torch.Size([4, 3, 32, 32]), [0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0])
    """

    def __init__(self, images: Tensor | npt.NDArray[np.uint8]) -> None:
        self._outliers = Outliers(images)
        self.images = images

    def __call__(self, x: Tensor) -> Tensor:
        """One noise image per sample.

        Args:
            x: [B, C, H, W] floating point; only its shape, dtype, device and memory format count.

        Returns:
            [B, C, H, W] in [0, 1], of the dtype, device and memory format of x. It is computed in
            float32, or in float64 if that is the dtype of x.

        Raises:
            TypeError: x is not a floating-point tensor.
            ValueError: Its shape is not that of the images.

        Cost: a sort of B/2 x H W keys, and 2 B C H W (H + W) flops. Nothing waits for the device if
            the images are on it; otherwise the drawn ones are copied to it.
        """
        self._outliers.check_like(x)
        index = own_draws(len(self._outliers), len(x) // 2)
        result = torch.empty_like(x, requires_grad=False)
        return result.copy_(_noise(self._outliers, index, x, own_generator(x.device)))


def smoothed_noise(n: int, images: Tensor | npt.NDArray[np.uint8], *, seed: int = 0) -> Tensor:
    """A fixed set of noise images of `SmoothedNoise`, to test on.

    It is drawn in batches of 128, each with its own filter; the first half of each are permuted
    images.

    Args:
        n: Number of noise images, at least 1.
        images: The training images, [m, C, H, W] as for `Outliers`.
        seed: Any integer. Global random state is neither used nor changed, and all processes of
            `torch.distributed` get the same set.

    Returns:
        [n, C, H, W] float32 in [0, 1], on the CPU.

    Raises:
        TypeError: `seed` is not an integer, or `images` is none of the above.
        ValueError: `n` is not an integer of at least 1, or `images` as in `SmoothedNoise`.

    Source: ACET, appendix F: evaluated on noise "generated in the same way as the noise we use for
    training".

    Example:
        >>> smoothed_noise(10, torch.rand(100, 1, 8, 8), seed=3).shape
        torch.Size([10, 1, 8, 8])
    """
    check_count("n", n)
    outliers = Outliers(images)
    generator = seeded(seed)
    result = torch.empty(n, *images.shape[1:], device="cpu", dtype=torch.float32)
    for part in result.split(BATCH):
        index = torch.randint(len(outliers), (len(part) // 2,), generator=generator, device="cpu")
        part.copy_(_noise(outliers, index, part, generator))
    return result


def _noise(outliers: Outliers, index: Tensor, like: Tensor, generator: torch.Generator) -> Tensor:
    """As many images as `like`: those of `index` permuted, the others uniform; all smoothed."""
    batch, channels, height, width = like.shape
    dtype, device = torch.promote_types(like.dtype, torch.float32), like.device
    source = torch.empty(len(index), channels, height, width, dtype=dtype, device=device)
    outliers.fill(source, index)
    # Integers, because floats would tie, and ties would keep their order.
    keys = torch.randint(2**62, (len(index), 1, height * width), generator=generator, device=device)
    order = keys.argsort(dim=2).expand(-1, channels, -1)
    permuted = source.flatten(2).gather(2, order).reshape(source.shape)
    others = (batch - len(index), channels, height, width)
    uniform = torch.rand(others, generator=generator, dtype=dtype, device=device)
    std = torch.rand((), generator=generator, dtype=dtype, device=device)
    std = LEAST_STD + (MOST_STD - LEAST_STD) * std
    return _stretched_low_pass(torch.cat([permuted, uniform]), std)


def _stretched_low_pass(x: Tensor, std: Tensor) -> Tensor:
    # Autocast would reduce the noise to 8 bits.
    with torch.autocast(x.device.type, enabled=False):
        rows, columns = (_low_pass(side, std) for side in x.shape[2:])
        smooth = rows @ (x @ columns.T)
    image = (1, 2, 3)
    least, most = smooth.amin(image, keepdim=True), smooth.amax(image, keepdim=True)
    # Rounding gives a constant image a small range, which must not be stretched to noise.
    plain = (x.amin(image, keepdim=True) == x.amax(image, keepdim=True)) | (least == most)
    return torch.where(plain, x, (smooth - least) / (most - least))


def _low_pass(side: int, std: Tensor) -> Tensor:
    """The filter along an axis of `side` pixels with mirrored borders: [side, side]."""
    steps = torch.arange(-REACH, REACH + 1, device=std.device)
    weight = torch.exp(-0.5 * (steps / std).square())
    pixel = torch.arange(side, device=std.device)
    # The mirrored image has a period of two sides, and the second runs backwards.
    seen = (pixel[:, None] + steps).remainder(2 * side)  # [side, 15]
    seen = torch.minimum(seen, 2 * side - 1 - seen)
    return ((seen[:, :, None] == pixel) * (weight / weight.sum())[:, None]).sum(dim=1)
