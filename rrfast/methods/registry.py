"""Methods by name, and the method that a caller gives: a name with options, or an object."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from functools import cache, partial
from importlib import import_module
from typing import Any

from rrfast._checks import check_one_of, describe, meant
from rrfast._names import METHOD_CLASSES
from rrfast.methods.measure import Measure
from rrfast.methods.method import Method, option_names

#: Every method by the name that `rrfast.radius(method=...)` takes.
METHODS: dict[str, Callable[..., Method]] = {
    name: getattr(import_module(f"rrfast.methods.{name}"), kind)
    for name, kind in METHOD_CLASSES.items()
}


def configured(method: str | Method, options: dict[str, Any]) -> Measure:
    """The method with these options, or an error that names an unknown option.

    Args:
        method: A key of `METHODS`, or a method object; `options` replace some of its fields.
        options: Fields of the method. `temperature` may be several numbers, one method each.

    Raises:
        TypeError: `method` is neither, or has no such option.
        ValueError: An unknown name, or an option out of range.
    """
    if not options and isinstance(method, str) and method in METHODS:
        kind = METHODS[method]
        # A class always makes the same method; a user's function may not.
        return _of_class(kind) if isinstance(kind, type) else Measure((kind(),))
    made = _maker(method, options)
    temperatures = _several(options.get("temperature"))
    if temperatures is None:
        return Measure((made(**options),))
    if not temperatures:
        raise ValueError(
            "temperature must be a number or at least one of them, got "
            f"{describe(options['temperature'])}"
        )
    return Measure(tuple(made(**{**options, "temperature": t}) for t in temperatures), grid=True)


@cache
def _of_class(kind: Callable[..., Method]) -> Measure:
    """The method with its defaults; every `rrfast.radius` without options needs it."""
    return Measure((kind(),))


def _maker(method: object, options: dict[str, Any]) -> Callable[..., Method]:
    """A function that makes the method from options; it raises if the method lacks one."""
    if isinstance(method, str):
        check_one_of("method", method, METHODS)
        kind: Any = METHODS[method]
        made: Callable[..., Method] = kind
        what = f"method {method!r}"
    elif isinstance(method, type) or not callable(method):
        raise TypeError(
            "method must be a name or a method with its options, such as 'bs' or "
            f"rrfast.methods.BS(budget=10), got {describe(method)}"
        )
    else:
        kind = type(method)
        what, made = f"method {kind.__name__}", partial(_replaced, method)
    known = option_names(kind)
    for name in options:
        if name not in known:
            raise TypeError(
                f"{what} has no option {name!r}; its options are {', '.join(known) or 'none'}"
                f"{meant(name, known)}"
            )
    return made


def _replaced(method: Any, **options: Any) -> Any:
    return dataclasses.replace(method, **options) if options else method


def _several(temperature: object) -> list[Any] | None:
    """The elements of a sequence; None for anything else."""
    if isinstance(temperature, (str, bytes)) or getattr(temperature, "ndim", 1) != 1:
        return None
    if hasattr(temperature, "tolist"):  # a tensor's or an array's elements as Python numbers
        temperature = temperature.tolist()
    return list(temperature) if isinstance(temperature, Iterable) else None
