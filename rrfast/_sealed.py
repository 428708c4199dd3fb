"""JSON files with a checksum, for intermediate results that a later run continues from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from rrfast._files import write as write_whole


def write(path: Path, content: Any) -> None:
    """Write `content`, whole or not at all, with the SHA-256 of its text.

    Python's JSON has NaN and infinity, and every float comes back to the bit.
    """
    text = json.dumps(content)
    sealed = f'{{"sha256": "{_digest(text)}",\n"content": {text}}}\n'
    write_whole(path, lambda file: file.write(sealed.encode()))


def read(path: Path) -> Any:
    """What `write` was given, as JSON has it: lists for tuples.

    Raises:
        OSError: The file cannot be opened.
        ValueError: It is not as it was written. A changed digit is found as a missing half is, but
            not who changes the digest with it.

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
