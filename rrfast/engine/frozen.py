"""Modules in eval mode with frozen parameters, restored afterwards whatever is raised."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import starmap
from typing import Any

import torch
from torch import nn

from rrfast.engine.changes import Changes
from rrfast.engine.special import own_train, special_of, uncache

#: Who holds modules now, by id: what engines have changed and not yet put back.
_held: dict[int, weakref.ref[Frozen]] = {}
_lock = threading.RLock()

_OF_INFERENCE = (
    "model must have parameters that autograd can use, but some were made under "
    "torch.inference_mode(); build and load the model outside of it"
)


class Frozen(Changes):
    """Modules in eval mode whose parameters require no gradient, until it is left.

    A flag is set by itself, for a model may be in a mixed mode: it is what `model.eval()` would
    make of it, each flag remembered. Modules whose class overrides `train` or `eval` have it
    called, since they may keep there what they compute with, such as weights that were merged; on
    leaving they are told so again, and the flags of all modules put back. `engine/special.py` has
    what else is changed in modules of torch that would not stay what they are, or would wait.

    Where several hold one thing, in one thread or in many, the last to leave puts it back. In a
    forked process, what threads held that do not exist there is put back.

    Leaving is the one call in C of `Changes` where nothing else holds anything and no Python has to
    run. Else it is `close`, which resumes once after an interrupt, and once more when the object
    dies.
    """

    def __init__(self) -> None:
        #: What ends inference mode, in which nothing can be differentiated, from where it is made;
        #: leaving it brings the user's modes of autograd back.
        self._modes: list[tuple[Any, None, None, None]] = []
        leave = starmap(torch._C._InferenceMode.__exit__, self._modes)
        super().__init__(leave, map(_held.pop, [id(self)], [None]))
        #: Modules whose `train` is their own, and the modes they were in.
        self.trained: list[tuple[nn.Module, str, bool]] = []
        #: Attributes that are set again by Python.
        self.others: list[tuple[Any, str, Callable[[], object]]] = []
        self.thread = threading.get_ident()
        self.begun = False
        self._taken: dict[tuple[int, str], Any] = {}

    def freeze(self, roots: Iterable[nn.Module]) -> None:
        """Put these modules and all within them into eval mode, and freeze their parameters.

        Raises:
            ValueError: A parameter was made under `torch.inference_mode`.
        """
        self.begun = True
        with _lock:
            others = _others(self)
            for holder in (self, *others) if others else ():
                holder._in_python()
            # Who left before that has put all back.
            others = [other for other in others if id(other) in _held]
            self._taken = {key: was for other in others for key, was in other._keys()}
            _held[id(self)] = weakref.ref(self)
            self._modes.append((torch._C._InferenceMode(False), None, None, None))
            uncache(self)
            modules = _all(roots)
            specials = self._announced(modules)
            for module in modules:
                self._frozen(module)
            for special, module in specials:
                special(self, module)
            self._taken = {}

    def write(self, entries: dict[str, Any], name: str, value: object) -> None:
        """Change an entry, or add it; where another holds it, it stays what it was before both."""
        key = id(entries), name
        if key not in self._taken:
            super().write(entries, name, value)
        else:
            was = self._taken[key]
            if was is _ABSENT:
                self.added.append((entries, name, None))
            else:
                self.entries.append((entries, name, was))
            entries[name] = value

    def close(self) -> None:
        """Leave, thing by thing."""
        try:
            self._put_back()
        finally:
            self._put_back()  # what an interrupt has left
            while self._modes:
                self._modes.pop()[0].__exit__(None, None, None)
            _held.pop(id(self), None)
        # `io.IOBase` calls it once more when the object dies, and drops what is raised there: an
        # interrupt in a function of Python would be lost.
        self.close = _NOTHING_LEFT  # type: ignore[method-assign, assignment]

    def _in_python(self) -> None:
        """Leave by `close`, no more by the call in C."""
        self.__dict__.pop("close", None)

    def _announced(
        self, modules: list[nn.Module]
    ) -> list[tuple[Callable[[Changes, nn.Module], None], nn.Module]]:
        """Tell those modules that have a `train` of their own; what is special about which."""
        kinds: dict[type, tuple[bool, list[Any]]] = {}
        own, specials = [], []
        for module in modules:
            kind = type(module)
            if kind not in kinds:
                kinds[kind] = own_train(kind), special_of(kind)
            overridden, special = kinds[kind]
            if overridden or "train" in module.__dict__:
                own.append(module)
            specials += [(change, module) for change in special]
        if [module for module in own if module.training or (id(module), "train") in self._taken]:
            self._tell(own, modules)
        return specials

    def _tell(self, own: list[nn.Module], modules: list[nn.Module]) -> None:
        self._in_python()
        # They may change any flag within them: all are remembered.
        for module in modules:
            flags = module.__dict__
            if "training" in flags:
                was = self._taken.get((id(flags), "training"), flags["training"])
                self.entries.append((flags, "training", was))
            for parameter in module._parameters.values():
                if parameter is not None:
                    key = id(parameter), "requires_grad"
                    was = self._taken.get(key, parameter.requires_grad)
                    self.attributes.append((parameter, "requires_grad", was))
        for module in own:  # from the outside in, as on leaving
            known = self._taken.get((id(module), "train"))
            mode = module.training if known is None else known
            self.trained.insert(0, (module, "train", mode))
            if known is None and mode:
                try:
                    module.eval()
                except NotImplementedError:  # an exported program, which has one mode
                    del self.trained[0]

    def _frozen(self, module: nn.Module) -> None:
        """Set the flags of one module."""
        own, taken = module.__dict__, self._taken
        # By __dict__: nn.Module.__setattr__ takes several times as long, and a wrapper's may pass
        # it on to another module.
        flag = own.get("training")
        if flag:
            self.entries.append((own, "training", flag))
            own["training"] = False
        elif flag is None and getattr(module, "training", False):
            # A property, or TorchScript's, which lies in C++.
            self._in_python()
            self.others.append((module, "training", partial(setattr, module, "training", True)))
            module.training = False
        elif taken:
            self._share(own, self.entries)
            self._share(module, self.others)
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            if parameter.is_inference():
                raise ValueError(_OF_INFERENCE)
            if parameter.requires_grad:
                self.attributes.append((parameter, "requires_grad", True))
                parameter.requires_grad = False
            elif taken and (id(parameter), "requires_grad") in taken:
                was = taken[id(parameter), "requires_grad"]
                self.attributes.append((parameter, "requires_grad", was))
            else:
                continue
            if type(parameter) not in _PLAIN:
                self._in_python()
                self.others.append((module, name, partial(_thaw, module, name)))

    def _share(self, thing: object, held: list[Any]) -> None:
        """Hold the flag of this module's dictionary, or of itself, too, where another holds it."""
        key = id(thing), "training"
        if key in self._taken:
            held.append((thing, "training", self._taken[key]))

    def _keys(self) -> list[tuple[tuple[int, str], Any]]:
        """What is held: the object's id and the name, and what was there."""
        held = [*self.entries, *self.attributes, *self.trained, *self.others]
        keys = [((id(thing), name), was) for thing, name, was in held]
        return keys + [((id(thing), name), _ABSENT) for thing, name, _ in self.added]

    def _put_back(self) -> None:
        """Put back what nobody else holds; all that can be, whatever fails."""
        failed: list[Exception] = []
        with _lock:
            kept = {key for other in _others(self) for key, _ in other._keys()}
            ways: list[tuple[list[Any], Callable[[Any, str, Any], object]]] = [
                (self.trained, _train),
                (self.entries, dict.__setitem__),
                (self.added, dict.pop),
                (self.attributes, setattr),
                (self.others, _call),
            ]
            for held, back in ways:
                while held:  # the last first: what was there before all changes comes at the end
                    thing, name, was = held[-1]
                    try:
                        if (id(thing), name) not in kept:
                            back(thing, name, was)
                    except Exception as error:  # noqa: BLE001 - raised when all the rest is back
                        failed.append(error)
                    held.pop()
        if failed:
            raise failed[0]


#: A `close` in C that does nothing.
_NOTHING_LEFT: partial[deque[Any]] = partial(deque, (), 0)
#: In place of what was not there.
_ABSENT = object()
#: Tensors whose attributes are set by C alone.
_PLAIN = (nn.Parameter, torch.Tensor)


def _train(module: nn.Module, _: str, mode: bool) -> None:
    module.train(mode)


def _call(_: object, __: str, back: Callable[[], object]) -> None:
    back()


def _thaw(module: nn.Module, name: str) -> None:
    """Let what stands in a parameter's place by now require a gradient again.

    A sharded model (`fully_shard`) registers other tensors under its names while it runs.
    """
    registered = module._parameters.get(name)
    if registered is not None:
        registered.requires_grad_(True)


def _all(roots: Iterable[nn.Module]) -> list[nn.Module]:
    """The modules and all within them, each once, the outer before the inner.

    By hand: `modules()` takes several times as long.
    """
    seen: set[int] = set()
    modules: list[nn.Module] = []
    ahead: list[nn.Module | None] = list(roots)
    while ahead:
        module = ahead.pop()
        if module is not None and id(module) not in seen:
            seen.add(id(module))
            modules.append(module)
            ahead.extend(module._modules.values())
    return modules


def _others(holder: Frozen) -> list[Frozen]:
    """All others that hold something."""
    holders = [reference() for reference in list(_held.values())]
    return [other for other in holders if other is not None and other is not holder]


def _after_fork() -> None:
    """Put back what threads hold that do not exist in this process; whoever has the lock."""
    global _lock  # noqa: PLW0603 - the old one may be held by a thread that is not there
    _lock = threading.RLock()
    for holder in [reference() for reference in list(_held.values())]:
        if holder is not None and holder.thread != threading.get_ident():
            holder._in_python()
            holder._put_back()
            _held.pop(id(holder), None)


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork)
