"""The cost of scores: passes and time per image."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

from torch import Tensor

from rrfast._turns import Timed, Turns
from rrfast.engine import Model
from rrfast.scores.score import Score

#: Seconds to time each score.
TIMED = 0.05


class Cost(NamedTuple):
    """The cost of a score per image."""

    forwards: float
    backwards: float
    milliseconds: float


def costs_of(
    model: Model, x: Tensor, scores: Mapping[str, Score], timing: bool
) -> tuple[dict[str, Cost], float]:
    """The cost of each score on one batch, and the largest spread of one score's turns."""
    runs = {name: partial(score.measure, model, x, ({},)) for name, score in scores.items()}
    taken = {name: run() for name, run in runs.items()}
    milliseconds, noise = dict.fromkeys(runs, math.nan), math.nan
    if timing:
        turns = Turns(runs["msr"], runs, seconds=TIMED, device=x.device).take()
        timed = {name: turn for name, turn in turns.items() if not turn.error}
        # Only runs that follow one another are compared, because the machine's speed drifts.
        floor = statistics.median(second for turn in timed.values() for second in turn.floor)
        milliseconds |= {name: 1e3 * floor / len(x) * t.ratio() for name, t in timed.items()}
        noise = max(map(_spread, timed.values()))
    return {
        name: Cost(found.forwards, found.backwards, milliseconds[name])
        for name, found in taken.items()
    }, noise


def _spread(timed: Timed) -> float:
    """The distance of the middle half of the turns from their median, over the median."""
    ratios = sorted(own / floor for own, floor in zip(timed.own, timed.floor, strict=True))
    last, middle = len(ratios) - 1, timed.ratio()
    return max(middle - ratios[round(last / 4)], ratios[round(3 * last / 4)] - middle) / middle
