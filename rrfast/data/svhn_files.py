"""SVHN from its .mat files: house numbers, one digit in the middle of each image."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rrfast._errors import require
from rrfast.data.release import Release, Released
from rrfast.data.split import Split, check_file, split_of_bytes

RELEASE = Release(
    name="SVHN",
    what="the one with the .mat files of SVHN",
    where="It is at http://ufldl.stanford.edu/housenumbers",
)
#: Height, width and channels; the number of the image comes last in the file.
IMAGE = (32, 32, 3)
CLASSES = 10
#: Images of the larger file of the release; a file that claims more is refused.
MOST = 73_257


def svhn(folder: str | os.PathLike[str]) -> Released:
    """SVHN: 99,289 colour photographs of the digits of house numbers ("cropped digits").

    The release labels the digit 0 with 10; here a label is its digit. Nothing is downloaded: get
    train_32x32.mat and test_32x32.mat from the source below.

    Args:
        folder: The folder with the two files.

    Returns:
        Released(train, test) of 73,257 and 26,032 images in the release, each a Split(x
        [n, 3, 32, 32] float32 in [0, 1], a byte over 255; y [n] int64, from 0).

    Raises:
        FileNotFoundError: `folder` or one of the files is missing.
        ImportError: SciPy is not installed.
        TypeError: `folder` is not a path.
        ValueError: A file is truncated or not a .mat file, X is not uint8 of [32, 32, 3, n], y not
            n labels, or a label is out of range.

    Cost: 1.2 GB for the result, 0.45 GB more while it is read.

    Source: Netzer et al. (2011), "Reading Digits in Natural Images with Unsupervised Feature
    Learning"; http://ufldl.stanford.edu/housenumbers, format 2.

    Example:
        >>> train, test = svhn("svhn")  # doctest: +SKIP
        >>> train.x.shape, test.y.shape  # doctest: +SKIP
        (torch.Size([73257, 3, 32, 32]), torch.Size([26032]))

        Without the files, the error says which are missing and where to get them:

        >>> svhn("no-such-folder")
        Traceback (most recent call last):
        FileNotFoundError: no-such-folder is no folder: folder must be .../housenumbers
    """
    path = RELEASE.root(folder)
    return Released(*(_split(path / name) for name in ("train_32x32.mat", "test_32x32.mat")))


def _split(file: Path) -> Split:
    content = _content(file)
    images, labels = content["X"], content["y"]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[:3] != IMAGE:
        raise RELEASE.wrong(
            f"X in {file} must be uint8 of shape [32, 32, 3, n], got {_described(images)}."
        )
    n = images.shape[3]
    # MATLAB's numbers are doubles by default.
    if labels.dtype.kind not in "uif" or labels.shape != (n, 1):
        raise RELEASE.wrong(
            f"y in {file} must be a label for each of the {n} images, numbers of shape [{n}, 1], "
            f"got {_described(labels)}."
        )
    check_file(f"y in {file}", labels, 1, CLASSES)
    return split_of_bytes(images.transpose(3, 2, 0, 1), labels[:, 0] % CLASSES)


def _content(file: Path) -> dict[str, npt.NDArray[Any]]:
    """X and y of a .mat file."""
    require("rrfast.data.svhn", "scipy.io", "SciPy")
    from scipy.io import loadmat, whosmat

    if not file.is_file():
        raise RELEASE.missing(file)
    try:
        # Read from the headers of the variables, before they are unpacked.
        shapes = {name: shape for name, shape, _ in whosmat(file)}
        for name in ("X", "y"):
            if math.prod(shapes.get(name, ())) > math.prod(IMAGE) * MOST:
                raise ValueError(
                    f"{name} has shape {list(shapes[name])}, more than the {MOST} images of the "
                    "release"
                )
        content: dict[str, npt.NDArray[Any]] = loadmat(file, variable_names=["X", "y"])
    except Exception as error:  # SciPy's reader raises anything: a ValueError, zlib's error
        raise RELEASE.wrong(
            f"{file} must be a whole .mat file and cannot be read as one: {error}. Is the download "
            "truncated?"
        ) from error
    for name in ("X", "y"):
        if name not in content:
            raise ValueError(f"{file} must have the variables X and y, and has no {name}")
    return content


def _described(array: npt.NDArray[Any]) -> str:
    return f"{array.dtype} of shape {list(array.shape)}"
