"""`rrfast report`: one self-contained HTML page with every table and figure."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rrfast._errors import require
from rrfast._page import data_url
from rrfast._page import write_page as write_html
from rrfast._results import as_written, read_result, require_matplotlib
from rrfast._tables import Block
from rrfast.bench import tables as bench
from rrfast.evaluate.studies import REPORTED
from rrfast.evaluate.study import write_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Picture(NamedTuple):
    """A figure on a page."""

    title: str
    caption: str
    source: str  #: a data: URL


#: The entries that a page shows for every result.
_HEAD = {"command": str, "device": str, "date": str, "versions": dict}


class Section(NamedTuple):
    """The results of one command."""

    title: str
    result: dict[str, Any]
    conventions: list[str]  #: what a reader needs to know to read the tables
    blocks: list[Block]
    notes: list[str]  #: sentences on what the tables show
    pictures: list[Picture]


def report(
    folders: Sequence[Path | str],
    out: Path | str,
    *,
    title: str | None = None,
    command: str = "",
    pages: bool = False,
) -> None:
    """Write a page with the tables and figures of results.

    The file is self-contained, with styles and with figures as SVG: it can be mailed, and opens
    without a network. It contains no scripts.

    Sections with the same title are distinguished by their folders.

    Args:
        folders: Folders that `rrfast evaluate`, `ablate`, `demo` or `bench` wrote, each with one or
            more of evaluation.json, ood.json, robust.json, distal.json, ablation.json, demo.json,
            bench.json.
        out: The file.
        title: Title of the page; default: the names of the folders.
        command: The command that made the page.
        pages: Also write the Markdown page and the figures of each result again, next to it, with
            this version.

    Raises:
        FileNotFoundError: A folder has no results.
        NotADirectoryError: It is a file.
        ImportError: matplotlib or jinja2 is not installed.
        OSError: `out` cannot be written.
        ValueError: A file of results is not JSON, or not a result of the command.
    """
    require("rrfast report", "jinja2")
    require_matplotlib("report")
    by_folder = [
        (folder, each) for folder in folders for each in _sections(Path(folder), pages=pages)
    ]
    often = Counter(section.title for _, section in by_folder)
    sections = [
        section._replace(title=f"{section.title} ({folder})")
        if often[section.title] > 1
        else section
        for folder, section in by_folder
    ]
    names = title or ", ".join(dict.fromkeys(Path(folder).resolve().name for folder in folders))
    write_html(Path(out), "report.html", title=names, sections=sections, command=command)


#: What a command writes, by the file of its results.
_STUDIES = {f"{study.stem}.json": study for study in (*REPORTED, bench.STUDY)}


def _sections(folder: Path, *, pages: bool) -> list[Section]:
    if folder.is_file():
        raise NotADirectoryError(f"folders must be folders of results, got the file {folder}")
    there = [folder / name for name in _STUDIES if (folder / name).is_file()]
    if not there:
        raise FileNotFoundError(f"{folder} has no results: none of {', '.join(_STUDIES)}")
    return [_section(path, pages) for path in there]


def _section(path: Path, pages: bool) -> Section:
    result, study = read_result(path), _STUDIES[path.name]
    try:
        for entry, expected in _HEAD.items():
            if not isinstance(result.get(entry), expected):
                raise TypeError(f"`{entry}` must be there, and a {expected.__name__}")
        section = Section(
            study.title(result),
            result,
            study.conventions(result),
            list(study.blocks(result)),
            study.notes(result),
            [Picture(d.title, d.caption, _svg(d.figure)) for d in study.figures(result)],
        )
        if pages:
            write_page(study, path.parent, result)
    except (ImportError, OSError):
        raise
    except Exception as error:  # changed results can fail at any step
        raise ValueError(
            f"{path} does not hold results of the command of this version: {error!r}"
        ) from error
    return section


def _svg(figure: Figure) -> str:
    import matplotlib as mpl

    file = io.BytesIO()
    as_written(figure)
    # So that the same figure gives the same bytes.
    with mpl.rc_context({"svg.hashsalt": "rrfast"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return data_url("svg+xml", file.getvalue())
