"""Clear messages for errors of other libraries: missing packages, and an error's first line."""

from __future__ import annotations

import importlib


def require(who: str, module: str, package: str | None = None, install: str = "") -> None:
    """Raise an ImportError with the install command unless `module` can be imported.

    `package` is its name as its authors spell it, if other than the module's; the rest is as for
    `missing`.

    Example:
        >>> require("a table", "absent", "Absent")
        Traceback (most recent call last):
        ImportError: a table needs Absent, which does not import: No module named 'absent'...
        >>> require("a table", "absent", "Absent and Away")
        Traceback (most recent call last):
        ImportError: a table needs Absent and Away, which do not import: ... Install them with: ...
    """
    try:
        importlib.import_module(module.partition(".")[0])  # a part may have been imported before
        importlib.import_module(module)
    except ImportError as error:
        raise missing(who, package or module, error, install) from error


def missing(
    who: str, package: str, error: ImportError, install: str = "", instead: str = ""
) -> ImportError:
    """The error that says `who` needs a package, and how to install it, after an import's `error`.

    `install` is the argument of pip install, by default the package in lower case; `instead`, an
    alternative, ends the message.
    """
    end = f"; {instead}" if instead else ""
    do, it = ("do", "them") if " and " in package else ("does", "it")
    return ImportError(
        f"{who} needs {package}, which {do} not import: {error}. Install {it} with: pip install "
        f"{install or package.lower()}{end}"
    )


def retold(error: OSError, message: str) -> OSError:
    """The system's error with another message; it keeps its class and number."""
    told = type(error)(message)
    told.errno = error.errno
    return told


def first_line(error: BaseException) -> str:
    """The first line of an error's message, and the second if the first ends in a colon.

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
