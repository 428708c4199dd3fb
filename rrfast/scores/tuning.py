"""Hyper-parameters chosen on a labelled split, with the network run as rarely as can be."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from rrfast.checks import describe
from rrfast.engine import check_input
from rrfast.metrics import aurc
from rrfast.scores.labelled import labelled
from rrfast.scores.score import Score

if TYPE_CHECKING:
    from rrfast.engine import Model


class GridScores(NamedTuple):
    """A score at every point of its grids, and what that took."""

    points: list[dict[str, float]]  #: P of them, the last grid's values next to each other
    values: Tensor  #: [P, B], larger = more confident
    prediction: Tensor  #: [B] int64
    forwards: float  #: of the model per sample, for all points together
    backwards: float  #: likewise


class Row(NamedTuple):
    """One point of a grid and its worth."""

    point: dict[str, float]
    metric: float  #: NaN where a score is


class Tuned(NamedTuple):
    """What `tune` found."""

    score: Score  #: with the hyper-parameters of the best point
    table: list[Row]  #: of all points, in the order of the grid
    best: Row  #: the first of the table with the lowest metric


def grid_points(score: Score) -> list[dict[str, float]]:
    """Every combination of the values in the score's grids; one empty point if it has none.

    Example:
        >>> from rrfast.scores import MSR, ODIN
        >>> grid_points(MSR()), len(grid_points(ODIN())), grid_points(ODIN())[1]
        ([{}], 180, {'temperature': 0.2, 'eps': 5e-05})
    """
    names, grids = tuple(score.grids), tuple(score.grids.values())
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*grids)]


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
    if not isinstance(score, Score):
        raise TypeError(f"score must be a rrfast.scores.Score, got {describe(score)}")
    points = grid_points(score)
    return GridScores(points, *score.measure(model, check_input(x), points))


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
        TypeError, ValueError: As `score_grid`; `loader` yields no labelled batches; or every point
            gives NaN.

    Cost: of `score_grid` per sample, and P n numbers of memory.

    Source: RAT §5.1 and B.1: AURC on a fifth of the test set, not tested on.

    Example:
        >>> from rrfast.scores import DoctorAlpha
        >>> x = torch.tensor([[3.0, 0.0, 0.0], [2.0, 1.9, -9.0], [1.0, 0.0, 0.0]])
        >>> tuned = tune(DoctorAlpha(), torch.nn.Identity(), [(x, torch.tensor([0, 1, 0]))])
        >>> tuned.score, len(tuned.table)
        (DoctorAlpha(temperature=0.2), 15)
    """
    if not isinstance(score, Score):
        raise TypeError(f"score must be a rrfast.scores.Score, got {describe(score)}")
    points = grid_points(score)
    parts, right = [], []
    for x, y in labelled(model, loader):
        scored = score.measure(model, x, points)
        parts.append(scored.values.cpu())
        right.append((scored.prediction == y).cpu())
    values, correct = torch.cat(parts, dim=1), torch.cat(right)
    table = [
        Row(point, math.nan if value.isnan().any() else float(metric(value, correct)))
        for point, value in zip(points, values, strict=True)
    ]
    ranked = [row for row in table if not math.isnan(row.metric)]
    if not ranked:
        raise ValueError(
            f"score must be a number on all samples at some point of its grids, and every one of "
            f"the {len(table)} points gave NaN for a sample"
        )
    best = min(ranked, key=lambda row: row.metric)
    return Tuned(score.at(**best.point), table, best)
