"""The free energy, negated."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rrfast.scores.logit_score import SoftmaxScore


@dataclass(frozen=True, eq=False)
class Energy(SoftmaxScore):
    """score = T logsumexp_k(h_k / T), the negative free energy; the largest logit as T -> 0.

    Cost: 1 forward.

    Source: Liu et al. 2020 (Energy-based Out-of-distribution Detection), Eq. 4. Not among RAT's
    baselines; the temperatures searched are those of RAT B.1.

    Attributes:
        temperature: T > 0.

    Raises:
        TypeError, ValueError: `temperature` is not a number, or not finite and greater than 0.

    Example:
        >>> import torch
        >>> Energy()(torch.nn.Identity(), torch.tensor([[1.0, 1.0]]))
        tensor([1.6931], dtype=torch.float64)
    """

    def confidence(self, h: Tensor) -> Tensor:
        """The formula of the class."""
        return self.temperature * (h / self.temperature).logsumexp(dim=1)

    def ascent(self, h: Tensor) -> Tensor:
        """softmax(h / T)."""
        return (h / self.temperature).softmax(dim=1)
