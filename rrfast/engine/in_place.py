"""Detects models that change their input in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rrfast._remembered import Remembered

if TYPE_CHECKING:
    from rrfast.engine.engine import Model

#: The error message.
IN_PLACE = (
    "model must not change its input in place, as a first layer with inplace=True does: x is "
    "needed as it was. Let the first operation give a new tensor"
)
#: Models that did not change an input: in eval mode, and in training mode.
_seen: tuple[Remembered[None], Remembered[None]] = Remembered(), Remembered()


def output_of(model: Model, x: Tensor, *, keep: bool = False) -> Any:
    """The output of a model, which must not change `x`.

    torch counts the changes of a tensor (`_version`), but not those by `x.data` or through shared
    memory. So the first time that a model runs with `keep`, the values are compared too.

    Args:
        model: The callable.
        x: [B, ...].
        keep: Copy `x`, and restore it if it has changed.

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
    """Whether to compare: once per model; on a device, where it waits, only for modules."""
    seen = _seen[bool(getattr(model, "training", False))]
    try:
        if id(model) in seen.by_id:
            return False
        if not (x.device.type == "cpu" or isinstance(model, nn.Module)):
            return False
        seen.keep(model, None)
    except TypeError:  # it cannot be weakly referenced
        return x.device.type == "cpu"
    return True


def _forget(model: Model) -> None:
    for seen in _seen:
        seen.by_id.pop(id(model), None)


def _copies(x: Tensor) -> bool:
    """Whether a copy of `x` holds its values: not while CUDA or torch.export records."""
    if type(x) is not Tensor or x.layout is not torch.strided or x.is_meta:
        return False
    return not (x.is_cuda and torch.cuda.is_current_stream_capturing())


def _alike(x: Tensor, before: Tensor | None) -> bool:
    """Whether all values are the same, including NaN."""
    assert before is not None  # it was compared
    x = x.detach()
    return torch.equal(x, before) or bool(((x == before) | (x.isnan() & before.isnan())).all())
