"""Scores that are functions of the logits."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from rrfast._checks import check_logits, check_number
from rrfast.engine import Engine, Model
from rrfast.scores.grids import TEMPERATURES
from rrfast.scores.score import Point, Score, Scored


@dataclass(frozen=True, eq=False)
class LogitScore(Score):
    """A score computed from the logits only: one forward, then float64.

    A subclass defines `confidence` and its gradient `ascent`. It may return a monotone function of
    its paper's formula, documented in its docstring, so that the ranking is the paper's and
    rounding makes no ties.

    Cost: 1 forward, for all points of a grid together.

    Attributes:
        preprocessing: Sign of the paper's input pre-processing: +1 raises the confidence, -1 lowers
            it; see `rrfast.scores.Preprocessed`.
    """

    preprocessing: ClassVar[Literal[1, -1]] = 1

    @abstractmethod
    def confidence(self, h: Tensor) -> Tensor:
        """The score [B] of logits [B, K], float64; the largest logit of each row is finite."""

    @abstractmethod
    def ascent(self, h: Tensor) -> Tensor:
        """The gradient of the score with respect to h, [B, K], up to a factor > 0 in each row.

        The subclass chooses the factor so that nothing underflows where softmax saturates.
        """

    def of_logits(self, logits: Tensor) -> Tensor:
        """The score of existing logits.

        Args:
            logits: [B, K], K >= 2. Widened to float64.

        Returns:
            [B] float64, larger = more confident, detached. NaN if a logit is NaN or the largest is
            infinite (overflow); any other -inf masks a class.

        Raises:
            TypeError, ValueError: `logits` is not floating point or not [B, K >= 2].

        Example:
            >>> from rrfast.scores import Margin
            >>> Margin().of_logits(torch.tensor([[3.0, 1.0, 0.0], [math.nan, 0.0, 0.0]]))
            tensor([2., nan], dtype=torch.float64)
        """
        check_logits("logits", logits)
        h = logits.detach().double()
        return self.confidence(h).masked_fill(~usable(h), math.nan)

    def cotangent(self, logits: Tensor) -> Tensor:
        """The cotangent whose backward through the model gives the direction that raises the score.

        Args:
            logits: [B, K], K >= 2.

        Returns:
            [B, K] in the dtype of `logits`: `ascent`, each row scaled to a largest magnitude of 1,
            so that it does not underflow in 16 bits; NaN where the score is NaN.

        Raises:
            TypeError, ValueError: As `of_logits`.
        """
        check_logits("logits", logits)
        h = logits.detach().double()
        ascent = self.ascent(h)
        largest = ascent.abs().amax(dim=1, keepdim=True)
        ascent = ascent / torch.where(largest == 0, 1.0, largest)
        return ascent.masked_fill(~usable(h)[:, None], math.nan).to(logits.dtype)

    def measure(self, model: Model, x: Tensor, points: Sequence[Point]) -> Scored:
        """As `Score.measure`, from one forward."""
        if x.shape[0] == 0:
            return nothing_scored(x, len(points))
        with Engine(model) as engine:
            logits = engine.forward(x)
        values = torch.stack([self.at(**point).of_logits(logits) for point in points])
        return Scored(values, logits.argmax(dim=1), 1.0, 0.0, logits.shape[1], logits=logits)


@dataclass(frozen=True, eq=False)
class SoftmaxScore(LogitScore):
    """A score of softmax(h / T). `temperature` is T > 0; it is searched over RAT B.1's grid."""

    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_number("temperature", self.temperature)

    @property
    def grids(self) -> dict[str, tuple[float, ...]]:
        """T as in RAT B.1."""
        return {"temperature": TEMPERATURES}


def usable(h: Tensor) -> Tensor:
    """[B] bool: no logit is NaN and the largest is finite."""
    return h.amax(dim=1).isfinite()


def nothing_scored(x: Tensor, points: int) -> Scored:
    """The result for an empty batch, without a pass."""
    return Scored(
        x.new_empty((points, 0), dtype=torch.float64),
        x.new_empty(0, dtype=torch.int64),
        0.0,
        0.0,
        rival=x.new_empty((points, 0), dtype=torch.int64),
    )
