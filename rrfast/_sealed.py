"""JSON files with a checksum, for intermediate results that a later run continues from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from rrfast._files import write as write_whole


def write(path: Path, content: Any) -> None:
    """Write `content`, completely or not at all, with the SHA-256 of its text.

    Python's JSON keeps NaN and infinity, and every float bit for bit.
    """
    text = json.dumps(content)
    sealed = f'{{"sha256": "{_digest(text)}",\n"content": {text}}}\n'
    write_whole(path, lambda file: file.write(sealed.encode()))


def read(path: Path) -> Any:
    """The content that `write` was given, with lists for tuples.

    Raises:
        OSError: The file cannot be opened.
        ValueError: The file was changed. This finds a changed digit and a missing half, but not a
            change on purpose that replaces the digest too.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write(Path(folder, "a.json"), {"radius": 0.1})
        ...     read(Path(folder, "a.json"))
        {'radius': 0.1}
    """
    data = path.read_bytes()
    try:
        sealed = json.loads(data)
        if sealed["sha256"] != _digest(json.dumps(sealed["content"])):
            raise ValueError("its content is not what its SHA-256 was made of")
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is damaged ({error}): delete {path.name} and start again, to make anew what "
            "it held"
        ) from error
    return sealed["content"]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
