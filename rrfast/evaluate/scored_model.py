"""A model whose scores are tuned on one part of its data and measured on another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from rrfast._processes import shared
from rrfast.data.splits import DRAWN, Batches, Division, Part, divide
from rrfast.data.tasks import Task
from rrfast.engine import logits
from rrfast.ops import is_undefined
from rrfast.scores import MSR, Score, predict, tune
from rrfast.scores.predictions import Predictions
from rrfast.scores.registry import score_named
from rrfast.scores.score import Point


@dataclass(eq=False)
class ScoredModel:
    """A model on a division of its data."""

    model: nn.Module
    division: Division
    seed: int  #: of all random draws
    batch: int  #: images per forward
    device: torch.device
    _tunable: dict[str, tuple[Score, Part]] = field(default_factory=dict, init=False)

    def batches(self, part: Part) -> Batches:
        """The images and labels of a part, on the device."""
        return part.batches(self.batch, self.device)

    @property
    def tested(self) -> Batches:
        """The images and labels of the test part."""
        return self.batches(self.division.test)

    def tunable(self, name: str) -> tuple[Score, Part]:
        """A score, and the images to tune it on, all of the validation part.

        A score that has to be fitted is fitted on one half of them, and tuned on the other (RAT
        B.1).
        """
        if name not in self._tunable:
            score, part = score_named(name), self.division.validation
            if not score.fitted:
                fit, part = self.division.halves(self.seed)
                score = score.fit(self.model, self.batches(fit))
            self._tunable[name] = score, part
        return self._tunable[name]

    def at(self, name: str, point: Point) -> Score:
        """A score with these hyper-parameters."""
        return self.tunable(name)[0].at(**point)

    def tuned(self, name: str) -> tuple[Score, Point, float]:
        """The score with the lowest AURC, its hyper-parameters, and that AURC.

        Only the validation part is read.
        """
        score, part = self.tunable(name)
        found = tune(score, self.model, self.batches(part))
        return found.score, found.best.point, found.best.metric

    def predicted(
        self, score: Score, batches: Iterable[Any], points: Sequence[Point] = ({},)
    ) -> Predictions:
        """A score of some images at P points, by default at its own."""
        return predict(self.model, batches, score, points=points, progress=False)

    def measured(self, score: Score, points: Sequence[Point] = ({},)) -> Tensor:
        """The same for the test part: [P, n], on the CPU."""
        return self.predicted(score, self.tested, points).confidence

    @cached_property
    def _plain(self) -> Predictions:
        return self.predicted(MSR(), self.tested)

    @property
    def msr(self) -> Tensor:
        """[n] float64, MSR on the test part."""
        return self._plain.confidence[0]

    @property
    def probability(self) -> Tensor:
        """[n] float64, the probability of the predicted class."""
        return self.msr.sigmoid()

    @property
    def correct(self) -> Tensor:
        """[n] bool, where the model is right on the test part."""
        return self._plain.correct


def correct(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """[n] bool, on the CPU: which predictions are right; undefined logits count as wrong.

    Cost: 1 forward per image.
    """

    def one(_: int, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        h = logits(model, x)
        return (h.argmax(dim=1) == y) & ~is_undefined(h)

    return torch.cat(shared(one, batches)).cpu()


def on_divisions(
    model: nn.Module, task: Task, tuning: str | None, seed: int, batch: int, device: torch.device
) -> Iterator[ScoredModel]:
    """A model on each division of its data: see `rrfast.data.splits.divide`.

    With "rat", all random draws use the seed `DRAWN`, whatever the training's seed.
    """
    drawn = DRAWN if tuning == "rat" else seed
    for division in divide(task, tuning, drawn):
        yield ScoredModel(model, division, drawn, batch, device)


def scores_named(names: Sequence[str], sets: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The scores of these names, which may be one of `sets`.

    Raises:
        ValueError: A score is unknown; see `rrfast.scores.score_named`.
    """
    found = sets.get(names[0], names) if len(names) == 1 else names
    for name in found:
        score_named(name)
    return tuple(found)
