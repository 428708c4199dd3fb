"""Fingerprints of data sets, which show whether the images are still the same."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from rrfast.data import ImageFolder, Split
from rrfast.data.loader import Data


def of_files(root: Path, names: Iterable[str]) -> str:
    """A fingerprint of names, sizes and times: reading the contents would take too long."""
    digest = hashlib.sha256()
    for name in names:
        try:
            stat = (root / name).stat()
            seen = f"{stat.st_size} {stat.st_mtime_ns}"
        except OSError:  # a broken link, which is what it is as long as it stays broken
            seen = "missing"
        digest.update(os.fsencode(f"{name} {seen}\n"))
    return digest.hexdigest()


def of_data(data: Data | None) -> str:
    """A fingerprint of the labels and all pixels; for images in files, of their files.

    For a data set of another kind, of the first image.
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
