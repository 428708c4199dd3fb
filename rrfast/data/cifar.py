"""CIFAR-10 and CIFAR-100 from their binary releases, which contain no pickle."""

from __future__ import annotations

import hashlib
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from rrfast._checks import check_bool, check_path
from rrfast.data.release import Release, Released
from rrfast.data.split import Split, check_file

SOURCE = "https://www.cs.toronto.edu/~kriz/cifar.html"
BINARY = "the binary release of"
#: Channels, height and width; a file holds all of red, then green, then blue, row by row.
IMAGE = (3, 32, 32)


@dataclass(frozen=True, kw_only=True)
class Archive(Release):
    """The content of one released archive."""

    md5: str  #: of the archive, from SOURCE
    train: dict[str, int]  #: images per file
    test: dict[str, int]
    labels: dict[str, int]  #: classes of each label byte, in the order of the bytes


CIFAR10 = Archive(
    name=f"{BINARY} CIFAR-10",
    what=f"{BINARY} CIFAR-10, unpacked or as the archive",
    where=f"It is at {SOURCE} as cifar-10-binary.tar.gz",
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    folder="cifar-10-batches-bin",
    train={f"data_batch_{i}.bin": 10_000 for i in range(1, 6)},
    test={"test_batch.bin": 10_000},
    labels={"labels": 10},
)
CIFAR100 = Archive(
    name=f"{BINARY} CIFAR-100",
    what=f"{BINARY} CIFAR-100, unpacked or as the archive",
    where=f"It is at {SOURCE} as cifar-100-binary.tar.gz",
    md5="03b5dce01913d631647c71ecec9e9cb8",
    folder="cifar-100-binary",
    train={"train.bin": 50_000},
    test={"test.bin": 10_000},
    labels={"coarse labels": 20, "fine labels": 100},
)


def cifar10(folder: str | os.PathLike[str]) -> Released:
    """CIFAR-10: 60,000 colour photographs of 10 kinds of things.

    Nothing is downloaded: fetch cifar-10-binary.tar.gz ("binary version") from the source below.

    Args:
        folder: The unpacked folder cifar-10-batches-bin, its parent folder, or the archive itself,
            whose MD5 is then checked, and which is read without being unpacked.

    Returns:
        Released(train, test) of 50,000 and 10,000 images, each a Split(x [n, 3, 32, 32] float32 in
        [0, 1], a byte over 255; y [n] int64, from 0).

    Raises:
        FileNotFoundError: `folder` or one of the files of the release is missing.
        TypeError: `folder` is not a path.
        ValueError: A file does not have the released length, a label is out of range, or the
            archive is not the released one.

    Cost: 0.74 GB for the result. It is float32, like all images in rrfast, and is filled file by
    file, so that reading needs 0.03 GB more from a folder and 0.2 GB more from an archive.

    Source: Krizhevsky (2009), "Learning Multiple Layers of Features from Tiny Images";
    https://www.cs.toronto.edu/~kriz/cifar.html.

    Example:
        >>> train, test = cifar10("cifar-10-batches-bin")  # doctest: +SKIP
        >>> train.x.shape, test.y.shape  # doctest: +SKIP
        (torch.Size([50000, 3, 32, 32]), torch.Size([10000]))

        Without the files, the error says which are missing and where to get them:

        >>> cifar10("no-such-folder")
        Traceback (most recent call last):
        FileNotFoundError: no-such-folder is no folder: folder must be ... cifar-10-binary.tar.gz
    """
    return _read(CIFAR10, folder, label=0)


def cifar100(folder: str | os.PathLike[str], fine: bool = True) -> Released:
    """CIFAR-100: 60,000 colour photographs of 100 kinds of things, in 20 groups of five.

    Nothing is downloaded: fetch cifar-100-binary.tar.gz ("binary version") from the source of
    `cifar10`.

    Args:
        folder: As for `cifar10`: cifar-100-binary, its parent folder, or the archive.
        fine: True: the 100 classes; False: the 20 groups, called coarse labels in the release.

    Returns:
        As `cifar10`.

    Raises:
        FileNotFoundError, TypeError, ValueError: As `cifar10`; also TypeError if `fine` is not a
            bool. Both kinds of labels are checked.

    Cost: That of `cifar10`.

    Example:
        >>> train, test = cifar100("cifar-100-binary", fine=False)  # doctest: +SKIP
        >>> int(train.y.max())  # doctest: +SKIP
        19

        Without the files, the error says which are missing and where to get them:

        >>> cifar100("no-such-folder")
        Traceback (most recent call last):
        FileNotFoundError: no-such-folder is no folder: folder must be ... cifar-100-binary.tar.gz
    """
    check_bool("fine", fine)
    return _read(CIFAR100, folder, label=int(fine))


def _read(release: Archive, folder: str | os.PathLike[str], label: int) -> Released:
    check_path("folder", folder)
    path = Path(folder)
    members = _unpacked(release, path) if path.is_file() else {}
    path = path if members else release.root(path)
    return Released(
        *(_split(release, path, members, files, label) for files in (release.train, release.test))
    )


def _unpacked(release: Archive, path: Path) -> dict[str, bytes]:
    """The files of the archive, in memory; nothing is read before the MD5 agrees."""
    md5 = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            md5.update(block)
    if md5.hexdigest() != release.md5:
        raise release.wrong(
            f"{path} has {path.stat().st_size} bytes and the MD5 {md5.hexdigest()}, expected "
            f"{release.md5}: is the download truncated, or the archive another one, such as the "
            "Python version?"
        )
    members = {}
    with tarfile.open(path, mode="r:gz") as archive:
        # In the archive's order: going back in a gzip stream unpacks it again.
        for member in archive:
            file_name = Path(member.name).name
            if member.isfile() and file_name in release.train | release.test:
                content = archive.extractfile(member)
                assert content is not None  # None only for broken links and folders
                members[file_name] = content.read()
    return members


def _split(
    release: Archive, path: Path, members: dict[str, bytes], files: dict[str, int], label: int
) -> Split:
    x = torch.empty(sum(files.values()), *IMAGE, device="cpu", dtype=torch.float32)
    y = torch.empty(len(x), device="cpu", dtype=torch.int64)
    at = 0
    for file_name, images in files.items():
        rows = _rows(release, path, members, file_name, images)
        part = slice(at, at + images)
        pixels = rows[:, len(release.labels) :].reshape(images, *IMAGE)
        np.divide(pixels, np.float32(255), out=x.numpy()[part])
        y.numpy()[part] = rows[:, label]
        at += images
    return Split(x, y)


def _rows(
    release: Archive, path: Path, members: dict[str, bytes], file_name: str, images: int
) -> npt.NDArray[np.uint8]:
    """One file as [images, label bytes + pixel bytes], its length and its labels checked."""
    file = path / file_name
    if members:
        data = np.frombuffer(members[file_name], dtype=np.uint8)
    elif file.is_file():
        data = np.fromfile(file, dtype=np.uint8)
    else:
        raise release.missing(file)
    row = len(release.labels) + int(np.prod(IMAGE))
    if len(data) != images * row:
        raise release.wrong(
            f"{file} must have {images * row} bytes, {images} rows of {row}, and has {len(data)}: "
            "is the download truncated?"
        )
    rows = data.reshape(images, row)
    for column, (kind, classes) in enumerate(release.labels.items()):
        check_file(str(file), rows[:, column], 0, classes - 1, kind=kind)
    return rows
