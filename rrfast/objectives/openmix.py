"""OpenMix: a class for outliers, and mixtures of images with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rrfast._checks import check_number, check_same
from rrfast.objectives.mixing import beta_share
from rrfast.objectives.objective import Criterion, Objective, check_pair, loss_of

if TYPE_CHECKING:
    from rrfast.engine import Model


@dataclass(frozen=True, eq=False)
class OpenMix(Objective):
    """OpenMix.

        L = loss(f(x), y) + weight (l loss(f(x~), y) + (1 - l) loss(f(x~), K)),
        x~ = l x + (1 - l) o

    with outliers o, one l ~ Beta(alpha, alpha) per batch, and a model with K + 1 logits. Class K,
    the last, is only for outliers; drop its logit at test time: `rrfast.models.FirstClasses(model,
    K)`. x and x~ go through the model as one batch, as in the released code.

    Cost: 1 forward and 1 backward of twice the batch.

    Source: Zhu et al. (2023), "OpenMix: Exploring Outlier Samples for Misclassification
    Detection", Eq. 4 to 6.

    Attributes:
        outliers: A function of x [B, ...] that returns as many outliers of the same shape, dtype
            and device, such as `rrfast.data.random_images(...)`.
        alpha: Parameter of the Beta distribution, > 0; 10 in the paper.
        weight: Weight of the mixed term, >= 0.
        criterion: The loss of logits [B, K + 1] and labels, a scalar. Class weights are then K + 1
            numbers, and the last must not be 0: the mean over outliers is divided by it, so that
            any other value cancels (use `weight` to weigh the outliers). Default: `cross_entropy`,
            the mean over the batch.

    Example:
        >>> model = torch.nn.Linear(4, 3 + 1)
        >>> x, y = torch.rand(8, 4), torch.randint(3, (8,))
        >>> OpenMix(torch.rand_like).backward(model, x, y).shape
        torch.Size([])
    """

    outliers: Callable[[Tensor], Tensor]
    alpha: float = 10.0
    weight: float = 1.0
    criterion: Criterion = nn.functional.cross_entropy

    extra_classes = 1

    def __post_init__(self) -> None:
        if not callable(self.outliers):
            raise TypeError(
                "outliers must be a function of a batch that gives as many outliers, such as "
                f"rrfast.data.random_images(...), got {type(self.outliers).__name__}"
            )
        check_number("alpha", self.alpha)
        check_number("weight", self.weight, least=0)

    def __call__(self, model: Model, x: Tensor, y: Tensor, *, epoch: int | None = None) -> Tensor:
        """The loss; see `Objective`."""
        del epoch
        x, y = check_pair(x, y)
        outliers = self.outliers(x.detach())
        check_same("outliers", outliers, "x", x)
        share = beta_share(self.alpha)
        mixed = torch.lerp(outliers, x, share)
        clean, between = self._logits(model, torch.cat([x, mixed]), y).chunk(2)
        outside = torch.full_like(y, clean.shape[1] - 1)
        inside = loss_of(self.criterion, clean, y)
        return inside + self.weight * (
            share * self.criterion(between, y) + (1 - share) * self.criterion(between, outside)
        )
