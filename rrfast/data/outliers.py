"""Outliers for training: released sets, folders of images, or generated textures."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from rrfast._checks import (
    check_count,
    check_floating,
    check_path,
    check_pixels,
    describe,
    with_article,
)
from rrfast._seeds import own_draws, seeded
from rrfast.data.folder import read_bytes, shorter_side, some_image_files
from rrfast.data.npy import npy_array
from rrfast.data.release import Release

FILE = "300K_random_images.npy"
RELEASE = Release(
    name="the 300K Random Images",
    where=f"The link to {FILE} is at https://github.com/hendrycks/outlier-exposure",
)


@dataclass(eq=False, repr=False)
class ImageFiles:
    """Images in files, as an array of bytes [n, 3, H, W] whose rows are read when indexed."""

    root: Path
    files: list[str]  #: paths of the images below it
    _: KW_ONLY
    size: int  #: side of the images, in pixels
    shorter: int  #: shorter side of an image before the crop, in pixels
    workers: int  #: threads that read a batch together; 0: only the caller's

    ndim = 4
    dtype = np.dtype(np.uint8)

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, 3, size, size)."""
        return len(self.files), 3, self.size, self.size

    def __getitem__(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """The images of these rows [B]: [B, 3, H, W]."""
        files = [self.root / self.files[row] for row in rows]
        read = partial(read_bytes, size=self.size, shorter=self.shorter)
        # Threads suffice: Pillow decodes and scales without holding the interpreter's lock.
        with ThreadPoolExecutor(self.workers or 1) as pool:
            images = (pool.map if self.workers else map)(read, files)
            result = np.empty((len(files), *self.shape[1:]), np.uint8)
            for place, image in enumerate(images):
                result[place] = image
        return result


class Outliers:
    """Draws a batch of outliers as large as a given batch: `outliers(x)`.

    Draws are with replacement from torch's default CPU generator, so `torch.manual_seed` decides
    them. Under `torch.distributed` each process draws the numbers of all and takes its own:
    processes with the same seed together draw what one process would draw for the joint batch
    [share of rank 0; share of rank 1; ...], provided that all shares have the same size.

    Args:
        images: [n, C, H, W]: a tensor of bytes or of floating point in [0, 1] on any device, or a
            NumPy array of bytes, such as a memory map, of which only drawn rows are read. It is not
            copied. For images in files see `folder_images`.

    Attributes:
        images: As given.

    Raises:
        TypeError: `images` has another type or dtype.
        ValueError: It is not [n >= 1, C, H, W], or has pixels outside [0, 1].

    Example:
        >>> outliers = Outliers(random_textures(100, size=8, channels=1))
        >>> outliers(torch.rand(4, 1, 8, 8)).shape
        torch.Size([4, 1, 8, 8])
    """

    def __init__(self, images: Tensor | npt.NDArray[np.uint8] | ImageFiles) -> None:
        if isinstance(images, (np.ndarray, ImageFiles)):
            if images.dtype != np.uint8:
                raise TypeError(f"images must be uint8 as an array, got {_described(images)}")
        elif not isinstance(images, Tensor):
            raise TypeError(f"images must be a tensor or a uint8 array, got {describe(images)}")
        elif images.dtype != torch.uint8 and not images.is_floating_point():
            raise TypeError(f"images must be uint8 or floating point, got {describe(images)}")
        if images.ndim != 4 or images.shape[0] == 0:
            raise ValueError(
                f"images must have shape [n, C, H, W], n at least 1, got {_described(images)}"
            )
        if isinstance(images, Tensor) and images.is_floating_point():
            check_pixels("images", images)
        self.images = images

    def __len__(self) -> int:
        """Number of images to draw from."""
        return int(self.images.shape[0])

    def __call__(self, x: Tensor) -> Tensor:
        """One outlier per sample.

        Args:
            x: [B, C, H, W] floating point; only its shape, dtype, device and memory format count.

        Returns:
            [B, C, H, W] in [0, 1], of the dtype, device and memory format of x: a byte over 255.

        Raises:
            TypeError: x is not a floating-point tensor.
            ValueError: Its shape is not that of the images.

        Cost: a copy to the device of x, of bytes if the images are bytes.
        """
        self.check_like(x)
        return self.fill(torch.empty_like(x, requires_grad=False), own_draws(len(self), x.shape[0]))

    def check_like(self, x: Tensor) -> None:
        """Raise unless x is a floating-point batch of images of this shape."""
        check_floating("x", x)
        shape = tuple(self.images.shape[1:])
        if x.dim() != 4 or tuple(x.shape[1:]) != shape:
            raise ValueError(
                f"x must have shape [B, {', '.join(map(str, shape))}], as the outliers have, got "
                f"{describe(x)}"
            )

    def fill(self, result: Tensor, index: Tensor) -> Tensor:
        """Write the images with these indices [B], on the CPU, into `result`, and return it.

        It is [B, C, H, W] floating point, and keeps its dtype and device.
        """
        if isinstance(self.images, Tensor):
            # A non-blocking copy of few bytes: a blocking one would wait for the device.
            rows = self.images.detach()[index.to(self.images.device, non_blocking=True)]
        else:
            rows = torch.from_numpy(np.ascontiguousarray(self.images[index.numpy()]))
        result.copy_(rows.to(result.device))
        return result if rows.is_floating_point() else result.div_(255)


def random_images(path: str | os.PathLike[str]) -> Outliers:
    """The 300K Random Images: photographs of anything, without those that show CIFAR's classes.

    Outlier Exposure and OpenMix train with them. Nothing is downloaded: get 300K_random_images.npy
    (0.92 GB) by the link at the source below.

    Args:
        path: The file, or its folder.

    Returns:
        `Outliers` of [n, 3, 32, 32] bytes, n = 300,000 in the release, as a memory map: a draw
        reads only its rows.

    Raises:
        FileNotFoundError: There is no such file.
        TypeError: `path` is not a path.
        ValueError: The file is not a .npy file, is truncated, contains Python objects, or is not
            uint8 of shape [n, 32, 32, 3].

    Source: Hendrycks, Mazeika & Dietterich (2019), "Deep Anomaly Detection with Outlier Exposure",
    https://arxiv.org/abs/1812.04606; https://github.com/hendrycks/outlier-exposure.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:  # zeros in the format of the release
        ...     np.save(f"{folder}/300K_random_images.npy", np.zeros((7, 32, 32, 3), np.uint8))
        ...     outliers = random_images(folder)
        ...     x = outliers(torch.rand(4, 3, 32, 32))
        >>> len(outliers), x.shape
        (7, torch.Size([4, 3, 32, 32]))
    """
    check_path("path", path)
    file = Path(path)
    if file.is_dir():
        file /= FILE
    images = npy_array(RELEASE, file, (None, 32, 32, 3), np.uint8)
    return Outliers(images.transpose(0, 3, 1, 2))


def folder_images(
    folder: str | os.PathLike[str], *, size: int = 224, shorter: int | None = None, workers: int = 0
) -> Outliers:
    """All images below a folder, such as Places365, which OpenMix uses with ImageNet.

    Only drawn images are read, again for each draw, scaled and cropped as by `image_folder`.

    Args:
        folder: A folder with *.png, *.jpg and *.jpeg at any depth; sub-folders have no meaning.
        size: Side of the images in pixels; it must be that of the training images.
        shorter: Shorter side before the crop, in pixels, at least `size`; None is 8/7 of `size`.
        workers: Threads that read a batch together; 0: only the caller's. The draws do not depend
            on it.

    Returns:
        `Outliers` of [n, 3, size, size] bytes. A drawn file that cannot be read as an image raises
        a ValueError that names it.

    Raises:
        FileNotFoundError: `folder` is not a folder, or has no image.
        ImportError: Pillow is not installed.
        TypeError: `folder` is not a path.
        ValueError: `size`, `shorter` or `workers` is not an integer, or too small.

    Cost: memory for the names of all files, but not for pixels.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGB", (60, 40)).save(f"{folder}/1.jpg")
        ...     folder_images(folder, size=32)(torch.rand(4, 3, 32, 32)).shape
        torch.Size([4, 3, 32, 32])
    """
    check_path("folder", folder)
    shorter = shorter_side(size, shorter)
    check_count("workers", workers, least=0)
    root = Path(folder)
    files = some_image_files("folder", root)
    return Outliers(ImageFiles(root, files, size=size, shorter=shorter, workers=workers))


def random_textures(n: int, *, size: int = 32, channels: int = 3, seed: int = 0) -> Tensor:
    """Outliers from noise at several scales, for tasks without other outliers.

    An image is a weighted sum of Gaussian noise on grids of 2, 4, 8, ... and `size` cells a side,
    each enlarged to the image bilinearly; the sum has mean 1/2 and a standard deviation c over the
    pixels and channels of the image, and is clipped:

        x = clip(1/2 + c standardised(sum over grids of w_g enlarged(noise_g)))

    Every image has its own random weights w, uniform between 0 and 1, and contrast c, uniform
    between 0.05 and 0.3. So some images are clouds and some are grain, and none has waves as in
    `synthetic` or strokes as in `digits`.

    Args:
        n: Number of images, at least 1.
        size: Side of the images, in pixels, at least 2.
        channels: Number of channels, at least 1; each has its own noise.
        seed: Any integer. Global random state is neither used nor changed.

    Returns:
        [n, channels, size, size] float32 in [0, 1], on the CPU; `Outliers` draws from it.

    Raises:
        TypeError: `seed` is not an integer.
        ValueError: `n`, `size` or `channels` is not an integer, or too small.

    Cost: 10,000 images of 32 x 32 take some three seconds and 0.6 GB.

    Source: ours.

    Example:
        >>> random_textures(10, size=8, channels=1).shape
        torch.Size([10, 1, 8, 8])
    """
    for name, value, least in (("n", n, 1), ("size", size, 2), ("channels", channels, 1)):
        check_count(name, value, least=least)
    generator = seeded(seed)
    x = torch.zeros(n, channels, size, size, device="cpu", dtype=torch.float32)
    contrast = x.new_empty(n, 1, 1, 1).uniform_(generator=generator) * 0.25 + 0.05
    coarser = [2**octave for octave in range(1, size.bit_length()) if 2**octave < size]
    for cells in (*coarser, size):
        noise = x.new_empty(n, channels, cells, cells).normal_(generator=generator)
        weight = x.new_empty(n, 1, 1, 1).uniform_(generator=generator)
        x.addcmul_(weight, F.interpolate(noise, size=(size, size), mode="bilinear"))
    deviation, mean = torch.std_mean(x, dim=(1, 2, 3), keepdim=True)
    return x.sub_(mean).mul_(contrast / deviation).add_(0.5).clamp_(0, 1)


def _described(images: Tensor | npt.NDArray[Any] | ImageFiles) -> str:
    if isinstance(images, Tensor):
        return describe(images)
    return f"{with_article(str(images.dtype))} array of shape {list(images.shape)}"
