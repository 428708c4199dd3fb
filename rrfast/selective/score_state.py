"""A score as JSON text and ordinary tensors: its class, settings and fitted data.

Numbers in the text are restored bit for bit, and tensors stay tensors. The text also contains the
threshold, which is in the state_dict too, and the SHA-256 of text and tensors, so that a flipped
bit in any of them is found. This protects against damage, not against a change on purpose, which
can replace the digest.
"""

from __future__ import annotations

import dataclasses
import json
import numbers
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rrfast import scores
from rrfast._checks import describe
from rrfast._digest import digest_of
from rrfast.scores import Score

#: Version of the text; increase it for a change that older readers would misread.
FORMAT = 3


class Unpacked(NamedTuple):
    """The arguments of `pack`."""

    score: Score
    provenance: dict[str, Any]
    threshold: float | None


class _OpaqueError(Exception):
    """A value that JSON and tensors cannot hold."""


class _StateError(ValueError):
    """An error message about a state."""


def pack(
    score: Score, provenance: Mapping[str, Any], threshold: float | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Convert the score, the provenance and the threshold to tensors.

    None, bool, int, float, str, tensors, tuples, lists, mappings with names as keys, NamedTuples of
    the score's own module and nested scores are stored; NumPy's numbers become Python's. For any
    other value, which only a user's class has, `repr` is stored for comparison.

    Returns:
        The text, JSON as [n] uint8 on the CPU; and the tensors of the score, as `tensors_of`.

    Cost: a copy of the score's tensors, and the SHA-256 of their bytes.

    Example:
        >>> from rrfast.scores import ODIN
        >>> unpack(*pack(ODIN(eps=0.5), {"samples": 3}, 0.25), ODIN())[1:]
        ({'samples': 3}, 0.25)
    """
    tensors: dict[str, Tensor] = {}
    content = {"format": FORMAT, "score": _encode(score, tensors, "")}
    content |= {"provenance": provenance, "threshold": threshold}
    return _text({**content, "sha256": _digest(content, tensors)}), tensors


def tensors_of(score: Score) -> dict[str, Tensor]:
    """Contiguous copies of the tensors in a score, by number.

    Example:
        >>> from rrfast.scores import ODIN
        >>> tensors_of(ODIN(scale=torch.ones(2)))
        {'0': tensor([1., 1.])}
    """
    tensors: dict[str, Tensor] = {}
    _encode(score, tensors, "")
    return tensors


def unpack(
    text: object,
    tensors: Mapping[str, Tensor],
    built: Score,
    device: torch.device | None = None,
) -> Unpacked:
    """Restore the arguments of `pack`.

    Args:
        text: The text from `pack`, on any device.
        tensors: The tensors from `pack`; copied.
        built: The score of the classifier that is loaded into. It provides classes that are not
            rrfast's, and their values that a state cannot hold.
        device: The device for the score's tensors; None for the CPU.

    Raises:
        ValueError: Text and tensors are something else, truncated, changed, or of another version;
            they name a score that neither rrfast nor `built` has; or a value that a state cannot
            hold differs in `built`.

    Example:
        >>> from rrfast.scores import MSR, ODIN
        >>> unpack(*pack(MSR(2.0), {}), ODIN()).score
        MSR(temperature=2.0)
    """
    try:
        content = _content(text, tensors)
        copies = {name: t.detach().to(device or "cpu", copy=True) for name, t in tensors.items()}
        score, provenance = _decode(content["score"], copies, built, ""), content["provenance"]
        if not isinstance(score, Score) or not isinstance(provenance, dict):
            raise _damaged("it holds no score")
        if not score.fitted:
            raise _damaged("its score was never fitted")
        return Unpacked(score, provenance, content["threshold"])
    except _StateError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        # JSON text of another origin can fail at any step.
        raise _damaged(str(error)) from error


def _damaged(why: str) -> _StateError:
    return _StateError(
        "the extra state of a SelectiveClassifier must be what its state_dict() holds, and this "
        f"is damaged or of something else: {why}"
    )


def _text(content: Mapping[str, Any]) -> Tensor:
    return torch.frombuffer(bytearray(json.dumps(content).encode()), dtype=torch.uint8)


def _digest(content: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    return digest_of([("text", _text(content)), *sorted(tensors.items())])


def _content(text: object, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Parse the text, and compare it with its digest."""
    if not isinstance(text, Tensor) or text.dtype != torch.uint8 or text.dim() != 1:
        raise _damaged(f"expected a uint8 tensor of shape [n], got {describe(text)}")
    content = json.loads(text.cpu().numpy().tobytes())
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        raise _damaged("its text names no format")
    if content["format"] != FORMAT:
        raise _StateError(
            f"the state is of format {content['format']}, and this version of rrfast reads format "
            f"{FORMAT}: take the version of rrfast that saved it, or a later one"
        )
    if content.pop("sha256", None) != _digest(content, tensors):
        raise _damaged("text and tensors are not those that its SHA-256 was made of")
    return content


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


def _named(module: str, name: str) -> Any:
    """The NamedTuple with that name in a score's own module; None if there is none."""
    kind = getattr(sys.modules.get(module), name, None)
    tuples = isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")
    return kind if tuples else None


def _encode(value: object, tensors: dict[str, Tensor], module: str) -> Any:
    """A value as JSON data; its tensors are added to `tensors`."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, numbers.Real):
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    if isinstance(value, Tensor):
        # A copy: safetensors does not accept shared or strided memory.
        copy = value.detach().clone(memory_format=torch.contiguous_format)
        tensors[str(len(tensors))] = copy
        return {"tensor": str(len(tensors) - 1)}
    if isinstance(value, Score):
        return _encode_score(value, tensors)
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {"mapping": {key: _encode(item, tensors, module) for key, item in value.items()}}
    if isinstance(value, (tuple, list)):
        name = type(value).__name__
        plain = type(value) in (tuple, list)
        if plain or _named(module, name) is type(value):
            items = [_encode(item, tensors, module) for item in value]
            return {name if plain else f".{name}": items}
    raise _OpaqueError


def _encode_score(score: Score, tensors: dict[str, Tensor]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name in (field.name for field in dataclasses.fields(score) if field.init):
        value, before = getattr(score, name), list(tensors)
        try:
            fields[name] = _encode(value, tensors, type(score).__module__)
        except _OpaqueError:
            for number in set(tensors).difference(before):
                del tensors[number]
            fields[name] = {"given": repr(value)}
    return {"score": type(score).__name__, "ours": _is_ours(score), "fields": fields}


def _decode(told: Any, tensors: Mapping[str, Tensor], built: Score, module: str) -> Any:
    """The inverse of `_encode`."""
    if not isinstance(told, dict):
        return told
    if "score" in told:
        return _decode_score(told, tensors, built)
    ((kind, content),) = told.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "mapping":
        return {key: _decode(item, tensors, built, module) for key, item in content.items()}
    items = [_decode(item, tensors, built, module) for item in content]
    if not kind.startswith("."):
        return {"tuple": tuple, "list": list}[kind](items)
    if (named := _named(module, kind[1:])) is None:
        raise _damaged(f"there is no {kind[1:]} in {module}")
    return named(*items)


def _decode_score(told: dict[str, Any], tensors: Mapping[str, Tensor], built: Score) -> Score:
    name = told["score"]
    own = [s for s in _within(built) if not _is_ours(s) and type(s).__name__ == name]
    if told["ours"] and name not in kinds():
        raise _StateError(
            f"the state is of a classifier with the score {name}, which this version of "
            f"rrfast does not have; it has {', '.join(kinds())}"
        )
    if not told["ours"] and not own:
        raise _StateError(
            f"the state is of a classifier with the score {name}, which is not one of rrfast's: "
            f"build the classifier with a score of that class, not {type(built).__name__}, to "
            "load it"
        )
    kind = kinds()[name] if told["ours"] else type(own[0])
    fields: dict[str, Any] = {}
    for field, value in told["fields"].items():
        if isinstance(value, dict) and "given" in value:
            fields[field] = getattr(own[0], field)
            if repr(fields[field]) != value["given"]:
                raise _StateError(
                    f"the state is of a classifier whose {name} has another {field}, "
                    f"{value['given']}, which a state cannot hold: build it with the score that "
                    "was saved"
                )
        else:
            fields[field] = _decode(value, tensors, built, kind.__module__)
    return kind(**fields)


def _within(value: object) -> Iterator[Score]:
    """The scores in a value, itself first."""
    if isinstance(value, Score):
        yield value
        value = {
            field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        value = [*value.values()]
    if isinstance(value, (tuple, list)):
        for item in value:
            yield from _within(item)
