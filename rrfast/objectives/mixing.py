"""Mixing of each sample with another sample of the batch, and of their losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rrfast._checks import check_number
from rrfast.objectives.objective import check_epochs, counted, loss_of

if TYPE_CHECKING:
    from rrfast.objectives.objective import Criterion


def neighbours(x: Tensor) -> Tensor:
    """Exchange samples 0 and 1, 2 and 3, and so on; the last of an odd number stays.

    A batch of a shuffled data set is in random order, so these are random pairs. Unlike the pairs
    of a random permutation, they stay together if the batch is divided into parts of even size: two
    processes with half a batch each compute the same as one process with the whole.

    Example:
        >>> neighbours(torch.arange(5))
        tensor([1, 0, 3, 2, 4])
    """
    pairs = x[: len(x) // 2 * 2].unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
    return pairs if len(x) % 2 == 0 else torch.cat([pairs, x[-1:]])


def beta_share(alpha: float) -> float:
    """One draw of Beta(alpha, alpha), from torch's default generator on the CPU."""
    # Name the device, because torch.set_default_device would move the draw to another one.
    both = torch.tensor(float(alpha), device="cpu")
    return float(torch.distributions.Beta(both, both).sample())


@dataclass(frozen=True)
class Mixed:
    """A batch in which each sample is mixed with its neighbour.

    Attributes:
        x: [B, ...], share * x_i + (1 - share) * x_j.
        share: Weight of the sample itself, in [0, 1], the same for the whole batch.
    """

    x: Tensor
    share: float

    def loss(self, criterion: Criterion, logits: Tensor, y: Tensor) -> Tensor:
        """The mixed loss: `share` of the sample's own label, the rest of its neighbour's."""
        own, other = (loss_of(criterion, logits, labels) for labels in (y, neighbours(y)))
        return self.share * own + (1 - self.share) * other


@dataclass(frozen=True)
class Mixing:
    """How samples are mixed, and until which epoch.

    Attributes:
        alpha: The share is drawn from Beta(alpha, alpha), alpha > 0, once per batch.
        off_epochs: Number of last epochs without mixing, >= 0.
        epochs: Epochs of the whole training; needed for off_epochs.
    """

    alpha: float
    off_epochs: int = 0
    epochs: int | None = None

    def __post_init__(self) -> None:
        check_number("alpha", self.alpha)
        check_epochs("mixup_off_epochs", self.off_epochs, self.epochs)
        if self.off_epochs and self.epochs is None:
            raise ValueError(
                f"mixup_off_epochs={self.off_epochs} needs epochs, the number of all epochs, "
                "because it counts from the last one"
            )

    def on(self, epoch: int | None) -> bool:
        """Whether samples are mixed in `epoch`, counted from 0.

        Raises:
            ValueError: `off_epochs` is set, and `epoch` is None or not an epoch.
        """
        if not self.off_epochs or self.epochs is None:
            return True
        return counted(epoch, "mixup_off_epochs") < self.epochs - self.off_epochs

    def mix(self, x: Tensor) -> Mixed:
        """Mix every sample of `x` with its neighbour; this draws one share."""
        share = beta_share(self.alpha)
        return Mixed(torch.lerp(neighbours(x), x, share), share)
