"""RegMixup: Mixup as an additional term beside the plain loss."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import nn

from rrfast._checks import check_number
from rrfast.objectives.mixing import Mixing
from rrfast.objectives.objective import Criterion, Objective, check_pair, loss_of

if TYPE_CHECKING:
    from torch import Tensor

    from rrfast.engine import Model


@dataclass(frozen=True, eq=False)
class RegMixup(Objective):
    """RegMixup.

        L = loss(f(x), y) + weight (l loss(f(x~), y_i) + (1 - l) loss(f(x~), y_j))

    with x~ and l as in `rrfast.objectives.Mixup`. x and x~ go through the model as one batch, as in
    the released code, so BatchNorm sees both. That code takes one mean over both, which is half of
    this at weight 1.

    Cost: 1 forward and 1 backward of twice the batch.

    Source: Pinto et al. (2022), "RegMixup", Eq. 4.

    Attributes:
        alpha: Parameter of the Beta distribution, > 0; the paper takes 20 for CIFAR-10 and 10 for
            CIFAR-100, which gives shares near one half.
        weight: Weight of the mixed term, >= 0.
        criterion: The loss of logits and labels, a scalar. Default: `cross_entropy`, the mean over
            the batch.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(4, 3)
        >>> x, y = torch.rand(8, 4), torch.randint(3, (8,))
        >>> RegMixup().backward(model, x, y).shape
        torch.Size([])
    """

    alpha: float = 20.0
    weight: float = 1.0
    criterion: Criterion = nn.functional.cross_entropy
    _mixing: Mixing = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_mixing", Mixing(self.alpha))
        check_number("weight", self.weight, least=0)

    def __call__(self, model: Model, x: Tensor, y: Tensor, *, epoch: int | None = None) -> Tensor:
        """The loss; see `Objective`."""
        del epoch
        x, y = check_pair(x, y)
        mixed = self._mixing.mix(x)
        clean, between = self._logits(model, torch.cat([x, mixed.x]), y).chunk(2)
        return loss_of(self.criterion, clean, y) + self.weight * mixed.loss(
            self.criterion, between, y
        )
