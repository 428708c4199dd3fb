"""Unlabelled images: a folder with its sub-folders, the rows of a .npy file, or shards."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from rrfast._checks import check_count, check_pixels
from rrfast._errors import require
from rrfast.data.folder import SUFFIXES, image_files, read_image
from rrfast.data.npy import memory_map
from rrfast.inference.shards import EncodedFiles, Shards, is_shard, shard_files, text_of

Shape = tuple[int, ...]


class Images(Protocol):
    """Images that are read on demand."""

    def __len__(self) -> int:
        """Number of images."""

    def name(self, index: int) -> str:
        """The name of the image in the results; text that UTF-8 can encode."""

    def read(self, index: int) -> Tensor:
        """[C, H, W] float32 in [0, 1]; raises a ValueError that names the image if that fails."""

    def fingerprint(self) -> str:
        """A SHA-256 that changes if images are added, removed or changed."""


class FolderImages(EncodedFiles):
    """The images below a folder, in the order of their relative paths; made by `open_images`."""

    def name(self, index: int) -> str:
        """The relative path; bytes that are not UTF-8 in hexadecimal."""
        return text_of(self.files[index])

    def read(self, index: int) -> Tensor:
        """[C, H, W] float32 in [0, 1]."""
        file, path = self.files[index], self.root / self.files[index]
        try:
            return read_image(path, channels=self.channels, size=self.size)
        except ValueError as error:
            # The sentence must not depend on the folder's place. The whole path is replaced,
            # because the folder's name may be a part of another. Pillow quotes paths as Python
            # does.
            told = str(error).replace(str(path), file).replace(repr(str(path)), repr(file))
            raise ValueError(text_of(told)) from error


class NpyImages:
    """The rows of a .npy file; made by `open_images`."""

    def __init__(self, file: Path) -> None:
        self.file = file
        array = self._array = memory_map(file)
        plain = array.dtype == np.uint8 or np.issubdtype(array.dtype, np.floating)
        if array.ndim not in (3, 4) or 0 in array.shape[1:] or not plain:
            raise ValueError(
                f"{file} must be uint8, or floating point in [0, 1], of shape [N, C, H, W] or "
                f"[N, H, W], got {array.dtype} of shape {list(array.shape)}"
            )

    def __len__(self) -> int:
        return len(self._array)

    def __getstate__(self) -> dict[str, Any]:
        """Without the array, which would otherwise be sent to each worker process."""
        return {"file": self.file}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def name(self, index: int) -> str:
        """The number of the row, from 0."""
        return str(index)

    def read(self, index: int) -> Tensor:
        """[C, H, W] float32 in [0, 1]."""
        row: npt.NDArray[Any] = self._array[index]
        x = torch.from_numpy(np.array(row, dtype=np.float32, order="C"))
        if row.dtype == np.uint8:
            x /= 255
        else:
            check_pixels(f"row {index}", x)
        return x.unsqueeze(0) if x.dim() == 2 else x

    def fingerprint(self) -> str:
        """A hash of the file's size and time of change; no image is read."""
        status = self.file.stat()
        return hashlib.sha256(f"{status.st_size} {status.st_mtime_ns}".encode()).hexdigest()


def open_images(
    source: str | Path, *, channels: int | None = None, size: int | None = None
) -> Images | Shards:
    """The images of a folder, a .npy file or shards.

    Args:
        source: A folder, searched recursively for .png, .jpg and .jpeg (in capitals too; links are
            followed, names that begin with a dot are skipped); one without these, but with
            WebDataset's shards (.tar, .tar.gz or .tgz) or Parquet files of encoded images, or one
            such file (`rrfast.inference.shards`); or a .npy file of [N, C, H, W] or [N, H, W] (then
            C = 1), uint8 or floating point in [0, 1]; it is memory-mapped, never unpickled.
        channels: Channels of encoded images: 3 for RGB, 1 for grey; None is 3.
        size: Side in pixels for encoded images, with the geometry of `rrfast.data.image_folder`;
            None for their own size.

    Raises:
        FileNotFoundError: `source` is none of them, or has no image.
        ImportError: It needs Pillow, webdataset or pyarrow, and that is not installed.
        OSError: A folder in it cannot be read.
        ValueError: `size` or `channels` is out of range, or given with a .npy file; the file is
            truncated or of another shape or dtype.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     np.save(f"{root}/x.npy", np.full((5, 8, 8), 51, dtype=np.uint8))
        ...     images = open_images(f"{root}/x.npy")
        ...     x = images.read(4)
        >>> len(images), images.name(4), x.shape, x.max()
        (5, '4', torch.Size([1, 8, 8]), tensor(0.2000))
    """
    path = Path(source)
    if is_encoded(path):
        check_decoding(channels, size)
        require("a folder of images" if path.is_dir() else str(path), "PIL.Image", "Pillow")
        files = image_files(path) if path.is_dir() else []
        if files:
            return FolderImages(path, files, channels=channels or 3, size=size)
        found = shard_files(path)
        if found is not None:
            kind, files = found
            root = path if path.is_dir() else path.parent
            return kind(root, files, channels=channels or 3, size=size)
        raise FileNotFoundError(
            f"input has no image: no {', '.join(SUFFIXES)} below {path}, and no shards in it"
        )
    if path.suffix != ".npy" or not path.is_file():
        raise FileNotFoundError(
            f"input must be a folder of images or of shards, a shard or a .npy file, got {path}"
        )
    for name, value in (("channels", channels), ("size", size)):
        if value is not None:
            raise ValueError(f"{name} must not be given for a .npy file, which has it, got {value}")
    array = NpyImages(path)
    if not len(array):
        raise FileNotFoundError(f"input has no image: {path} has no row")
    return array


def check_decoding(channels: int | None, size: int | None) -> None:
    """Raise a ValueError if encoded images cannot be read with so many channels or at that size."""
    if channels not in (None, 1, 3):
        raise ValueError(f"channels must be 1 or 3 for encoded images, got {channels!r}")
    if size is not None:
        check_count("size", size)


def is_encoded(source: Path) -> bool:
    """Whether it has images to decode: whether it is a folder or a shard."""
    return source.is_dir() or (source.is_file() and is_shard(source.name))


def first_shape(images: Images | Shards) -> Shape | None:
    """[C, H, W] of the first image that can be read; None if none can."""
    if isinstance(images, Shards):
        streams = (images.stream(shard) for shard in range(len(images)))
        every = (pixels for stream in streams for _, pixels in stream)
        return next((tuple(x.shape) for x in every if isinstance(x, Tensor)), None)
    for index in range(len(images)):
        try:
            return tuple(images.read(index).shape)
        except ValueError:
            continue
    return None


class Read(NamedTuple):
    """A batch of images, some of which may have failed."""

    x: Tensor | None  #: [n, C, H, W], those that did not fail
    errors: list[str | None]  #: a sentence or None for each image


@dataclass(eq=False)
class Reads(Dataset[Tensor | str]):
    """Images of one shape, or error sentences, since an exception in a worker would end the run."""

    images: Images
    shape: Shape | None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor | str:
        """[C, H, W], or a sentence."""
        try:
            x = self.images.read(index)
        except ValueError as error:
            return str(error)
        return _fitting(self.images.name(index), x, self.shape)


class Chunk(NamedTuple):
    """Successive images of a part of the work."""

    part: int
    names: list[str]
    read: Read
    last: bool  #: whether the part ends with them


@dataclass(eq=False)
class ShardReads(IterableDataset[Chunk]):
    """The images of some shards as `Chunk`s; workers that read share the shards among them."""

    shards: Shards
    mine: Sequence[int]
    batch: int
    shape: Shape | None

    def __iter__(self) -> Iterator[Chunk]:
        worker = get_worker_info()
        own = self.mine if worker is None else self.mine[worker.id :: worker.num_workers]
        for shard in own:
            stream = self.shards.stream(shard)
            few = list(itertools.islice(stream, self.batch))
            while few:  # a shard has a row at least
                following = list(itertools.islice(stream, 1))
                names = [name for name, _ in few]
                fitting = [
                    pixels if isinstance(pixels, str) else _fitting(name, pixels, self.shape)
                    for name, pixels in few
                ]
                yield Chunk(shard, names, collate(fitting), last=not following)
                few = [*following, *itertools.islice(stream, self.batch - 1)] if following else []


def _fitting(name: str, x: Tensor, shape: Shape | None) -> Tensor | str:
    """The image, or a sentence if it has another shape."""
    if tuple(x.shape) == shape:
        return x
    return (
        f"{name} must have the shape of the first image, {list(shape or ())}, got {list(x.shape)}"
    )


def collate(items: list[Tensor | str]) -> Read:
    """Collate function of the `DataLoader`."""
    good = [item for item in items if isinstance(item, Tensor)]
    errors = [None if isinstance(item, Tensor) else item for item in items]
    return Read(torch.stack(good) if good else None, errors)
