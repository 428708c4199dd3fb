"""Unlabelled images in shards: files with many images each, read once from start to end."""

from __future__ import annotations

import gzip
import io
import os
import re
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from rrfast._errors import first_line, require
from rrfast.data.fingerprint import of_files
from rrfast.data.folder import SUFFIXES, read_image

if TYPE_CHECKING:
    import pyarrow as pa

#: The files of a sample that are images, by the ends of their names.
FIELDS = {suffix.removeprefix(".") for suffix in SUFFIXES}
AGAIN = "is in the shard a second time: the first is scored"
LINK = "is a link in the tar file, without bytes of its own: put the image there"
OTHER = (
    "has no image that WebDataset would find: what follows the first dot of a file's name must be "
    "png, jpg or jpeg"
)
#: Files that WebDataset keeps for itself.
META = re.compile(r"__[^/]*__($|/)")
#: What pyarrow calls the types of a column of bytes.
BYTES = {"binary", "large_binary", "binary_view"}
#: Rows of a Parquet file that are in memory at a time.
ROWS = 16


class Encoded(NamedTuple):
    """An image of a shard, as the shard has it."""

    name: str  #: within the shard
    data: bytes
    error: str = ""  #: what is wrong with its place in the shard; ends a sentence that names it


@dataclass(eq=False, repr=False)
class EncodedFiles:
    """Files below a folder with encoded images, and how to decode these: see `open_images`."""

    root: Path
    files: list[str]
    _: KW_ONLY
    channels: int
    size: int | None

    def __len__(self) -> int:
        return len(self.files)

    def fingerprint(self) -> str:
        """A hash of names, sizes and times of change; no image is read."""
        return of_files(self.root, self.files)


class Shards(EncodedFiles, ABC):
    """Files of many encoded images; a part of the work is one of them.

    A shard that cannot be read, is cut off or has no image gives a row with an error, named after
    the shard, behind the rows of the images before.
    """

    suffixes: tuple[str, ...]  #: of the files
    kind: str  #: what they are called
    wanted: str  #: what an image looks like in such a shard

    def stream(self, shard: int) -> Iterator[tuple[str, Tensor | str]]:
        """Name and pixels of every image of a shard, in its order, or why it has none.

        One image is in memory at a time; of Parquet also a page of its column, which most writers
        make of at most 1,024 rows, or of a row group if that has fewer.
        """
        file, images = self.files[shard], 0
        try:
            for encoded in self.encoded(self.root / file):
                images += 1
                name = f"{file}/{encoded.name}"
                yield text_of(name), self._pixels(name, encoded)
        except Exception as error:  # noqa: BLE001  # of the file system, the library, the bytes
            told = first_line(error).replace(str(self.root / file), file)
            yield text_of(file), text_of(f"{file} cannot be read behind image {images}: {told}")
        else:
            if not images:
                yield text_of(file), text_of(f"{file} has no image: no {self.wanted}")

    def read(self, name: str) -> Tensor:
        """The pixels of the image that `stream` gave this name; a ValueError without."""
        for shard, file in enumerate(self.files):
            if name.startswith(f"{text_of(file)}/"):
                for found, pixels in self.stream(shard):
                    if found == name and isinstance(pixels, Tensor):
                        return pixels
        raise ValueError(f"{name} cannot be read any more")

    @abstractmethod
    def encoded(self, path: Path) -> Iterator[Encoded]:
        """The images of a shard, in its order. Raises anything if it cannot be read on."""

    def _pixels(self, name: str, encoded: Encoded) -> Tensor | str:
        if encoded.error:
            return text_of(f"{name} {encoded.error}")
        try:
            file = io.BytesIO(encoded.data)
            return read_image(file, name=name, channels=self.channels, size=self.size)
        except ValueError as error:
            return text_of(str(error))


class TarShards(Shards):
    """WebDataset's shards: a tar file holds KEY.jpg, KEY.cls and so on, a sample side by side."""

    suffixes = (".tar", ".tar.gz", ".tgz")
    kind = "tar shards"
    wanted = ", ".join(SUFFIXES)

    def encoded(self, path: Path) -> Iterator[Encoded]:
        """An image per sample that has one; other files of the sample are not read."""
        from webdataset.tariterators import group_by_keys

        broken: list[Exception] = []
        twice: list[str] = []

        def repeated(error: Exception) -> bool:
            twice.append(str(error.args[0]).partition(": duplicate")[0])
            return True

        seen: set[str] = set()
        with _opened(path) as file:
            stream = _Stream(file)
            files = _files(stream, broken)
            for sample in group_by_keys(files, suffixes=FIELDS, handler=repeated):
                yield from _of_sample(sample, seen)
                yield from (Encoded(name, b"", AGAIN) for name in twice)
                twice.clear()
            if broken and isinstance(broken[0], tarfile.ReadError):
                raise ValueError(f"it is no tar file, or is cut off ({first_line(broken[0])})")
            if broken:
                raise broken[0]
            # Between two files, tarfile takes a cut for the end.
            if not stream.ends():
                raise ValueError("it is cut off: the end that a tar file has is missing")


def _files(stream: _Stream, broken: list[Exception]) -> Iterator[dict[str, Any]]:
    """The images of a tar file as the library groups them, without bytes those that are links.

    `broken` takes the error that ends it, so that the sample before is complete. The library's own
    reader drops links.
    """
    try:
        with tarfile.open(fileobj=stream, mode="r|*") as tar:  # type: ignore[call-overload]
            for member in tar:
                file = tar.extractfile(member) if member.isreg() else None
                if _is_field(member.name) and (file or member.issym() or member.islnk()):
                    data = file.read() if file else None
                    yield {"fname": member.name, "data": data, "__url__": ""}
                tar.members = []  # which would grow with the file
    except Exception as error:  # noqa: BLE001  # of the file system, of gzip, the bytes
        broken.append(error)


def _of_sample(sample: dict[str, Any], seen: set[str]) -> Iterator[Encoded]:
    """The image of a sample; `seen` has the names before, and takes its own."""
    there = [field for field in sample if field in FIELDS]
    key = sample["__key__"]
    if not there and key not in seen:
        seen.add(key)
        yield Encoded(key, b"", OTHER)
    for field in there:
        name, error = f"{key}.{field}", ""
        if len(there) > 1:
            error = f"is one of several images of its sample: {', '.join(there)}"
        elif name in seen:
            error = AGAIN
        elif sample[field] is None:
            error = LINK
        seen.add(name)
        yield Encoded(name, sample[field] or b"", error)


class ParquetShards(Shards):
    """Parquet files with a column of encoded images: bytes, or a struct of bytes and path."""

    suffixes = (".parquet",)
    kind = "Parquet files"
    wanted = "row"

    def encoded(self, path: Path) -> Iterator[Encoded]:
        """The image of each row, named by the row's number from 0."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(path, buffer_size=1 << 16, pre_buffer=False) as file:
            name, column = _image_column(file.schema_arrow)
            batches = file.iter_batches(ROWS, columns=[column], use_threads=False)
            row = 0
            for batch in batches:
                for value in batch.column(name):
                    image = value.as_py()
                    data = image.get("bytes") if isinstance(image, dict) else image
                    yield Encoded(str(row), data or b"", "" if data else "has no bytes")
                    row += 1


class _Stream:
    """A file that is read once, and its last block."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        self._file = file
        self._last = b""

    def read(self, size: int) -> bytes:
        """The next bytes."""
        data = self._file.read(size)
        self._last = (self._last + data)[-tarfile.BLOCKSIZE :]
        return data

    def ends(self) -> bool:
        """Whether the last block has only zeros, as that of every complete tar file."""
        while self.read(1 << 20):
            pass
        return self._last == bytes(tarfile.BLOCKSIZE)


def _opened(path: Path) -> io.BufferedIOBase:
    """A tar file, decompressed: gzip says if it is cut off."""
    return path.open("rb") if path.suffix.lower() == ".tar" else gzip.open(path)


def _is_field(name: str) -> bool:
    hidden = Path(name).name.startswith(".") or META.match(name)
    return name.lower().endswith(SUFFIXES) and not hidden


def _image_column(schema: pa.Schema) -> tuple[str, str]:
    """The column of the images, and what to read of it.

    It is the only one with bytes, or that named image, img, jpg or png.
    """
    import pyarrow as pa

    found: list[tuple[str, str]] = []
    for field in schema:
        if str(field.type) in BYTES:
            found.append((field.name, field.name))
        elif pa.types.is_struct(field.type):
            inner = {part.name: str(part.type) for part in field.type}
            if inner.get("bytes") in BYTES:
                found.append((field.name, f"{field.name}.bytes"))
    named = [pair for pair in found if pair[0].lower() in {"image", "img", "jpg", "jpeg", "png"}]
    chosen = named if len(named) == 1 else found
    if len(chosen) != 1:
        raise ValueError(
            "it must have one column of encoded images, of type binary or struct with bytes, or "
            "one of several that is named image, got the columns "
            + ", ".join(f"{field.name} ({field.type})" for field in schema)
        )
    return chosen[0]


SHARDS: tuple[type[Shards], ...] = (TarShards, ParquetShards)


def is_shard(name: str) -> bool:
    """Whether a file of this name is a shard."""
    return name.lower().endswith(tuple(suffix for kind in SHARDS for suffix in kind.suffixes))


def shard_files(root: Path) -> tuple[type[Shards], list[str]] | None:
    """The kind of shards in a folder, or that a file is, and their paths below it, sorted; or None.

    Links are followed, names that begin with a dot are skipped, and sub-folders are not searched.
    Shards of several kinds are a ValueError, a library that is not installed an ImportError.
    """
    if root.is_dir():
        names = sorted(file.name for file in root.iterdir() if not file.name.startswith("."))
    else:
        names = [root.name]
    by_kind = {
        kind: [name for name in names if name.lower().endswith(kind.suffixes)] for kind in SHARDS
    }
    there = {kind: files for kind, files in by_kind.items() if files}
    if len(there) > 1:
        told = " and ".join(kind.kind for kind in there)
        raise ValueError(f"input must have shards of one kind, and {root} has {told}")
    for kind, files in there.items():
        library = "webdataset" if kind is TarShards else "pyarrow.parquet"
        require(kind.kind, library, library.partition(".")[0])
        return kind, files
    return None


def text_of(path: str) -> str:
    """A name that UTF-8 can encode; otherwise, writing the table would fail."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
