"""CEDA: low confidence on noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rrfast._checks import check_number, check_same
from rrfast.objectives.objective import Criterion, Objective, check_pair, loss_of
from rrfast.ops import accumulate_dtype

if TYPE_CHECKING:
    from rrfast.engine import Model


@dataclass(frozen=True, eq=False)
class CEDA(Objective):
    """Confidence enhancing data augmentation: ACET without its attack.

        L = loss(f(x), y) + weight 1/B sum_j log max_k p_k(z_j)

    with as many noise images z as x has samples and p = softmax(f). The loss on noise is the
    logarithm (errata 19). x and z go through the model as one batch, as in the released code, so
    BatchNorm sees both. That code divides both sums by the number of all images, which gives half
    of this loss at weight 1, and adds 5e-4 sum w^2: this is SGD with half the learning rate and a
    weight decay of 2e-3. The paper draws ceil(weight B) noise images; here there are always B.

    Cost: 1 forward and 1 backward of twice the batch.

    Source: Hein, Andriushchenko & Bitterwolf (2019), "Why ReLU Networks Yield High-Confidence
    Predictions Far Away From the Training Data and How to Mitigate the Problem", Eq. 1 and 2;
    errata 19.

    Attributes:
        noise: A function of x [B, ...] that returns as many noise images of the same shape, dtype
            and device, such as `rrfast.data.SmoothedNoise(images)`.
        weight: lambda, the weight of the noise, >= 0; 1 in the paper.
        criterion: The loss of logits and labels on x, a scalar. Default: `cross_entropy`, the mean
            over the batch.

    Example:
        >>> model = torch.nn.Linear(4, 3)
        >>> x, y = torch.rand(8, 4), torch.randint(3, (8,))
        >>> CEDA(torch.rand_like).backward(model, x, y).shape
        torch.Size([])
    """

    noise: Callable[[Tensor], Tensor]
    weight: float = 1.0
    criterion: Criterion = nn.functional.cross_entropy

    def __post_init__(self) -> None:
        if not callable(self.noise):
            raise TypeError(
                "noise must be a function of a batch that gives as many noise images, such as "
                f"rrfast.data.SmoothedNoise(images), got {type(self.noise).__name__}"
            )
        check_number("weight", self.weight, least=0)

    def __call__(self, model: Model, x: Tensor, y: Tensor, *, epoch: int | None = None) -> Tensor:
        """The loss; see `Objective`."""
        del epoch
        x, y = check_pair(x, y)
        noise = self.noise(x.detach())
        check_same("noise", noise, "x", x)
        both = torch.cat([x, self._near(model, noise)])
        clean, outside = self._logits(model, both, y).chunk(2)
        wide = outside.to(accumulate_dtype(outside.dtype))
        confidence = wide.log_softmax(dim=1).amax(dim=1)
        return loss_of(self.criterion, clean, y) + self.weight * confidence.mean()

    def _near(self, model: Model, noise: Tensor) -> Tensor:
        """The images [B, ...] to use in place of the noise."""
        del model
        return noise
