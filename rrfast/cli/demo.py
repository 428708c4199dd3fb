"""`rrfast demo`: standard training against RAT on handwritten digits."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from rrfast.cli.argument_types import positive


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
) -> argparse.ArgumentParser:
    """Add `rrfast demo` and its options."""
    command = commands.add_parser(
        "demo",
        help="standard training against RAT on handwritten digits",
        description="Train a standard and a RAT network on scikit-learn's digits over several "
        "seeds, print how well each score finds their errors, and write the table, the numbers "
        "and a figure of the radii.",
    )
    command.add_argument("--seeds", type=positive, metavar="N", help="number of seeds (8)")
    command.add_argument("--epochs", type=positive, metavar="N", help="epochs per training (40)")
    command.add_argument(
        "--out", type=Path, default=Path("rrfast-demo"), metavar="DIR", help="results (rrfast-demo)"
    )
    command.add_argument(
        "--smoke",
        action="store_true",
        help="test run of seconds: 2 seeds, 2 epochs; numbers mean nothing",
    )
    return command


def run(arguments: argparse.Namespace) -> int:
    """Run `rrfast.demo` with these options."""
    from rrfast import demo

    settings = demo.SMOKE if arguments.smoke else demo.Settings()
    if arguments.seeds is not None:
        settings = replace(settings, seeds=tuple(range(arguments.seeds)))
    if arguments.epochs is not None:
        settings = replace(settings, epochs=arguments.epochs)
    demo.run(settings, arguments.out)
    return 0
