"""Maximum softmax response: the probability of the predicted class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rrfast.scores.logit_score import SoftmaxScore
from rrfast.scores.one_against_rest import one_against_rest


@dataclass(frozen=True, eq=False)
class MSR(SoftmaxScore):
    """Maximum softmax response, p = max_k softmax(h / T)_k, as its log-odds log(p / (1 - p)).

        score = h_y / T - logsumexp_{k != y}(h_k / T)

    The score ranks as p. p itself rounds to 1 from a logit margin of about 17 in float32 and 37 in
    float64 on, so that all such inputs tie; the log-odds do not. `score.sigmoid()` is p.

    RAT B.1 leaves T at 1 here and tunes only eps, which is `Preprocessed(MSR(), eps)`; with both it
    is `ODIN`.

    Cost: 1 forward.

    Source: Hendrycks & Gimpel 2017; RAT §2.

    Attributes:
        temperature: T > 0.

    Raises:
        TypeError, ValueError: `temperature` is not a number, or not finite and greater than 0.

    Example:
        >>> score = MSR()(torch.nn.Identity(), torch.tensor([[3.0, 0.0], [60.0, 0.0], [99.0, 0.0]]))
        >>> score
        tensor([ 3., 60., 99.], dtype=torch.float64)
        >>> score.sigmoid()
        tensor([0.9526, 1.0000, 1.0000], dtype=torch.float64)
    """

    @property
    def grids(self) -> dict[str, tuple[float, ...]]:
        """None: T stays."""
        return {}

    def confidence(self, h: Tensor) -> Tensor:
        """The formula of the class."""
        return one_against_rest(h / self.temperature).log_odds

    def ascent(self, h: Tensor) -> Tensor:
        """1 at y and -q_k elsewhere: minus the radius' worst-case direction (errata 4)."""
        # Not `ops.direction_seed`, which is NaN if all other classes are masked by -inf.
        parts = one_against_rest(h / self.temperature)
        return parts.joined(torch.ones_like(parts.u), -parts.q)
