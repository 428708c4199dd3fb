"""The contract of a confidence score."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from rrfast.engine import check_input

if TYPE_CHECKING:
    from typing_extensions import Self

    from rrfast.engine import Model

#: Hyper-parameters by name, as `Score.at` takes them; None where the score has a meaning for it.
Point = Mapping[str, float | None]


class Scored(NamedTuple):
    """One score at several points of its hyper-parameters, P of them, and what that took."""

    values: Tensor  #: [P, B], larger = more confident; NaN where a logit is NaN
    prediction: Tensor  #: [B] int64, at the input as it came
    forwards: float  #: of the model per sample, for all points together
    backwards: float  #: likewise
    classes: int | None = None  #: K, the model's; None where the score does not say
    #: [P, B] int64, the class that the prediction changes to; -1 where the score is of no change.
    #: None of a score that knows nothing of it.
    rival: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Score(ABC):
    """How much to trust each prediction: `score(model, x) -> Tensor [B]`, larger = more confident.

    A frozen dataclass whose fields are the hyper-parameters; `dataclasses.replace` and `at` give a
    copy with others. A subclass writes `measure`, the only method that runs the model; a score of
    the logits alone is a `rrfast.scores.logit_score.LogitScore`, and writes less.
    """

    @property
    def grids(self) -> Mapping[str, tuple[float | None, ...]]:
        """The values of each hyper-parameter that are searched, in order; none for no search."""
        return {}

    @property
    def fitted(self) -> bool:
        """Whether the score can be used; False for one that `fit` has yet to show data."""
        return True

    @property
    def identity(self) -> str:
        """All that its values depend on beside the model and the data, and what it is tuned over.

        Its options, those that nobody gave too: what was kept of a score of another identity is of
        another score.
        """
        return f"{self!r} over {dict(self.grids)}"

    def fit(self, model: Model, loader: Iterable[Any]) -> Self:  # noqa: ARG002
        """The score fitted to labelled data, a new object; itself if it learns nothing.

        Args:
            model: Maps [B, ...] to logits [B, K >= 2].
            loader: Yields (x [B, ...], y [B]): data that the model was not trained on, and that
                the score is not evaluated on.
        """
        return self

    def at(self, **values: Any) -> Self:
        """A copy with other hyper-parameters; itself without any, and what it has computed once.

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
                    f"{', '.join(known) or 'none'}"
                )
        return dataclasses.replace(self, **values) if values else self

    def __call__(self, model: Model, x: Tensor) -> Tensor:
        """The score of each input.

        Args:
            model: Maps [B, ...] to logits [B, K >= 2], or to an object with such `.logits`. Runs in
                eval mode with frozen parameters, and is left as it was.
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
        """The score with each point's hyper-parameters in place of its own, in as few passes as go.

        Args:
            model: As `__call__`.
            x: Inputs [B, ...], detached and floating point.
            points: P sets of hyper-parameters; {} changes none.
        """
