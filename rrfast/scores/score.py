"""The interface of a confidence score."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from rrfast._checks import meant
from rrfast.engine import Model, check_input
from rrfast.ops import best_other, is_undefined

if TYPE_CHECKING:
    from typing_extensions import Self

#: Hyper-parameters by name, as for `Score.at`; None only if the score gives it a meaning.
Point = Mapping[str, float | None]


class Scored(NamedTuple):
    """One score at P points of its hyper-parameters, and the passes taken."""

    values: Tensor  #: [P, B], larger = more confident; NaN where a logit is NaN
    prediction: Tensor  #: [B] int64, at the original input
    forwards: float  #: per sample, for all points together
    backwards: float  #: per sample, for all points together
    classes: int | None = None  #: K; None if the score does not give it
    #: [P, B] int64, the class that the prediction changes to; -1 if none was found. None for scores
    #: that do not find one.
    rival: Tensor | None = None
    logits: Tensor | None = None  #: [B, K] at the original input, for scores of the logits

    def rivals(self) -> Tensor | None:
        """`rival`; for scores of the logits the runner-up, the lowest index among equals.

        It is -1 where all other classes are masked, or the logits are undefined
        (`rrfast.ops.is_undefined`). None if the score gives neither.
        """
        if self.rival is not None or self.logits is None:
            return self.rival
        rival = best_other(self.logits, self.prediction)
        known = self.logits.gather(1, rival[:, None])[:, 0].isfinite() & ~is_undefined(self.logits)
        return rival.masked_fill(~known, -1).expand(len(self.values), -1)


@dataclass(frozen=True, eq=False)
class Score(ABC):
    """A confidence score: `score(model, x) -> Tensor [B]`, larger = more confident.

    It is a frozen dataclass whose fields are the hyper-parameters; `dataclasses.replace` and `at`
    make a copy with others. A subclass defines `measure`, the only method that runs the model. A
    score of the logits only is a `rrfast.scores.logit_score.LogitScore`, which needs less code.
    """

    @property
    def grids(self) -> Mapping[str, tuple[float | None, ...]]:
        """The values to try for each hyper-parameter, in order; empty for no tuning."""
        return {}

    @property
    def fitted(self) -> bool:
        """Whether the score can be used; False if `fit` must be called first."""
        return True

    @property
    def identity(self) -> str:
        """Everything besides model and data that its values depend on, and its grids.

        It includes options with default values. Kept results are used again only for the same
        identity.
        """
        return f"{self!r} over {dict(self.grids)}"

    def fit(self, model: Model, loader: Iterable[Any]) -> Self:  # noqa: ARG002
        """A new score fitted to labelled data; the score itself if it learns nothing.

        Args:
            model: Maps [B, ...] to logits [B, K >= 2].
            loader: Yields (x [B, ...], y [B]): data on which the model was not trained and the
                score is not evaluated.
        """
        return self

    def at(self, **values: Any) -> Self:
        """A copy with other hyper-parameters; without any, the score itself.

        Raises:
            TypeError: The score has no such hyper-parameter.

        Example:
            >>> from rrfast.scores import MSR
            >>> MSR().at(temperature=2.0)
            MSR(temperature=2.0)
        """
        known = [field.name for field in dataclasses.fields(self)]
        for name in values:
            if name not in known:
                raise TypeError(
                    f"{type(self).__name__} has no hyper-parameter {name!r}; it has "
                    f"{', '.join(known) or 'none'}{meant(name, known)}"
                )
        return dataclasses.replace(self, **values) if values else self

    def __call__(self, model: Model, x: Tensor) -> Tensor:
        """The score of each input.

        Args:
            model: Maps [B, ...] to logits [B, K >= 2], or to an object with such `.logits`. Runs in
                eval mode with frozen parameters; its state is restored.
            x: Inputs [B, ...], floating point; not modified.

        Returns:
            [B], larger = more confident, detached; NaN where a logit is NaN. B = 0 gives an empty
            result without a pass.

        Raises:
            TypeError: `x` is not floating point, or the model returns no logits.
            ValueError: The logits are not [B, K >= 2], or the score must be fitted first.
        """
        return self.measure(model, check_input(x), ({},)).values[0]

    @abstractmethod
    def measure(self, model: Model, x: Tensor, points: Sequence[Point]) -> Scored:
        """The score at several points of its hyper-parameters, in as few passes as possible.

        Args:
            model: As `__call__`.
            x: Inputs [B, ...], detached and floating point.
            points: P sets of hyper-parameters that replace the score's own; {} replaces none.
        """
