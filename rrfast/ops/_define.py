"""One op: its schema, its reference and its fake, registered together.

An op exists as soon as its file is imported, on every device, with the reference as its kernel; a
compiled library then registers faster kernels for one device. Nothing is differentiable: outputs
are detached.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")

#: Every op by name, with its reference.
OPS: dict[str, Callable[..., Any]] = {}

_library = torch.library.Library("rrfast", "DEF")
_TAGS = (torch.Tag.pt2_compliant_tag, torch.Tag.needs_exact_strides)


def define(
    name: str, schema: str, reference: Callable[..., Result], fake: Callable[..., Any]
) -> Callable[..., Result]:
    """Register an op and return it.

    Args:
        name: As in `torch.ops.rrfast`.
        schema: Arguments and results, in PyTorch's schema language.
        reference: The op in plain PyTorch: the specification, and the kernel where none is
            compiled.
        fake: Returns results of the right shape, dtype and layout, without values.
    """
    _library.define(name + " ".join(schema.split()), tags=_TAGS)
    # Under no_grad, because with a fall-through autograd would record its torch calls.
    _library.impl(name, torch.no_grad()(reference), "CompositeExplicitAutograd")
    # A fall-through costs nothing; an autograd formula would cost microseconds per call.
    _library.impl(name, torch.library.fallthrough_kernel, "Autograd")
    torch.library.register_fake(f"rrfast::{name}", fake, lib=_library)
    OPS[name] = reference
    op: Callable[..., Result] = getattr(torch.ops.rrfast, name).default
    return op


def nothing(*_: object, **__: object) -> None:
    """The fake of an op that changes its arguments in place and returns nothing."""
