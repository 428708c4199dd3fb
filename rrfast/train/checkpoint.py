"""Files that are whole or not there: written beside, then put in place in one step."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch

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


def write_text(path: Path, text: str) -> None:
    """`text` into `path` in UTF-8, whole or not at all."""
    write(path, lambda file: file.write(text.encode("utf-8")))


def save(path: Path, state: object) -> None:
    """`torch.save`, whole or not at all."""
    write(path, lambda file: torch.save(state, file))


def load(path: Path) -> dict[str, Any]:
    """What `save` wrote, on the CPU.

    Raises:
        OSError: `path` cannot be opened.
        ValueError: It is truncated, or another kind of file.
    """
    with path.open("rb") as file:
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # bytes that are no pickle can raise anything
            first = str(error).split("\n", maxsplit=1)[0]
            raise ValueError(
                f"{path} cannot be read as a checkpoint ({first}): it is truncated or another "
                "file. Delete it to begin anew"
            ) from error
    if not isinstance(state, dict):
        raise ValueError(f"{path} must hold a dict, and holds {type(state).__name__}")
    return state


def remove_partial(folder: Path) -> None:
    """What a killed process left half-written."""
    for partial in folder.glob(f"*{PARTIAL}"):
        partial.unlink(missing_ok=True)
