"""Files that are whole or not there: written beside, then put in place in one step."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

#: Ending of what is being written.
PARTIAL = ".partial"


def write(path: Path, save: Callable[[IO[bytes]], object]) -> None:
    """`save` into `path`, whole or not at all.

    A reader finds the old content or the new, even after a power failure.

    Args:
        path: What to write; its folder exists.
        save: Called with a file open for writing.
    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        with partial.open("wb") as file:
            save(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
