"""Detects models that change their input in place."""

from __future__ import annotations

import contextlib
import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from rrfast.engine.engine import Model

#: The sentence.
IN_PLACE = (
    "model must not change its input in place, as a first layer with inplace=True does: x is "
    "needed as it was. Let the first operation give a new tensor"
)
#: Models that were seen to leave an input as it was: in eval mode, and in training.
_seen: tuple[weakref.WeakSet[Any], weakref.WeakSet[Any]] = weakref.WeakSet(), weakref.WeakSet()


def output_of(model: Model, x: Tensor, *, keep: bool = False) -> Any:
    """What a model returns, if it leaves `x` as it was.

    torch counts the changes of a tensor (`_version`), but not those by `x.data` or by what shares
    its memory: the first time that a model is run with `keep` the numbers are compared, too.

    Args:
        model: What is called.
        x: [B, ...].
        keep: Copy `x`, and put it back if it has changed.

    Raises:
        ValueError: The model has changed `x`.
    """
    copy = keep and _copies(x)
    compare = copy and _is_new(model, x)
    before = x.detach().clone() if copy else None
    version = x._version
    try:
        output = model(x)
    except BaseException as error:
        if compare:
            _forget(model)
        if x._version != version and before is not None:
            x.detach().copy_(before)
        if "leaf Variable" in str(error) and "in-place" in str(error):
            raise ValueError(IN_PLACE) from error
        raise
    if x._version != version or (compare and not _alike(x, before)):
        if before is not None:
            x.detach().copy_(before)
        if compare:
            _forget(model)
        raise ValueError(IN_PLACE)
    return output


def _is_new(model: Model, x: Tensor) -> bool:
    """Whether to compare: once for a model, and on a device that is waited for only a module."""
    seen = _seen[bool(getattr(model, "training", False))]
    try:
        if model in seen:
            return False
        if not (x.device.type == "cpu" or isinstance(model, nn.Module)):
            return False
        seen.add(model)
    except TypeError:  # neither hashed nor held weakly
        return x.device.type == "cpu"
    return True


def _forget(model: Model) -> None:
    with contextlib.suppress(TypeError):
        for seen in _seen:
            seen.discard(model)


def _copies(x: Tensor) -> bool:
    """Whether a copy of `x` says what it was: not while it is recorded, by CUDA or torch.export."""
    if type(x) is not Tensor or x.layout is not torch.strided or x.is_meta:
        return False
    return not (x.is_cuda and torch.cuda.is_current_stream_capturing())


def _alike(x: Tensor, before: Tensor | None) -> bool:
    """Whether all numbers are the same, NaN included."""
    assert before is not None  # it was compared
    x = x.detach()
    return torch.equal(x, before) or bool(((x == before) | (x.isnan() & before.isnan())).all())
