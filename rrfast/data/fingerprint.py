"""Fingerprints of data sets, which tell whether the images are still the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from rrfast.data import ImageFolder, Split
from rrfast.data.loader import Data


def of_files(root: Path, names: Iterable[str]) -> str:
    """Of names, sizes and times of change: to read the contents would take as long as the work."""
    digest = hashlib.sha256()
    for name in names:
        stat = (root / name).stat()
        digest.update(f"{name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def of_data(data: Data | None) -> str:
    """Of the labels, and of all pixels; of images that are read one by one, of their files.

    Of a data set of neither kind, the first image.
    """
    if data is None:
        return ""
    digest = hashlib.sha256(data.y.numpy().tobytes())
    if isinstance(data, Split):
        digest.update(data.x.numpy().tobytes())
        return digest.hexdigest()
    digest.update(data[0][0].numpy().tobytes())
    if isinstance(data, ImageFolder):
        digest.update(of_files(data.root, data.files).encode())
    return digest.hexdigest()
