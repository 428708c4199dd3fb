"""Log-odds of the prediction against the rest, accurate at any margin.

With p = softmax(h), y its argmax and u = 1 - p_y the mass of the rest,

    p_y = 1 - u,    p_k = u q_k for k != y,    q = softmax of h over k != y.

In floating point p_y rounds to 1 from some margin on (37 in float64), and everything computed from
it ties; log u and q stay accurate at any margin.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class OneAgainstRest(NamedTuple):
    """A batch of probabilities, split into prediction and rest."""

    prediction: Tensor  #: y, [B, 1] int64, the lowest index among equals
    log_odds: Tensor  #: log(p_y / u) = h_y - logsumexp_{k != y} h_k, [B]; inf if no other is left
    u: Tensor  #: [B], in [0, 1 - 1/K]
    q: Tensor  #: [B, K], sums to 1 over k != y, 0 at y; all 0 if no other class is left

    @property
    def log_u(self) -> Tensor:
        """[B], finite even where u rounds to 0."""
        return F.logsigmoid(-self.log_odds)

    def joined(self, at_prediction: Tensor, at_rest: Tensor) -> Tensor:
        """[B, K] with `at_prediction` [B] at y and `at_rest` [B, K] elsewhere."""
        return at_rest.scatter(1, self.prediction, at_prediction[:, None])


def one_against_rest(h: Tensor) -> OneAgainstRest:
    """The parts of softmax(h), h [B, K >= 2]; each row has a finite maximum, -inf masks a class.

    Example:
        >>> parts = one_against_rest(torch.tensor([[1000.0, 0.0, 0.0]]).double())
        >>> parts.log_odds.item() == 1000 - math.log(2), parts.q.tolist()
        (True, [[0.0, 0.5, 0.5]])
    """
    prediction = h.argmax(dim=1, keepdim=True)
    rest = h.scatter(1, prediction, -math.inf)
    total = rest.logsumexp(dim=1, keepdim=True)
    log_odds = (h.gather(1, prediction) - total).squeeze(1)
    # exp(-inf - -inf) would be NaN if all other classes are masked.
    q = torch.exp(rest - total.masked_fill(total == -math.inf, 0.0))
    return OneAgainstRest(prediction, log_odds, torch.sigmoid(-log_odds), q)
