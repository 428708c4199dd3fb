"""The contract of a subcommand."""

from __future__ import annotations

import argparse
from typing import Protocol


class Command(Protocol):
    """A module with these two functions: `rrfast NAME` is `rrfast/cli/NAME.py`.

    `rrfast --help` imports every such module. What is an extra, such as Lightning Fabric, or slow
    to import is therefore imported in `run`, where its absence is the error of that command alone.
    """

    def add_parser(
        self, commands: argparse._SubParsersAction[argparse.ArgumentParser], /
    ) -> argparse.ArgumentParser:
        """Add the subcommand and its options, and return its parser."""

    def run(self, arguments: argparse.Namespace, /) -> int:
        """Do it, with what was parsed, and return the exit code.

        Besides the options, `arguments` has `typed`, the command line as it was given. An
        ArithmeticError, ImportError or OSError becomes a sentence and exit code 1, a TypeError or
        ValueError a sentence and 2: see `rrfast.cli.main`.
        """
