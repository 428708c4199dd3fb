"""`out=`: the check of tensors that an op is to write its results into."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Parameter

from rrfast._checks import check_device, describe
from rrfast.ops.layout import memory_format

#: The `out` of an op with several results.
Out = tuple[Tensor, ...]


def check_out(
    out: object, inputs: tuple[Tensor | None, ...], **results: tuple[Tensor, torch.dtype]
) -> None:
    """Raise unless an op can write its results into `out`.

    No op may write where it reads, not even element by element: a GPU reads the inputs through a
    cache that does not see what is written meanwhile.

    Args:
        out: The argument: a tensor for one result, for several a tuple of them.
        inputs: All that the op reads.
        results: By name, in order: a tensor with a result's shape and layout, and its dtype.

    Raises:
        TypeError: `out` is not so many tensors of these dtypes.
        ValueError: A tensor has another shape, device or layout, requires a gradient, or shares
            memory with an input or another result.
    """
    several = len(results) > 1
    given = out if several else (out,)
    if not isinstance(given, (tuple, list)) or len(given) != len(results):
        raise TypeError(f"out must be the tensors ({', '.join(results)}), got {describe(out)}")
    seen = [tensor for tensor in inputs if tensor is not None]
    for value, (result, (like, dtype)) in zip(given, results.items(), strict=True):
        name = f"out's {result}" if several else "out"
        check_written(name, value, "the result", like, dtype, seen)
        seen.append(value)


def check_written(
    name: str, value: object, like_name: str, like: Tensor, dtype: torch.dtype, seen: list[Tensor]
) -> None:
    """Raise unless an op can write into `value` what has the shape and the layout of `like`.

    `seen` is all that the op reads, and what else it writes.

    Raises:
        TypeError, ValueError: As `check_out` does.
    """
    if not isinstance(value, Tensor) or value.dtype != dtype or not _is_dense(value):
        kind = str(dtype).removeprefix("torch.")
        raise TypeError(f"{name} must be a dense {kind} tensor, got {describe(value)}")
    if value.shape != like.shape:
        raise ValueError(
            f"{name} must have the shape of {like_name}, {list(like.shape)}, got {describe(value)}"
        )
    check_device(name, value, "the inputs", like)
    layout = memory_format(like)
    if not value.is_contiguous(memory_format=layout):
        kind = str(layout).removeprefix("torch.").removesuffix("_format")
        raise ValueError(f"{name} must be {kind}, as {like_name} is, got strides {value.stride()}")
    if not torch.compiler.is_compiling() and value.is_neg():  # Dynamo does not know it
        raise ValueError(
            f"{name} must not be a negated view, as .conj().imag is: give its resolve_neg()"
        )
    if value.requires_grad:
        raise ValueError(f"{name} must not require a gradient: results of ops are detached")
    if any(_overlap(value, other) for other in seen):
        raise ValueError(
            f"{name} must have memory of its own, and shares it with an input or with another "
            "result"
        )


def _is_dense(value: Tensor) -> bool:
    return value.layout is torch.strided and not value.is_nested


def _overlap(a: Tensor, b: Tensor) -> bool:
    """Whether the memory from the first to the last element of both has a part in common."""
    if torch.compiler.is_compiling() or _lacks_memory(a) or _lacks_memory(b):
        return False
    return a.data_ptr() < _end(b) and b.data_ptr() < _end(a)


def _lacks_memory(tensor: Tensor) -> bool:
    """Whether it is a meta or a fake tensor; subclasses that are but names have memory."""
    if type(tensor) in (Tensor, Parameter):
        return tensor.is_meta
    return tensor.is_meta or torch._C._dispatch_keys(tensor).has(torch._C.DispatchKey.Python)


def _end(tensor: Tensor) -> int:
    if tensor.is_contiguous():
        count = tensor.numel()
    else:
        lengths = zip(tensor.shape, tensor.stride(), strict=True)
        count = 1 + sum((size - 1) * stride for size, stride in lengths)
    return tensor.data_ptr() + count * tensor.element_size()
