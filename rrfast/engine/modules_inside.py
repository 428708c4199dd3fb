"""Finds the modules that a callable runs."""

from __future__ import annotations

import functools
import inspect
import itertools
import sys
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn

#: Largest number of objects to search, the nearest first: a millisecond at most.
LIMIT = 1000
#: Largest number of elements to search in a list, tuple, set or dictionary.
ELEMENTS = 256
#: Modules whose functions, like decorators, hold a user's model in a closure, but name none.
_LIBRARIES = {*sys.stdlib_module_names, "torch", "torchvision", "numpy", "scipy"}
#: Modules whose objects hold no model.
_OPAQUE = {"builtins", "torch", "numpy", "typing"}


def owner_of(model: object) -> nn.Module | None:
    """The module itself, or the module of a method, or the one that a partial calls."""
    while isinstance(model, functools.partial):
        model = model.func
    owner = model if isinstance(model, nn.Module) else getattr(model, "__self__", None)
    return owner if isinstance(owner, nn.Module) else None


def device_of(model: object) -> torch.device | None:
    """The device of the model's first parameter or buffer; None for a function, or without any."""
    owner = owner_of(model)
    if owner is not None:
        for tensor in itertools.chain(owner.parameters(), owner.buffers()):
            return tensor.device
    return None


def modules_of(model: object) -> list[nn.Module]:
    """All modules that a callable may run: itself, or those that it refers to.

    The search is breadth first, over at most `LIMIT` objects. It follows partials and their
    arguments, methods and their objects, closures, default arguments, the globals that a function
    names, functions wrapped by decorators and `torch.compile`, attributes of objects, lists,
    tuples, sets and dictionaries. A module that is found but not run does no harm. The search does
    not look inside a module: its own `eval()` reaches only its submodules too.

    Example:
        >>> net = nn.Linear(4, 3)
        >>> modules_of(lambda x: net(x / 255)) == [net]
        True
    """
    if isinstance(model, nn.Module):
        return [model]
    found: list[nn.Module] = []
    seen: set[int] = set()
    ahead: deque[object] = deque([model])
    kept: list[object] = []  # keeps method objects alive, for unique ids
    while ahead and len(seen) < LIMIT:
        thing = ahead.popleft()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        kept.append(thing)
        if issubclass(type(thing), nn.Module):
            found.append(thing)  # type: ignore[arg-type]
        else:
            ahead.extend(_within(thing))
    return found


def _within(thing: Any) -> Iterable[object]:
    """The objects that an object, not a module, refers to."""
    for kind, held in _HELD:
        if isinstance(thing, kind):
            return held(thing)
    return () if _top(type(thing).__module__) in _OPAQUE else _of_object(thing)


def _of_object(thing: Any) -> Iterator[object]:
    kind = type(thing)
    yield from getattr(thing, "__dict__", {}).values()
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            slot = base.__dict__.get(name)
            if isinstance(slot, types.MemberDescriptorType):
                yield from _value(slot, thing)
        yield from (value for value in base.__dict__.values() if isinstance(value, nn.Module))
    call = inspect.getattr_static(kind, "__call__", None)
    if isinstance(call, types.FunctionType):
        yield from _of_function(call, kind)


def _of_function(function: Any, owner: type | None = None) -> Iterator[object]:
    """The objects in a function's closure and defaults, and those that it wraps and names.

    Args:
        function: The function.
        owner: The class of a method; other methods that it calls are searched too.
    """
    yield from getattr(function, "__dict__", {}).values()  # __wrapped__ among them
    for called in _with_methods(function, owner):
        for cell in called.__closure__ or ():
            yield from _contents(cell)
        yield from called.__defaults__ or ()
        yield from (called.__kwdefaults__ or {}).values()
        if _top(called.__module__) not in _LIBRARIES:
            yield from _of_names(called.__globals__, list(_names(called.__code__)))


def _with_methods(function: Any, owner: type | None) -> list[types.FunctionType]:
    """The function, the methods of its class that it names, and those that they name."""
    functions = [function] if isinstance(function, types.FunctionType) else []
    for known in functions if owner is not None else ():
        for name in _names(known.__code__):
            member = inspect.getattr_static(owner, name, None)
            if isinstance(member, types.FunctionType) and member not in functions:
                functions.append(member)
    return functions


def _of_names(variables: dict[str, Any], names: list[str]) -> Iterator[object]:
    """The globals with these names, and attributes so named of Python modules among them."""
    values = [variables[name] for name in names if name in variables]
    yield from values
    for module in values:
        if isinstance(module, types.ModuleType) and _top(module.__name__) not in _LIBRARIES:
            yield from (vars(module)[name] for name in names if name in vars(module))


def _names(code: types.CodeType) -> Iterator[str]:
    """The names used by the code and by functions within it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _contents(cell: types.CellType) -> Iterator[object]:
    try:
        yield cell.cell_contents
    except ValueError:  # not bound yet
        return


def _value(slot: types.MemberDescriptorType, thing: object) -> Iterator[object]:
    try:
        yield slot.__get__(thing)
    except AttributeError:  # not set
        return


def _top(module: object) -> str:
    return str(module).partition(".")[0]


def _of_method(method: types.MethodType) -> Iterator[object]:
    yield method.__self__
    yield from _of_function(method.__func__, type(method.__self__))


def _of_partial(call: functools.partial[Any]) -> Iterator[object]:
    yield call.func
    yield from (*call.args, *call.keywords.values())


def _of_script(method: Any) -> Iterator[object]:
    """A new wrapper of TorchScript's module: flags and parameters are shared."""
    yield torch.jit._recursive.wrap_cpp_module(method.owner)


def _of_elements(container: Iterable[object]) -> Iterator[object]:
    return itertools.islice(container, ELEMENTS)


def _of_values(container: dict[Any, object]) -> Iterator[object]:
    return itertools.islice(container.values(), ELEMENTS)


def _nothing(_: object) -> tuple[()]:
    return ()


_HELD: tuple[tuple[Any, Callable[[Any], Iterable[object]]], ...] = (
    (types.FunctionType, _of_function),
    (types.MethodType, _of_method),
    (functools.partial, _of_partial),
    ((list, tuple, set, frozenset), _of_elements),
    (dict, _of_values),
    (torch._C.ScriptMethod, _of_script),
    ((type, types.ModuleType), _nothing),
)
