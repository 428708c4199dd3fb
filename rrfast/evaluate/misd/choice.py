"""The recommended score per training: the table and sentence of `rrfast.compare`, over its runs.

A run is one seed on one division of the test images; `rrfast.scores.standing` ranks the scores of a
run. Over several runs, a score is beaten if one other score is better by more than the mean of the
runs' intervals. That mean is at least as wide as the interval of the mean difference, even if the
same test images affect all runs alike. With several seeds, the difference must also be outside the
95 % interval of Student's t over them. So a difference does not count if the choice of the test
images or of the seeds can explain it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

from rrfast._tables import COLUMNS, Block, number
from rrfast.evaluate.observations import Row, at, grouped, of, paired, runs_of, spread, without
from rrfast.evaluate.tables import Table, Words, broken, difference, metric
from rrfast.metrics import Interval
from rrfast.metrics.paired import PAIRED
from rrfast.scores.standing import (
    BEATEN,
    TAKE,
    Candidate,
    Line,
    interval,
    sentence,
    table,
    to_take,
)

#: The metric that decides; scores are also tuned by it.
METRIC = "aurc"
_AURC = at(METRIC)


class Entry(NamedTuple):
    """A score on the runs of one training."""

    mean: float  #: AURC
    candidate: Candidate
    line: Line  #: of the table, without a mark

    @property
    def told(self) -> Line:
        """Its line with the mean alone, as sentences have it."""
        value = number(self.mean, *COLUMNS[METRIC][1:])
        return self.line._replace(value={METRIC: value})


class Choice(NamedTuple):
    """The scores of one training, best first, and the recommended one."""

    entries: list[Entry]
    taken: Entry | None  #: None if they cannot be compared: no bootstrap, no error

    @property
    def sentence(self) -> str:
        """The recommended score and the reason; empty if there is none."""
        if self.taken is None:
            return ""
        passes = self.taken.candidate.passes
        cheaper = any(entry.candidate.passes < passes for entry in self.entries)
        return sentence(self.taken.told, self.entries[0].told, METRIC, cheaper=cheaper)


def choice(rows: Sequence[Row]) -> Choice:
    """The choice from the runs of one training."""
    scores = {name: own for (name,), own in grouped(rows, "score").items()}
    entries = [_entry(name, scores) for name in scores]
    known = [entry for entry in entries if not math.isnan(entry.mean)]
    entries.sort(key=lambda each: (math.isnan(each.mean), each.mean, each.candidate.passes))
    asked = _is_asked(rows)
    if not known or not asked or not any(0 < row["errors"] < row["images"] for row in rows):
        return Choice(entries, None)
    name = to_take(entry.candidate for entry in known)
    return Choice(entries, next(each for each in entries if each.candidate.name == name))


def decided(rows: Sequence[Row]) -> list[Row]:
    """The rows with `beaten` in place of `behind`, whose numbers are as many as pairs of scores.

    Also without `less_msr` where it is empty, and for several runs with MSR: tables show it of a
    single run.
    """
    found = {}
    for (training,), own in grouped(rows, "training").items():
        scores = {name: each for (name,), each in grouped(own, "score").items()}
        asked, several = _is_asked(own), len(runs_of(own)) > 1 and "msr" in scores
        left_out = {"behind", "less_msr"} if several or not asked else {"behind"}
        for name in scores:
            beaten = {"beaten": _is_beaten(name, scores)} if asked else {}
            found[training, name] = (left_out, beaten)
    return [
        without(row, left_out) | beaten
        for row in rows
        for left_out, beaten in [found[row["training"], row["score"]]]
    ]


def _is_asked(rows: Sequence[Row]) -> bool:
    """Whether all scores were compared with each other, but for those with NaN."""
    return all("beaten" in row or row.get("behind") for row in rows if not row["nan"])


def _is_beaten(name: str, scores: dict[str, list[Row]]) -> bool:
    """Whether one other score is better beyond the noise of images, and of seeds."""
    rows = scores[name]
    if "beaten" in rows[0]:
        return bool(rows[0]["beaten"])

    def is_behind(other: str) -> bool:
        by = spread(rows, lambda row: row.get("behind", {}).get(other)).mean
        if not by > 0:  # also if it is unknown
            return False
        several = len({row["seed"] for row in rows}) > 1
        return not several or paired(rows, scores[other], _AURC).verdict > 0

    return any(map(is_behind, scores))


def _entry(name: str, scores: dict[str, list[Row]]) -> Entry:
    rows = scores[name]
    costs = [spread(rows, at(key)).mean for key in ("forwards", "backwards", "milliseconds")]
    tuned = len(rows[0]["hyperparameters"])
    candidate = Candidate(name, _is_beaten(name, scores), costs[0] + costs[1], tuned)
    value = {m: metric(m).cell(rows) for m in PAIRED}
    line = Line(name, "", value, _less_msr(rows, scores.get("msr", [])), *costs)
    return Entry(spread(rows, _AURC).mean, candidate, line)


def _less_msr(rows: list[Row], msr: list[Row], *, marked: bool = False) -> str:
    """For one run the interval, for several the mean ± standard error; a dash if there is none."""
    if not rows or rows[0]["score"] == "msr":
        return "–"
    if len(rows) == 1 and rows[0].get("less_msr"):
        ends = (math.nan if end is None else end for end in rows[0]["less_msr"][METRIC])
        return interval(Interval(*ends), METRIC)
    marked = marked and len(rows) > 1 and runs_of(rows) == runs_of(msr)
    if not msr and all(row.get("less_msr") for row in rows):
        msr = [row | {METRIC: row[METRIC] - row["less_msr"][METRIC][0]} for row in rows]
    if runs_of(msr) != runs_of(rows):
        return "–"
    higher = False if marked else None
    return difference(paired(rows, msr, _AURC), *COLUMNS[METRIC][1:], higher=higher)


# ------------------------------------------------------------------------------------- as printed


def first_block(rows: Sequence[Row], training: str) -> Block:
    """Every score on one training, as in `rrfast.compare`."""
    found = choice(of(rows, training=training))
    lines = [entry.line for entry in found.entries]
    if found.taken is not None:
        marks = [TAKE if e is found.taken else BEATEN * e.candidate.beaten for e in found.entries]
        lines = [line._replace(mark=mark) for line, mark in zip(lines, marks, strict=True)]
    return table(f"Which score finds the errors: {training}", lines, METRIC)


def choices(rows: Sequence[Row], trainings: Sequence[str]) -> Iterator[Block]:
    """The recommended score on each of several trainings, and the one with the lowest AURC."""
    cells = []
    for training in trainings:
        found = choice(of(rows, training=training))
        if found.taken is not None:
            taken, first = found.taken, found.entries[0]
            cells.append([training, *_in_short(taken), *_in_short(first)])
    if cells:
        label = COLUMNS[METRIC][0]
        head = ["take", label, "less MSR", "F", "B", "lowest\nAURC", label, "less MSR", "F", "B"]
        yield Block("The score to take, by training", ["training", *head], cells, 2)


def _in_short(entry: Entry) -> list[str]:
    line = entry.told
    passes = f"{line.forwards:.3g}", f"{line.backwards:.3g}"
    return [line.name, line.value[METRIC], line.less_msr, *passes]


def less_msr(rows: Sequence[Row], trainings: Sequence[str]) -> Iterator[Block]:
    """AURC minus MSR's AURC for every score on every training."""

    def marked(own: Sequence[Row], training: str) -> str:
        msr = of(rows, score="msr", training=training)
        return _less_msr(of(own, training=training), msr, marked=True)

    columns = [Words(broken(t), partial(marked, training=t)) for t in trainings]
    title = f"{metric(METRIC).title} less MSR's by score and training"
    others = [row for row in rows if row["score"] != "msr"]
    block = Table(title, {"score": "score"}, columns).block(others)
    if any(set(line[1:]) != {"–"} for line in block.rows):
        yield block


def conventions(rows: Sequence[Row], draws: int) -> Iterator[str]:
    """What the marks and differences of these tables mean."""
    compared = any("beaten" in row or row.get("behind") for row in rows)
    seeds = len({row["seed"] for row in rows}) > 1
    if compared:
        t = ", and over seeds beyond the 95 % interval of Student's t too" * seeds
        yield (
            f"{TAKE} the score to take: the cheapest that no other beats beyond the noise. "
            f"{BEATEN} another score is better beyond the noise, in AURC: beyond the 95 % "
            f"intervals that hold for all pairs of scores at once, from {draws} test sets drawn "
            f"again from this one{t}."
        )
    one = "of a single run the interval in brackets, which holds for all pairs of scores at once"
    t = "over seeds the paired mean ± standard error, ✓ lower and ✗ higher by Student's t"
    parts = [t] * seeds + [one] * compared
    if parts:
        yield f"less MSR: AURC minus that of MSR on the same images, × 1000; {'; '.join(parts)}."
    timed = any(row.get("milliseconds") is not None for row in rows)
    ms = "; ms is a rough time per image, longer on a busy machine" * timed
    yield f"F and B are forwards and backwards of the model per image{ms}."
