"""A model that counts the samples that pass through it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Counted(nn.Module):
    """A model that counts the samples that pass through it, forwards and backwards.

    Example:
        >>> import torch
        >>> counted, x = Counted(nn.Linear(4, 3)), torch.rand(2, 4, requires_grad=True)
        >>> counted(x).sum().backward()
        >>> counted.forwards, counted.backwards
        (2, 2)
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.forwards = self.backwards = 0

    def forward(self, x: Tensor) -> Any:  # noqa: D102
        self.forwards += len(x)
        if x.requires_grad:
            x = x.view_as(x)  # of this pass alone
            x.register_hook(self._count)
        return self.model(x)

    def _count(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)
