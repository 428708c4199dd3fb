"""Atomic files: written beside their place, then moved there in one step."""

from __future__ import annotations

import contextlib
import errno
import glob
import io
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

#: Ending of what is being written: NAME.RANDOM.partial, beside NAME.
PARTIAL = ".partial"


def write(path: Path, save: Callable[[IO[bytes]], object]) -> None:
    """`save` into `path`, whole or not at all.

    A reader finds the old content or the new, even after a power failure. Two that write the same
    file at once write two files, and the last one stays. What is being written has a name that
    nobody can know before, and no link that is there already is followed.

    Args:
        path: What to write; its folder exists.
        save: Called with a file open for writing.

    Raises:
        OSError: The system refused: the disk is full, the folder cannot be written to. The sentence
            names `path`; what was there before is as it was.
    """
    partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}{PARTIAL}")
    file: _Watched | None = None
    try:
        file = _Watched(
            str(partial), "x"
        )  # which follows no link, and takes the permissions of umask
        buffered = io.BufferedWriter(file)
        try:
            save(buffered)
            buffered.flush()
            os.fsync(file.fileno())
        except BaseException:
            with contextlib.suppress(OSError):  # said already: what is buffered fails once more
                buffered.close()
            raise
        buffered.close()
        partial.replace(path)
    except BaseException as error:
        if file is not None:
            partial.unlink(missing_ok=True)
        refused = _refused(path, partial, error if file is None else file.error or error)
        if refused is None or not isinstance(error, Exception):
            raise
        raise refused from error
    _sync(path)


def write_text(path: Path, text: str) -> None:
    """`text` into `path` in UTF-8, whole or not at all; raises as `write`."""
    write(path, lambda file: file.write(text.encode("utf-8")))


def remove_partial(folder: Path, stem: str = "") -> None:
    """Remove what a killed process left half-written of the files whose names begin with `stem`.

    Only for who knows that nobody writes there now: see `rrfast._lock`.
    """
    for partial in folder.glob(f"{glob.escape(stem)}*{PARTIAL}"):
        partial.unlink(missing_ok=True)


class _Watched(io.FileIO):
    """A file that keeps what the system said: torch makes a RuntimeError without it of that."""

    error: OSError | None = None

    def write(self, data: Buffer, /) -> int:
        try:
            return super().write(data) or 0
        except OSError as error:
            self.error = error
            raise


def _refused(path: Path, partial: Path, cause: BaseException) -> OSError | None:
    """What the system said, as a sentence; None of any other error, also of another file."""
    if not isinstance(cause, OSError) or cause.filename not in (None, str(partial)):
        return None
    reason = cause.strerror or str(cause)
    told = type(cause)(f"{path} cannot be written: {reason}. What was there before is as it was")
    told.errno = cause.errno
    return told


def _sync(path: Path) -> None:
    """That the name in its folder survives a power failure too, where a folder can be synced."""
    try:
        descriptor = os.open(path.parent, os.O_RDONLY)
    except OSError:
        return  # Windows opens no folder. The file is whole and in place.
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):  # as file systems say it
            told = type(error)(
                f"{path} is in place, and would not outlive a power failure: {error.strerror}"
            )
            told.errno = error.errno
            raise told from error
    finally:
        os.close(descriptor)
