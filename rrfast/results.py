"""Results as files: JSON without NaN, and a figure where matplotlib is."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any


def write_json(path: Path, result: dict[str, Any], *, compact: bool = False) -> None:
    """Write `result`; NaN and infinity are no JSON, and become null.

    With `compact`, on one line: for what only programs read, megabytes of it.
    """
    text = json.dumps(plain(result), indent=None if compact else 1, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def plain(value: Any) -> Any:
    """`value` with None for every NaN and infinity in it, and lists for tuples."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def require_matplotlib(command: str) -> None:
    """Raise an ImportError that names the remedy, before minutes of work rather than after."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"rrfast {command} needs matplotlib: {error}. Install it with: pip install matplotlib"
        ) from error
