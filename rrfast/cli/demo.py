"""`rrfast demo`: standard training against RAT on handwritten digits."""

from __future__ import annotations

import argparse
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
        "seeds, print how well each score finds their errors, and write the table, the numbers, "
        "a figure of the radii and a page. If stopped, the same command continues.",
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

    seeds, epochs = (2, 2) if arguments.smoke else (8, None)
    demo.run(arguments.out, seeds=arguments.seeds or seeds, epochs=arguments.epochs or epochs)
    return 0
