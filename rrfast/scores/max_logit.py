"""The largest logit."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rrfast.scores.logit_score import LogitScore


@dataclass(frozen=True, eq=False)
class MaxLogit(LogitScore):
    """score = max_k h_k. No hyper-parameter: a temperature would not change the ranking.

    Cost: 1 forward.

    Source: Hendrycks et al. 2022 (Scaling OOD Detection for Real-World Settings).

    Example:
        >>> MaxLogit()(torch.nn.Identity(), torch.tensor([[3.0, 1.0]]))
        tensor([3.], dtype=torch.float64)
    """

    def confidence(self, h: Tensor) -> Tensor:
        """The formula of the class."""
        return h.amax(dim=1)

    def ascent(self, h: Tensor) -> Tensor:
        """1 at the prediction, the lowest index among equals."""
        return torch.zeros_like(h).scatter(1, h.argmax(dim=1, keepdim=True), 1.0)
