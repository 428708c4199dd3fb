"""A released .npy file as an array on disk: nothing unpickled, shape and dtype checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def npy_array(
    file: Path,
    shape: tuple[int | None, ...],
    dtype: type[Any],
    *,
    release: str,
    where: str,
) -> npt.NDArray[Any]:
    """The array of a file, as a read-only memory map: a row is read when it is asked for.

    Args:
        file: A .npy file.
        shape: What it must have; None for any length.
        dtype: What its dtype must be, or a kind, such as np.integer.
        release: What the file belongs to, for errors.
        where: A sentence that says where to get it, for errors.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no .npy file, is truncated, holds Python objects, or has another shape or
            dtype.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file.name} of {release} is not in {file.parent}. {where}")
    try:
        array = memory_map(file)
    except ValueError as error:
        raise ValueError(f"{error} {where}") from error.__cause__
    fits = len(array.shape) == len(shape) and all(
        expected in (None, length) for expected, length in zip(shape, array.shape, strict=True)
    )
    if not fits or not np.issubdtype(array.dtype, dtype):
        expected = ", ".join("n" if length is None else str(length) for length in shape)
        raise ValueError(
            f"{file} must be {dtype.__name__} of shape [{expected}], got {array.dtype} of shape "
            f"{list(array.shape)}. {where}"
        )
    return array


def memory_map(file: Path) -> npt.NDArray[Any]:
    """The array of a .npy file, read-only, its rows read when they are asked for.

    Raises:
        OSError: It cannot be opened.
        ValueError: It is no .npy file, is truncated, or holds Python objects.
    """
    try:
        # Not numpy.load, which opens zip archives and pickles too, each with errors of its own.
        return np.lib.format.open_memmap(file, mode="r")
    except ValueError as error:
        raise ValueError(
            f"{file} must be a whole .npy file of numbers and cannot be read as one: {error}. Is "
            "the download truncated? Pickled Python objects are refused."
        ) from error
