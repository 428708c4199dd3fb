"""A folder of images, one sub-folder per class, as ImageNet is usually laid out."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from rrfast._checks import check_count, check_path
from rrfast._errors import require

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclass(eq=False, repr=False)
class ImageFolder(Dataset[tuple[Tensor, int]]):
    """Images that are read when indexed; made by `image_folder`."""

    root: Path
    classes: list[str]  #: names of the sub-folders, sorted; a label is an index in this list
    files: list[str]  #: paths of the images below `root`, by class and then by name
    y: Tensor  #: [n] int64, the labels, known without reading images
    _: KW_ONLY
    size: int  #: side of the images, in pixels
    shorter: int  #: shorter side of an image before the crop, in pixels

    def part(self, indices: Tensor) -> ImageFolder:
        """The images at these indices [n], with the classes of the whole."""
        files = [self.files[i] for i in indices.tolist()]
        return replace(self, files=files, y=self.y[indices])

    def __len__(self) -> int:
        """Number of images."""
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Image [3, size, size] float32 in [0, 1], and label."""
        x = read_image(self.root / self.files[index], size=self.size, shorter=self.shorter)
        return x, int(self.y[index])


def read_image(
    file: Path | BinaryIO,
    *,
    name: str = "",
    channels: int = 3,
    size: int | None = None,
    shorter: int | None = None,
) -> Tensor:
    """The image in a file, [C, H, W] float32 in [0, 1]: the bytes of `read_bytes` over 255."""
    pixels = read_bytes(file, name=name, channels=channels, size=size, shorter=shorter)
    return torch.from_numpy(pixels).to(torch.float32) / 255


def read_bytes(
    file: Path | BinaryIO,
    *,
    name: str = "",
    channels: int = 3,
    size: int | None = None,
    shorter: int | None = None,
) -> npt.NDArray[np.uint8]:
    """The image in a file as bytes, [C, H, W].

    An image with more pixels than `PIL.Image.MAX_IMAGE_PIXELS` (89 million, unless you set another
    number, or None) is refused before it is decoded: a file of a few kilobytes can decode to
    gigabytes.

    Args:
        file: A file that Pillow can read. Transparency and EXIF orientation are ignored.
        name: What errors call a file that is open.
        channels: C: 3 for RGB, 1 for grey (Pillow's "L": 0.299 R + 0.587 G + 0.114 B, rounded).
        size: H and W of the centre crop, scaled as in `image_folder`; None: the whole image.
        shorter: Shorter side before the crop; None is 8/7 of `size`.

    Raises:
        ValueError: It is not an image, not a regular file, truncated or too large, or has one
            channel with more than 8 bits.
    """
    if isinstance(file, Path) and not file.is_file() and file.exists():  # pipes may not end
        raise ValueError(f"{file} cannot be read as an image: it is no regular file")
    from PIL import Image

    try:
        with Image.open(file) as image:
            most = Image.MAX_IMAGE_PIXELS
            if most is not None and image.width * image.height > most:
                raise ValueError(
                    f"it has {image.width} x {image.height} pixels, more than "
                    f"PIL.Image.MAX_IMAGE_PIXELS, {most}"
                )
            if image.mode.startswith(("I", "F")):
                # Pillow would clip them at 255, not scale them.
                raise ValueError(f"its pixels have more than 8 bits (mode {image.mode})")
            converted = image.convert("RGB" if channels == 3 else "L")
            if size is not None:
                converted = _crop(converted, size, shorter_side(size, shorter))
            pixels = np.array(converted)
    except Exception as error:  # Pillow's decoders raise anything: AVIF's a RuntimeError
        # Without the address of an open file, which differs from run to run.
        told = str(error).replace(f" {file!r}", "") if name else str(error)
        raise ValueError(f"{name or file} cannot be read as an image: {told}") from error
    return np.ascontiguousarray(pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1))


def image_folder(
    root: str | os.PathLike[str], *, size: int = 224, shorter: int | None = None
) -> ImageFolder:
    """The images root/CLASS/*.png, *.jpg and *.jpeg, as a data set for a `DataLoader`.

    An image is converted to RGB (transparency and EXIF orientation are ignored), its shorter side
    is scaled to `shorter` pixels with Pillow's bilinear filter, and the centre is cropped, as with
    torchvision's `Resize(shorter)` and `CenterCrop(size)`. Pixels are not normalised: put the
    normalisation into the model, so that a radius is in units of pixels.

    Args:
        root: A folder with a sub-folder per class. Names that begin with a dot and files with other
            endings are skipped; `.JPEG` counts as `.jpeg`.
        size: Side of the images, in pixels.
        shorter: Shorter side before the crop, in pixels, at least `size`; None is 8/7 of `size`,
            the usual 256 for 224.

    Returns:
        An `ImageFolder`: a `Dataset` of (x [3, size, size] float32 in [0, 1], label int), whose
        labels number the classes by their sorted names. An image is read when indexed; a file that
        cannot be read, has more pixels than `PIL.Image.MAX_IMAGE_PIXELS`, or one channel with more
        than 8 bits, raises a ValueError that names it.

    Raises:
        FileNotFoundError: `root` is not a folder, has no sub-folder, or a sub-folder has no image.
        ImportError: Pillow is not installed.
        TypeError: `root` is not a path.
        ValueError: `size` is not an integer of at least 1, or `shorter` none of at least `size`.

    Example:
        >>> import tempfile, pathlib
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for name in ("dog", "cat"):
        ...         (pathlib.Path(root) / name).mkdir()
        ...         Image.new("RGB", (60, 40)).save(f"{root}/{name}/1.png")
        ...     data = image_folder(root, size=32)
        ...     x, y = data[1]
        >>> data.classes, x.shape, y
        (['cat', 'dog'], torch.Size([3, 32, 32]), 1)
    """
    check_path("root", root)
    shorter = shorter_side(size, shorter)
    require("rrfast.data.image_folder", "PIL.Image", "Pillow")
    path = Path(root)
    if not path.is_dir():
        raise FileNotFoundError(f"root must be a folder with a sub-folder per class, got {path}")
    classes = _names(path, folders=True)
    if not classes:
        raise FileNotFoundError(f"root must have a sub-folder per class, and {path} has none")
    files, labels = [], []
    for label, name in enumerate(classes):
        images = [file for file in _names(path / name, folders=False) if is_image(file)]
        if not images:
            raise FileNotFoundError(
                f"class {name} has no image: no {', '.join(SUFFIXES)} in {path / name}"
            )
        files += [f"{name}/{image}" for image in images]
        labels += [label] * len(images)
    return ImageFolder(
        path, classes, files, torch.tensor(labels, device="cpu"), size=size, shorter=shorter
    )


def shorter_side(size: int, shorter: int | None) -> int:
    """`shorter`, by default 8/7 of `size`; raises a ValueError unless it is at least `size`."""
    check_count("size", size)
    shorter = size * 8 // 7 if shorter is None else shorter
    check_count("shorter", shorter, least=size)
    return shorter


def _names(folder: Path, *, folders: bool) -> list[str]:
    # scandir knows what is a folder without a look at each of a million files.
    with os.scandir(folder) as entries:
        return sorted(
            entry.name
            for entry in entries
            if entry.is_dir() == folders and not entry.name.startswith(".")
        )


def is_image(file: str) -> bool:
    """Whether the name ends in one of `SUFFIXES`, upper or lower case."""
    return file.lower().endswith(SUFFIXES)


def image_files(root: Path) -> list[str]:
    """Paths of the images at any depth below a folder, relative to it and sorted.

    Links are followed; names that begin with a dot are skipped.

    Raises:
        OSError: A folder in it cannot be read.
    """
    return sorted(_files(root, "", ()))


def some_image_files(name: str, root: Path) -> list[str]:
    """As `image_files`; raises a FileNotFoundError, which says `name`, if there is none."""
    if not root.is_dir():
        raise FileNotFoundError(f"{name} must be a folder of images, got {root}")
    require("a folder of images", "PIL.Image", "Pillow")
    if files := image_files(root):
        return files
    raise FileNotFoundError(
        f"{name} must have an image, and there is no {', '.join(SUFFIXES)} below {root}"
    )


def _files(folder: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:  # a link to a parent folder
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                yield from _files(Path(entry), f"{prefix}{entry.name}/", (*above, here))
            elif is_image(entry.name):
                yield prefix + entry.name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        # Ignore a link to itself. A folder without permission may have images, so raise.
        if error.errno == errno.ELOOP or is_image(entry.name):
            return False
        raise


def _crop(image: Image, size: int, shorter: int) -> Image:
    from PIL.Image import Resampling

    least = min(image.size)
    # Integers: no rounding decides the size of the longer side.
    scaled = [shorter * side // least for side in image.size]
    width, height = scaled
    if (width, height) != image.size:
        image = image.resize((width, height), Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))
