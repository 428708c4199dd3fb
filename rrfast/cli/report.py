"""`rrfast report`: one page with every table and figure."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "one page with every table and figure"
DESCRIPTION = (
    "Write one self-contained HTML file with the tables and figures of results of rrfast evaluate, "
    "ablate and bench."
)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = command.add_argument
    add("folders", metavar="DIR", nargs="+", type=Path, help="a folder of results")
    add("--title", metavar="TEXT", help="title of the page")
    add("--out", type=Path, default=Path("report.html"), metavar="FILE", help="(report.html)")
    pages = "also write the Markdown page and the figures beside each result again"
    add("--pages", action="store_true", help=pages)


def run(arguments: argparse.Namespace) -> int:
    """Write the page of `rrfast.report`."""
    from rrfast.report import report

    title, typed, pages = arguments.title, arguments.typed, arguments.pages
    report(arguments.folders, arguments.out, title=title, command=typed, pages=pages)
    print(f"Written: {arguments.out}")
    return 0
