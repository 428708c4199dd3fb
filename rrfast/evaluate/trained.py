"""One training less another, under the same score: what an objective changes by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rrfast._tables import Block
from rrfast.evaluate.cell import difference
from rrfast.evaluate.drawing import trainings
from rrfast.evaluate.summary import Paired, Row, Value, of, paired, runs_of
from rrfast.objectives.variant_names import VARIANTS

#: What all are compared with, where it is there; else the first training.
BASELINE = VARIANTS["standard"]
#: What is compared besides: RAT, and AT which has the same step and another sign of it.
RIVALS = tuple((VARIANTS[f"rat{end}"], VARIANTS[f"at{end}"]) for end in ("", "_mixup"))
LEGEND = (
    "Trainings against each other: one less the other with the same seed, data and score, mean ± "
    "standard error over the seeds that both have. ✓ better and ✗ worse: 0 is outside the 95 % "
    "interval of Student's t, as it is in one of twenty comparisons without a difference; · "
    "undecided, as a single seed always is."
)


class Line(NamedTuple):
    """A line of a table: a number that is compared, and of which rows."""

    words: tuple[str, ...]  #: in front of it
    rows: Sequence[Row]
    value: Value
    factor: float = 100.0
    digits: int = 2
    higher: bool = False  #: is better


def pairs(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Which trainings are held against which: all against the baseline, and the `RIVALS`.

    Example:
        >>> pairs([{"training": name} for name in ("Standard", "AT", "RAT")])
        [('AT', 'Standard'), ('RAT', 'Standard'), ('RAT', 'AT')]
    """
    there = trainings(rows)
    baseline = BASELINE if BASELINE in there else "".join(there[:1])
    found = [(training, baseline) for training in there if training != baseline]
    found += [pair for pair in RIVALS if set(pair) <= set(there)]
    return list(dict.fromkeys(found))


def less(rows: Sequence[Row], others: Sequence[Row], value: Value) -> Paired | None:
    """As `paired`, over the runs that both have; None without any."""
    runs = runs_of(rows) & runs_of(others)
    ours, theirs = ([row for row in part if runs_of([row]) <= runs] for part in (rows, others))
    return paired(ours, theirs, value) if runs else None


def trained(title: str, head: Sequence[str], lines: Sequence[Line]) -> Iterator[Block]:
    """A table with a column for each pair of `pairs`; none without a pair that shares a seed."""
    everything = [row for line in lines for row in line.rows]
    columns, cells = list(head), [list(line.words) for line in lines]
    for pair in pairs(everything):
        seeds = set.intersection(*({r["seed"] for r in of(everything, training=t)} for t in pair))
        if not seeds:
            continue
        columns.append(f"{pair[0]}\nless {pair[1]}\n{len(seeds)} seed{'s' * (len(seeds) > 1)}")
        for cell, line in zip(cells, lines, strict=True):
            ours, theirs = (of(line.rows, training=training) for training in pair)
            found = less(ours, theirs, line.value)
            marks = "✗·✓" if line.higher else "✓·✗"
            cell.append("–" if found is None else difference(found, marks, *line[3:5]))
    if len(columns) > len(head):
        yield Block(f"Trainings against each other: {title}", columns, cells, len(head))
