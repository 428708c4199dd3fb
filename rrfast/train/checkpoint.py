"""Checkpoints: files that are whole or not there, and how they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from rrfast.whole_file import PARTIAL, write


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
