"""The interface of a subcommand."""

from __future__ import annotations

import argparse
from typing import Protocol


class Command(Protocol):
    """A module with these two functions: `rrfast NAME` is `rrfast/cli/NAME.py`.

    `rrfast --help` imports every such module. So whatever needs torch belongs into `run`, and so do
    optional packages, where a missing one is an error of that command only. The names that a help
    text lists are in `rrfast/_names.py`.
    """

    def add_parser(
        self, commands: argparse._SubParsersAction[argparse.ArgumentParser], /
    ) -> argparse.ArgumentParser:
        """Add the subcommand and its options, and return its parser."""

    def run(self, arguments: argparse.Namespace, /) -> int:
        """Run the command with the parsed arguments, and return the exit code.

        Besides the options, `arguments` has `typed`, the command line as it was given. An
        ArithmeticError, ImportError or OSError becomes a message and exit code 1, a TypeError or
        ValueError a message and 2: see `rrfast.cli.main`.
        """
