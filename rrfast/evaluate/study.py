"""A kind of evaluation: what its results are made into, and the files that hold them."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console

from rrfast import _tables
from rrfast._files import write_text
from rrfast._results import write_figure, write_result
from rrfast._tables import Block, escaped
from rrfast.evaluate.observations import Row, of
from rrfast.inference.table_file import harmless

if TYPE_CHECKING:
    from rrfast.evaluate.drawing import Drawing

Result = dict[str, Any]


class Study(NamedTuple):
    """A kind of evaluation: how its results are written and read."""

    stem: str  #: stem of its files: STEM.json, STEM.csv, STEM.md
    title: Callable[[Result], str]  #: title of its section in a report
    conventions: Callable[[Result], list[str]]  #: what a reader needs to know to read the tables
    blocks: Callable[[Result], Iterator[Block]]  #: every table
    notes: Callable[[Result], list[str]]  #: sentences on what the numbers show
    figures: Callable[[Result], Iterator[Drawing]]
    #: Columns of the CSV file, which has a line per row; none: there is no CSV file.
    cells: Mapping[str, Callable[[Row], Any]] = {}
    listed: Mapping[str, Any] = {}  #: the values that rows must have to be in it
    #: Summarizes the rows of all runs for the figures.
    curves: Callable[[Sequence[Row]], list[Row]] = lambda _: []
    #: Leaves out of the rows, for the file, the curves of every run, which the summary replaces.
    short: Callable[[Sequence[Row], Sequence[Row]], list[Row]] = lambda rows, _: [*rows]
    command: str = "evaluate"  #: the command that makes the results
    #: What a log file, which has no bar, gets told of each model, from its rows.
    told: Callable[[Sequence[Row]], str] = lambda _: "done"


def write_results(
    study: Study, result: Result, runs: Sequence[Row], out: Path, console: Console
) -> None:
    """Write all files, and print the content of the page and their names."""
    files = [f"{study.stem}.json"]
    write_result(out / files[0], result)
    if study.cells:
        table = io.StringIO(newline="")
        lines = ([find(row) for find in study.cells.values()] for row in of(runs, **study.listed))
        csv.writer(table).writerows(map(harmless, ([*study.cells], *lines)))
        files.append(f"{study.stem}.csv")
        write_text(out / files[1], table.getvalue())
    files += write_page(study, out, result)
    console.print("\n".join(study.conventions(result)), highlight=False, markup=False)
    console.print(_tables.terminal(study.blocks(result)))
    console.print("\n".join(study.notes(result)), highlight=False, markup=False)
    console.print(f"\nWritten to {out}: {', '.join(files)}", highlight=False, markup=False)


def write_page(study: Study, out: Path, result: Result) -> list[str]:
    """Write STEM.md and the figures, and return their names."""
    drawn = list(study.figures(result))
    for drawing in drawn:
        write_figure(out / f"{drawing.name}.png", drawing.figure, dpi=100)
    write_text(out / f"{study.stem}.md", page(study, result, drawn))
    return [f"{study.stem}.md", *(f"{drawing.name}.png" for drawing in drawn)]


def page(study: Study, result: Result, drawings: Sequence[Drawing] = ()) -> str:
    """Conventions, tables, notes and figures in Markdown."""
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    pictures = "".join(
        f"![{escaped(d.title)}]({d.name}.png)\n\n**{escaped(d.title)}.** {escaped(d.caption)}\n\n"
        for d in drawings
    )
    notes = study.notes(result)
    # A recipe may have set fewer.
    recipe = result.get("recipe") or {"training": {"threads": 0}}
    threads = recipe["training"]["threads"] or result["threads"]
    said = f"{_tables.preformatted(notes)}\n\n" if notes else ""
    return (
        f"# rrfast {study.command}\n\n{_tables.listed(study.conventions(result))}\n\n"
        f"{_tables.markdown(study.blocks(result))}\n\n{said}{pictures}"
        f"{_tables.code(result['command'])}, {result['device']}, {threads} "
        f"thread{'s' * (threads > 1)}; {versions}; {result['date']}.\n"
    )
