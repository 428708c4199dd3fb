"""Result files, written completely or not at all: JSON without NaN, and figures."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
#: Those of a single number: a table shows five at most, but differences of two are taken.
NUMBER = 7
#: Keys whose numbers identify a row, and so must not be rounded.
NAMES = ("hyperparameters", "step", "eps")
#: Entries of a result that are lists of rows; in a file they are tables.
ROWS = ("runs", "curves")


@contextlib.contextmanager
def results_in(folder: Path, stem: str) -> Iterator[None]:
    """Make the folder, and lock it against other runs that write STEM.json there.

    Raises a BlockingIOError if one does, or the OSError of a folder that cannot be made.
    """
    make_folder("out", folder)
    with alone(folder / f"{stem}.lock", folder):
        remove_partial(folder, stem)
        yield


def write_json(path: Path, result: dict[str, Any], *, compact: bool = False) -> None:
    """Write `result`; NaN and infinity, which JSON does not have, become null.

    With `compact`, on one line without spaces: for large files that only programs read.
    """
    form: dict[str, Any] = {"separators": (",", ":")} if compact else {"indent": 1}
    write_text(path, json.dumps(for_json(result), **form, allow_nan=False) + "\n")


def shortened(value: Any) -> Any:
    """Round `value`: to `DIGITS` significant digits in lists, to `NUMBER` outside of lists.

    A list is a curve, a histogram or an interval. Half of a result's bytes would be digits that no
    page and no figure shows. Values under one of `NAMES` stay as they are.

    Example:
        >>> shortened({"auroc": 2 / 3, "roc": [2 / 3, 1, None], "step": {"eps": 8 / 255}})
        {'auroc': 0.6666667, 'roc': [0.66667, 1, None], 'step': {'eps': 0.03137254901960784}}
    """
    if isinstance(value, dict):
        return {key: item if key in NAMES else shortened(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(x, DIGITS) if isinstance(x, float) else shortened(x) for x in value]
    return _rounded(value, NUMBER) if isinstance(value, float) else value


def _rounded(x: float, digits: int) -> float:
    return float(f"{x:.{digits}g}")


def as_tables(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[list[Any]]]:
    """Rows without what thousands of them share, their keys above all.

    `from_tables` gives them back.

    Returns:
        `keys`: for each kind of row the paths to its values, one key within the other; `same`: for
        each kind the values that all its rows have, as [place in its keys, value]; `rows`: each
        row as the place of its kind in `keys`, and its other values.

    Example:
        >>> as_tables([{"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 4}}])
        {'keys': [[['a'], ['b', 'c']]], 'same': [[[0, 1]]], 'rows': [[0, 2], [0, 4]]}
    """
    kinds: dict[tuple[tuple[str, ...], ...], int] = {}
    lines: list[tuple[int, list[Any]]] = []
    for row in rows:
        found = list(_leaves(row))
        kind = kinds.setdefault(tuple(path for path, _ in found), len(kinds))
        lines.append((kind, [value for _, value in found]))
    same = [_same([values for each, values in lines if each == kind]) for kind in kinds.values()]
    return {
        "keys": [[list(path) for path in kind] for kind in kinds],
        "same": [[[place, value] for place, value in shared.items()] for shared in same],
        "rows": [
            [kind, *(value for i, value in enumerate(values) if i not in same[kind])]
            for kind, values in lines
        ],
    }


def _same(lines: Sequence[Sequence[Any]]) -> dict[int, Any]:
    """The values that are the same in all lines, by their place."""
    columns = enumerate(zip(*lines, strict=True))
    return {i: column[0] for i, column in columns if len(set(map(repr, column))) == 1}


def from_tables(tables: Mapping[str, Sequence[Sequence[Any]]]) -> list[dict[str, Any]]:
    """The rows that `as_tables` was given.

    Example:
        >>> from_tables(as_tables([{"a": {}, "b": {"c": [2]}}]))
        [{'a': {}, 'b': {'c': [2]}}]
    """
    rows = []
    for kind, *values in tables["rows"]:
        row: dict[str, Any] = {}
        paths = tables["keys"][kind]
        # Older files have no `same`.
        found = dict(copy.deepcopy(tables["same"][kind])) if "same" in tables else {}
        others = [i for i in range(len(paths)) if i not in found]
        found |= dict(zip(others, values, strict=True))
        for i, path in enumerate(paths):
            inner = row
            for key in path[:-1]:
                inner = inner.setdefault(key, {})
            inner[path[-1]] = found[i]
        rows.append(row)
    return rows


def _leaves(value: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each value that is no mapping, or an empty one, behind its path."""
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            yield from (((key, *path), leaf) for path, leaf in _leaves(item))
        else:
            yield (key,), item


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Write the result of an evaluation, its rows as tables, for `read_result`."""
    rows = {key: as_tables(result[key]) for key in ROWS if key in result}
    write_json(path, {**result, **rows}, compact=True)


def read_result(path: Path | str) -> dict[str, Any]:
    """The result of `rrfast evaluate` from its file: what the function that wrote it returned.

    That is evaluation.json, ood.json, robust.json or distal.json; `runs` is a list of rows, and
    None stands for NaN and infinity.

    Raises:
        OSError: There is no such file, or it cannot be read.
        ValueError: It is not JSON, or holds no result.
    """
    try:
        result: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(result, dict):
        raise ValueError(f"{path} must hold a result, got a JSON {type(result).__name__}")
    for key in ROWS:
        if isinstance(result.get(key), dict):
            try:
                result[key] = from_tables(result[key])
            except (AttributeError, LookupError, TypeError, ValueError) as error:
                raise ValueError(
                    f"{path} does not hold what rrfast evaluate leaves, `{key}` is no table of "
                    f"rows: {error!r}"
                ) from error
    return result


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


def for_json(value: Any) -> Any:
    """Replace every NaN and infinity in `value` by None, and tuples by lists."""
    if isinstance(value, dict):
        return {key: for_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [for_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def require_matplotlib(command: str) -> None:
    """Raise an ImportError with the install command before minutes of work, not after."""
    require(f"rrfast {command}", "matplotlib.figure", "matplotlib")
