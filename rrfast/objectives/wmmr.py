"""WMMR: weights by an exponential of the margin."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rrfast._checks import check_number
from rrfast.objectives.margin_weighted import MarginWeighted


@dataclass(frozen=True, eq=False)
class WMMR(MarginWeighted):
    """Weighted minimax risk.

        w_i = factor exp(alpha m_i),    with `tau`: w_i = factor exp(m~_i)

    with m and m~ of `MarginWeighted`; the latter is "Ours + WMMR" of IRAT, which has no alpha,
    because tau replaces it (3.4). So a worse margin never has a smaller weight: Eq. 15, exp(-m~),
    is printed for a margin of the opposite sign (errata 15); `printed=True` has the printed sign.
    WMMR's released code has no factor, lets the gradient flow through the weights (`detach=False`),
    and attacks the weighted loss in training mode; here the attack uses the unweighted loss, in
    eval mode.

    Cost: `steps` + 1 forwards and backwards.

    Source: Zeng et al. (2021), "Are Adversarial Examples Created Equal? A Learnable Weighted
    Minimax Risk for Robustness under Non-uniform Attacks"; IRAT Eq. 15, 3.4, section 4.1.

    Attributes:
        eps, steps, step_size, start, bounds, scale: See `Adversarial`.
        warmup, epochs: See `Reweighted`.
        tau, similarity, factor, printed, detach: See `MarginWeighted`.
        alpha: Factor in the exponent, > 0; 2 in the paper. With `tau` it has no effect and must
            stay at its default.

    Example:
        >>> model = torch.nn.Linear(4, 3)
        >>> x, y = torch.rand(8, 4), torch.randint(3, (8,))
        >>> WMMR(eps=0.1).backward(model, x, y).shape
        torch.Size([])
    """

    alpha: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("alpha", self.alpha)
        if self.tau is not None and self.alpha != WMMR.alpha:
            raise ValueError(
                f"alpha must be left out with tau={self.tau}, which stands in its place, got "
                f"{self.alpha!r}"
            )

    def of_margin(self, margin: Tensor) -> Tensor:
        """exp(alpha m), or exp(m~); with `printed` the inverse."""
        slope = 1.0 if self.tau is not None else self.alpha
        return torch.exp(-slope * margin if self.printed else slope * margin)
