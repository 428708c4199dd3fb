"""Hyper-parameters tuned on a labelled split, with as few passes as possible."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from rrfast._checks import describe
from rrfast.engine import check_input
from rrfast.metrics import aurc, fpr_at_tpr
from rrfast.scores.batches import labelled, unlabelled
from rrfast.scores.predictions import predict
from rrfast.scores.score import Point, Score

if TYPE_CHECKING:
    from rrfast.engine import Model


class GridScores(NamedTuple):
    """A score at every point of its grids, and what that took."""

    points: list[Point]  #: P of them, the last grid's values next to each other
    values: Tensor  #: [P, B], larger = more confident
    prediction: Tensor  #: [B] int64
    forwards: float  #: of the model per sample, for all points together
    backwards: float  #: likewise


class Row(NamedTuple):
    """One point of a grid and its worth."""

    point: Point
    metric: float  #: NaN where a score is


class Tuned(NamedTuple):
    """What `tune` found."""

    score: Score  #: with the hyper-parameters of the best point
    table: list[Row]  #: of all points, in the order of the grid
    best: Row  #: the first of the table with the lowest metric


#: The share of what is unknown that is accepted where 95 % of what is known are.
FPR = partial(fpr_at_tpr, positive="correct")
#: The values of each hyper-parameter that are searched.
Grids = Mapping[str, Sequence[float | None]]


def grid_points(score: Score, grids: Grids | None = None) -> list[Point]:
    """Every combination of the values in the score's grids, or in others; one empty point of none.

    Example:
        >>> from rrfast.scores import MSR, ODIN
        >>> grid_points(MSR()), len(grid_points(ODIN())), grid_points(ODIN())[1]
        ([{}], 180, {'temperature': 0.2, 'eps': 5e-05})
    """
    searched = score.grids if grids is None else grids
    return [
        dict(zip(searched, values, strict=True)) for values in itertools.product(*searched.values())
    ]


def score_grid(score: Score, model: Model, x: Tensor) -> GridScores:
    """The score at every point of its grids.

    The forward at x is shared by all points. A score of the logits needs no other pass. With input
    pre-processing each temperature takes one backward, whatever the number of steps, and each pair
    of a temperature and a step greater than 0 one forward: RAT B.1's 15 temperatures and 12 steps
    take 166 forwards and 15 backwards, in place of 345 and 165. RR-Fast takes 16 and 15.

    Args:
        score: With hyper-parameters; those not in its grids stay as they are.
        model: As of `Score.__call__`.
        x: Inputs [B, ...], floating point.

    Returns:
        Points, and the values [P, B] in their order.

    Raises:
        TypeError: `score` is no `Score`; else as `Score.__call__`.
        ValueError: As `Score.__call__`.

    Source: RAT B.1.

    Example:
        >>> from rrfast.scores import DoctorAlpha
        >>> grid = score_grid(DoctorAlpha(), torch.nn.Linear(4, 3), torch.rand(2, 4))
        >>> grid.values.shape, grid.forwards, grid.backwards
        (torch.Size([15, 2]), 1.0, 0.0)
    """
    points = grid_points(_checked(score))
    scored = score.measure(model, check_input(x), points)
    return GridScores(points, scored.values, scored.prediction, scored.forwards, scored.backwards)


def tune(
    score: Score,
    model: Model,
    loader: Iterable[Any],
    metric: Callable[[Tensor, Tensor], float] = aurc,
) -> Tuned:
    """The score with the hyper-parameters of its grids that do best on labelled data.

    Of points equally good the first of the grid is taken. A point that gives any sample NaN is not:
    NaN has no place in a ranking, and its row of the table says NaN.

    Args:
        score: Fitted, if it needs to be, and to other data than this.
        model: As of `Score.__call__`.
        loader: Yields (x [B, ...], y [B]): a validation split, disjoint from what is tested on.
        metric: (score [n], correct [n] bool) -> a number, smaller = better.

    Returns:
        The best score, and the metric at every point.

    Raises:
        TypeError, ValueError: As `score_grid`; `loader` yields no labelled batches, or a label that
            is no class of the model; or every point gives NaN.

    Cost: of `score_grid` per sample, and P n numbers of memory.

    Source: RAT §5.1 and B.1: AURC on a fifth of the test set, not tested on.

    Example:
        >>> from rrfast.scores import DoctorAlpha
        >>> x = torch.tensor([[3.0, 0.0, 0.0], [2.0, 1.9, -9.0], [1.0, 0.0, 0.0]])
        >>> tuned = tune(DoctorAlpha(), torch.nn.Identity(), [(x, torch.tensor([0, 1, 0]))])
        >>> tuned.score, len(tuned.table)
        (DoctorAlpha(temperature=0.2), 15)
    """
    points = grid_points(_checked(score))
    found = predict(model, labelled(model, loader), score, points=points, progress=False)
    return best_of(score, points, found.confidence, found.correct, metric)


def tune_apart(
    score: Score,
    model: Model,
    inside: Iterable[Any],
    outside: Iterable[Any],
    *,
    grids: Grids | None = None,
    metric: Callable[[Tensor, Tensor], float] = FPR,
) -> Tuned:
    """The score with the hyper-parameters that best tell one distribution from another.

    As `tune`, with inputs of the one distribution in the place of right predictions, and of the
    other in that of errors.

    Args:
        score: Fitted, if it needs to be.
        model: As of `Score.__call__`.
        inside: Yields x [B, ...], or tuples that begin with it: the distribution the model knows.
        outside: Likewise: another one, and not one that is tested on.
        grids: Values to search; None: those of the score. `ODIN_GRIDS` are its paper's.
        metric: (score [n], is inside [n] bool) -> a number, smaller = better; default the share of
            `outside` that is accepted where 95 % of `inside` are.

    Returns:
        The best score, and the metric at every point.

    Raises:
        TypeError, ValueError: As `tune`; a loader yields nothing, or the score has no such
            hyper-parameter.

    Cost: as `tune`, of both loaders.

    Source: Liang et al. 2018 (ODIN), §4.4: FPR at 95 % TPR on a validation set of another origin
    than the test sets.

    Example:
        >>> from rrfast.scores import ODIN, ODIN_GRIDS
        >>> generator = torch.Generator().manual_seed(0)
        >>> x = torch.randn(2, 50, 3, generator=generator)
        >>> model = torch.nn.Identity()
        >>> tuned = tune_apart(ODIN(), model, [4 * x[0]], [x[1]], grids=ODIN_GRIDS)
        >>> len(tuned.table), tuned.best.metric < 0.7
        (210, True)
    """
    points = grid_points(_checked(score), grids)
    known, unknown = (
        predict(model, unlabelled(name, loader), score, points=points, progress=False).confidence
        for name, loader in (("inside", inside), ("outside", outside))
    )
    return best_apart(score, points, known, unknown, metric)


def best_apart(
    score: Score,
    points: Sequence[Point],
    inside: Tensor,
    outside: Tensor,
    metric: Callable[[Tensor, Tensor], float] = FPR,
) -> Tuned:
    """What `tune_apart` gives, from values that are there already: several sets share the inside.

    Args:
        score: That the values are of.
        points: P of them.
        inside: [P, n], as `predict` gives them.
        outside: [P, m], likewise.
        metric: As of `tune_apart`.

    Raises:
        ValueError: Every point gives NaN.
    """
    known = torch.arange(inside.shape[1] + outside.shape[1]) < inside.shape[1]
    return best_of(score, points, torch.cat([inside, outside], dim=1), known, metric)


def _checked(score: Score) -> Score:
    if not isinstance(score, Score):
        raise TypeError(f"score must be a rrfast.scores.Score, got {describe(score)}")
    return score


def best_of(
    score: Score,
    points: Sequence[Point],
    values: Tensor,
    positive: Tensor,
    metric: Callable[[Tensor, Tensor], float],
) -> Tuned:
    """What `tune` gives, from values that are there already: [P, n], of P points.

    Raises:
        ValueError: Every point gives NaN.
    """
    table = [
        Row(point, math.nan if value.isnan().any() else float(metric(value, positive)))
        for point, value in zip(points, values, strict=True)
    ]
    ranked = [row for row in table if not math.isnan(row.metric)]
    if not ranked:
        undefined = values.isnan()
        raise ValueError(
            f"score must be a number on all samples at some point of its grids, and every one of "
            f"the {len(table)} points gave NaN for some: {int(undefined.any(dim=0).sum())} of "
            f"{undefined.shape[1]} samples are NaN at a point, {int(undefined.all(dim=0).sum())} "
            "at all, as they are where a logit is NaN or the largest is infinite"
        )
    best = min(ranked, key=lambda row: row.metric)
    return Tuned(score.at(**best.point), table, best)
