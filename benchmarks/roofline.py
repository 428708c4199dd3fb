"""The least time of a pipeline on a GPU, from arithmetic and traffic counted on meta tensors.

`Census` records every call of torch as a kernel with its floating-point operations and bytes;
nothing is computed. A kernel takes at least the time of its arithmetic at the peak of its type, of
its traffic at the memory bandwidth, and of a launch, whichever is longest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

#: Calls besides views that launch nothing.
FREE = {
    "detach",
    "empty",
    "empty_strided",
    "empty_like",
    "new_empty",
    "new_empty_strided",
    "_unsafe_view",
}
#: Of `redirect_`: what it writes and does not read, and what it writes of few samples.
Z, NEAREST_DIRECTION = 7, 10
#: Calls that do not read their first argument.
WRITE_ONLY = {"zero_", "fill_", "copy_", "new_full", "new_zeros", "zeros_like", "full_like"}


@dataclass(frozen=True)
class GPU:
    """The limits of a GPU on kernels."""

    name: str
    bandwidth: float  #: bytes per second that a copy reaches, reads plus writes
    flops: dict[str, float]  #: per second, by "float32", "tf32", "bfloat16"; dense
    instructions: float  #: per second, of all threads
    launch: float = 2e-6  #: seconds from one kernel's end to the next one's, in a CUDA graph
    call: float = 6e-6  #: seconds the host takes for a call of eager torch, autograd included


#: NVIDIA's data sheets (SXM, dense): of memory's speed a copy reaches some nine tenths.
ARITHMETIC = {"float32": 67e12, "tf32": 494e12, "bfloat16": 989e12}
#: Of 128 lanes each, at a clock that they keep.
SMS, CLOCK = 132, 1.75e9
INSTRUCTIONS = SMS * 128 * CLOCK
GPUS = (
    GPU("H100", 0.9 * 3.35e12, ARITHMETIC, INSTRUCTIONS),
    GPU("H200", 0.9 * 4.8e12, ARITHMETIC, INSTRUCTIONS),
)


class Kernel(NamedTuple):
    """One call that launches a kernel."""

    name: str
    flops: int
    bytes: int

    def seconds(self, gpu: GPU, precision: str) -> float:
        """The least time it can take."""
        return max(self.flops / gpu.flops[precision], self.bytes / gpu.bandwidth, gpu.launch)


@dataclass
class Census(TorchDispatchMode):
    """`with Census() as census: run()` records what run() launches."""

    kernels: list[Kernel] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(
        self, call: OpOverload, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = call(*args, **(kwargs or {}))
        name = call.overloadpacket.__name__
        if not (call.is_view or name in FREE):
            count = flop_registry.get(call.overloadpacket, lambda *_, **__: 0)
            flops = count(*args, **(kwargs or {}), out_val=out)
            self.kernels.append(Kernel(name, flops, _traffic(call, args, kwargs, out)))
        return out

    def seconds(self, gpu: GPU, precision: str) -> float:
        """The least time that all kernels can take on the device, one after the other."""
        return sum(kernel.seconds(gpu, precision) for kernel in self.kernels)

    def eager_seconds(self, gpu: GPU, precision: str) -> float:
        """The same if the host calls every kernel: the slower of host and device."""
        return max(self.seconds(gpu, precision), gpu.call * len(self.kernels))

    @property
    def flops(self) -> int:
        return sum(kernel.flops for kernel in self.kernels)

    @property
    def bytes(self) -> int:
        return sum(kernel.bytes for kernel in self.kernels)


def census(run: Callable[[], object]) -> Census:
    """The kernels that `run` launches."""
    with Census() as counted:
        run()
    return counted


def _traffic(call: OpOverload, args: Any, kwargs: Any, out: Any) -> int:
    """The bytes of every tensor, counted once if it is read and once if it is written."""
    written = [
        value
        for argument, value in zip(call._schema.arguments, args, strict=False)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    name = call.overloadpacket.__name__
    if name in WRITE_ONLY:
        args = args[1:]
    if name == "redirect_":
        written = [tensor for tensor in written if tensor is not args[NEAREST_DIRECTION]]
        args = [a for i, a in enumerate(args) if i not in (Z, NEAREST_DIRECTION)]
    if name == "convolution_backward" and not args[-1][1]:
        args = (args[0], args[2])  # without the weight's gradient, the input is not read
    return _bytes((args, kwargs)) + _bytes((written, out))


def _bytes(values: object) -> int:
    tensors = {id(value): value for value in tree_leaves(values) if isinstance(value, Tensor)}
    return sum(_numel(tensor) * tensor.element_size() for tensor in tensors.values())


def _numel(tensor: Tensor) -> int:
    """Number of elements in memory; an expanded tensor repeats them."""
    pairs = zip(tensor.shape, tensor.stride(), strict=True)
    return math.prod(1 if stride == 0 else size for size, stride in pairs)
