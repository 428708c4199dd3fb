"""Reads of numbers from tensors: always from a CPU, and once per model from another device.

Reading a number from a GPU makes the host wait. So values there are checked only in the first call
with a model; each check documents what later calls do with a wrong value.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from rrfast._remembered import Remembered

#: What was read for each model.
_read: Remembered[set[str]] = Remembered()


def is_on_host(tensor: Tensor) -> bool:
    """Whether the tensor has values that can be read without waiting.

    A tensor in a graph that is being traced (`torch.compile`, `torch.export`, `make_fx`) has none,
    nor has one under another dispatch mode.
    """
    return (
        tensor.is_cpu
        and torch._C._len_torch_dispatch_stack() == 0
        and (type(tensor) is Tensor or not isinstance(tensor, FakeTensor))
        and not torch.compiler.is_compiling()
    )


def may_read(what: str, model: object, tensor: Tensor) -> bool:
    """Whether to read a tensor now; for a tensor on another device it is True once per model.

    It is never True while a CUDA graph is being captured: waiting would end the capture. Each
    `what` has its own first time. A model that is created for each call, such as a lambda, counts
    as new each time; None is to wait for the device in every call.

    Example:
        >>> model, x = torch.nn.Linear(4, 3), torch.rand(2, 4)
        >>> may_read("box", model, x), may_read("box", model, x.to("meta"))
        (True, False)
    """
    if is_on_host(tensor):
        return True
    traced = isinstance(tensor, FakeTensor) or torch.compiler.is_compiling()
    if traced or tensor.device.type == "meta":
        return False
    if tensor.device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        return False
    if model is None:
        return True
    if id(model) not in _read.by_id:
        try:
            _read.keep(model, set())
        except TypeError:  # a callable without weak references: read each time
            return True
    read = _read.by_id[id(model)][0]
    first = what not in read
    read.add(what)
    return first
