"""The entropy of the softmax, negated."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from rrfast.scores.logit_score import SoftmaxScore
from rrfast.scores.one_against_rest import OneAgainstRest, one_against_rest


@dataclass(frozen=True, eq=False)
class Entropy(SoftmaxScore):
    """Negative entropy of p = softmax(h / T), as score = -log H(p), H(p) = -sum_k p_k log p_k.

    The score ranks as -H. H itself is 0 in float64 from a logit margin of about 750 on, but its
    logarithm stays finite; with u = 1 - p_y, p_k = u q_k and w = u / (1 - u),

        log H = log u + log(-log u + log(1 + w) / w + H(q)).

    Infinite if all other classes are masked by -inf. `(-score).exp()` is H, in nats.

    Cost: 1 forward.

    Source: Shannon's entropy as in the field's baselines. Not among RAT's; the temperatures
    searched are those of RAT B.1.

    Attributes:
        temperature: T > 0.

    Raises:
        TypeError, ValueError: `temperature` is not a number, or not finite and greater than 0.

    Example:
        >>> score = Entropy()(torch.nn.Identity(), torch.tensor([[0.0, 0.0], [1000.0, 0.0]]))
        >>> [round(value, 4) for value in score.tolist()]  # -log(log 2), and 1000 - log(1001)
        [0.3665, 993.0912]
    """

    def confidence(self, h: Tensor) -> Tensor:
        """The formula of the class."""
        parts = one_against_rest(h / self.temperature)
        log_u = parts.log_u
        score = -(log_u + _over_u(parts).entropy.log())
        return score.masked_fill(log_u == -math.inf, math.inf)

    def ascent(self, h: Tensor) -> Tensor:
        """p_k (log p_k + H) / u: the factor 1 / u keeps it from underflowing."""
        parts = one_against_rest(h / self.temperature)
        entropy, log1p_ratio = _over_u(parts)
        u, q = parts.u, parts.q
        # log(1 - u) / u = -(1 + w) log(1 + w) / w, and 1 + w = 1 / (1 - u).
        at_prediction = (1 - u) * entropy - log1p_ratio
        at_rest = torch.xlogy(q, q) + q * (_log_u(parts) + u * entropy)[:, None]
        return parts.joined(at_prediction, at_rest)


class _OverU(NamedTuple):
    entropy: Tensor  # H(p) / u, [B]
    log1p_ratio: Tensor  # log(1 + w) / w, [B], 1 as w -> 0


def _over_u(parts: OneAgainstRest) -> _OverU:
    w = torch.exp(-parts.log_odds)
    ratio = torch.where(w == 0, 1.0, torch.log1p(w) / torch.where(w == 0, 1.0, w))
    entropy_of_rest = -torch.xlogy(parts.q, parts.q).sum(dim=1)
    return _OverU(-_log_u(parts) + ratio + entropy_of_rest, ratio)


def _log_u(parts: OneAgainstRest) -> Tensor:
    """Give log u; finite also if no other class is left, where the weights 0 meet it."""
    return parts.log_u.clamp(min=-1e30)
