"""Input pre-processing: a score at the input after a small step along its own gradient."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rrfast import ops
from rrfast._checks import check_number, describe
from rrfast.engine import Engine, Model
from rrfast.engine.box import within
from rrfast.methods.method import Compat, check_compat
from rrfast.ops import accumulate_dtype
from rrfast.scores.grids import EPSILONS
from rrfast.scores.logit_score import LogitScore, nothing_scored, usable
from rrfast.scores.score import Point, Score, Scored

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, eq=False)
class Preprocessed(Score):
    """score(x~), x~ = x + s eps sign(grad_x score(x)).

    s is the sign of the score's paper: +1 raises the confidence (ODIN, and all scores whose papers
    do not pre-process), -1 lowers it (DOCTOR and RelU, which raise the uncertainty). The sign of
    the gradient is the same for every increasing function of the score, such as the papers' log S.
    It comes from closed forms that, unlike plain cross-entropy, do not underflow where the softmax
    saturates (errata 4). Where an entry is exactly 0, x does not move.

    Cost: 2 forwards and 1 backward; 1 forward with eps = 0. A grid of t temperatures and e steps
    greater than 0 takes 1 + t e forwards and t backwards; a step of 0 in the grid is free.

    Source: Liang et al. 2018 (ODIN), Eq. 2; RAT B.3, Eq. B.1; errata 10: the released signs are
    opposite to the papers'.

    Attributes:
        score: The score of the logits.
        eps: Step, >= 0, in units of `scale`. With 16-bit x most of a small step is rounded away;
            use float32 inputs under autocast.
        bounds: The box for x~, see `rrfast.ops.channel_bounds`; None for none, as in ODIN.
        scale: The unit of a step, see `rrfast.ops.channel_scale`: for inputs normalised by `std`,
            1 / std per channel makes it a step in pixels. None for x's own.
        compat: "released" negates s, as RAT's code does.

    Raises:
        TypeError, ValueError: `score` is not a score of the logits, or another argument is not a
            number or out of range.

    Example:
        >>> from rrfast.scores import DoctorAlpha, MSR
        >>> model, x = torch.nn.Identity(), torch.tensor([[2.0, 0.0]])
        >>> Preprocessed(MSR(), eps=0.125)(model, x)
        tensor([2.2500], dtype=torch.float64)
        >>> Preprocessed(MSR(), eps=0.125, compat="released")(model, x)
        tensor([1.7500], dtype=torch.float64)
        >>> score = Preprocessed(DoctorAlpha(), eps=0.125)
        >>> bool(score(model, x) < score.score(model, x))
        True
    """

    score: LogitScore
    eps: float
    bounds: ops.Bounds | None = None
    scale: ops.Scale | None = None
    compat: Compat = "paper"

    def __post_init__(self) -> None:
        if not isinstance(self.score, LogitScore):
            raise TypeError(
                "score must be a score of the logits, such as rrfast.scores.MSR(), got "
                f"{describe(self.score)}"
            )
        check_number("eps", self.eps, least=0)
        check_compat(self.compat)

    @property
    def grids(self) -> dict[str, tuple[float | None, ...]]:
        """The grids of the score, and eps as in RAT B.1."""
        return {**self.score.grids, "eps": EPSILONS}

    @property
    def fitted(self) -> bool:
        """Whether the score is fitted."""
        return self.score.fitted

    def fit(self, model: Model, loader: Iterable[Any]) -> Self:
        """A copy with the score fitted, to inputs without the step."""
        return dataclasses.replace(self, score=self.score.fit(model, loader))

    def at(self, **values: Any) -> Self:
        """A copy with other hyper-parameters, its own or the score's."""
        own = {field.name for field in dataclasses.fields(self)}
        of_score = {name: value for name, value in values.items() if name not in own}
        mine = {name: value for name, value in values.items() if name in own}
        changed = dataclasses.replace(self, **mine)
        if not of_score:
            return changed
        return dataclasses.replace(changed, score=changed.score.at(**of_score))

    def measure(self, model: Model, x: Tensor, points: Sequence[Point]) -> Scored:
        """As `Score.measure`: one forward at x, and one backward per score for all steps."""
        scores = [self.at(**point) for point in points]
        if x.shape[0] == 0:
            return nothing_scored(x, len(points))
        x = within(x, self.bounds, self.scale, model)
        with Engine(model) as engine:
            logits, values = _stepped(engine, x, scores, _shared(points))
            stacked = torch.stack(values).masked_fill(~usable(logits), math.nan)
            return Scored(
                stacked,
                logits.argmax(dim=1),
                engine.forward_samples / x.shape[0],
                engine.backward_samples / x.shape[0],
                engine.classes,
                logits=logits,
            )


def _stepped(
    engine: Engine, x: Tensor, scores: Sequence[Preprocessed], shared: Sequence[Sequence[int]]
) -> tuple[Tensor, list[Tensor]]:
    """Logits at x, and each score at its own x~; each group of `shared` has one gradient."""
    moving = [[i for i in group if scores[i].eps > 0] for group in shared]
    moving = [group for group in moving if group]
    recorded = engine.record(x) if moving else None
    logits = engine.forward(x) if recorded is None else recorded.logits
    values = [
        score.score.of_logits(logits) if score.eps == 0 else logits.new_empty(0) for score in scores
    ]
    for group in moving:
        assert recorded is not None
        grad = recorded.grad(scores[group[0]].score.cotangent(logits), last=group is moving[-1])
        for i, moved in zip(group, _moved(x, grad, [scores[i] for i in group]), strict=True):
            values[i] = scores[i].score.of_logits(engine.forward(moved))
    return logits, values


def _moved(x: Tensor, grad: Tensor, scores: Sequence[Preprocessed]) -> Iterator[Tensor]:
    """The x~ of each score, one at a time; they differ only in eps, bounds, scale and compat."""
    direction: Tensor | None = None
    for score in scores:
        sign = score.score.preprocessing * (1 if score.compat == "paper" else -1)
        step = x.new_full(x.shape[:1], sign * score.eps, dtype=accumulate_dtype(x.dtype))
        if direction is None:
            moved, direction = ops.fgsm_step(x, grad, step, score.bounds, score.scale)
            yield moved
        else:
            yield ops.perturb(x, direction, step, score.bounds, score.scale)


def _shared(points: Sequence[Point]) -> list[list[int]]:
    """Groups of indices of points with the same score of the logits, in order."""
    own = {field.name for field in dataclasses.fields(Preprocessed)} - {"score"}
    groups: dict[tuple[tuple[str, float | None], ...], list[int]] = {}
    for i, point in enumerate(points):
        key = tuple(sorted((name, value) for name, value in point.items() if name not in own))
        groups.setdefault(key, []).append(i)
    return list(groups.values())
