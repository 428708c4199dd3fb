"""What an option may be: `type=` of `add_argument`, for more than one subcommand."""

from __future__ import annotations

import argparse


def comma_separated(text: str) -> tuple[str, ...]:
    """The parts of `text` between commas.

    Example:
        >>> comma_separated("rat,openmix")
        ('rat', 'openmix')
    """
    return tuple(text.split(","))


def positive(text: str) -> int:
    """`text` as an integer of at least 1.

    Raises:
        argparse.ArgumentTypeError: It is none; argparse prints the sentence and exits with 2.

    Example:
        >>> positive("12")
        12
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
