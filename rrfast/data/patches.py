"""Patches of natural images as out-of-distribution data."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from rrfast._checks import check_count, check_one_of, describe
from rrfast._errors import require
from rrfast._seeds import seeded
from rrfast.data.folder import SUFFIXES, image_files, read_image
from rrfast.data.noise import batch_shape

#: A folder, or images [C, h, w].
Images = str | os.PathLike[str] | Sequence[Tensor] | Tensor
#: Weights of red, green and blue in grey: Pillow's, and ACET's.
GREYS = {"luminance": (0.299, 0.587, 0.114), "mean": (1 / 3, 1 / 3, 1 / 3)}
#: Sides of a patch of `sample_photos` that is scaled down, in sides of the result.
SCALE = 4


def random_crops(
    images: Images,
    shape: Sequence[int],
    n: int | None = None,
    *,
    seed: int = 0,
) -> Tensor:
    """A patch of every image, at a random place, at the scale of the image.

    So TinyImageNet (crop) and LSUN (crop) are made. A place is uniform among those where the patch
    is within the image. With n below the number of images, n of them are drawn, each once; above
    it, every image has floor(n / images) patches, and those that have one more are drawn.

    Args:
        images: A folder, searched to its depth for .png, .jpg and .jpeg (links are followed, names
            that begin with a dot passed over), of which each is read once and one at a time, as
            `read_image` does it. Or images [C, h, w] of any sizes, bytes or floating point in
            [0, 1].
        shape: [C, H, W] of the result. Colour becomes grey where C is 1 (0.299 R + 0.587 G + 0.114
            B; of a file rounded to a byte), grey becomes colour where it is 3.
        n: Patches; None for one of every image.
        seed: Any integer. Global random state is neither used nor changed.

    Returns:
        [n, C, H, W] float32 in [0, 1], on the CPU, in the order of the images; files are in that
        of their sorted relative paths.

    Raises:
        FileNotFoundError: `images` is a path and no folder, or a folder without images.
        ImportError: It is a folder, and Pillow is not installed.
        TypeError: `images` is nothing of that, or `seed` no integer.
        ValueError: An image is smaller than the patch, has another number of channels or pixels
            outside [0, 1], or a file cannot be read: it is named. None is passed over, as a set
            that some are left out of is another one. Or `n` or `shape` has not at least 1 of each,
            or C is neither 1 nor 3 for a folder.

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

    So TinyImageNet (resize) and LSUN (resize) are made. The filter is bilinear and antialiased, a
    triangle as wide as two pixels of the result, like Pillow's; an image that is smaller is
    enlarged.

    Args:
        images: As those of `random_crops`.
        shape: Likewise.
        n: Images, drawn without replacement; None for all of them.
        grey: What colour becomes where C is 1: "luminance", as in `random_crops`, or "mean", that
            of the three channels, which is not rounded.
        seed: Any integer. Global random state is neither used nor changed.

    Returns:
        [n, C, H, W] float32 in [0, 1], on the CPU, in the order of the images.

    Raises:
        FileNotFoundError, ImportError, TypeError, ValueError: As `random_crops`, but for the size;
            ValueError too where there are not n images, or `grey` is none of the two.

    Source: ODIN §4.2 (1) and (2). How it scaled is not said there. The mean: ACET's released code,
    whose grey CIFAR-10 is scaled first, to bytes, which is the same but for that rounding.

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
    """Patches of two photographs that scikit-learn brings: a temple, a flower. No download.

    Half of the patches are of each, and they overlap: they stand for what a photograph looks like
    close by, not for what is in one.

    Args:
        shape: [C, H, W]; C is 3, or 1 for grey. The photographs have 427 x 640 pixels.
        n: Patches, at least 1.
        crop: Patches of H x W. Otherwise of 4 H x 4 W, scaled to H x W as `resized` does it.
        seed: Any integer. Global random state is neither used nor changed.

    Returns:
        [n, C, H, W] float32 in [0, 1], on the CPU, those of the temple first.

    Raises:
        ImportError: scikit-learn or Pillow is not installed.
        TypeError: `seed` is no integer, or `crop` no bool.
        ValueError: `n` or `shape` has not at least 1 of each, C is neither 1 nor 3, or the
            photographs are smaller than the patches.

    Source: `sklearn.datasets.load_sample_images`; for the two kinds ODIN §4.2.

    Example:
        >>> sample_photos((3, 32, 32), 10).shape, sample_photos((1, 8, 8), 4, crop=False).shape
        (torch.Size([10, 3, 32, 32]), torch.Size([4, 1, 8, 8]))
    """
    if not isinstance(crop, bool):
        raise TypeError(f"crop must be a bool, got {describe(crop)}")
    check_count("n", n)
    require("rrfast.data.sample_photos", "PIL.Image", "Pillow")
    require("rrfast.data.sample_photos", "sklearn.datasets", "scikit-learn")
    from sklearn.datasets import load_sample_images

    photos = [
        torch.tensor(image, device="cpu").permute(2, 0, 1) for image in load_sample_images().images
    ]
    return _patches(_Photos(photos, shape), n, seed, scale=1 if crop else SCALE)


class _Photos:
    """Images of any size with the channels of a shape, read when they are asked for."""

    def __init__(self, images: Images, shape: Sequence[int], grey: str = "luminance") -> None:
        self.shape, self.grey = batch_shape(1, shape)[1:], grey
        if not isinstance(images, (str, os.PathLike, Sequence, Tensor)):
            raise TypeError(f"images must be a folder or images [C, h, w], got {describe(images)}")
        self.images: Sequence[Path | Tensor] | Tensor
        if isinstance(images, (str, os.PathLike)):
            self.images = _files(Path(images), self.shape[0])
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
            # Pillow has the luminance alone.
            in_colour = channels == 1 and self.grey != "luminance"
            return self._as_wanted(read_image(image, channels=3 if in_colour else channels))
        if not isinstance(image, Tensor) or not (
            image.dtype == torch.uint8 or image.is_floating_point()
        ):
            raise TypeError(
                f"{self.name(index)} must be a tensor of uint8 or floating point, got "
                f"{describe(image)}"
            )
        if image.dim() != 3 or (image.shape[0], channels) not in {
            (channels, channels),
            (1, 3),
            (3, 1),
        }:
            raise ValueError(
                f"{self.name(index)} must have shape [{channels}, h, w], or 3 channels to be made "
                f"grey or 1 to be made colour, got {describe(image)}"
            )
        pixels = image.detach().to("cpu", torch.float32)
        if image.dtype == torch.uint8:
            pixels = pixels / 255
        elif not bool(((pixels >= 0) & (pixels <= 1)).all()):  # NaN is not in it either
            low, high = float(pixels.min()), float(pixels.max())
            raise ValueError(
                f"{self.name(index)} must have pixels in [0, 1], and has them from {low:g} to "
                f"{high:g}"
            )
        return self._as_wanted(pixels)

    def _as_wanted(self, pixels: Tensor) -> Tensor:
        """With the channels of the shape."""
        channels = self.shape[0]
        if channels == 1 and len(pixels) == 3:
            # At most 1: rounded to float32, the weights add up to 1 in any order.
            weights = torch.tensor(GREYS[self.grey], device="cpu", dtype=torch.float32)
            # Autocast would leave the pixels 8 bits.
            with torch.autocast("cpu", enabled=False):
                return torch.einsum("c,chw->hw", weights, pixels)[None]
        return pixels.expand(channels, -1, -1)


def _files(root: Path, channels: int) -> list[Path]:
    if not root.is_dir():
        raise FileNotFoundError(f"images must be a folder that exists, got {root}")
    if channels not in (1, 3):
        raise ValueError(f"channels in shape must be 1 or 3 for a folder, got {channels}")
    require("a folder of images", "PIL.Image", "Pillow")
    files = [root / file for file in image_files(root)]
    if not files:
        raise FileNotFoundError(
            f"images must be a folder with images: no {', '.join(SUFFIXES)} below {root}"
        )
    return files


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
    """How many patches each image has: [images] int64."""
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
    return scaled.clamp_(0, 1)  # the weights add up to 1 but for rounding
