"""Comparison of scores on the same predictions: each with MSR, and the choice of one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from torch import Tensor

from rrfast._tables import COLUMNS, Block, number
from rrfast.metrics import METRICS, Interval
from rrfast.metrics.paired import PAIRED, paired_bootstrap

#: Metrics where larger is better; for the others smaller is better.
HIGHER = frozenset({"auroc"})
#: Marks before a name in a table.
TAKE, BEATEN = "→", "✗"


class Standing(NamedTuple):
    """A score among others on one test set; NaN if the score is NaN on some sample."""

    value: dict[str, float]  #: each metric of `PAIRED`
    less_msr: dict[str, Interval]  #: each metric of `PAIRED`, this score minus MSR
    #: For each other score, how far this one is behind it in the deciding metric: the end of the
    #: difference's interval that is nearer to 0. Above 0 the other is better beyond the noise.
    behind: dict[str, float]
    nan: int  #: samples on which the score is NaN

    @property
    def beaten(self) -> bool:
        """Whether another score is better beyond the noise."""
        return any(by > 0 for by in self.behind.values())


def standings(
    values: Mapping[str, Tensor],
    correct: Tensor,
    metric: str,
    draws: int,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Standing]:
    """The standing of every score, with intervals that hold for all pairs at once.

    `values` are [n] for each score; "msr" must be among them, without NaN. `metric` decides. The
    other arguments and the errors are those of `rrfast.metrics.paired_bootstrap`.
    """
    nan = {name: int(value.isnan().sum()) for name, value in values.items()}
    ranked = [name for name in values if not nan[name]]
    found = paired_bootstrap([values[name] for name in ranked], correct, draws, level, seed)
    msr, decided = ranked.index("msr"), found[metric]
    nearer = -decided.high if metric in HIGHER else decided.low
    nowhere = Interval(math.nan, math.nan, math.nan)
    undefined = dict.fromkeys(PAIRED, math.nan), dict.fromkeys(PAIRED, nowhere)
    stand = {name: Standing(*undefined, {}, count) for name, count in nan.items()}
    for i, name in enumerate(ranked):
        stand[name] = Standing(
            {m: METRICS[m](values[name], correct) for m in PAIRED},
            {
                m: Interval(*(float(t[i, msr]) for t in (d.difference, d.low, d.high)))
                for m, d in found.items()
            },
            {other: float(nearer[i, j]) for j, other in enumerate(ranked) if j != i},
            0,
        )
    return stand


class Candidate(NamedTuple):
    """The properties that decide whether a score is taken."""

    name: str
    beaten: bool  #: whether another is better beyond the noise
    passes: float  #: forwards and backwards: a backward to the input takes about a forward's time
    tuned: int  #: number of tuned hyper-parameters


def to_take(candidates: Iterable[Candidate]) -> str:
    """The cheapest score that no other beats; at equal passes the one with less to tune.

    Then the first. There is always one, because no score beats the best.

    Example:
        >>> to_take([Candidate("a", True, 1, 0), Candidate("b", False, 3, 1)])
        'b'
    """
    standing = [each for each in candidates if not each.beaten]
    return min(standing, key=lambda each: (each.passes, each.tuned)).name


class Line(NamedTuple):
    """A score's row in the table, with its cells as printed."""

    name: str
    mark: str  #: `TAKE`, `BEATEN` or nothing
    value: Mapping[str, str]  #: for each metric of `PAIRED`
    less_msr: str  #: in the deciding metric
    forwards: float
    backwards: float
    milliseconds: float  #: per image; NaN where no time was taken

    @property
    def cost(self) -> str:
        """Its passes."""
        backwards = f" + {self.backwards:.3g} B" if self.backwards else ""
        return f"{self.forwards:.3g} F{backwards} per image"


def sentence(taken: Line, first: Line, metric: str, *, cheaper: bool) -> str:
    """Says which score to take, and why; `first` has the best number.

    `cheaper` says whether some score takes fewer passes than `taken`.
    """
    label = " ".join(COLUMNS[metric][0].split())
    most = "highest" if metric in HIGHER else "lowest"
    value = taken.value[metric]
    if taken.name == first.name:
        why = "every cheaper score is worse beyond the noise" if cheaper else "none is cheaper"
        return f"Take {taken.name} ({taken.cost}): it has the {most} {label}, {value}, and {why}."
    return (
        f"Take {taken.name} ({taken.cost}): the cheapest score that no other beats beyond the "
        f"noise. Its {label} is {value}; the {most} is {first.value[metric]}, of {first.name} "
        f"({first.cost})."
    )


def interval(found: Interval, metric: str) -> str:
    """The ends of a difference's interval for a cell; a dash if there is none.

    With few errors an interval may reach further than any difference of two metrics in [0, 1].

    Example:
        >>> interval(Interval(0.01, -0.002, 0.022), "aurc"), interval(Interval(0, -7, 7), "aurc")
        ('[−2.00, +22.00]', '[−1000.00, +1000.00]')
    """
    if not math.isfinite(found.low):
        return "–"
    _, factor, digits = COLUMNS[metric]
    ends = max(found.low, -1.0), min(found.high, 1.0)
    return f"[{', '.join(number(end, factor, digits, '+') for end in ends)}]"


def table(title: str, lines: Iterable[Line], metric: str) -> Block:
    """A table of scores with their numbers and costs, in the given order."""
    lines = list(lines)
    others = [name for name in PAIRED if name != metric]
    return Block(
        title,
        [
            *("", "score", COLUMNS[metric][0], "less MSR"),
            *(COLUMNS[name][0] for name in others),
            *("F", "B", "ms"),
        ],
        [
            [
                *(line.mark, line.name, line.value[metric], line.less_msr),
                *(line.value[name] for name in others),
                f"{line.forwards:.3g}",
                f"{line.backwards:.3g}",
                "–" if math.isnan(line.milliseconds) else f"{line.milliseconds:.2g}",
            ]
            for line in lines
        ],
        2,
        frozenset((i, 1) for i, line in enumerate(lines) if line.mark == TAKE),
    )
