"""Result files, written whole or not at all: JSON without NaN, and figures."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rrfast._checks import make_folder
from rrfast._errors import require
from rrfast._files import remove_partial, write, write_text
from rrfast._lock import alone

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@contextlib.contextmanager
def results_in(folder: Path, stem: str) -> Iterator[None]:
    """Make the folder, and keep other runs that write STEM.json from it meanwhile.

    Raises:
        BlockingIOError: Another run is at it.
        NotADirectoryError: `folder` is a file.
        OSError: The folder cannot be made or written to.
    """
    make_folder("out", folder)
    with alone(folder / f"{stem}.lock", folder):
        remove_partial(folder, stem)
        yield


def write_json(path: Path, result: dict[str, Any], *, compact: bool = False) -> None:
    """Write `result`; NaN and infinity are no JSON, and become null.

    With `compact`, on one line: for what only programs read, megabytes of it.
    """
    text = json.dumps(plain(result), indent=None if compact else 1, allow_nan=False)
    write_text(path, text + "\n")


def write_figure(path: Path, figure: Figure, dpi: int = 150) -> None:
    """Write `figure` as PNG, its text as it is."""
    as_written(figure)
    write(path, lambda file: figure.savefig(file, dpi=dpi, format="png"))


def as_written(figure: Figure) -> None:
    """Let matplotlib draw every text of `figure` as it is.

    It takes what stands between two $ for a formula, and fails on one that it cannot read. A name
    of a folder may have them. The numbers at an axis stay: on log scales matplotlib's are formulas.
    """
    from matplotlib.axis import Tick
    from matplotlib.text import Text

    numbers = {label for tick in figure.findobj(Tick) for label in (tick.label1, tick.label2)}
    for text in figure.findobj(Text):
        if text not in numbers:
            text.set_parse_math(False)


def plain(value: Any) -> Any:
    """`value` with None for every NaN and infinity in it, and lists for tuples."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def require_matplotlib(command: str) -> None:
    """Raise an ImportError that names the remedy, before minutes of work rather than after."""
    require(f"rrfast {command}", "matplotlib.figure", "matplotlib")
