"""`rrfast report`: one page with every table and figure."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
) -> argparse.ArgumentParser:
    """Add `rrfast report` and its options."""
    command = commands.add_parser(
        "report",
        help="one page with every table and figure",
        description="Write one self-contained HTML file with the tables and figures of "
        "results of rrfast evaluate, ablate and bench.",
    )
    command.add_argument("folders", metavar="DIR", nargs="+", type=Path, help="a folder of results")
    command.add_argument("--title", metavar="TEXT", help="title of the page")
    command.add_argument(
        "--out", type=Path, default=Path("report.html"), metavar="FILE", help="(report.html)"
    )
    command.add_argument(
        "--pages",
        action="store_true",
        help="also write the Markdown page and the figures beside each result again",
    )
    return command


def run(arguments: argparse.Namespace) -> int:
    """Write the page of `rrfast.report`."""
    from rrfast.report import report as page

    page(
        arguments.folders,
        arguments.out,
        title=arguments.title,
        command=arguments.typed,
        pages=arguments.pages,
    )
    print(f"Written: {arguments.out}")
    return 0
