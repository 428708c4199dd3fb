"""`rrfast report`: one HTML file, which needs no other, with every table and figure."""

from __future__ import annotations

import base64
import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from rrfast.bench import report as bench
from rrfast.checks import make_folder
from rrfast.evaluate.ablate import blocks as ablation_blocks
from rrfast.evaluate.ablate import notes as ablation_notes
from rrfast.evaluate.studies import STUDIES
from rrfast.evaluate.study import Study
from rrfast.results import as_written, require_matplotlib
from rrfast.tables import Block
from rrfast.whole_file import write

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Picture(NamedTuple):
    """A figure as a page holds it."""

    title: str
    caption: str
    source: str  #: a data: URL


class _Head(msgspec.Struct):
    """What a page says of every result."""

    command: str
    device: str
    date: str
    versions: dict[str, str]


class Section(NamedTuple):
    """The results of one command."""

    title: str
    result: dict[str, Any]
    blocks: list[Block]
    notes: list[str]
    pictures: list[Picture]


def report(
    folders: Sequence[Path | str],
    out: Path | str,
    *,
    title: str | None = None,
    command: str = "",
) -> None:
    """Write a page with the tables and figures of results.

    The file holds everything: styles, and figures as SVG; it can be mailed, and opens without a
    network. Nothing in it runs.

    Sections that would have one title are told apart by their folders.

    Args:
        folders: That `rrfast evaluate`, `rrfast ablate` or `rrfast bench` have left: each with one
            or more of evaluation.json, ood.json, robust.json, distal.json, ablation.json,
            bench.json.
        out: The file.
        title: Of the page; default the names of the folders.
        command: What made the page.

    Raises:
        FileNotFoundError: A folder has no results.
        ImportError: matplotlib is not installed.
        OSError: `out` cannot be written.
        ValueError: A file of results is no JSON, or not what the command leaves.
    """
    from jinja2 import Environment

    require_matplotlib("report")
    by_folder = [(folder, each) for folder in folders for each in _sections(Path(folder))]
    often = Counter(section.title for _, section in by_folder)
    sections = [
        section._replace(title=f"{section.title} ({folder})")
        if often[section.title] > 1
        else section
        for folder, section in by_folder
    ]
    template = files("rrfast.evaluate").joinpath("report.html").read_text(encoding="utf-8")
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template)
    names = title or ", ".join(dict.fromkeys(Path(folder).resolve().name for folder in folders))
    text = page.render(title=names, sections=sections, command=command)
    make_folder("the folder of out", Path(out).parent)
    write(Path(out), lambda file: file.write(text.encode()))


def _sections(folder: Path) -> list[Section]:
    found = [
        _section(folder, name, make) for name, make in _KINDS.items() if (folder / name).is_file()
    ]
    if not found:
        raise FileNotFoundError(f"{folder} has no results: none of {', '.join(_KINDS)}")
    return found


def _section(folder: Path, name: str, make: Callable[[Path, dict[str, Any]], Section]) -> Section:
    path = folder / name
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    try:
        msgspec.convert(result, _Head)
        return make(folder, result)
    except (ImportError, OSError):
        raise
    except Exception as error:  # of results that were changed any number can fail at any step
        raise ValueError(
            f"{path} does not hold what the command of this version leaves: {error!r}"
        ) from error


def _study(study: Study, folder: Path, result: dict[str, Any]) -> Section:
    del folder
    return Section(
        study.title(result),
        result,
        list(study.blocks(result)),
        study.notes(result),
        [Picture(d.title, d.caption, _svg(d.figure)) for d in study.figures(result)],
    )


def _ablation(folder: Path, result: dict[str, Any]) -> Section:
    return Section(
        f"What each part of RAT does: {result['recipe']['data']['name']}",
        result,
        list(ablation_blocks(result)),
        ablation_notes(result),
        [_png(folder / "ablation.png", "AURC and radii", "RAT Tables 1 and 5.")],
    )


def _bench(folder: Path, result: dict[str, Any]) -> Section:
    pictures = [
        _png(folder / name, title, "")
        for name, title in (("throughput.png", "Throughput"), ("pareto.png", "What passes buy"))
        if (folder / name).is_file()
    ]
    return Section(
        f"Speed and worth: {result['settings']['model']}",
        result,
        list(bench.blocks(result)),
        bench.notes(result).split("\n\n"),
        pictures,
    )


#: A file of results, and what makes a section of it. A new kind of result is a line here.
_KINDS: dict[str, Callable[[Path, dict[str, Any]], Section]] = {
    **{f"{study.stem}.json": partial(_study, study) for study in STUDIES.values()},
    "ablation.json": _ablation,
    "bench.json": _bench,
}


def _svg(figure: Figure) -> str:
    import matplotlib as mpl

    file = io.BytesIO()
    as_written(figure)
    # The same figure gives the same bytes.
    with mpl.rc_context({"svg.hashsalt": "rrfast"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return _url("svg+xml", file.getvalue())


def _png(path: Path, title: str, caption: str) -> Picture:
    if path.is_symlink():
        raise ValueError(
            f"{path} must be a picture, and is a link: the page is to be handed on, and would hold "
            "whatever the link leads to"
        )
    return Picture(title, caption, _url("png", path.read_bytes()))


def _url(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
