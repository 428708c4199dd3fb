"""Instance-reweighted adversarial training."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rrfast.objectives.adversarial import Adversarial
from rrfast.objectives.objective import check_epochs, check_pair, counted, model_logits

if TYPE_CHECKING:
    from rrfast.engine import Model


@dataclass(frozen=True, eq=False)
class Reweighted(Adversarial):
    """Adversarial training with a weight for each sample, larger for more vulnerable samples.

        L = 1/B sum_i w_i CE(f(x^_i), y_i)

    with x^ of `Adversarial`, and w = 1 in the first `warmup` epochs. The loss is the cross-entropy
    of each sample, without label smoothing or class weights.

    Cost: that of `AdversarialTraining`; the weights are computed from existing logits.

    Source: IRAT Alg. 1; errata 17: x^ is trained on, and weights are used for t > Omega, with
    epochs t counted from 1.

    Attributes:
        eps, steps, step_size, start, bounds, scale: See `Adversarial`.
        warmup: Omega, the number of epochs of plain adversarial training at the beginning, >= 0; 75
            of 120 in the paper. Needs `epoch=` in every call.
        epochs: Epochs of the whole training, to check that the warm-up is shorter; None: unknown.
    """

    warmup: int = 0
    epochs: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_epochs("warmup", self.warmup, self.epochs)

    @abstractmethod
    def weights(self, logits: Tensor, y: Tensor, iterates: Sequence[Tensor]) -> Tensor:
        """The weight of each sample.

        Args:
            logits: [B, K] at x^, with their graph.
            y: Labels [B] int64.
            iterates: Logits [B, K] of every iterate of PGD from which a step started.

        Returns:
            w [B], accumulation dtype.
        """

    def __call__(self, model: Model, x: Tensor, y: Tensor, *, epoch: int | None = None) -> Tensor:
        """The loss; see `Objective`."""
        x, y = check_pair(x, y)
        weighted = not self.warmup or counted(epoch, "warmup") >= self.warmup
        iterates: list[Tensor] = []
        moved = self._worst(model, x, y, each=iterates.append)
        logits = model_logits(model, moved)
        loss = nn.functional.cross_entropy(logits, y, reduction="none")
        return (self.weights(logits, y, iterates) * loss if weighted else loss).mean()


def mean_one(weights: Tensor) -> Tensor:
    """Scale weights [B] to a mean of 1; all 0 stay 0."""
    # Each process of a distributed training scales its own batch.
    return weights / weights.mean().clamp_min(torch.finfo(weights.dtype).tiny)
