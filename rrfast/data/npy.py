"""Arrays from .npy and .npz files, read row by row and never unpickled."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rrfast.data.release import Release


def npy_array(
    release: Release, file: Path, shape: tuple[int | None, ...], dtype: type[Any]
) -> npt.NDArray[Any]:
    """The array of a .npy file of a release, as a read-only memory map.

    A row is read when indexed. The array must have this shape, where None is any length, and this
    dtype or kind, such as np.integer.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a .npy file, is truncated, contains Python objects, or has another
            shape or dtype.
    """
    if not file.is_file():
        raise release.missing(file)
    try:
        array = memory_map(file)
    except ValueError as error:
        raise release.wrong(str(error)) from error.__cause__
    fits = len(array.shape) == len(shape) and all(
        expected in (None, length) for expected, length in zip(shape, array.shape, strict=True)
    )
    if not fits or not np.issubdtype(array.dtype, dtype):
        expected = ", ".join("n" if length is None else str(length) for length in shape)
        raise release.wrong(
            f"{file} must be {dtype.__name__} of shape [{expected}], got {array.dtype} of shape "
            f"{list(array.shape)}."
        )
    return array


def memory_map(file: Path) -> npt.NDArray[Any]:
    """The array of a .npy file, read-only; rows are read when indexed.

    Raises:
        OSError: It cannot be opened.
        ValueError: It is not a .npy file, is truncated, or contains Python objects.
    """
    try:
        # Not numpy.load, which also opens zip archives and pickles, with other errors.
        return np.lib.format.open_memmap(file, mode="r")
    except ValueError as error:
        raise ValueError(
            f"{file} must be a whole .npy file of numbers and cannot be read as one: "
            f"{str(error).rstrip('.')}. Is the download truncated? Pickled Python objects are "
            "refused."
        ) from error


class Rows(NamedTuple):
    """The first rows of an array in a .npz file."""

    array: npt.NDArray[Any]
    shape: tuple[int, ...]  #: shape of the whole array


def npz_rows(file: Path, names: tuple[str, ...], most: int) -> dict[str, Rows]:
    """The first `most` rows of arrays in a .npz file; nothing more is kept in memory.

    Arrays that are missing are left out.

    Raises:
        OSError: It cannot be opened.
        ValueError: It is not a .npz file, is truncated, or an array contains Python objects, has no
            rows or is stored column by column.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            there = [name for name in names if f"{name}.npy" in archive.namelist()]
            rows = {}
            for name in there:
                with archive.open(f"{name}.npy") as stream:
                    rows[name] = _first_rows(stream, name, most)
            return rows
    except (ValueError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{file} must be a whole .npz file of numbers and cannot be read as one: {error}"
        ) from error
    except zlib.error as error:
        raise ValueError(f"{file} is a damaged .npz file: {error}") from error


def _first_rows(stream: IO[bytes], name: str, most: int) -> Rows:
    head = np.lib.format
    first = head.read_magic(stream) == (1, 0)
    read = head.read_array_header_1_0 if first else head.read_array_header_2_0
    shape, by_columns, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, which are pickled and refused")
    if not shape:
        raise ValueError(f"{name} is a single number")
    if by_columns and len(shape) > 1:
        raise ValueError(f"{name} is stored column by column: save np.ascontiguousarray of it")
    wanted = (min(most, shape[0]), *shape[1:])
    size = math.prod(wanted) * dtype.itemsize
    content = stream.read(size)
    if len(content) != size:
        raise ValueError(f"{name} ends after {len(content)} of {size} bytes")
    while stream.read(1 << 20):  # to the end, where zipfile checks the checksum
        pass
    return Rows(np.frombuffer(content, dtype).reshape(wanted), shape)
