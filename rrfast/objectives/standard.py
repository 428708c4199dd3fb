"""Standard training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from rrfast.objectives.objective import Criterion, Objective, check_pair, loss_of

if TYPE_CHECKING:
    from torch import Tensor

    from rrfast.engine import Model


@dataclass(frozen=True, eq=False)
class Standard(Objective):
    """Standard training, the baseline of every comparison.

        L = loss(f(x), y)

    Cost: 1 forward, 1 backward.

    Attributes:
        criterion: The loss of logits and labels, a scalar. Default: `cross_entropy`, the mean over
            the batch.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(4, 3)
        >>> x, y = torch.rand(8, 4), torch.randint(3, (8,))
        >>> smoothed = Standard(torch.nn.CrossEntropyLoss(label_smoothing=0.1))
        >>> smoothed.backward(model, x, y).shape
        torch.Size([])
    """

    criterion: Criterion = nn.functional.cross_entropy

    def __call__(self, model: Model, x: Tensor, y: Tensor, *, epoch: int | None = None) -> Tensor:
        """The loss; see `Objective`."""
        del epoch
        x, y = check_pair(x, y, sparse=True)
        return loss_of(self.criterion, self._logits(model, x, y), y)
