"""The largest centred logit over the p-norm of all, or MSR if that does not help."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from rrfast._checks import check_number
from rrfast.scores.grids import NORMS
from rrfast.scores.logit_score import LogitScore
from rrfast.scores.msr import MSR


@dataclass(frozen=True, eq=False)
class MaxLogitPNorm(LogitScore):
    """s = max_k c_k / (sum_k |c_k|^p)^(1/p), c = h - mean(h), as the log-odds of s^p.

        score = log(c_y^p / sum_{k != y} |c_k|^p),    with p=None that of `MSR`

    The score ranks as s, which rounds to 1 in float64 if p is large and c_y is far from the rest;
    the log-odds do not tie there. `score.sigmoid() ** (1 / p)` is s.

    Neither a shift nor a positive factor of a sample's logits changes s. In networks with a broken
    confidence this factor misleads; in others it carries most of the information. So p must be
    tuned: `tune` takes None, the first of the grid, unless some p is strictly better. That is the
    paper's fallback to MSR.

    The least value is -inf, where all logits are equal. A logit of -inf masks a class: the score is
    that of the other classes, and infinite if one is left. Samples that tie in the formula also tie
    in float64, at 0: with two classes all samples; with p = 1 all samples in which only the
    prediction is above the mean.

    Cost: 1 forward.

    Source: Cattelan & Silva 2024 (How to Fix a Broken Confidence Estimator), MaxLogit-pNorm. Their
    released code also tries p = 0, which divides by K instead of a norm.

    Attributes:
        p: At least 1; None for MSR.

    Raises:
        TypeError, ValueError: `p` is neither None nor a number, or not finite and at least 1.

    Example:
        >>> h = torch.tensor([[4.0, 1.0, 1.0], [3.0, 3.0, 0.0], [30.0, 30.0, 0.0]])
        >>> score = MaxLogitPNorm(p=2.0)(torch.nn.Identity(), h)
        >>> score.sigmoid().sqrt()  # c is (2, -1, -1) and (1, 1, -2): 2 and 1 over sqrt(6)
        tensor([0.8165, 0.4082, 0.4082], dtype=torch.float64)
    """

    p: float | None = None

    def __post_init__(self) -> None:
        if self.p is not None:
            check_number("p", self.p, least=1)

    @property
    def grids(self) -> dict[str, tuple[float | None, ...]]:
        """MSR, and p as in the paper."""
        return {"p": (None, *NORMS)}

    def confidence(self, h: Tensor) -> Tensor:
        """The formula of the class."""
        if self.p is None:
            return MSR().confidence(h)
        lead, rest, classes = _centred(h)
        if self.p == 1:
            # c sums to 0, so sum_{k != y} |c_k| is c_y plus twice the other positive entries.
            score = -torch.log1p(2 * rest.clamp(min=0).sum(dim=1) / lead)
        else:
            score = self.p * lead.log() - (self.p * rest.abs().log()).logsumexp(dim=1)
        equal = torch.where(classes == 1, math.inf, -math.inf)
        return torch.where(lead == 0, equal.to(score.dtype), score)

    def ascent(self, h: Tensor) -> Tensor:
        """1 / c_y and -sign(c_k) |c_k|^(p-1) / sum_{j != y} |c_j|^p, minus the mean of all."""
        if self.p is None:
            return MSR().ascent(h)
        lead, rest, classes = _centred(h)
        largest = _or_one(rest.abs().amax(dim=1, keepdim=True))
        size = rest.abs() / largest
        total = _or_one(size.pow(self.p).sum(dim=1, keepdim=True) * largest)
        ascent = -rest.sign() * size.pow(self.p - 1) / total
        ascent = ascent.scatter(1, h.argmax(dim=1, keepdim=True), (1 / _or_one(lead))[:, None])
        rounding = 8 * torch.finfo(h.dtype).eps * ascent.abs().amax(dim=1, keepdim=True)
        ascent = ascent - ascent.sum(dim=1, keepdim=True) / classes[:, None]
        # At a tie of the formula the gradient is 0; anything left here is rounding.
        nothing = (ascent.abs() <= rounding) | (h == -math.inf) | (lead == 0)[:, None]
        return ascent.masked_fill(nothing, 0.0)


class _Centred(NamedTuple):
    """c in units of the prediction's lead over the last class."""

    lead: Tensor  # c_y, [B]; 0 if all logits are equal, or one class is left
    rest: Tensor  # c_k for k != y, [B, K]; 0 at y and at masked classes
    classes: Tensor  # number of classes that are not masked, [B]


def _centred(h: Tensor) -> _Centred:
    """Computed from the gaps to the prediction: gaps of equal logits are exactly 0."""
    ruled_out = h == -math.inf
    classes = (~ruled_out).sum(dim=1)
    gaps = (h.amax(dim=1, keepdim=True) - h).masked_fill(ruled_out, 0.0)
    gaps = gaps / _or_one(gaps.amax(dim=1, keepdim=True))
    lead = gaps.sum(dim=1) / classes
    rest = (lead[:, None] - gaps).masked_fill(ruled_out, 0.0)
    return _Centred(lead, rest.scatter(1, h.argmax(dim=1, keepdim=True), 0.0), classes)


def _or_one(divisor: Tensor) -> Tensor:
    return torch.where(divisor == 0, 1.0, divisor)
