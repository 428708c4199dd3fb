"""The `rrfast` command."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rrfast import demo
from rrfast.__main__ import main as report

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments after the program's name; default those of the process. None given: print
            what runs here, as `python -m rrfast`.

    Returns:
        Exit code: 0 done, 1 something is missing or cannot be written (said in a sentence on
        standard error), 130 interrupted. Wrong arguments exit with 2, as argparse does.

    Example:
        >>> main(["demo", "--seeds", "none"])
        Traceback (most recent call last):
        SystemExit: 2
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        if arguments.command is None:
            return report([])
        return _demo(arguments)
    except (ImportError, OSError) as error:
        print(f"rrfast: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("rrfast: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rrfast", description="How far an input is from changing a classifier's mind."
    )
    commands = parser.add_subparsers(dest="command", metavar="command")
    command = commands.add_parser(
        "demo",
        help="standard training against RAT on handwritten digits",
        description="Train a standard and a RAT network on scikit-learn's digits over several "
        "seeds, print how well each score finds their errors, and write the table, the numbers "
        "and a figure of the radii.",
    )
    command.add_argument("--seeds", type=_positive, metavar="N", help="number of seeds (8)")
    command.add_argument("--epochs", type=_positive, metavar="N", help="epochs per training (40)")
    command.add_argument(
        "--out", type=Path, default=Path("rrfast-demo"), metavar="DIR", help="results (rrfast-demo)"
    )
    command.add_argument(
        "--smoke", action="store_true", help="2 seeds, 2 epochs: seconds; numbers mean nothing"
    )
    return parser


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1, got {text!r}")
    return number


def _demo(arguments: argparse.Namespace) -> int:
    settings = demo.SMOKE if arguments.smoke else demo.Settings()
    if arguments.seeds is not None:
        settings = replace(settings, seeds=tuple(range(arguments.seeds)))
    if arguments.epochs is not None:
        settings = replace(settings, epochs=arguments.epochs)
    demo.run(settings, arguments.out)
    return 0
