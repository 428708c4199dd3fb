"""Entries about objects, by their identity; an entry goes when its object does."""

from __future__ import annotations

import weakref
from functools import partial
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Remembered(Generic[Value]):
    """A value for each of some objects, which are compared by identity and not kept alive.

    `weakref.WeakKeyDictionary` and `WeakSet` do the same in Python code, which takes ten times as
    long.

    Attributes:
        by_id: By the object's `id`: its value, and a weak reference that removes the entry. Look
            up here, with `get` or `in`, without a call of Python code.

    Example:
        >>> class Thing: pass
        >>> colours, thing = Remembered(), Thing()
        >>> colours.keep(thing, "red")
        >>> colours.by_id[id(thing)][0]
        'red'
        >>> del thing
        >>> colours.by_id
        {}
    """

    def __init__(self) -> None:
        self.by_id: dict[int, tuple[Value, weakref.ref[object]]] = {}

    def keep(self, thing: object, value: Value) -> None:
        """Keep the value for as long as the object lives.

        Raises:
            TypeError: The object cannot be referred to weakly.
        """
        # The reference comes as the default of `pop`: no Python code runs when the object dies.
        self.by_id[id(thing)] = value, weakref.ref(thing, partial(self.by_id.pop, id(thing)))
