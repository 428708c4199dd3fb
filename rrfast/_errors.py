"""Errors of other libraries in our sentences: what is not installed, and what they say first."""

from __future__ import annotations

import importlib


def require(who: str, module: str, package: str | None = None) -> None:
    """Raise an ImportError that names the remedy unless `module` can be imported.

    Args:
        who: What needs it, to begin the sentence.
        module: Its full name.
        package: What is installed, spelt as its authors do; None if it is called as the module.

    Example:
        >>> require("a table", "absent", "Absent")
        Traceback (most recent call last):
        ImportError: a table needs Absent, which does not import: No module named 'absent'...
    """
    try:
        importlib.import_module(module.partition(".")[0])  # a part may be there from before
        importlib.import_module(module)
    except ImportError as error:
        raise missing(who, package or module, error) from error


def missing(
    who: str, package: str, error: ImportError, install: str = "", instead: str = ""
) -> ImportError:
    """The error of `require`.

    Args:
        who: As `require`.
        package: Likewise.
        error: What importing it raised.
        install: What pip is given; by default the package in small letters.
        instead: What else would do, to end the sentence.
    """
    end = f"; {instead}" if instead else ""
    return ImportError(
        f"{who} needs {package}, which does not import: {error}. Install it with: pip install "
        f"{install or package.lower()}{end}"
    )


def first_line(error: BaseException) -> str:
    """What an error says first; with the line after it, where a colon announces one.

    Example:
        >>> first_line(RuntimeError("Error(s) in loading:" + chr(10) + "size mismatch"))
        'Error(s) in loading: size mismatch'
        >>> first_line(KeyError())
        'KeyError'
    """
    first, *rest = str(error).split("\n")
    if first.endswith(":") and rest:
        first = f"{first} {rest[0].strip()}"
    return first or type(error).__name__
