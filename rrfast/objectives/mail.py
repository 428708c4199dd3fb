"""MAIL: weights by a sigmoid of the margin."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rrfast._checks import check_number
from rrfast.objectives.margin_weighted import MarginWeighted


@dataclass(frozen=True, eq=False)
class MAIL(MarginWeighted):
    """Margin-aware instance reweighting learning.

        w_i = factor sigmoid(gamma (m_i - beta))

    with m of `MarginWeighted`, or m~ with `tau`: "Ours + MAIL" of IRAT. So a worse margin never has
    a smaller weight. In the printed symbols (errata 15): Eq. 16, sigmoid(-gamma (m~ + beta)),
    equals this for a margin of the opposite sign, p_y - max p_k; Alg. 1, sigmoid(gamma (m~ +
    beta)), equals this with beta = -0.5, the bias of the released code, whose slope is gamma.
    `printed=True` is Eq. 16 with its printed signs.

    Cost: `steps` + 1 forwards and backwards.

    Source: Wang et al. (2021), "Probabilistic Margins for Instance Reweighting in Adversarial
    Training"; IRAT Eq. 16, Alg. 1, section 4.1; errata 15.

    Attributes:
        eps, steps, step_size, start, bounds, scale: See `Adversarial`.
        warmup, epochs: See `Reweighted`.
        tau, similarity, factor, printed, detach: See `MarginWeighted`.
        gamma: Steepness of the sigmoid, > 0; 10 in the paper.
        beta: The margin at which the sigmoid is one half, >= 0; 0.5 in the paper.

    Example:
        >>> model = torch.nn.Linear(4, 3)
        >>> x, y = torch.rand(8, 4), torch.randint(3, (8,))
        >>> MAIL(eps=0.1, tau=2).backward(model, x, y).shape
        torch.Size([])
    """

    gamma: float = 10.0
    beta: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("gamma", self.gamma)
        check_number("beta", self.beta, least=0)

    def of_margin(self, margin: Tensor) -> Tensor:
        """sigmoid(gamma (m - beta)); with `printed` sigmoid(-gamma (m + beta))."""
        if self.printed:
            return torch.sigmoid(-self.gamma * (margin + self.beta))
        return torch.sigmoid(self.gamma * (margin - self.beta))
