"""Reversible changes: undone at the end of a `with` block, whatever interrupts it."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator
from functools import partial
from itertools import chain, starmap
from typing import Any


class Changes(io.IOBase):
    """Changed entries of dictionaries and attributes, and their old values.

    A Ctrl-C, or an exception that another thread sends, can be raised between any two bytecodes,
    also at the start of an `__exit__` written in Python and inside a `finally`, but never within a
    function written in C. Hence:

    - the old value is recorded before the change, so that every change can be undone;
    - leaving is one call in C. `io.IOBase.__exit__` is written in C and calls `close`, here a
      partial of `collections.deque`, which runs through iterators that restore one entry after the
      other. No exception can come before it or in between;
    - it can be called again. After an error it continues with the next entry; `io.IOBase` calls it
      once more when the object dies.

    Args:
        *last: Iterators to run through at the end of leaving; they must be written in C.

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
        #: For dictionaries: key and value to write back.
        self.entries: list[tuple[dict[str, Any], str, Any]] = []
        #: For dictionaries: key to remove again.
        self.added: list[tuple[dict[str, Any], str, None]] = []
        #: For objects: attribute and value to set again, by a setter written in C.
        self.attributes: list[tuple[Any, str, Any]] = []
        back = chain(
            starmap(dict.__setitem__, self.entries),
            starmap(dict.pop, self.added),
            starmap(setattr, self.attributes),
            *last,
        )
        self.close = partial(deque, back, 0)  # type: ignore[method-assign, assignment]

    def write(self, entries: dict[str, Any], name: str, value: object) -> None:
        """Change or add an entry that was not changed here before."""
        if name in entries:
            self.entries.append((entries, name, entries[name]))
        else:
            self.added.append((entries, name, None))
        entries[name] = value
