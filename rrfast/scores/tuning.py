"""Hyper-parameters tuned on a labelled split, with as few passes as possible."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rrfast._checks import describe
from rrfast.engine import Model, check_input
from rrfast.metrics import aurc, fpr_at_tpr
from rrfast.scores.batches import check_loader, input_of
from rrfast.scores.predictions import measured
from rrfast.scores.score import Point, Score


class GridScores(NamedTuple):
    """A score at every point of its grids, and the passes taken."""

    points: list[Point]  #: P points, the last grid varies fastest
    values: Tensor  #: [P, B], larger = more confident
    prediction: Tensor  #: [B] int64
    forwards: float  #: of the model per sample, for all points together
    backwards: float  #: likewise


class Row(NamedTuple):
    """One point of a grid and its metric."""

    point: Point
    metric: float  #: NaN if a score is NaN


class Tuned(NamedTuple):
    """The result of `tune`."""

    score: Score  #: with the hyper-parameters of the best point
    table: list[Row]  #: all points, in the order of the grid
    best: Row  #: the first row with the lowest metric


#: The share of outside inputs accepted at the threshold that accepts 95 % of the inside ones.
FPR = partial(fpr_at_tpr, positive="correct")
#: The values to try for each hyper-parameter.
Grids = Mapping[str, Sequence[float | None]]


def grid_points(score: Score, grids: Grids | None = None) -> list[Point]:
    """Every combination of values in the score's grids or in `grids`; without any, one empty point.

    Example:
        >>> from rrfast.scores import MSR, ODIN
        >>> grid_points(MSR()), len(grid_points(ODIN())), grid_points(ODIN())[1]
        ([{}], 180, {'temperature': 0.2, 'eps': 5e-05})
    """
    searched = _tried(score.grids if grids is None else grids)
    return [
        dict(zip(searched, values, strict=True)) for values in itertools.product(*searched.values())
    ]


def _tried(grids: object) -> dict[str, tuple[float | None, ...]]:
    """The values to try for each hyper-parameter, of which there is at least one."""
    if not isinstance(grids, Mapping):
        raise TypeError(
            f"grids must map names of hyper-parameters to values, got {describe(grids)}"
        )
    for name, values in grids.items():
        if isinstance(values, str) or not isinstance(values, Iterable):
            raise TypeError(f"grids must have several values for {name}, got {describe(values)}")
    tried = {name: tuple(values) for name, values in grids.items()}
    if empty := [name for name, values in tried.items() if not values]:
        raise ValueError(f"grids must have at least one value for {empty[0]}, got none")
    return tried


def _check_metric(metric: object) -> None:
    if not callable(metric):
        raise TypeError(
            "metric must be a function of scores and answers, smaller = better, such as "
            f"rrfast.metrics.aurc, got {describe(metric)}"
        )


def score_grid(score: Score, model: Model, x: Tensor) -> GridScores:
    """The score at every point of its grids.

    The forward at x is shared by all points. A score of the logits needs no other pass. With input
    pre-processing each temperature takes one backward, whatever the number of steps, and each pair
    of a temperature and a step greater than 0 one forward: RAT B.1's 15 temperatures and 12 steps
    take 166 forwards and 15 backwards, in place of 345 and 165. RR-Fast takes 16 and 15.

    Args:
        score: The score; hyper-parameters that are not in its grids keep their values.
        model: As for `Score.__call__`.
        x: Inputs [B, ...], floating point.

    Returns:
        Points, and the values [P, B] in their order.

    Raises:
        TypeError: `score` is not a `Score`; else as `Score.__call__`.
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
    *,
    name: str = "loader",
) -> Tuned:
    """Tune a score: take the hyper-parameters of its grids that are best on labelled data.

    Among equally good points the first of the grid is taken. A point at which the score is NaN on
    some sample is not taken, because NaN cannot be ranked; its row has NaN.

    Args:
        score: A score; if it must be fitted, then to other data.
        model: As for `Score.__call__`.
        loader: Yields (x [B, ...], y [B]): a validation split, disjoint from the test data.
        metric: A function (score [n], correct [n] bool) -> number, smaller = better.
        name: The name that errors call `loader`.

    Returns:
        The best score, and the metric at every point.

    Raises:
        TypeError, ValueError: As `score_grid`; `loader` yields no labelled batches, or a label that
            is not a class of the model; or every point gives NaN.

    Cost: that of `score_grid` per sample, and P n numbers of memory.

    Source: RAT §5.1 and B.1: AURC on a fifth of the test set, which is not tested on.

    Example:
        >>> from rrfast.scores import DoctorAlpha
        >>> x = torch.tensor([[3.0, 0.0, 0.0], [2.0, 1.9, -9.0], [1.0, 0.0, 0.0]])
        >>> tuned = tune(DoctorAlpha(), torch.nn.Identity(), [(x, torch.tensor([0, 1, 0]))])
        >>> tuned.score, len(tuned.table)
        (DoctorAlpha(temperature=0.2), 15)
    """
    points = grid_points(_checked(score))
    _check_metric(metric)
    found = measured(model, loader, score, points, pairs=True, name=name)
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
    """Tune a score so that it best separates one distribution from another.

    As `tune`, with inputs of the one distribution in place of right predictions, and of the other
    in place of errors.

    Args:
        score: A score; fitted, if it must be.
        model: As for `Score.__call__`.
        inside: Yields x [B, ...], or tuples that begin with it: in-distribution inputs.
        outside: Likewise: out-of-distribution inputs, from a set that is not tested on.
        grids: Values to try; None: those of the score. `ODIN_GRIDS` are those of ODIN's paper.
        metric: A function (score [n], is inside [n] bool) -> number, smaller = better; by default
            the share of `outside` accepted at the threshold that accepts 95 % of `inside`.

    Returns:
        The best score, and the metric at every point.

    Raises:
        TypeError, ValueError: As `tune`; a loader yields nothing, or the score has no such
            hyper-parameter.

    Cost: that of `tune`, on both loaders.

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
    _check_metric(metric)
    check_loader("inside", inside)
    check_loader("outside", outside)

    def confidence(name: str, loader: Iterable[Any]) -> Tensor:
        inputs = (input_of(name, batch) for batch in loader)
        return measured(model, inputs, score, points, name=name).confidence

    known, unknown = confidence("inside", inside), confidence("outside", outside)
    return best_apart(score, points, known, unknown, metric)


def best_apart(
    score: Score,
    points: Sequence[Point],
    inside: Tensor,
    outside: Tensor,
    metric: Callable[[Tensor, Tensor], float] = FPR,
) -> Tuned:
    """The result of `tune_apart` from existing values, so that several sets share those inside.

    They are [P, n] and [P, m]: the score at the P points, from `predict`. Raises a ValueError if
    every point gives NaN.
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
    """The result of `tune` from existing values [P, n] of P points.

    Raises:
        ValueError: The score or the metric is NaN at every point.
    """
    table = [
        Row(point, math.nan if value.isnan().any() else float(metric(value, positive)))
        for point, value in zip(points, values, strict=True)
    ]
    ranked = [row for row in table if not math.isnan(row.metric)]
    if not ranked:
        undefined = values.isnan()
        if not bool(undefined.any(dim=1).all()):
            raise ValueError(
                "metric must be a number at some point of the grids, but is NaN at all "
                f"{len(table)}, as AUROC is without an error or without a right prediction"
            )
        raise ValueError(
            f"score must be a number on all samples at one of the {len(table)} points of its "
            f"grids, but is NaN somewhere at each: {int(undefined.any(dim=0).sum())} of "
            f"{undefined.shape[1]} samples are NaN at some point, "
            f"{int(undefined.all(dim=0).sum())} at all. A score is NaN where a logit is NaN or the "
            "largest logit is infinite"
        )
    best = min(ranked, key=lambda row: row.metric)
    return Tuned(score.at(**best.point), table, best)
