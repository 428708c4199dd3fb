"""Mixup: training on convex combinations of two images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import nn

from rrfast.objectives.mixing import Mixing
from rrfast.objectives.objective import Criterion, Objective, check_pair, loss_of

if TYPE_CHECKING:
    from torch import Tensor

    from rrfast.engine import Model


@dataclass(frozen=True, eq=False)
class Mixup(Objective):
    """Mixup.

        L = l loss(f(x~), y_i) + (1 - l) loss(f(x~), y_j),    x~ = l x_i + (1 - l) x_j

    with one l ~ Beta(alpha, alpha) per batch. Sample j is the neighbour of i in the batch, which
    must be in random order, as from a shuffling loader; see `rrfast.objectives.mixing.neighbours`.
    The last sample of an odd batch is not mixed.

    Cost: 1 forward, 1 backward.

    Source: Zhang et al. (2018), "mixup: Beyond Empirical Risk Minimization"; RAT B.2.

    Attributes:
        alpha: Parameter of the Beta distribution, > 0. RAT's paper takes 1 for CIFAR and 0.2 for
            ImageNet.
        mixup_off_epochs: Number of last epochs without mixing, 10 in the released recipe of RAT.
            Needs `epochs`, and `epoch=` in every call.
        epochs: Epochs of the whole training.
        criterion: The loss of logits and labels, a scalar. Default: `cross_entropy`, the mean over
            the batch.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(4, 3)
        >>> x, y = torch.rand(8, 4), torch.randint(3, (8,))
        >>> Mixup(mixup_off_epochs=10, epochs=500).backward(model, x, y, epoch=0).shape
        torch.Size([])
    """

    alpha: float = 1.0
    mixup_off_epochs: int = 0
    epochs: int | None = None
    criterion: Criterion = nn.functional.cross_entropy
    _mixing: Mixing = field(init=False, repr=False)

    def __post_init__(self) -> None:
        mixing = Mixing(self.alpha, self.mixup_off_epochs, self.epochs)
        object.__setattr__(self, "_mixing", mixing)

    def __call__(self, model: Model, x: Tensor, y: Tensor, *, epoch: int | None = None) -> Tensor:
        """The loss; see `Objective`."""
        x, y = check_pair(x, y)
        if not self._mixing.on(epoch):
            return loss_of(self.criterion, self._logits(model, x, y), y)
        mixed = self._mixing.mix(x)
        return mixed.loss(self.criterion, self._logits(model, mixed.x, y), y)
