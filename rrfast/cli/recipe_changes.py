"""`--set`: changes entries of a recipe on the command line."""

from __future__ import annotations

import argparse


def add_changes(command: argparse.ArgumentParser) -> None:
    """Add `--set KEY=VALUE ...`; `arguments.changes` is a list, empty without it."""
    command.add_argument(
        "--set",
        dest="changes",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="entries of the recipe, such as training.epochs=3 objective.eps=1e-2",
    )
