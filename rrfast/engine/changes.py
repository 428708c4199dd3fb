"""Reversible changes: undone at the end of a `with` block, whatever interrupts it."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator
from functools import partial
from itertools import chain, starmap
from typing import Any


class Changes(io.IOBase):
    """Entries of dictionaries and attributes that are changed, and what they were.

    A Ctrl-C, or an exception that another thread sends, is raised between two bytecodes: at any of
    them, the first of an `__exit__` written in Python and each of a `finally` among them, but never
    within a function written in C. Hence:

    - what was is written down before it is changed, so that no change is without its undoing;
    - leaving is one call in C. `io.IOBase.__exit__` is written in C and calls `close`, here a
      partial of `collections.deque`, which runs through iterators that put back one thing after
      the other. Nothing can come before it, or between;
    - it can be called again. After an error it goes on with the next thing; `io.IOBase` calls it
      once more when the object dies.

    Args:
        *last: Run through at the end of leaving, if all of them is written in C.

    Example:
        >>> settings = {"depth": 3}
        >>> with Changes() as changes:
        ...     changes.write(settings, "depth", 4)
        ...     changes.write(settings, "width", 2)
        ...     settings
        {'depth': 4, 'width': 2}
        >>> settings
        {'depth': 3}
    """

    def __init__(self, *last: Iterator[Any]) -> None:
        #: Of dictionaries: key and value to write back.
        self.entries: list[tuple[dict[str, Any], str, Any]] = []
        #: Of dictionaries: key to take out again.
        self.added: list[tuple[dict[str, Any], str, None]] = []
        #: Of objects: attribute and value to set again, by a setter that is written in C.
        self.attributes: list[tuple[Any, str, Any]] = []
        back = chain(
            starmap(dict.__setitem__, self.entries),
            starmap(dict.pop, self.added),
            starmap(setattr, self.attributes),
            *last,
        )
        self.close = partial(deque, back, 0)  # type: ignore[method-assign, assignment]

    def write(self, entries: dict[str, Any], name: str, value: object) -> None:
        """Change an entry, or add it; one that has not been changed here before."""
        if name in entries:
            self.entries.append((entries, name, entries[name]))
        else:
            self.added.append((entries, name, None))
        entries[name] = value
