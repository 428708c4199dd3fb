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

    The methods of `rrfast.radius` look for the point where it is 0. Infinite if all other classes
    are masked by -inf.

    Cost: 1 forward.

    Source: ours. RAT's released code divides it by its gradient's norm, which is `radius_grad`
    here.

    Example:
        >>> Margin()(torch.nn.Identity(), torch.tensor([[3.0, 1.0, 0.0]]))
        tensor([2.], dtype=torch.float64)
    """

    def confidence(self, h: Tensor) -> Tensor:
        """The formula of the class."""
        first, second = torch.topk(h, 2, dim=1).values.unbind(dim=1)
        return first - second

    def ascent(self, h: Tensor) -> Tensor:
        """1 at the prediction, -1 at the runner-up: the limit of MSR's as T -> 0."""
        return -ops.direction_seed(h, 0.0)[2]
