"""File locks: one process at a time writes into a folder."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

from rrfast._errors import retold

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

#: Descriptors of the locks that this process holds.
_held: set[int] = set()


@contextlib.contextmanager
def alone(path: Path, written: Path) -> Iterator[None]:
    """Hold the lock file `path` while `written` is being written, or name its holder in an error.

    The operating system holds the lock: it ends with the process, however the process ends. The
    file names the holder, and is removed at the end; a killed process leaves it, and the next
    process takes it over. A forked child, such as a worker that reads images, does not hold the
    lock.

    On NFS the lock holds for all machines. On a file system without locks (for example Lustre
    without the option `flock`) there is a warning, and no protection.

    Args:
        path: The lock file, in a folder that exists.
        written: The folder or file that is locked, for the error message.

    Raises:
        BlockingIOError: Another process, or another thread, holds it.
        OSError: `path` cannot be opened, for example because it is a link.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with alone(Path(folder, "train.lock"), Path("runs/a")):
        ...         with alone(Path(folder, "train.lock"), Path("runs/a")):
        ...             pass
        Traceback (most recent call last):
        BlockingIOError: runs/a is being written by another run, process ... on ...: wait...
    """
    descriptor = _taken(path, written)
    _held.add(descriptor)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {platform.node()}".encode())
        yield
    finally:
        # Not in a child that was forked meanwhile and gets here: the parent still holds it.
        if descriptor in _held:
            _held.remove(descriptor)
            # If the file stays, as an open one does on Windows, the next process takes it over.
            with contextlib.suppress(OSError):
                if _is_at(path, descriptor):
                    path.unlink()
            os.close(descriptor)


def _taken(path: Path, written: Path) -> int:
    """Open and lock the lock file."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    while True:
        try:
            descriptor = os.open(path, flags, 0o666)
        except OSError as error:
            told = f"{written} cannot be written: {path}: {error.strerror}"
            raise retold(error, told) from error
        try:
            _lock(descriptor)
        except BlockingIOError:
            holder = os.read(descriptor, 1000).decode(errors="replace")
            os.close(descriptor)
            raise BlockingIOError(
                f"{written} is being written by another run{', ' if holder else ''}{holder}: wait "
                "until it is over, or write elsewhere"
            ) from None
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL):
                os.close(descriptor)
                raise
            warnings.warn(
                f"the file system of {path} has no locks ({error.strerror}): nothing keeps another "
                f"run from writing {written} too",
                stacklevel=2,
            )
            return descriptor
        # The holder may have just removed it, so that the name leads to another file now.
        if _is_at(path, descriptor):
            return descriptor
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Raise a BlockingIOError if another process has locked it."""
    if sys.platform == "win32":
        # Behind its text: on Windows nobody can read a locked range.
        os.lseek(descriptor, 1 << 20, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError(*error.args) from error
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _let_go() -> None:
    """Close the locks in a forked child: open descriptors would keep them after the parent ends."""
    while _held:
        os.close(_held.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
