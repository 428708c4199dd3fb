"""Patches of natural images as out-of-distribution data."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from rrfast._checks import check_bool, check_count, check_one_of, check_pixels, describe
from rrfast._errors import require
from rrfast._seeds import seeded
from rrfast.data.folder import read_image, some_image_files
from rrfast.data.noise import batch_shape

#: A folder, or images [C, h, w].
Images = str | os.PathLike[str] | Sequence[Tensor] | Tensor
#: Weights of red, green and blue in grey: Pillow's, and ACET's.
GREYS = {"luminance": (0.299, 0.587, 0.114), "mean": (1 / 3, 1 / 3, 1 / 3)}
#: Side of a patch of `sample_photos` before scaling down, in sides of the result.
SCALE = 4


def random_crops(
    images: Images, shape: Sequence[int], n: int | None = None, *, seed: int = 0
) -> Tensor:
    """A patch of every image, at a random place and at the image's scale.

    TinyImageNet (crop) and LSUN (crop) are made in this way. The place is uniform among those where
    the patch is inside the image. If n is below the number of images, n different images are drawn;
    if above, every image has floor(n / images) patches, and the images with one more are drawn.

    Args:
        images: A folder with .png, .jpg and .jpeg at any depth (links are followed, names that
            begin with a dot are skipped); each file is read once, one at a time, by `read_image`.
            Or images [C, h, w] of any sizes, bytes or floating point in [0, 1].
        shape: [C, H, W] of the result. For C = 1 colour becomes grey (0.299 R + 0.587 G + 0.114 B,
            rounded to a byte for files), for C = 3 grey becomes colour.
        n: Number of patches; None for one of every image.
        seed: Any integer. Global random state is neither used nor changed.

    Returns:
        [n, C, H, W] float32 in [0, 1], on the CPU, in the order of the images; files are ordered by
        their relative paths.

    Raises:
        FileNotFoundError: `images` is a path but not a folder, or a folder without images.
        ImportError: It is a folder, and Pillow is not installed.
        TypeError: `images` is something else, or `seed` not an integer.
        ValueError: An image is smaller than the patch, has another number of channels or pixels
            outside [0, 1], or a file cannot be read; the message names it. No image is skipped,
            because that would change the set. Or `n` or a length in `shape` is below 1, or C is
            neither 1 nor 3 for a folder.

    Source: ODIN §4.2 (1) and (2).

    Example:
        >>> photos = [torch.rand(3, 40, 60), torch.rand(3, 33, 32)]
        >>> random_crops(photos, (3, 32, 32)).shape, random_crops(photos, (1, 8, 8), 9).shape
        (torch.Size([2, 3, 32, 32]), torch.Size([9, 1, 8, 8]))
    """
    return _patches(_Photos(images, shape), n, seed, scale=1)


def resized(
    images: Images,
    shape: Sequence[int],
    n: int | None = None,
    *,
    grey: str = "luminance",
    seed: int = 0,
) -> Tensor:
    """Every image as a whole, scaled to H x W whatever its proportions.

    TinyImageNet (resize) and LSUN (resize) are made in this way. The filter is bilinear and
    antialiased, a triangle as wide as two pixels of the result, like Pillow's; smaller images are
    enlarged.

    Args:
        images: As for `random_crops`.
        shape: As for `random_crops`.
        n: Number of images, drawn without replacement; None for all.
        grey: How to convert colour for C = 1: "luminance", as in `random_crops`, or "mean" of the
            three channels, which is not rounded.
        seed: Any integer. Global random state is neither used nor changed.

    Returns:
        [n, C, H, W] float32 in [0, 1], on the CPU, in the order of the images.

    Raises:
        FileNotFoundError, ImportError, TypeError, ValueError: As `random_crops`, except for the
            size; also ValueError if there are fewer than n images, or for another `grey`.

    Source: ODIN §4.2 (1) and (2), which does not say how to scale. The mean: ACET's released code,
    which scales grey CIFAR-10 to bytes first; this is the same except for that rounding.

    Example:
        >>> resized([torch.rand(3, 40, 60), torch.rand(3, 33, 32)], (3, 32, 32)).shape
        torch.Size([2, 3, 32, 32])
    """
    check_one_of("grey", grey, GREYS)
    photos = _Photos(images, shape, grey)
    generator = seeded(seed)
    counts = _patches_of_each(len(photos), n, generator)
    if n is not None and n > len(photos):
        raise ValueError(f"n must be at most the number of images, {len(photos)}, got {n}")
    chosen = counts.nonzero()[:, 0].tolist()
    _, height, width = photos.shape
    return torch.stack([_scaled(photos[index], height, width) for index in chosen])


def sample_photos(shape: Sequence[int], n: int, *, crop: bool = True, seed: int = 0) -> Tensor:
    """Patches of two photographs from scikit-learn, a temple and a flower, without a download.

    Half of the patches are from each photograph, and they overlap: they represent the local look of
    photographs, not their variety.

    Args:
        shape: [C, H, W]; C is 3, or 1 for grey. The photographs have 427 x 640 pixels.
        n: Number of patches, at least 1.
        crop: True: patches of H x W. False: patches of 4 H x 4 W, scaled to H x W as by `resized`.
        seed: Any integer. Global random state is neither used nor changed.

    Returns:
        [n, C, H, W] float32 in [0, 1], on the CPU, those of the temple first.

    Raises:
        ImportError: scikit-learn or Pillow is not installed.
        TypeError: `seed` is not an integer, or `crop` not a bool.
        ValueError: `n` or a length in `shape` is below 1, C is neither 1 nor 3, or the photographs
            are smaller than the patches.

    Source: `sklearn.datasets.load_sample_images`; for the two kinds ODIN §4.2.

    Example:
        >>> sample_photos((3, 32, 32), 10).shape, sample_photos((1, 8, 8), 4, crop=False).shape
        (torch.Size([10, 3, 32, 32]), torch.Size([4, 1, 8, 8]))
    """
    check_bool("crop", crop)
    check_count("n", n)
    require("rrfast.data.sample_photos", "PIL.Image", "Pillow")
    require("rrfast.data.sample_photos", "sklearn.datasets", "scikit-learn")
    from sklearn.datasets import load_sample_images

    photos = [
        torch.tensor(image, device="cpu").permute(2, 0, 1) for image in load_sample_images().images
    ]
    return _patches(_Photos(photos, shape), n, seed, scale=1 if crop else SCALE)


class _Photos:
    """Images of any size with the channels of a shape, read when indexed."""

    def __init__(self, images: Images, shape: Sequence[int], grey: str = "luminance") -> None:
        self.shape, self.grey = batch_shape(1, shape)[1:], grey
        if not isinstance(images, (str, os.PathLike, Sequence, Tensor)):
            raise TypeError(f"images must be a folder or images [C, h, w], got {describe(images)}")
        self.images: Sequence[Path | Tensor] | Tensor
        if isinstance(images, (str, os.PathLike)):
            root = Path(images)
            self.images = [root / file for file in some_image_files("images", root)]
            if self.shape[0] not in (1, 3):
                raise ValueError(
                    f"channels in shape must be 1 or 3 for a folder, got {self.shape[0]}"
                )
        else:
            self.images = images
        if not len(self.images):
            raise ValueError("images must have at least one image, got none")

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        image = self.images[index]
        return str(image) if isinstance(image, Path) else f"image {index}"

    def __getitem__(self, index: int) -> Tensor:
        """[C, h, w] float32 in [0, 1], on the CPU."""
        image, channels = self.images[index], self.shape[0]
        if isinstance(image, Path):
            # Pillow only has the luminance.
            in_colour = channels == 1 and self.grey != "luminance"
            return self._as_wanted(read_image(image, channels=3 if in_colour else channels))
        if not isinstance(image, Tensor) or not (
            image.dtype == torch.uint8 or image.is_floating_point()
        ):
            raise TypeError(
                f"{self.name(index)} must be a tensor of uint8 or floating point, got "
                f"{describe(image)}"
            )
        if image.dim() != 3 or {len(image), channels} not in ({channels}, {1, 3}):
            raise ValueError(
                f"{self.name(index)} must have shape [{channels}, h, w], or 3 channels to be made "
                f"grey or 1 to be made colour, got {describe(image)}"
            )
        pixels = image.detach().to("cpu", torch.float32)
        if image.dtype == torch.uint8:
            pixels = pixels / 255
        else:
            check_pixels(self.name(index), pixels)
        return self._as_wanted(pixels)

    def _as_wanted(self, pixels: Tensor) -> Tensor:
        """Convert to the channels of the shape."""
        channels = self.shape[0]
        if channels == 1 and len(pixels) == 3:
            # At most 1: the weights rounded to float32 sum to 1 in any order.
            weights = torch.tensor(GREYS[self.grey], device="cpu", dtype=torch.float32)
            # Autocast would reduce the pixels to 8 bits.
            with torch.autocast("cpu", enabled=False):
                return torch.einsum("c,chw->hw", weights, pixels)[None]
        return pixels.expand(channels, -1, -1)


def _patches(photos: _Photos, n: int | None, seed: int, *, scale: int) -> Tensor:
    generator = seeded(seed)
    _, height, width = photos.shape
    counts = _patches_of_each(len(photos), n, generator)
    result = torch.empty(int(counts.sum()), *photos.shape, device="cpu", dtype=torch.float32)
    free: Iterator[Tensor] = iter(result)
    for index, count in enumerate(counts.tolist()):
        if not count:
            continue
        photo = photos[index]
        rows = photo.shape[1] - scale * height + 1
        columns = photo.shape[2] - scale * width + 1
        if min(rows, columns) < 1:
            raise ValueError(
                f"{photos.name(index)} must be at least as large as a patch of {scale * height} x "
                f"{scale * width} pixels, and has {photo.shape[1]} x {photo.shape[2]}"
            )
        tops = torch.randint(rows, (count,), generator=generator, device="cpu").tolist()
        lefts = torch.randint(columns, (count,), generator=generator, device="cpu").tolist()
        for top, left in zip(tops, lefts, strict=True):
            patch = photo[:, top : top + scale * height, left : left + scale * width]
            next(free).copy_(_scaled(patch, height, width))
    return result


def _patches_of_each(images: int, n: int | None, generator: torch.Generator) -> Tensor:
    """The number of patches of each image: [images] int64."""
    if n is None:
        return torch.ones(images, dtype=torch.int64, device="cpu")
    check_count("n", n)
    counts = torch.full((images,), n // images, device="cpu")
    more = torch.randperm(images, generator=generator, device="cpu")[: n % images]
    counts[more] += 1
    return counts


def _scaled(x: Tensor, height: int, width: int) -> Tensor:
    """An image [C, h, w] as [C, height, width]."""
    if tuple(x.shape[1:]) == (height, width):
        return x
    scaled = F.interpolate(x[None], size=(height, width), mode="bilinear", antialias=True)[0]
    return scaled.clamp_(0, 1)  # the weights sum to 1 only up to rounding
