"""The identity of a training: everything that must be the same to resume it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from rrfast._checks import plain
from rrfast._digest import digest_of
from rrfast.data import ImageFolder, Split
from rrfast.data.loader import Data, length
from rrfast.data.outliers import ImageFiles
from rrfast.objectives import Objective
from rrfast.train.settings import Training

#: Version of the identity in a checkpoint; another one was written by another version of rrfast.
FORMAT = 3
#: Settings that may change: how often to save, and how fast to read.
FREE = ("checkpoint_steps", "workers", "tensorboard", "threads")
#: Longest description in characters; longer ones are replaced by their digest.
LONGEST = 300
#: Largest number of tensor elements to write out; for more there is the digest.
FEW = 16
#: Attributes of every module that do not matter for what it computes.
_PLUMBING = frozenset(vars(nn.Module()))


class Identity(NamedTuple):
    """A training's settings, objective and data as texts that are equal if they are equal.

    Numbers are described by value, whether Python's or NumPy's; functions and classes by module and
    name; `functools.partial`, modules, dataclasses and rrfast's objects by name and contents;
    tensors by dtype, shape and SHA-256.
    """

    parts: dict[str, dict[str, str]]
    unseen: list[str]  #: parts without such a text: what and where they are

    def differences(self, there: Mapping[str, Mapping[str, str]]) -> list[str]:
        """The differences to another identity, in words."""
        found = []
        for part in {**there, **self.parts}:
            then, now = there.get(part, {}), self.parts.get(part, {})
            found += [
                f"{part}.{name} is {then.get(name)} there and {now.get(name)} here"
                for name in {**then, **now}
                if then.get(name) != now.get(name)
            ]
        return found


def identity(
    training: Training, objective: Objective, train: Data, validation: Data | None
) -> Identity:
    """The identity of a training, before its first step.

    Cost: a pass over all images in memory at the speed of SHA-256, about 1 GB per second; for
    images in files, one look at the size of each.
    """
    told = _Told()
    settings = msgspec.to_builtins(training)
    parts = {
        "training": {k: told.of(v, "") for k, v in settings.items() if k not in FREE},
        "objective": _of_objective(objective, told),
        "train": _of_data(train, "train", told),
    }
    if validation is not None:
        parts["validation"] = _of_data(validation, "validation", told)
    return Identity(parts, told.unseen)


def _of_objective(objective: object, told: _Told) -> dict[str, str]:
    name = {"name": type(objective).__name__}
    if not dataclasses.is_dataclass(objective):
        told.unseen.append("objective, whose class is no dataclass")
        return name
    fields = [field.name for field in dataclasses.fields(objective) if field.init]
    return name | {k: told.of(getattr(objective, k), f"objective.{k}") for k in fields}


def _of_data(data: Data, where: str, told: _Told) -> dict[str, str]:
    parts = {"images": str(length(data)), "labels": _short(digest_of([("y", data.y)]))}
    if isinstance(data, Split):
        return parts | {"pixels": _short(digest_of([("x", data.x)]))}
    if isinstance(data, ImageFolder):
        return parts | _of_files(data)
    told.unseen.append(f"{where}, whose images are read by {_name(type(data))}")
    return parts


def _of_files(images: ImageFolder | ImageFiles) -> dict[str, str]:
    # Not the contents, which take as long to read as an epoch, nor the times, which a copy changes.
    files = hashlib.sha256()
    for name in images.files:
        files.update(f"{name} {(images.root / name).stat().st_size}\n".encode())
    return {"files": _short(files.hexdigest()), "size": f"{images.size} of {images.shorter}"}


class _Told:
    """Makes descriptions, and collects what cannot be described."""

    def __init__(self) -> None:
        self.unseen: list[str] = []
        self._above: list[int] = []  # the objects that contain a value, by id
        self._kinds: tuple[tuple[Any, Callable[[Any, str], str]], ...] = (
            ((Tensor, np.ndarray), self._array),
            (ImageFiles, self._files),
            ((list, tuple), self._items),
            (Mapping, self._mapping),
            (functools.partial, self._partial),
            (types.MethodType, self._method),
            ((type, types.BuiltinFunctionType), lambda value, *_: _name(value)),
            (types.FunctionType, self._function),
            (object, self._object),
        )

    def of(self, value: object, where: str) -> str:
        """A text, equal for equal values in every process; `where` is for `unseen`."""
        value = plain(value)
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
            value = int(value)  # 1.0 is 1
        if value is None or isinstance(value, (bool, int, float, str, torch.dtype, torch.device)):
            return repr(value)
        if id(value) in self._above:
            return "itself"
        tell = next(tell for kinds, tell in self._kinds if isinstance(value, kinds))
        self._above.append(id(value))
        told = _short(tell(value, where))
        self._above.pop()
        return told

    def _files(self, value: ImageFiles, where: str) -> str:
        return f"{len(value.files)} images ({self._named(_of_files(value), where)})"

    def _items(self, value: Sequence[object], where: str) -> str:
        return f"[{', '.join(self.of(item, where) for item in value)}]"

    def _mapping(self, value: Mapping[Any, object], where: str) -> str:
        return f"{{{self._named(value, where)}}}"

    def _partial(self, value: functools.partial[Any], where: str) -> str:
        arguments = {str(i): item for i, item in enumerate(value.args)} | value.keywords
        called = self.of(value.func, where)
        return f"partial {called}({self._named(arguments, where)})"

    def _method(self, value: types.MethodType, where: str) -> str:
        return f"{_name(value.__func__)} of {self.of(value.__self__, where)}"

    def _function(self, value: types.FunctionType, where: str) -> str:
        if "<" in value.__qualname__:
            # A lambda, or a function inside another: other code may have its name.
            self.unseen.append(f"{where}, the function {value.__qualname__}")
        return _name(value)

    def _object(self, value: Any, where: str) -> str:
        kind = _name(type(value))
        if isinstance(value, nn.Module):
            contents = {k: v for k, v in vars(value).items() if k not in _PLUMBING}
            contents |= dict(value.named_parameters(recurse=False))
            contents |= dict(value.named_buffers(recurse=False))
            contents |= dict(value.named_children())
        elif dataclasses.is_dataclass(value):
            contents = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        elif type(value).__module__.startswith("rrfast."):
            contents = vars(value)
        else:
            self.unseen.append(f"{where}, of the class {kind}")
            return kind
        return f"{kind}({self._named(contents, where)})"

    def _array(self, value: Tensor | np.ndarray[Any, Any], where: str) -> str:
        # "float64" for both byte orders, as for the tensor of the same numbers.
        dtype = getattr(value.dtype, "name", str(value.dtype)).removeprefix("torch.")
        if isinstance(value, np.memmap):
            # Described like a file that is read row by row: reading all of it may take long.
            return f"{dtype} {list(value.shape)} of {Path(str(value.filename)).name}"
        if math.prod(value.shape) <= FEW:
            return f"{dtype} {value.tolist()}"
        if not isinstance(value, Tensor):
            if value.dtype.kind not in "biufc":
                self.unseen.append(f"{where}, an array of {dtype}")
                return f"{dtype} {list(value.shape)}"
            value = torch.from_numpy(value.astype(value.dtype.newbyteorder("="), order="C"))
        return f"{dtype} {list(value.shape)} {_short(digest_of([('', value)]))}"

    def _named(self, values: Mapping[Any, object], where: str) -> str:
        pairs = sorted((str(k), v) for k, v in values.items())
        return ", ".join(f"{k}={self.of(v, where)}" for k, v in pairs)


def _short(text: str) -> str:
    """The first 64 bits of a digest; a long text is replaced by its beginning and digest."""
    if len(text) == 64 and set(text) <= set("0123456789abcdef"):
        return f"sha256:{text[:16]}"
    if len(text) <= LONGEST:
        return text
    return f"{text[:80]}... {_short(hashlib.sha256(text.encode()).hexdigest())}"


def _name(value: Any) -> str:
    return f"{getattr(value, '__module__', None) or 'torch'}.{value.__qualname__}"
