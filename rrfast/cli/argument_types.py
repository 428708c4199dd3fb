"""Command-line options that subcommands share, and types of options."""

from __future__ import annotations

import argparse
from fractions import Fraction
from typing import Any


def comma_separated(text: str) -> tuple[str, ...]:
    """The parts of `text` between commas, other than commas in parentheses.

    Example:
        >>> comma_separated("msr,radius_fast:bounds=(0, 1)")
        ('msr', 'radius_fast:bounds=(0, 1)')
    """
    parts: list[str] = []
    for part in text.split(","):
        if parts and parts[-1].count("(") > parts[-1].count(")"):
            parts[-1] += f",{part}"
        else:
            parts.append(part)
    return tuple(parts)


def positive(text: str) -> int:
    """`text` as an integer of at least 1; argparse prints the error and exits with 2.

    Example:
        >>> positive("none")
        Traceback (most recent call last):
        argparse.ArgumentTypeError: must be an integer of at least 1, got 'none'
    """
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1, got {text!r}")
    return number


def ratio(text: str) -> float:
    """`text` as a number, which may be a fraction.

    Example:
        >>> ratio("8/255") == 8 / 255, ratio("0.03")
        (True, 0.03)
        >>> ratio("8/0")
        Traceback (most recent call last):
        argparse.ArgumentTypeError: must be a number such as 0.03 or 8/255, got '8/0'
    """
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(
            f"must be a number such as 0.03 or 8/255, got {text!r}"
        ) from None


def ratios(text: str) -> tuple[float, ...]:
    """The numbers between commas, each as `ratio`.

    Example:
        >>> ratios("0.25,1/2")
        (0.25, 0.5)
    """
    return tuple(ratio(part) for part in text.split(","))


def positive_or_all(text: str) -> int | None:
    """`text` as `positive`, or None for "all".

    Example:
        >>> positive_or_all("12"), positive_or_all("all")
        (12, None)
    """
    return None if text == "all" else positive(text)


def add_changes(command: argparse.ArgumentParser) -> None:
    """Add `--set KEY=VALUE ...`; `arguments.changes` is a list, empty without it."""
    told = "entries of the recipe, such as training.epochs=3 objective.eps=1e-2"
    many: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}
    command.add_argument("--set", dest="changes", metavar="KEY=VALUE", help=told, **many)
