"""Result files, written completely or not at all: JSON without NaN, and figures."""

from __future__ import annotations

import contextlib
import io
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


#: Significant digits of the numbers of a curve: a figure shows three or four.
DIGITS = 5


@contextlib.contextmanager
def results_in(folder: Path, stem: str) -> Iterator[None]:
    """Make the folder, and lock it against other runs that write STEM.json there.

    Raises:
        BlockingIOError: Another run is writing there.
        NotADirectoryError: `folder` is a file.
        OSError: The folder cannot be made or written to.
    """
    make_folder("out", folder)
    with alone(folder / f"{stem}.lock", folder):
        remove_partial(folder, stem)
        yield


def write_json(path: Path, result: dict[str, Any], *, compact: bool = False) -> None:
    """Write `result`; NaN and infinity, which JSON does not have, become null.

    With `compact`, on one line without spaces: for large files that only programs read.
    """
    if compact:
        text = json.dumps(plain(result), separators=(",", ":"), allow_nan=False)
    else:
        text = json.dumps(plain(result), indent=1, allow_nan=False)
    write_text(path, text + "\n")


def shortened(value: Any) -> Any:
    """Round the numbers of every list in `value` to `DIGITS` significant digits.

    A list is a curve, a histogram or an interval; half of a result's bytes would be digits of these
    that no figure shows. A number outside a list stays as it is.

    Example:
        >>> shortened({"auroc": 2 / 3, "roc": [2 / 3, 1, None], "bins": [{"edges": [1e5 / 3]}]})
        {'auroc': 0.6666666666666666, 'roc': [0.66667, 1, None], 'bins': [{'edges': [33333.0]}]}
    """
    if isinstance(value, dict):
        return {key: shortened(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [
            float(f"{item:.{DIGITS}g}") if isinstance(item, float) else shortened(item)
            for item in value
        ]
    return value


def write_figure(path: Path, figure: Figure, dpi: int = 150) -> None:
    """Write `figure` as PNG, its texts unchanged; 256 colours take a third of the bytes."""
    from PIL import Image  # which matplotlib needs too

    as_written(figure)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=dpi, format="png")
    with Image.open(drawn) as image:
        # The only method of Pillow whose colours are all close, and whose white is white.
        palette = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
    write(path, lambda file: palette.save(file, format="png", optimize=True))


def as_written(figure: Figure) -> None:
    """Make matplotlib draw every text of `figure` literally.

    Matplotlib reads text between two $ as a formula, and fails if it cannot parse it; the name of a
    folder may contain them. Tick labels are left alone: on log scales they are formulas.
    """
    from matplotlib.axis import Tick
    from matplotlib.text import Text

    numbers = {label for tick in figure.findobj(Tick) for label in (tick.label1, tick.label2)}
    for text in figure.findobj(Text):
        if text not in numbers:
            text.set_parse_math(False)


def plain(value: Any) -> Any:
    """Replace every NaN and infinity in `value` by None, and tuples by lists."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def require_matplotlib(command: str) -> None:
    """Raise an ImportError with the install command before minutes of work, not after."""
    require(f"rrfast {command}", "matplotlib.figure", "matplotlib")
