"""Atomic files: written under another name in the same folder, then renamed in one step."""

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

from rrfast._errors import retold

if TYPE_CHECKING:
    from typing_extensions import Buffer

#: Ending of a file that is being written: NAME.RANDOM.partial, beside NAME.
PARTIAL = ".partial"


def write(path: Path, save: Callable[[IO[bytes]], object]) -> None:
    """Write what `save` writes to `path`, completely or not at all.

    A reader finds the old content or the new, even after a power failure. Two processes that write
    the same file at once write two temporary files, and the later one stays. The temporary name
    cannot be guessed, and existing links are not followed. The folder of `path` must exist.

    Raises:
        OSError: The system refused: the disk is full, or the folder cannot be written to. The
            message names `path`; its old content is unchanged.
    """
    partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}{PARTIAL}")
    file: _Watched | None = None
    try:
        file = _Watched(str(partial), "x")  # follows no link, and takes the permissions of umask
        buffered = io.BufferedWriter(file)
        try:
            save(buffered)
            buffered.flush()
            os.fsync(file.fileno())
        except BaseException:
            with contextlib.suppress(OSError):  # reported already: flushing the buffer fails again
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
    """Write `text` to `path` in UTF-8, completely or not at all; raises as `write`."""
    write(path, lambda file: file.write(text.encode("utf-8")))


def remove_partial(folder: Path, stem: str = "") -> None:
    """Remove the temporary files of a killed process whose names begin with `stem`.

    Only call it when no other process writes there: see `rrfast._lock`.
    """
    for partial in folder.glob(f"{glob.escape(stem)}*{PARTIAL}"):
        partial.unlink(missing_ok=True)


class _Watched(io.FileIO):
    """A file that keeps the system's error, which torch replaces by a RuntimeError without it."""

    error: OSError | None = None

    def write(self, data: Buffer, /) -> int:
        try:
            return super().write(data) or 0
        except OSError as error:
            self.error = error
            raise


def _refused(path: Path, partial: Path, cause: BaseException) -> OSError | None:
    """The system's error with a clear message; None for other errors, also of other files."""
    if not isinstance(cause, OSError) or cause.filename not in (None, str(partial)):
        return None
    reason = cause.strerror or str(cause)
    return retold(cause, f"{path} cannot be written: {reason}. Its old content is unchanged")


def _sync(path: Path) -> None:
    """Sync the folder, where possible, so that the new name survives a power failure."""
    try:
        descriptor = os.open(path.parent, os.O_RDONLY)
    except OSError:
        return  # Windows cannot open a folder. The file is complete and in place.
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):  # unsupported
            told = f"{path} is in place, and would not outlive a power failure: {error.strerror}"
            raise retold(error, told) from error
    finally:
        os.close(descriptor)
