"""MNIST, Fashion-MNIST and EMNIST from their idx files, optionally gzipped."""

from __future__ import annotations

import contextlib
import gzip
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from rrfast._checks import check_one_of
from rrfast.data.release import Release, Released
from rrfast.data.split import Split, check_file, split_of_bytes

#: Height and width.
IMAGE = (28, 28)
#: The first bytes of an idx file of bytes, before the number of its dimensions.
MAGIC = b"\x00\x00\x08"


#: The folder of Fashion-MNIST as Debian installs it.
INSTALLED = "/usr/share/datasets/fashion-mnist"


@dataclass(frozen=True, kw_only=True)
class IdxFiles(Release):
    """The four files of a release."""

    train: str = "train"  #: beginning of the names of the files
    test: str = "t10k"
    classes: int = 10
    least: int = 0  #: label of the first class
    most: int = 60_000  #: images of its largest file: a file that says it has more is no such
    transposed: bool = False


MNIST = IdxFiles(
    name="MNIST",
    what="the one with the idx files of MNIST",
    where="It is at https://github.com/cvdfoundation/mnist",
)
FASHION_MNIST = IdxFiles(
    name="Fashion-MNIST",
    what="the one with the idx files of Fashion-MNIST",
    where="It is at https://github.com/zalandoresearch/fashion-mnist, and Debian has it as the "
    "package dataset-fashion-mnist",
)
#: Classes of the splits of EMNIST.
EMNIST_CLASSES = {
    "balanced": 47,
    "byclass": 62,
    "bymerge": 47,
    "digits": 10,
    "letters": 26,
    "mnist": 10,
}


def mnist(folder: str | os.PathLike[str]) -> Released:
    """MNIST: 70,000 handwritten digits.

    Nothing is downloaded: get the four files from the source below.

    Args:
        folder: With train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and
            t10k-labels-idx1-ubyte, each unpacked, or gzipped with .gz appended to its name. If both
            exist, the unpacked one is read.

    Returns:
        Released(train, test) of 60,000 and 10,000 images in the release, each a Split(x
        [n, 1, 28, 28] float32 in [0, 1], a byte over 255; y [n] int64, from 0).

    Raises:
        FileNotFoundError: `folder` or one of the files is missing.
        TypeError: `folder` is not a path.
        ValueError: A file is truncated or no idx file, or does not hold bytes, images of 28 x 28 or
            labels of the release; or there are not as many labels as images.

    Cost: 0.22 GB for the result, 0.05 GB more while it is read.

    Source: LeCun, Bottou, Bengio & Haffner (1998), "Gradient-Based Learning Applied to Document
    Recognition"; http://yann.lecun.com/exdb/mnist, a copy of which is at
    https://github.com/cvdfoundation/mnist.

    Example:
        >>> train, test = mnist("mnist")  # doctest: +SKIP
        >>> train.x.shape, test.y.shape  # doctest: +SKIP
        (torch.Size([60000, 1, 28, 28]), torch.Size([10000]))

        Without the files, the error says which are missing and where to get them:

        >>> mnist("no-such-folder")
        Traceback (most recent call last):
        FileNotFoundError: no-such-folder is no folder: folder must be .../cvdfoundation/mnist
    """
    return _read(MNIST, folder)


def fashion_mnist(folder: str | os.PathLike[str] | None = None) -> Released:
    """Fashion-MNIST: 70,000 grey photographs of 10 kinds of clothes, in the format of MNIST.

    Nothing is downloaded: get the four files from the source below, or on Debian and its kin with

        apt-get install dataset-fashion-mnist

    Args:
        folder: As for `mnist`; the files have the same names. None: the folder of that package,
            /usr/share/datasets/fashion-mnist.

    Returns:
        As `mnist`.

    Raises:
        FileNotFoundError, TypeError, ValueError: As `mnist`.

    Cost: That of `mnist`.

    Source: Xiao, Rasul & Vollgraf (2017), https://arxiv.org/abs/1708.07747;
    https://github.com/zalandoresearch/fashion-mnist, data/fashion.

    Example:
        >>> train, test = fashion_mnist("fashion-mnist/data/fashion")  # doctest: +SKIP
        >>> fashion_mnist("no-such-folder")
        Traceback (most recent call last):
        FileNotFoundError: no-such-folder is no folder: ... the package dataset-fashion-mnist
    """
    return _read(FASHION_MNIST, INSTALLED if folder is None else folder)


def emnist(folder: str | os.PathLike[str], split: str = "letters") -> Released:
    """EMNIST: handwritten letters and digits, in the format of MNIST.

    The release stores its images transposed; here they are upright, as in MNIST. Its letters have
    the labels 1 to 26, the same for capitals and small letters; here they have 0 to 25.

    Nothing is downloaded: fetch gzip.zip from the source below and unpack it.

    Args:
        folder: The unpacked folder gzip, or its parent folder, with
            emnist-letters-train-images-idx3-ubyte and so on, each unpacked, or gzipped with .gz
            appended to its name.
        split: "letters" (26 classes), "digits" or "mnist" (10), "balanced" or "bymerge" (47) or
            "byclass" (62).

    Returns:
        Released(train, test), in the release of 124,800 and 20,800 letters, each a Split(x
        [n, 1, 28, 28] float32 in [0, 1], a byte over 255; y [n] int64, from 0).

    Raises:
        FileNotFoundError, TypeError, ValueError: As `mnist`; also ValueError for an unknown
            `split`.

    Cost: 0.46 GB for the letters, 0.1 GB more while they are read.

    Source: Cohen, Afshar, Tapson & van Schaik (2017), https://arxiv.org/abs/1702.05373;
    https://www.nist.gov/itl/products-and-services/emnist-dataset.

    Example:
        >>> letters = emnist("gzip").test  # doctest: +SKIP
        >>> emnist("no-such-folder")
        Traceback (most recent call last):
        FileNotFoundError: no-such-folder is no folder: .../emnist-dataset
    """
    check_one_of("split", split, EMNIST_CLASSES)
    release = IdxFiles(
        name="EMNIST",
        what="the one with the idx files of EMNIST",
        where="It is at https://www.nist.gov/itl/products-and-services/emnist-dataset",
        train=f"emnist-{split}-train",
        test=f"emnist-{split}-test",
        classes=EMNIST_CLASSES[split],
        least=1 if split == "letters" else 0,
        most=697_932,  # of "byclass"
        folder="gzip",
        transposed=True,
    )
    return _read(release, folder)


def _read(release: IdxFiles, folder: str | os.PathLike[str]) -> Released:
    path = release.root(folder)
    return Released(*(_split(release, path, part) for part in (release.train, release.test)))


def _split(release: IdxFiles, path: Path, part: str) -> Split:
    images, image_file = _array(release, path, f"{part}-images-idx3-ubyte", IMAGE)
    labels, label_file = _array(release, path, f"{part}-labels-idx1-ubyte", ())
    if len(labels) != len(images):
        raise release.wrong(
            f"{label_file} must have a label for each of the {len(images)} images in "
            f"{image_file.name}, and has {len(labels)}."
        )
    least = release.least
    check_file(str(label_file), labels, least, least + release.classes - 1)
    upright = images.transpose(0, 2, 1) if release.transposed else images
    return split_of_bytes(upright[:, None], labels - least)


def _array(
    release: IdxFiles, path: Path, file_name: str, shape: tuple[int, ...]
) -> tuple[npt.NDArray[np.uint8], Path]:
    """The bytes of one file as [n, *shape], and the file that was read."""
    plain, packed = path / file_name, path / f"{file_name}.gz"
    file = plain if plain.is_file() else packed
    if not file.is_file():
        raise release.missing(plain, ", packed as .gz or not")
    # The first bytes give the size of the content: no more than that is unpacked.
    with _opened(release, file) as stream:
        lengths = _lengths(release, file, stream.read(_start(shape)), shape)
        size = int(np.prod(lengths, dtype=np.int64))
        content = stream.read(size + 1)
    if len(content) != size:
        has = "more" if len(content) > size else _start(shape) + len(content)
        raise release.wrong(
            f"{file} must have {_start(shape) + size} bytes, as its shape is {lengths}, and has "
            f"{has}: is the download truncated?"
        )
    return np.frombuffer(content, np.uint8).reshape(lengths), file


def _start(shape: tuple[int, ...]) -> int:
    """Number of bytes before the rows."""
    return len(MAGIC) + 1 + 4 * (1 + len(shape))


def _lengths(release: IdxFiles, file: Path, head: bytes, shape: tuple[int, ...]) -> list[int]:
    """[n, *shape] from the first bytes of a file."""
    short, magic = len(head) < _start(shape), head[: len(MAGIC)]
    if short or magic != MAGIC:
        raise release.wrong(
            f"{file} must be an idx file of bytes, which begins with {MAGIC.hex(' ')}, and has "
            f"{f'{len(head)} ' * short}bytes that begin with {magic.hex(' ')}."
        )
    dimensions = head[len(MAGIC)]
    lengths: list[int] = np.frombuffer(head, ">u4", 1 + len(shape), len(MAGIC) + 1).tolist()
    if dimensions != 1 + len(shape) or tuple(lengths[1:]) != shape:
        expected = ", ".join(["n", *map(str, shape)])
        got = lengths if dimensions == 1 + len(shape) else f"{dimensions} dimensions"
        raise release.wrong(f"{file} must have shape [{expected}], got {got}.")
    if lengths[0] > release.most:
        raise release.wrong(
            f"{file} must have at most the {release.most} rows of the release, and says it has "
            f"{lengths[0]}."
        )
    return lengths


@contextlib.contextmanager
def _opened(release: IdxFiles, file: Path) -> Iterator[gzip.GzipFile | IO[bytes]]:
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            yield stream
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise release.wrong(
            f"{file} must be a whole gzip file and cannot be read as one: {error}. Is the download "
            "truncated?"
        ) from error
