"""Bootstrap intervals of a metric."""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import torch

from rrfast._checks import check_count, check_number, check_seed
from rrfast._seeds import seeded
from rrfast.metrics.ranking import Ranking, rank
from rrfast.metrics.registry import Metric, find


class Interval(NamedTuple):
    """A metric and its bootstrap interval."""

    value: float  #: on all samples
    low: float
    high: float


def bootstrap(
    metric: str | Metric,
    score: object,
    correct: object,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """A metric with its percentile interval over test sets resampled from this one.

    Each draw takes n of the n samples with replacement. Scores are sorted once: a draw is one
    multinomial sample of how often each distinct score occurs with a right and with a wrong
    prediction, and the metric is computed from these integer counts, with the same ties. The
    interval reaches from the draw of rank floor((1 - level)/2 (draws - 1)), counted from 0, to the
    one equally far from the other end; nothing is interpolated.

    It covers the uncertainty of the test set only; for that of the training, train with several
    seeds (errata 12).

    Args:
        metric: A name in `METRICS`, a metric of `rrfast.metrics`, or one with options, such as
            `functools.partial(fpr_at_tpr, tpr=0.9)`. It is called with a `Ranking` and None, so a
            metric that depends on the order of the data (some conventions of `aurc`) raises.
        score: [n] real numbers, larger = more confident; ±inf are ordinary values.
        correct: [n] booleans, True where the prediction is right.
        draws: Number of test sets to draw, at least 1. A draw costs O(n), without a sort.
        level: Share of the draws inside, in (0, 1).
        seed: Seed of the draws, which are the same on every device.

    Returns:
        `Interval(value, low, high)`. In a draw without errors, or without right predictions, some
        metrics are undefined (NaN): such draws are left out of the percentiles, and a warning says
        how many; low and high are NaN if no draw is left. If the value itself is NaN, so are all
        draws, and there is no warning.

    Raises:
        TypeError: `score` is not real numbers, `correct` is not boolean, or `level` or `seed` is
            not a number.
        ValueError: Scores and answers not of one shape [n], no sample, NaN among the scores, an
            unknown name, `draws` below 1 or `level` outside (0, 1).

    Source: errata 12.

    Example:
        >>> score, correct = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4], [True, True, True, False, True, False]
        >>> value, low, high = bootstrap("accuracy", score, correct)
        >>> round(value, 4), round(low, 4), round(high, 4)
        (0.6667, 0.3333, 1.0)
    """
    function = find(metric)
    check_resampling(draws, level, seed, least=1)
    # On the CPU, so that the generator gives the same numbers for every device.
    values, errors, right = (x.cpu() for x in rank(score, correct)[:3])
    value = function(Ranking(values, errors, right), None)
    if math.isnan(value):
        return Interval(value, value, value)
    groups = len(values)
    cell = torch.repeat_interleave(
        torch.cat((errors, right))
    )  # [n] 0..G-1 for errors, G..2G-1 for right
    generator = seeded(seed)
    drawn = torch.empty(draws, dtype=torch.float64)
    for i in range(draws):
        sample = cell[torch.randint(len(cell), (len(cell),), generator=generator)]
        errors, right = torch.bincount(sample, minlength=2 * groups).view(2, groups)
        seen = errors + right > 0
        drawn[i] = function(Ranking(values[seen], errors[seen], right[seen]), None)
    defined = drawn[~drawn.isnan()].sort().values
    undefined = draws - len(defined)
    if undefined:
        warnings.warn(
            f"bootstrap leaves out {undefined} of {draws} draws, in which the metric is undefined",
            RuntimeWarning,
            stacklevel=2,
        )
    if len(defined) == 0:
        return Interval(value, math.nan, math.nan)
    place = math.floor((1 - level) / 2 * (len(defined) - 1))
    return Interval(value, defined[place].item(), defined[-1 - place].item())


def check_resampling(draws: object, level: object, seed: object, *, least: int) -> None:
    """Raise unless these are a number of draws, a level and a seed."""
    check_count("draws", draws, least=least)
    check_number("level", level, below=1)
    check_seed("seed", seed)
