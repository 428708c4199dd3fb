"""`rrfast demo`: standard training against RAT on handwritten digits."""

from __future__ import annotations

import argparse
from pathlib import Path

from rrfast.cli.argument_types import positive

HELP = "standard training against RAT on handwritten digits"
DESCRIPTION = (
    "Train a standard and a RAT network on scikit-learn's digits over several seeds, print how "
    "well each score finds their errors, and write the table, the numbers, a figure of the radii "
    "and a page. If stopped, the same command continues."
)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = command.add_argument
    add("--seeds", type=positive, metavar="N", help="number of seeds (8)")
    add("--epochs", type=positive, metavar="N", help="epochs per training (40)")
    out = Path("rrfast-demo")
    add("--out", type=Path, default=out, metavar="DIR", help="results (rrfast-demo)")
    smoke = "test run of seconds: 2 seeds, 2 epochs; numbers mean nothing"
    add("--smoke", action="store_true", help=smoke)


def run(arguments: argparse.Namespace) -> int:
    """Run `rrfast.demo` with these options."""
    from rrfast import demo

    seeds, epochs = (2, 2) if arguments.smoke else (8, None)
    demo.run(arguments.out, seeds=arguments.seeds or seeds, epochs=arguments.epochs or epochs)
    return 0
