"""Functions named in a recipe or on a command line: `module:function` or `file.py:function`."""

from __future__ import annotations

import importlib
import inspect
import runpy
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rrfast._checks import meant
from rrfast._names import FORMS


def named_function(what: str, spec: str, *, known: str = FORMS) -> Callable[..., Any]:
    """The function with a name in one of `FORMS`; finding it runs the module or the file.

    Error messages call it `what`; that about a module which does not exist lists the `known` forms.

    Raises:
        FileNotFoundError: There is no such file.
        ImportError: The module, or something that it imports, is missing.
        ValueError: It has no such function.

    Example:
        >>> named_function("model", "rrfast.models:digits_cnn").__name__
        'digits_cnn'
        >>> named_function("data", "rrfast.data:digit")
        Traceback (most recent call last):
        ValueError: data must name a function of rrfast.data, which has no 'digit'; did you mean ...
    """
    source, _, name = spec.rpartition(":")
    if source.endswith(".py"):
        if not Path(source).is_file():
            raise FileNotFoundError(f"{what} must name a file that exists, got {source!r}")
        names = runpy.run_path(source)
    else:
        names = _names_of_module(what, source, name, known)
    if not callable(names.get(name)):
        functions = [key for key, value in names.items() if callable(value) and key[0] != "_"]
        raise ValueError(
            f"{what} must name a function of {source}, which has no {name!r}"
            f"{meant(name, functions, most=3)}"
        )
    function: Callable[..., Any] = names[name]
    return function


def _names_of_module(what: str, source: str, name: str, known: str) -> dict[str, Any]:
    try:
        return vars(importlib.import_module(source))
    except ModuleNotFoundError as error:
        # The command `rrfast` does not look for modules in the current folder.
        file = Path(*source.split(".")).with_suffix(".py")
        there = f"; {file} is here: say {file}:{name}" if file.is_file() else ""
        raise ImportError(
            f"{what} {source}:{name}: {error}{there}. Known forms are {known}"
        ) from error
    except (TypeError, ValueError) as error:  # from a relative name, such as .mine, or an empty one
        raise ValueError(f"{what} must be one of {known}, got {source}:{name}") from error


def parameters_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters of a function that can be given by name."""
    named = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    return {name: p for name, p in _signature(function).items() if p.kind in named}


def lacking(function: Callable[..., Any], given: Iterable[str]) -> list[str]:
    """The parameters without a default that are not given by name."""
    without = {*given}
    return [
        name
        for name, p in _signature(function).items()
        if p.default is p.empty
        and p.kind not in {p.VAR_POSITIONAL, p.VAR_KEYWORD}
        and (name not in without or p.kind is p.POSITIONAL_ONLY)
    ]


def takes_any(function: Callable[..., Any]) -> bool:
    """Whether a function takes arguments of any name, as `**options` do."""
    return any(p.kind is p.VAR_KEYWORD for p in _signature(function).values())


def _signature(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(function).parameters)
    except ValueError:  # some functions written in C have no signature
        return {}
