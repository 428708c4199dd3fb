"""DOCTOR: the odds of an error, from the softmax and from its square."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from rrfast.scores.grids import TEMPERATURES
from rrfast.scores.logit_score import SoftmaxScore
from rrfast.scores.msr import MSR
from rrfast.scores.one_against_rest import OneAgainstRest, one_against_rest


@dataclass(frozen=True, eq=False)
class DoctorAlpha(SoftmaxScore):
    """DOCTOR's D_alpha = (1 - g) / g, g = sum_k p_k^2, p = softmax(h / T), as score = -log D_alpha.

    D is an uncertainty; the score ranks as -D. With u = 1 - p_y, p_k = u q_k, s = sum_k q_k^2,

        g = (1 - u)^2 + u^2 s,    log D = log u + log(2 - u (1 + s)) - log g,

    which is accurate at any margin, while 1 - g rounds to 0 from a margin of about 37 on. The paper
    rejects where D > gamma, that is where the score is below -log gamma. Infinite if all other
    classes are masked by -inf.

    Cost: 1 forward.

    Source: Granese et al. 2021 (DOCTOR), D_alpha; RAT §2, B.1; errata 10: the paper's
    pre-processing raises D. Its settings with it: T = 1, eps = 0.00035.

    Attributes:
        temperature: T > 0.

    Raises:
        TypeError, ValueError: `temperature` is not a number, or not finite and greater than 0.

    Example:
        >>> import torch
        >>> score = DoctorAlpha()(torch.nn.Identity(), torch.tensor([[0.0, 0.0], [1000.0, 0.0]]))
        >>> [round(value, 4) + 0.0 for value in score.tolist()]  # D = 1, and 2 exp(-1000)
        [0.0, 999.3069]
    """

    preprocessing: ClassVar[Literal[1, -1]] = -1

    def confidence(self, h: Tensor) -> Tensor:
        """The formula of the class."""
        parts, s, g = self._squared(h)
        return g.log() - parts.log_u - (2 - parts.u * (1 + s)).log()

    def ascent(self, h: Tensor) -> Tensor:
        """p_k (p_k - g) / u, which is dg/dh_k over 2u: the factor keeps it from underflowing."""
        parts, s, g = self._squared(h)
        u, q = parts.u, parts.q
        at_rest = q * (u[:, None] * q - g[:, None])
        return parts.joined((1 - u) * ((1 - u) - u * s), at_rest)

    def _squared(self, h: Tensor) -> tuple[OneAgainstRest, Tensor, Tensor]:
        """The parts of p, s and g."""
        parts = one_against_rest(h / self.temperature)
        s = parts.q.square().sum(dim=1)
        return parts, s, (1 - parts.u).square() + parts.u.square() * s


@dataclass(frozen=True, eq=False)
class DoctorBeta(MSR):
    """DOCTOR's D_beta = Pe / (1 - Pe), Pe = 1 - max_k softmax(h / T)_k, as score = -log D_beta.

    D is an uncertainty; the score ranks as -D. -log D_beta is the log-odds of the prediction, the
    same number as `MSR`; only the grid and the sign of the pre-processing differ. The paper rejects
    where D > gamma, that is where the score is below -log gamma.

    Cost: 1 forward.

    Source: Granese et al. 2021 (DOCTOR), D_beta; errata 10: the paper's pre-processing raises D.
    Its settings with it: T = 1.5, eps = 0.00035.

    Attributes:
        temperature: T > 0.

    Raises:
        TypeError, ValueError: `temperature` is not a number, or not finite and greater than 0.

    Example:
        >>> import torch
        >>> DoctorBeta()(torch.nn.Identity(), torch.tensor([[0.0, 0.0], [1000.0, 0.0]]))
        tensor([   0., 1000.], dtype=torch.float64)
    """

    preprocessing: ClassVar[Literal[1, -1]] = -1

    @property
    def grids(self) -> dict[str, tuple[float, ...]]:
        """T as in RAT B.1."""
        return {"temperature": TEMPERATURES}
