"""CIFAR-10-C: the test images of CIFAR-10 under 19 corruptions, five severities each."""

from __future__ import annotations

import os

import numpy as np

from rrfast._checks import check_one_of
from rrfast.data.corruptions.table import SEVERITIES, TABLE, check_severity
from rrfast.data.npy import npy_array
from rrfast.data.release import Release
from rrfast.data.split import Split, check_file, split_of_bytes

RELEASE = Release(
    name="CIFAR-10-C",
    what="the one of CIFAR-10-C, unpacked",
    where="It is at https://zenodo.org/records/2535967 in CIFAR-10-C.tar",
    folder="CIFAR-10-C",
)
#: Images of each severity; a file holds the severities one after the other.
IMAGES = 10_000
CLASSES = 10

#: The 15 corruptions that the benchmark averages over: those of `corrupt`.
CORRUPTIONS = tuple(TABLE)
#: Four more, which the benchmark reserves for choosing settings.
EXTRA_CORRUPTIONS = ("speckle_noise", "gaussian_blur", "spatter", "saturate")


def cifar10c(folder: str | os.PathLike[str], corruption: str, severity: int) -> Split:
    """The 10,000 test images of CIFAR-10 under one corruption of CIFAR-10-C.

    Nothing is downloaded: get CIFAR-10-C.tar from the source below. Only the requested severity is
    read from the corruption's file, and nothing is unpickled.

    Args:
        folder: The unpacked folder CIFAR-10-C, or its parent folder.
        corruption: One of `CORRUPTIONS`, or of `EXTRA_CORRUPTIONS`.
        severity: From 1, the weakest, to 5.

    Returns:
        Split(x [10000, 3, 32, 32] float32 in [0, 1], a byte over 255; y [10000] int64, from 0), in
        the order of CIFAR-10's test split.

    Raises:
        FileNotFoundError: `folder`, the corruption's file or labels.npy is missing.
        TypeError: `folder` is not a path, or `severity` not an integer.
        ValueError: `corruption` or `severity` is not among the released ones; a file is not a .npy
            file, is truncated, contains Python objects, or has another shape or dtype than the
            release; a label is out of range.

    Source: Hendrycks & Dietterich (2019), "Benchmarking Neural Network Robustness to Common
    Corruptions and Perturbations", https://arxiv.org/abs/1903.12261;
    https://zenodo.org/records/2535967.

    Example:
        >>> import tempfile, numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:  # zeros in the shape of the release
        ...     new = np.lib.format.open_memmap
        ...     _ = new(f"{folder}/fog.npy", mode="w+", dtype="u1", shape=(50000, 32, 32, 3))
        ...     _ = new(f"{folder}/labels.npy", mode="w+", dtype="i8", shape=(50000,))
        ...     x, y = cifar10c(folder, "fog", severity=5)
        >>> x.shape, y.shape
        (torch.Size([10000, 3, 32, 32]), torch.Size([10000]))
    """
    path = RELEASE.root(folder)
    names = CORRUPTIONS + EXTRA_CORRUPTIONS
    check_one_of("corruption", corruption, names)
    check_severity(severity)
    rows = slice((severity - 1) * IMAGES, severity * IMAGES)
    n, file = SEVERITIES * IMAGES, path / "labels.npy"
    labels = npy_array(RELEASE, file, (n,), np.integer)[rows]
    check_file(str(file), labels, 0, CLASSES - 1, first=rows.start)
    images = npy_array(RELEASE, path / f"{corruption}.npy", (n, 32, 32, 3), np.uint8)[rows]
    return split_of_bytes(images.transpose(0, 3, 1, 2), labels)
