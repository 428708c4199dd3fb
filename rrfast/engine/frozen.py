"""Modules in eval mode with frozen parameters, restored afterwards even after an exception."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import starmap
from typing import Any, NamedTuple

import torch
from torch import nn

from rrfast.engine.changes import Changes
from rrfast.engine.special import Special, own_train, special_of, uncache

#: The holders of modules now, by id: engines with changes that are not restored yet.
_held: dict[int, weakref.ref[Frozen]] = {}
_lock = threading.RLock()

#: The error message; parameters that are frozen already need it only where autograd fails.
OF_INFERENCE = (
    "model must have parameters that autograd can use, but some were made under "
    "torch.inference_mode(); build and load the model outside of it"
)


class Frozen(Changes):
    """A context in which modules are in eval mode and their parameters require no gradient.

    Each flag is set and remembered by itself, because a model may be in a mixed mode. Modules whose
    class overrides `train` or `eval` have that method called, since it may change what they compute
    with, for example merge weights; on leaving it is called again, and the flags of all modules are
    restored. `engine/special.py` has further changes for modules of torch that would change their
    state, or wait.

    If several contexts, in one thread or in many, hold the same flag, the last to leave restores
    it. In a forked process, the changes of threads that do not exist there are undone.

    Leaving is the single C call of `Changes` if no other context holds anything and no Python code
    has to run. Otherwise it is `close`, which resumes once after an interrupt, and once more when
    the object dies.
    """

    def __init__(self) -> None:
        #: Ends inference mode, in which nothing can be differentiated; leaving it restores the
        #: user's autograd modes.
        self._modes: list[tuple[Any, None, None, None]] = []
        leave = starmap(torch._C._InferenceMode.__exit__, self._modes)
        super().__init__(leave, map(_held.pop, [id(self)], [None]))
        #: Modules with their own `train`, and the modes they were in.
        self.trained: list[tuple[nn.Module, str, bool]] = []
        #: Attributes that Python code sets back.
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
            # A holder that left before has restored everything.
            others = [other for other in others if id(other) in _held]
            self._taken = {key: was for other in others for key, was in other._keys()}
            _held[id(self)] = weakref.ref(self)
            self._modes.append((torch._C._InferenceMode(False), None, None, None))
            uncache(self)
            found = _all(roots, everything=bool(others))
            own = found.own
            if own and [one for one in own if one.training or (id(one), "train") in self._taken]:
                self._tell(own, found.modules)
                found.changing[:] = found.modules
            for module in found.changing:
                self._frozen(module)
            for special, module in found.specials:
                special(self, module)
            self._taken = {}

    def write(self, entries: dict[str, Any], name: str, value: object) -> None:
        """Change or add an entry; the value remembered is the one before all holders."""
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
        """Leave, entry by entry."""
        try:
            self._put_back()
        finally:
            self._put_back()  # the rest after an interrupt
            while self._modes:
                self._modes.pop()[0].__exit__(None, None, None)
            _held.pop(id(self), None)
        # `io.IOBase` calls it once more when the object dies, and drops exceptions there: an
        # interrupt inside a Python function would be lost.
        self.close = _NOTHING_LEFT  # type: ignore[method-assign, assignment]

    def _in_python(self) -> None:
        """From now on leave by `close`, not by the C call."""
        self.__dict__.pop("close", None)

    def _tell(self, own: list[nn.Module], modules: list[nn.Module]) -> None:
        """Call `eval` of the modules that have their own `train`."""
        self._in_python()
        # They may change any flag within them, so remember all.
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
        for module in own:  # outer modules first, as on leaving
            known = self._taken.get((id(module), "train"))
            mode = module.training if known is None else known
            self.trained.insert(0, (module, "train", mode))
            if known is None and mode:
                try:
                    module.eval()
                except NotImplementedError:  # an exported program, which has only one mode
                    del self.trained[0]

    def _frozen(self, module: nn.Module) -> None:
        """Set the flags of one module."""
        own, taken = module.__dict__, self._taken
        # By __dict__: nn.Module.__setattr__ takes several times as long, and a wrapper's may
        # forward it to another module.
        flag = own.get("training")
        if flag:
            self.entries.append((own, "training", flag))
            own["training"] = False
        elif flag is None and getattr(module, "training", False):
            # A property, or a TorchScript flag, which is in C++.
            self._in_python()
            self.others.append((module, "training", partial(setattr, module, "training", True)))
            module.training = False
        elif taken:
            self._share(own, self.entries)
            self._share(module, self.others)
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            if parameter.requires_grad:
                if parameter.is_inference():
                    raise ValueError(OF_INFERENCE)
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
        """Also hold a flag of this module that another context holds."""
        key = id(thing), "training"
        if key in self._taken:
            held.append((thing, "training", self._taken[key]))

    def _keys(self) -> list[tuple[tuple[int, str], Any]]:
        """The entries held: the object's id and the name, and the old value."""
        held = [*self.entries, *self.attributes, *self.trained, *self.others]
        keys = [((id(thing), name), was) for thing, name, was in held]
        return keys + [((id(thing), name), _ABSENT) for thing, name, _ in self.added]

    def _put_back(self) -> None:
        """Restore what no other context holds; go on after errors."""
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
                while held:  # the last first, so that the value from before all changes is set last
                    thing, name, was = held[-1]
                    try:
                        if (id(thing), name) not in kept:
                            back(thing, name, was)
                    except Exception as error:  # noqa: BLE001 - raised after restoring the rest
                        failed.append(error)
                    held.pop()
        if failed:
            raise failed[0]


#: A `close` in C that does nothing.
_NOTHING_LEFT: partial[deque[Any]] = partial(deque, (), 0)
#: Stands for a missing value.
_ABSENT = object()
#: Tensor classes whose attributes are set in C only.
_PLAIN = (nn.Parameter, torch.Tensor)


def _train(module: nn.Module, _: str, mode: bool) -> None:
    module.train(mode)


def _call(_: object, __: str, back: Callable[[], object]) -> None:
    back()


def _thaw(module: nn.Module, name: str) -> None:
    """Make the tensor that is now registered under a parameter's name require a gradient again.

    A sharded model (`fully_shard`) registers other tensors under its names while it runs.
    """
    registered = module._parameters.get(name)
    if registered is not None:
        registered.requires_grad_(True)


class _Found(NamedTuple):
    modules: list[nn.Module]  #: all, each once, outer before inner
    changing: list[nn.Module]  #: those with a flag to set, in the same order
    own: list[nn.Module]  #: those with their own `train`
    specials: list[tuple[Special, nn.Module]]  #: the further changes of some


def _all(roots: Iterable[nn.Module], *, everything: bool) -> _Found:
    """The modules and all modules inside them; with `everything` the flags of all are to be set.

    Written out because `modules()` takes several times as long; in one walk, which looks at the
    flags too, because at batch 1 nothing of the modules is in the processor's cache.
    """
    kinds: dict[type, tuple[bool, list[Special]]] = {}
    seen: dict[int, nn.Module] = {}
    changing, own, specials = [], [], []
    ahead: list[nn.Module | None] = list(roots)
    while ahead:
        module = ahead.pop()
        if module is None or id(module) in seen:
            continue
        seen[id(module)] = module
        kind = type(module)
        if kind not in kinds:
            kinds[kind] = own_train(kind), special_of(kind)
        overridden, special = kinds[kind]
        entries = module.__dict__
        if overridden or "train" in entries:
            own.append(module)
        if special:
            specials += [(change, module) for change in special]
        if everything or entries.get("training") is not False:
            changing.append(module)
        else:
            for parameter in module._parameters.values():
                if parameter is not None and parameter.requires_grad:
                    changing.append(module)
                    break
        inside = module._modules
        if inside:
            ahead.extend(inside.values())
    return _Found([*seen.values()], changing, own, specials)


def _others(holder: Frozen) -> list[Frozen]:
    """All other contexts that hold something."""
    holders = [reference() for reference in list(_held.values())]
    return [other for other in holders if other is not None and other is not holder]


def _after_fork() -> None:
    """Undo the changes of threads that do not exist in this process, whoever holds the lock."""
    global _lock  # noqa: PLW0603 - a thread that does not exist here may hold the old one
    _lock = threading.RLock()
    for holder in [reference() for reference in list(_held.values())]:
        if holder is not None and holder.thread != threading.get_ident():
            holder._in_python()
            holder._put_back()
            _held.pop(id(holder), None)


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork)
