"""The logit margin: the prediction's lead over the runner-up."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rrfast import ops
from rrfast.scores.logit_score import LogitScore


@dataclass(frozen=True, eq=False)
class Margin(LogitScore):
    """score = h_y - max_{k != y} h_k >= 0. No hyper-parameter: a temperature only scales it.

    It is what the methods of `rrfast.radius` follow down to 0. Infinite where all other classes are
    ruled out by -inf.

    Cost: 1 forward.

    Source: the released code of RAT has it divided by its gradient's norm, here `radius_grad`.

    Example:
        >>> Margin()(torch.nn.Identity(), torch.tensor([[3.0, 1.0, 0.0]]))
        tensor([2.], dtype=torch.float64)
    """

    def confidence(self, h: Tensor) -> Tensor:
        """As the class says."""
        first, second = torch.topk(h, 2, dim=1).values.unbind(dim=1)
        return first - second

    def ascent(self, h: Tensor) -> Tensor:
        """1 at the prediction, -1 at the runner-up: MSR's as T -> 0."""
        return -ops.direction_seed(h, 0.0)[2]
