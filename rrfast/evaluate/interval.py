"""95 % intervals for the numbers of a single run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from torch import Tensor

from rrfast.metrics import bootstrap
from rrfast.metrics.registry import Metric


def interval(metric: str, score: Tensor, correct: Tensor, draws: int) -> list[float]:
    """Both ends, over test sets resampled from this one; [] if there is no interval.

    There is none if `draws` is 0, if a score is NaN, or if all of `correct` is the same.

    Args:
        metric: As for `rrfast.metrics.bootstrap`.
        score: [n].
        correct: [n] bool.
        draws: At least 0.

    Example:
        >>> import torch
        >>> low, high = interval("accuracy", torch.zeros(100), torch.arange(100) < 90, 200)
        >>> 0.8 < low < 0.9 < high < 1
        True
    """
    return intervals({metric: metric}, score, correct, draws).get(metric, [])


def intervals(
    metrics: Mapping[str, str | Metric], score: Tensor, correct: Tensor, draws: int
) -> dict[str, list[float]]:
    """`interval` of several metrics by name; {} if there are none."""
    if draws == 0 or score.isnan().any() or bool(correct.all()) or not bool(correct.any()):
        return {}
    with warnings.catch_warnings():
        # Of draws with one side alone, which the bootstrap leaves out; the notes say so.
        warnings.simplefilter("ignore", RuntimeWarning)
        found = {name: bootstrap(metric, score, correct, draws) for name, metric in metrics.items()}
    return {name: [one.low, one.high] for name, one in found.items()}
