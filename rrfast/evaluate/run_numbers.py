"""Numbers of a single run: metrics that may be undefined, intervals, and counts in bins."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from rrfast._tables import SHOWN
from rrfast.metrics import METRICS, bootstrap
from rrfast.metrics.registry import Metric


def intervals(
    metrics: Mapping[str, str | Metric], score: Tensor, correct: Tensor, draws: int
) -> dict[str, list[float]]:
    """95 % intervals of metrics by name, over `draws` test sets resampled from this one.

    {} if there are none: if `draws` is 0, if a score [n] is NaN, or if all of `correct` is the
    same.

    Example:
        >>> right = torch.arange(100) < 90
        >>> low, high = intervals({"a": "accuracy"}, torch.zeros(100), right, 200)["a"]
        >>> 0.8 < low < 0.9 < high < 1
        True
    """
    if draws == 0 or score.isnan().any() or bool(correct.all()) or not bool(correct.any()):
        return {}
    with warnings.catch_warnings():
        # Of draws with one side alone, which the bootstrap leaves out; the notes say so.
        warnings.simplefilter("ignore", RuntimeWarning)
        found = {name: bootstrap(metric, score, correct, draws) for name, metric in metrics.items()}
    return {name: [one.low, one.high] for name, one in found.items()}


def interval(metric: str, score: Tensor, correct: Tensor, draws: int) -> list[float]:
    """As `intervals` of one metric; [] if there is none."""
    return intervals({metric: metric}, score, correct, draws).get(metric, [])


def defined(metric: str | Metric, score: Tensor, correct: Tensor) -> float:
    """The metric; NaN if a score is NaN."""
    function = METRICS[metric] if isinstance(metric, str) else metric
    return math.nan if score.isnan().any() else function(score, correct)


def shown(score: Tensor, correct: Tensor) -> dict[str, float]:
    """The metrics that every table shows, as `defined`."""
    return {name: defined(name, score, correct) for name in SHOWN}


def auroc_or_nan(score: Tensor, correct: Tensor) -> float:
    """As `defined`; also NaN without a right prediction or an error."""
    both = bool(correct.any()) and not bool(correct.all())
    return defined("auroc", score, correct) if both else math.nan


def counts(values: Tensor, edges: Sequence[float]) -> list[int]:
    """How many values are in each bin; the outermost ones also hold those beyond, not NaN."""
    inner = torch.tensor(edges[1:-1], dtype=values.dtype)
    place = torch.bucketize(values[~values.isnan()], inner, right=True)
    found: list[int] = torch.bincount(place, minlength=len(edges) - 1).tolist()
    return found


def read_off(x: Tensor, y: Tensor, places: Sequence[float]) -> list[float]:
    """The y [n] at which x [n], ascending, first reaches each place."""
    # 1 ulp for an x that rounding leaves just below the place.
    wanted = torch.tensor(places, dtype=torch.float64) * (1 - 1e-15)
    found: list[float] = y.cpu()[torch.searchsorted(x.cpu(), wanted)].tolist()
    return found


def median(values: Tensor) -> float:
    """The mean of the two middle values; NaN if there is none, or if one is NaN.

    `Tensor.quantile` also gives NaN next to an infinite value.
    """
    return float(np.median(values.double().numpy())) if len(values) else math.nan


def spearman(a: Tensor, b: Tensor) -> float:
    """Rank correlation, with mean ranks for ties; NaN if all tie.

    Infinity is an ordinary value; pairs with a NaN are left out.
    """
    both = ~(a.isnan() | b.isnan())
    ranks = torch.stack((_ranks(a[both]), _ranks(b[both])))
    return float(torch.corrcoef(ranks)[0, 1]) if ranks.shape[1] > 1 else math.nan


def _ranks(values: Tensor) -> Tensor:
    _, group, size = values.unique(return_inverse=True, return_counts=True)
    mean_rank: Tensor = size.cumsum(0) - (size.double() - 1) / 2
    return mean_rank[group]
