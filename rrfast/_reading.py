"""Reads of numbers from tensors: always from a CPU, and once per model from another device.

To read a number from a GPU is to wait for it. So what is checked there is checked in the first call
with a model, and what later calls do with a wrong number is said where it is checked.
"""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils.weak import WeakIdKeyDictionary

#: What was read, by the model it was read for; gone with the model.
_read: WeakIdKeyDictionary = WeakIdKeyDictionary()


def is_on_host(tensor: Tensor) -> bool:
    """Whether the tensor has numbers, and they can be read without a wait.

    A tensor of a graph that is being traced (`torch.compile`, `torch.export`, `make_fx`) has none,
    and neither has one whose operations another mode of dispatch takes over.
    """
    return (
        tensor.device.type == "cpu"
        and not isinstance(tensor, FakeTensor)
        and not torch.compiler.is_compiling()
        and torch._C._len_torch_dispatch_stack() == 0
    )


def may_read(what: str, model: object, tensor: Tensor) -> bool:
    """Whether to read a tensor now; from a device it is True once for each model.

    Never while a CUDA graph is captured, which a wait would end.

    Args:
        what: What is read, in a word: each has a first time of its own.
        model: A callable; one that is made anew for each call, as a lambda is, is new each time.
            None: the device is waited for whenever there are numbers.
        tensor: What would be read.

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
    first = what not in _read.get(model, ())
    with contextlib.suppress(TypeError):  # of a callable without weak references: read each time
        _read.setdefault(model, set()).add(what)
    return first
