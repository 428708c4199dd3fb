"""One op: its schema, its reference and its fake, registered together.

An op exists as soon as its file is imported, on every device, with the reference as its kernel; a
compiled library then registers faster kernels for one device. Nothing is differentiable: outputs
are detached. An op with results has an overload `out`, which writes them into given tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

Result = TypeVar("Result")

#: Every op by name, with its reference.
OPS: dict[str, Callable[..., Any]] = {}

_library = torch.library.Library("rrfast", "DEF")
_TAGS = (torch.Tag.pt2_compliant_tag, torch.Tag.needs_exact_strides)


def define(
    name: str, schema: str, reference: Callable[..., Result], fake: Callable[..., Any]
) -> Callable[..., Result]:
    """Register an op and return a function that calls it.

    If the op has results, the function has an argument `out`: None, or the tensor or tensors to
    write them into, checked (`rrfast.ops._out.check_out`). It returns them then.

    Args:
        name: As in `torch.ops.rrfast`.
        schema: Arguments and results, in PyTorch's schema language.
        reference: The op in plain PyTorch: the specification, and the kernel where none is
            compiled.
        fake: Returns results of the right shape, dtype and layout, without values.
    """
    signature = " ".join(schema.split())
    OPS[name] = reference
    op: Callable[..., Result] = _registered(name, signature, reference, fake)
    parsed = torch._C.parse_schema(name + signature)
    results = [result.name or "out" for result in parsed.returns]
    if not results:
        return _counted(op, [a.alias_info is not None for a in parsed.arguments])
    taken = ", ".join(f"Tensor({chr(97 + i)}!) {result}" for i, result in enumerate(results))
    inputs = signature[: signature.index(") ->")]

    def into_reference(*inputs: Any, **outputs: Tensor) -> None:
        made = reference(*inputs)
        for target, result in zip(
            outputs.values(), made if isinstance(made, tuple) else (made,), strict=True
        ):
            target.copy_(result)

    into = _registered(f"{name}.out", f"{inputs}, *, {taken}) -> ()", into_reference, nothing)

    def run(*inputs: Any, out: Any = None) -> Result:
        if out is None:
            return op(*inputs)
        outputs = (out,) if len(results) == 1 else tuple(out)
        into(*inputs, **dict(zip(results, outputs, strict=True)))
        _count_change(outputs)
        return out if len(results) == 1 else outputs  # type: ignore[return-value]

    return run


def _registered(
    name: str, signature: str, kernel: Callable[..., Any], fake: Callable[..., Any]
) -> Any:
    """The op, or the overload, that a name and a signature define."""
    _library.define(name + signature, tags=_TAGS)
    # Under no_grad, because with a fall-through autograd would record its torch calls.
    _library.impl(name, torch.no_grad()(kernel), "CompositeExplicitAutograd")
    # A fall-through costs nothing; an autograd formula would cost microseconds per call.
    _library.impl(name, torch.library.fallthrough_kernel, "Autograd")
    torch.library.register_fake(f"rrfast::{name}", fake, lib=_library)
    op, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.rrfast, op), overload or "default")


def _counted(op: Callable[..., Result], changes: list[bool]) -> Callable[..., Result]:
    """An op that changes arguments in place, with a count of each change."""

    def run(*inputs: Any) -> Result:
        nothing = op(*inputs)
        _count_change([a for a, change in zip(inputs, changes, strict=False) if change])
        return nothing

    return run


def _count_change(tensors: Iterable[Tensor | None]) -> None:
    """Count a change of the tensors, so that a backward that needs their old values fails."""
    if not torch.compiler.is_compiling():
        increment_version([t for t in tensors if t is not None and not t.is_inference()])


def nothing(*_: object, **__: object) -> None:
    """The fake of an op that changes its arguments in place and returns nothing."""
