"""GAIRAT: weights by the number of steps that an attack needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rrfast._checks import describe, is_number
from rrfast.objectives.reweighted import Reweighted, mean_one
from rrfast.ops import accumulate_dtype


@dataclass(frozen=True, eq=False)
class GAIRAT(Reweighted):
    """Geometry-aware instance-reweighted adversarial training.

        w_i = v_i / mean_j v_j,    v_i = (1 + tanh(shift + 5 (1 - 2 kappa_i / steps))) / 2

    kappa is the number of PGD's iterates, each taken before its step, on which the model is still
    right: 0 for a sample that is wrong from the beginning, `steps` for one that no step, or only
    the last, moves across the boundary. v is computed as sigmoid(2 (...)), which does not round to
    0. The mean is over the batch of a call; each process of a distributed training has its own.

    Cost: `steps` + 1 forwards and backwards. kappa is counted on the device, from the logits of all
    iterates, which are kept: steps * B * K numbers.

    Source: Zhang et al. (2021), "Geometry-aware Instance-reweighted Adversarial Training", Eq. 6;
    IRAT 2.2.

    Attributes:
        eps, steps, step_size, start, bounds, scale: See `Adversarial`.
        warmup, epochs: See `Reweighted`. The released code has 60 of 120.
        shift: lambda of the paper, a finite number; -1 as in the released code. With a larger one
            the weights differ less.

    Example:
        >>> model = torch.nn.Linear(4, 3)
        >>> x, y = torch.rand(8, 4), torch.randint(3, (8,))
        >>> GAIRAT(eps=0.1).backward(model, x, y).shape
        torch.Size([])
    """

    shift: float = -1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_number(self.shift) or not math.isfinite(self.shift):
            raise ValueError(f"shift must be a finite number, got {describe(self.shift)}")

    def weights(self, logits: Tensor, y: Tensor, iterates: Sequence[Tensor]) -> Tensor:
        """The weights [B]; see `Reweighted`."""
        kappa = (torch.stack(tuple(iterates)).argmax(dim=2) == y).sum(dim=0)
        away = kappa.to(accumulate_dtype(logits.dtype)) / len(iterates)
        return mean_one(torch.sigmoid(2 * (self.shift + 5 * (1 - 2 * away))))
