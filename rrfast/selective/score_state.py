"""A score as bytes: kind, hyper-parameters, tensors and what it was fitted to, without pickle.

The bytes are, as in safetensors: the length of a header in 8 of them (little-endian), the header in
JSON, and the tensors' own bytes one after the other, so that all numbers come back bit for bit.
After them comes the SHA-256 of all that is before it. The header has the threshold too, which the
state has beside these bytes: a flipped bit in any of the three is found. That is for damage: who
changes a file on purpose can write another digest.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import numbers
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rrfast import scores
from rrfast._checks import describe
from rrfast.scores import Score

#: Of the header. A change that older readers would misread takes the next number.
FORMAT = 2

_LENGTH = 8
_DIGEST = hashlib.sha256().digest_size


class _OpaqueError(Exception):
    """A value that JSON and tensors cannot hold."""


class _SentenceError(ValueError):
    """One that already says what is wrong."""


class Unpacked(NamedTuple):
    """What `pack` was given."""

    score: Score
    provenance: dict[str, Any]
    threshold: float | None


def pack(score: Score, provenance: Mapping[str, Any], threshold: float | None = None) -> Tensor:
    """The score, what `SelectiveClassifier.fit` did, and the threshold, as one tensor.

    None, bool, int, float, str, tensors, tuples, lists, mappings with names as keys, NamedTuples of
    the score's own module and scores within are kept as they are; NumPy's numbers as Python's.
    Of any other value, which only a class of the user's has, `repr` is kept to compare.

    Returns:
        [n] uint8, on the CPU.

    Example:
        >>> from rrfast.scores import ODIN
        >>> unpack(pack(ODIN(eps=0.5), {"samples": 3}, 0.25), ODIN())[1:]
        ({'samples': 3}, 0.25)
    """
    data = bytearray()
    told = {
        "format": FORMAT,
        "score": _encode(score, data, ""),
        "provenance": provenance,
        "threshold": threshold,
    }
    header = json.dumps(told).encode()
    content = bytearray(len(header).to_bytes(_LENGTH, "little")) + header + data
    return torch.frombuffer(content + hashlib.sha256(content).digest(), dtype=torch.uint8)


def unpack(state: object, built: Score, device: torch.device | None = None) -> Unpacked:
    """What `pack` was given.

    Args:
        state: What `pack` made, on any device.
        built: The score of the classifier that is loaded into. It brings the classes that are not
            rrfast's, and of those the values that bytes cannot hold.
        device: Where the score's tensors go; None for the CPU.

    Raises:
        ValueError: `state` is something else, truncated, changed, or of another version; it names a
            score that rrfast does not have and `built` neither; or a value that bytes cannot hold
            is another one in `built`.

    Example:
        >>> from rrfast.scores import MSR, ODIN
        >>> unpack(pack(MSR(2.0), {}), ODIN()).score
        MSR(temperature=2.0)
    """
    try:
        header, data = _parts(state)
        score = _Reader(data, built, device or torch.device("cpu")).read(header["score"], "")
        provenance, threshold = header["provenance"], header.get("threshold")
        if not isinstance(score, Score) or not isinstance(provenance, dict):
            raise _foreign("it holds no score")
        if not score.fitted:
            raise _foreign("its score was never fitted")
    except _SentenceError as error:
        raise ValueError(str(error)) from error.__cause__
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        # A header that is JSON and nothing of ours can fail at any step.
        raise ValueError(str(_foreign(str(error)))) from error
    return Unpacked(score, provenance, threshold)


def _foreign(why: str) -> _SentenceError:
    return _SentenceError(
        "the extra state of a SelectiveClassifier must be what its state_dict() holds, and this "
        f"is damaged or of something else: {why}"
    )


def _parts(state: object) -> tuple[dict[str, Any], bytes]:
    if not isinstance(state, Tensor) or state.dtype != torch.uint8 or state.dim() != 1:
        raise _foreign(f"expected a uint8 tensor of shape [n], got {describe(state)}")
    data = state.cpu().numpy().tobytes()
    content, digest = data[:-_DIGEST], data[-_DIGEST:]
    end = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
    if len(content) < _LENGTH or end > len(content):
        raise _foreign(f"it ends after {len(data)} bytes, before its header does")
    if hashlib.sha256(content).digest() != digest:
        raise _foreign("its bytes are not those that its SHA-256 was made of")
    header = json.loads(content[_LENGTH:end])
    if not isinstance(header, dict) or not isinstance(header.get("format"), int):
        raise _foreign("its header names no format")
    if header["format"] != FORMAT:
        raise _SentenceError(
            f"the state is of format {header['format']}, and this version of rrfast reads format "
            f"{FORMAT}: take the version of rrfast that saved it, or a later one"
        )
    return header, content[end:]


def kinds() -> dict[str, type[Score]]:
    """The classes of `rrfast.scores` by name.

    Example:
        >>> kinds()["ODIN"]
        <class 'rrfast.scores.odin.ODIN'>
    """
    public = ((name, getattr(scores, name)) for name in scores.__all__)
    return {n: kind for n, kind in public if isinstance(kind, type) and issubclass(kind, Score)}


def _is_ours(score: Score) -> bool:
    return kinds().get(type(score).__name__) is type(score)


def _encode(value: object, data: bytearray, module: str) -> Any:
    """What JSON can say of a value; tensors' bytes go into `data`."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, numbers.Real):
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    if isinstance(value, (Tensor, Score)):
        return (
            _encode_tensor(value, data) if isinstance(value, Tensor) else _encode_score(value, data)
        )
    if isinstance(value, (tuple, list)):
        return _encode_items(value, data, module)
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {"mapping": {key: _encode(item, data, module) for key, item in value.items()}}
    raise _OpaqueError


def _encode_items(
    value: tuple[object, ...] | list[object], data: bytearray, module: str
) -> dict[str, Any]:
    name = type(value).__name__
    plain = type(value) in (tuple, list)
    if not plain and _named(module, name) is not type(value):
        raise _OpaqueError
    items = [_encode(item, data, module) for item in value]
    return {name: items} if plain else {"named": name, "items": items}


def _encode_tensor(value: Tensor, data: bytearray) -> dict[str, Any]:
    # Flattened first: a tensor without a dimension has no view in bytes.
    flat = value.detach().cpu().contiguous().flatten().view(torch.uint8)
    told = {
        "tensor": str(value.dtype).removeprefix("torch."),
        "shape": list(value.shape),
        "at": len(data),
    }
    data += flat.numpy().tobytes()
    return told


def _encode_score(score: Score, data: bytearray) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(score):
        if field.init:
            value, before = getattr(score, field.name), len(data)
            try:
                fields[field.name] = _encode(value, data, type(score).__module__)
            except _OpaqueError:
                del data[before:]
                fields[field.name] = {"given": repr(value)}
    return {"score": type(score).__name__, "ours": _is_ours(score), "fields": fields}


def _named(module: str, name: str) -> type[tuple[Any, ...]] | None:
    """The NamedTuple of that name in a score's own module; None if there is none."""
    kind = getattr(sys.modules.get(module), name, None)
    tuples = isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")
    return kind if tuples else None


def _within(value: object) -> Iterator[Score]:
    """The scores that a value is made of, itself first."""
    if isinstance(value, Score):
        yield value
        for field in dataclasses.fields(value):
            yield from _within(getattr(value, field.name, None))
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _within(item)
    elif isinstance(value, Mapping):
        yield from _within(list(value.values()))


class _Reader:
    """From a header and the bytes behind it back to values."""

    def __init__(self, data: bytes, built: Score, device: torch.device) -> None:
        self.data = data
        self.device = device
        self.built = built
        self.own: dict[str, Score] = {}
        for score in _within(built):
            if not _is_ours(score):
                self.own.setdefault(type(score).__name__, score)

    def read(self, told: Any, module: str) -> Any:
        """The value that `_encode` told of."""
        if not isinstance(told, dict):
            return told
        if "tensor" in told:
            return self._tensor(told)
        if "score" in told:
            return self._score(told)
        if "mapping" in told:
            return {key: self.read(item, module) for key, item in told["mapping"].items()}
        if "named" in told:
            kind = _named(module, told["named"])
            if kind is None:
                raise _foreign(f"there is no {told['named']} in {module}")
            return kind(*(self.read(item, module) for item in told["items"]))
        ((kind_name, items),) = told.items()
        return {"tuple": tuple, "list": list}[kind_name](self.read(i, module) for i in items)

    def _tensor(self, told: dict[str, Any]) -> Tensor:
        dtype, shape, start = getattr(torch, told["tensor"]), told["shape"], told["at"]
        if not isinstance(dtype, torch.dtype):
            raise _foreign(f"{told['tensor']} is no dtype")
        end = start + math.prod(shape) * dtype.itemsize
        if not 0 <= start <= end <= len(self.data):
            raise _foreign(f"it ends after {len(self.data)} bytes of tensors, before byte {end}")
        if start == end:
            return torch.empty(shape, dtype=dtype, device=self.device)
        flat = torch.frombuffer(bytearray(self.data[start:end]), dtype=dtype)
        return flat.reshape(shape).to(self.device)

    def _score(self, told: dict[str, Any]) -> Score:
        name, here = told["score"], None
        kind: type[Score] | None
        if told["ours"]:
            kind = kinds().get(name)
            if kind is None:
                raise _SentenceError(
                    f"the state is of a classifier with the score {name}, which this version of "
                    f"rrfast does not have; it has {', '.join(kinds())}"
                )
        else:
            here = self.own.get(name)
            if here is None:
                raise _SentenceError(
                    f"the state is of a classifier with the score {name}, which is not one of "
                    "rrfast's: build the classifier with a score of that class, not "
                    f"{type(self.built).__name__}, to load it"
                )
            kind = type(here)
        fields: dict[str, Any] = {}
        for field, value in told["fields"].items():
            if isinstance(value, dict) and "given" in value:
                fields[field] = getattr(here, field)
                if repr(fields[field]) != value["given"]:
                    raise _SentenceError(
                        f"the state is of a classifier whose {name} has another {field}, "
                        f"{value['given']}, which a state cannot hold: build it with the score "
                        "that was saved"
                    )
            else:
                fields[field] = self.read(value, kind.__module__)
        return kind(**fields)
