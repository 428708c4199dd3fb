"""`Memory`: tensors that a loop writes into again at each of its steps."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

from rrfast.ops.layout import empty_like, memory_format


class Memory:
    """Tensors by name, for `out=` of the ops: new ones cost a CPU more time than most steps.

    What is in one stays until its name is asked for again. So none of them may be, or be a view of,
    a result that is handed on.

    Example:
        >>> memory, x = Memory(), torch.rand(2, 3)
        >>> memory("moved", x) is memory("moved", x), memory("moved", x) is memory("probe", x)
        (True, False)
    """

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def __call__(self, name: str, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """The tensor of that name if it has shape, layout and device of `x`, else a new one.

        Args:
            name: What it is for.
            x: [B, ...].
            dtype: None for that of `x`.
        """
        dtype, kept = dtype or x.dtype, self._kept.get(name)
        if (
            kept is None
            or kept.shape != x.shape
            or kept.dtype != dtype
            or kept.device != x.device
            or memory_format(kept) != memory_format(x)
        ):
            with torch.inference_mode(False):  # so that it can be written to in any mode
                kept = self._kept[name] = empty_like(x, dtype)
        return kept


class Spare:
    """The `Memory` of one call for the next; a call at the same time has its own.

    A copy or a pickle of it is empty.

    Example:
        >>> spare = Spare()
        >>> memory = spare.take()
        >>> spare.take() is memory
        False
        >>> spare.give_back(memory)
        >>> spare.take() is memory
        True
    """

    def __init__(self) -> None:
        self._idle: deque[Memory] = deque(maxlen=1)

    def __reduce__(self) -> tuple[type[Spare], tuple[()]]:
        return Spare, ()

    def take(self) -> Memory:
        """The memory that was given back, or a new one."""
        try:
            return self._idle.pop()  # threads never get the same one
        except IndexError:
            return Memory()

    def give_back(self, memory: Memory) -> None:
        """Keep it; nothing that is still read may be in it."""
        self._idle.append(memory)
