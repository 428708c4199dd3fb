"""Modules that need more than eval mode and frozen parameters."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.ao.quantization import FakeQuantizeBase, ObserverBase
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrize

from rrfast._remembered import Remembered
from rrfast.engine.changes import Changes
from rrfast.engine.recorded import check_recorded

#: A change of a module of some class, beyond its flags.
Special = Callable[[Changes, Any], None]

#: Results by class, as each call looks up every class of its model.
_found: Remembered[list[Special]] = Remembered()
#: Modules that were warned about.
_told: Remembered[None] = Remembered()


def own_train(kind: type[nn.Module]) -> bool:
    """Whether a class does more in `train` and `eval` than set flags."""
    if kind.train is nn.Module.train and kind.eval is nn.Module.eval:
        return False
    return kind.train is not DistributedDataParallel.train  # which sets flags


def special_of(kind: type[nn.Module]) -> list[Special]:
    """The further changes for modules of a class."""
    known = _found.by_id.get(id(kind))
    if known is not None:
        return known[0]
    found = _look_up(kind)
    _found.keep(kind, found)
    return found


def _look_up(kind: type[nn.Module]) -> list[Special]:
    specials = _SPECIALS.keys() & kind.__mro__
    found = [_SPECIALS[base] for base in specials]
    # No object is an instance of a class that was not imported.
    for place, name, special in _ELSEWHERE:
        known = getattr(sys.modules.get(place), name, None)
        if known is not None and issubclass(kind, known):
            found.append(special)
    return found


def uncache(changes: Changes) -> None:
    """Stop `parametrize.cached()` from keeping values computed with frozen parameters."""
    if parametrize._cache_enabled:
        changes.write(vars(parametrize), "_cache", {})


def _look_through(changes: Changes, module: DistributedDataParallel) -> None:
    """Bypass DistributedDataParallel, which would wait for other processes."""
    own = vars(module)
    if "forward" not in own:
        changes.write(own, "forward", module.module.__call__)
        return
    # A user's forward stays; if it calls DDP's forward, that only runs the module.
    changes.write(own, "_pre_forward", lambda *inputs, **more: (inputs, more))
    changes.write(own, "_run_ddp_forward", module.module.__call__)
    changes.write(own, "_post_forward", _same)


def _unhooked(changes: Changes, module: nn.Module) -> None:
    """Bypass Lightning Fabric's wrapper, in which any backward but `fabric.backward` fails."""
    changes.write(vars(module), "_register_backward_hook", _same)


def _refused(_: Changes, __: nn.Module) -> None:
    raise ValueError(
        "model must be one that can be differentiated with respect to its input again and again, "
        "and torch.distributed.fsdp.FullyShardedDataParallel cannot; shard it by "
        "torch.distributed.fsdp.fully_shard, or give the module before it is wrapped"
    )


def _unobserved(changes: Changes, module: FakeQuantizeBase) -> None:
    """Stop a fake-quantised module from observing, as it does in eval mode too; it still rounds."""
    off = torch.zeros_like(module.observer_enabled)
    changes.write(module._buffers, "observer_enabled", off)


def _apart(changes: Changes, module: ObserverBase) -> None:
    """Make an observer forget what it collects here."""
    for name, buffer in list(module._buffers.items()):
        if buffer is not None:
            changes.write(module._buffers, name, buffer.clone())


def _warned(_: Changes, module: _BatchNorm) -> None:
    if module._buffers.get("running_mean") is None and id(module) not in _told.by_id:
        _told.keep(module, None)
        warnings.warn(
            f"model has a {type(module).__name__} without running statistics: in eval mode too it "
            "normalises by the batch, so that a sample's logits depend on the others of its batch",
            RuntimeWarning,
            stacklevel=2,
        )


def _checked(_: Changes, module: nn.Module) -> None:
    check_recorded(module)


def _same(output: Tensor) -> Tensor:
    return output


_SPECIALS: dict[type, Special] = {
    DistributedDataParallel: _look_through,
    FakeQuantizeBase: _unobserved,
    ObserverBase: _apart,
    _BatchNorm: _warned,
    fx.GraphModule: _checked,
    torch.jit.ScriptModule: _checked,
}

_ELSEWHERE: tuple[tuple[str, str, Special], ...] = (
    ("torch.distributed.fsdp", "FullyShardedDataParallel", _refused),
    ("lightning_fabric.wrappers", "_FabricModule", _unhooked),
    ("lightning.fabric.wrappers", "_FabricModule", _unhooked),
)
