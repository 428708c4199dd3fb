"""The `rrfast` command.

One file per subcommand, named after it, as `Command` describes; another one is a file and a line in
`COMMANDS`.

Options are declared for argparse. The signatures of what a command calls cannot give them, as their
modules import torch. Signatures for typer or cyclopts would be longer than a line per option, and
`--help` would take 0.12 to 0.21 s of a processor in place of 0.06 s.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from typing import Protocol

from rrfast.cli import ablate, bench, demo, evaluate, report, score, train

__all__ = ["COMMANDS", "main"]


class Command(Protocol):
    """A module with these names: `rrfast NAME` is `rrfast/cli/NAME.py`.

    `rrfast --help` imports every such module. So whatever needs torch belongs into `run`, and so do
    optional packages, where a missing one is an error of that command only. The names that a help
    text lists are in `rrfast/_names.py`.
    """

    __name__: str
    HELP: str  #: one line
    DESCRIPTION: str

    def add_arguments(self, command: argparse.ArgumentParser, /) -> None:
        """Add the options."""

    def run(self, arguments: argparse.Namespace, /) -> int:
        """Run the command with the parsed arguments, and return the exit code.

        Besides the options, `arguments` has `typed`, the command line as it was given. An
        ArithmeticError, ImportError or OSError becomes a message and exit code 1, a TypeError or
        ValueError a message and 2: see `main`.
        """


#: Every subcommand, in the order of `rrfast --help`.
COMMANDS: tuple[Command, ...] = (demo, bench, train, ablate, evaluate, report, score)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments after the program's name; default: those of the process. Without any, print
            the configuration, as `python -m rrfast`.

    Returns:
        Exit code: 0 done; 1 something is missing or cannot be written, the loss is not finite, or
            `score` could not score some images, which it names; 2 arguments do not fit the data or
            each other; 130 interrupted. Errors are a message on standard error. Wrong arguments
            exit with 2, as in argparse.

    Example:
        >>> main(["demo", "--seeds", "none"])
        Traceback (most recent call last):
        SystemExit: 2
    """
    parser = argparse.ArgumentParser(
        prog="rrfast", description="How far an input must move to change a classifier's prediction."
    )
    commands = parser.add_subparsers(dest="command", metavar="command")
    for command in COMMANDS:
        name = command.__name__.rpartition(".")[2]
        own = commands.add_parser(name, help=command.HELP, description=command.DESCRIPTION)
        command.add_arguments(own)
        own.set_defaults(run=command.run)
    arguments = parser.parse_args(argv)
    arguments.typed = shlex.join(["rrfast", *(sys.argv[1:] if argv is None else argv)])
    try:
        if arguments.command is None:
            from rrfast.cli.configuration import print_configuration

            print_configuration()
            return 0
        code: int = arguments.run(arguments)
    except (ArithmeticError, ImportError, OSError, TypeError, ValueError) as error:
        print(f"rrfast: {error}", file=sys.stderr)
        return 2 if isinstance(error, (TypeError, ValueError)) else 1
    except KeyboardInterrupt:
        print("rrfast: interrupted", file=sys.stderr)
        return 130
    return code
