"""Packages whose modules and names are loaded on first use."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from typing import Any


def on_first_use(package: str, elsewhere: Mapping[str, str]) -> Callable[[str], Any]:
    """A `__getattr__` for a package: it loads the package's modules, and the names `elsewhere`.

    Where a type checker looks, the package imports them: a `__getattr__` that it sees would make
    every misspelt name a valid one.

    Args:
        package: The package, `__name__`.
        elsewhere: The module of each name.

    Example:
        >>> load = on_first_use("rrfast", {"radius": "rrfast._radius"})
        >>> load("radius").__name__, load("models").__name__
        ('radius', 'rrfast.models')
        >>> load("raduis")
        Traceback (most recent call last):
        AttributeError: module 'rrfast' has no attribute 'raduis'
    """

    def load(name: str) -> Any:
        if name in elsewhere:
            found = getattr(importlib.import_module(elsewhere[name]), name)
        elif importlib.util.find_spec(f"{package}.{name}"):
            found = importlib.import_module(f"{package}.{name}")
        else:
            # With these two Python adds "Did you mean" to the traceback.
            what, module = f"module {package!r} has no attribute {name!r}", sys.modules[package]
            raise AttributeError(what, name=name, obj=module)
        setattr(sys.modules[package], name, found)
        return found

    return load
