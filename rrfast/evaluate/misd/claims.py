"""What an evaluation says of the paper's claims: every comparison, and a sentence for each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from rrfast._tables import Block
from rrfast.evaluate.cell import difference
from rrfast.evaluate.summary import (
    Paired,
    Row,
    Value,
    at,
    counted,
    of,
    paired,
    runs_of,
    spread,
)
from rrfast.objectives.variant_names import VARIANTS
from rrfast.scores.registry import STEP

#: The radius that is compared, the first of these that there is.
RADII = ("radius_fast", "radius_search", "radius_bs", "radius_grad")
#: What it is compared with; where there is none with input pre-processing, without it.
BASELINES = ("msr", "msr+eps", "odin", "doctor_alpha+eps", "doctor_beta+eps", "relu+eps")
#: Errors above a probability, over all seeds together, from which on an AUROC is looked at.
ENOUGH = 20
#: Of a verdict of -1, 0 and 1.
MARKS = "✓·✗"
LEGEND = (
    "Comparisons: the radius less the other of the same run, mean ± standard error over runs, "
    "lower is better in all of them. ✓ confirmed and ✗ contradicted: 0 is outside the 95 % "
    "interval of Student's t, as it is in one of twenty comparisons without a difference; · "
    "undecided, as a single training seed always is, whatever its divisions."
)


class Claim(NamedTuple):
    """A claim of the paper, as a number that is to be lower for the radius."""

    sentence: str
    unit: str
    factor: float
    digits: int
    values: list[Value]  #: one for each training
    corrupted: bool = False  #: of the rows that were corrupted: with "rat", of the first division


class Comparison(NamedTuple):
    """The radius against another score, on one training."""

    claim: Claim
    training: str
    other: str
    found: Paired


def comparisons(result: dict[str, Any]) -> Iterator[Comparison]:
    """Every comparison that the rows allow, claim by claim.

    A number that is undefined for some run (a training without errors there) is NaN, and decides
    nothing.
    """
    rows: list[Row] = result["runs"]
    trainings = _trainings(rows)
    radius = _radius(rows)
    if radius is None:
        return
    for claim in _claims(rows, trainings, radius):
        for other in _baselines(rows):
            for training, value in zip(trainings, claim.values, strict=True):
                own = [row for row in rows if row.get("corruptions") or not claim.corrupted]
                ours = of(own, training=training, score=radius)
                theirs = of(own, training=training, score=other)
                if runs_of(ours) == runs_of(theirs) and ours and not _without(theirs, value):
                    yield Comparison(claim, training, other, paired(ours, theirs, value))


def _claims(rows: list[Row], trainings: Sequence[str], radius: str) -> Iterator[Claim]:
    n = len(trainings)
    yield Claim("The radius finds errors better", "AURC×1000", 1000.0, 2, [at("aurc")] * n)
    yield Claim("It depends less on T", "highest over lowest AURC", 1.0, 2, [_swing] * n)
    if any(row.get("corruptions") for row in rows):
        unit = "100 − AUROC %, mean over corruptions"
        values: list[Value] = [_under_corruption] * n
        yield Claim("It is more robust to corruption", unit, 100.0, 2, values, corrupted=True)
    thresholds = [_highest(of(rows, training=t, score=radius)) for t in trainings]
    if any(thresholds):
        said = " ".join(p or "–" for p in thresholds)
        unit = f"AUROC % lost where p is above {said}"
        losses = [_loss(p) for p in thresholds]
        yield Claim("It suffers less from over-confidence", unit, 100.0, 2, losses)


def _swing(row: Row) -> float | None:
    """§5.5, Fig. 3: the highest AURC over all temperatures, in units of the lowest."""
    values = [math.nan if v is None else v for v in row["temperature"].values()]
    return max(values) / min(values) if values and min(values) > 0 else None


def _under_corruption(row: Row) -> float | None:
    """§5.6, Fig. 4."""
    mean = under_corruption("auroc")(row)
    return None if mean is None else 1 - mean


def under_corruption(metric: str) -> Value:
    """The mean of a metric over the corruptions of a row; None where there are none."""

    def value(row: Row) -> float | None:
        values = [found[metric] for found in row.get("corruptions", {}).values()]
        return None if not values or None in values else sum(values) / len(values)

    return value


def _loss(threshold: str | None) -> Value:
    """B.4, Fig. B.1: what of AUROC is lost among confident predictions."""

    def value(row: Row) -> float | None:
        if threshold is None:
            return None
        everywhere, there = row["above"]["0.0"]["auroc"], row["above"][threshold]["auroc"]
        return None if everywhere is None or there is None else everywhere - there

    return value


def _highest(rows: Sequence[Row]) -> str | None:
    """The highest probability above which there are errors to find in every run."""
    # An error is in the test part of most divisions, and is one error.
    divisions = len({row["split"] for row in rows})
    above = [
        p
        for p in (rows[0]["above"] if rows else ())
        if float(p) > 0
        and sum(row["above"][p]["errors"] for row in rows) >= ENOUGH * divisions
        and all(row["above"][p]["auroc"] is not None for row in rows)
    ]
    return above[-1] if above else None


def _trainings(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["training"] for row in rows))


def _radius(rows: Sequence[Row]) -> str | None:
    there = {row["score"] for row in rows}
    return next((name for name in RADII if name in there), None)


def _baselines(rows: Sequence[Row]) -> list[str]:
    there = {row["score"] for row in rows}
    found = [name if name in there else name.removesuffix(STEP) for name in BASELINES]
    return [name for name in dict.fromkeys(found) if name in there]


def _without(rows: Sequence[Row], value: Value) -> bool:
    """Whether the number means nothing for this score: MSR has no temperature."""
    return all(value(row) is None for row in rows)


# ------------------------------------------------------------------------------------- as printed


def claim_blocks(result: dict[str, Any]) -> Iterator[Block]:
    """A table for each claim: a row per score it is compared with, a column per training."""
    rows: list[Row] = result["runs"]
    trainings = _trainings(rows)
    found = list(comparisons(result))
    for claim in dict.fromkeys(c.claim.sentence for c in found):
        own = [c for c in found if c.claim.sentence == claim]
        cells = {
            (c.other, c.training): difference(c.found, MARKS, c.claim.factor, c.claim.digits)
            for c in own
        }
        others = list(dict.fromkeys(c.other for c in own))
        table = [[o, *(cells.get((o, t), "–") for t in trainings)] for o in others]
        head = ["than", *(training.replace(" ", "\n", 1) for training in trainings)]
        yield Block(f"{claim} ({own[0].claim.unit})", head, table, 1)
    yield from _trained(rows)


class Versus(NamedTuple):
    """RAT with the radius against another training with MSR, the better of its two."""

    ours: str
    other: str
    score: str
    found: Paired


#: Table 2: what RAT as a training claims.
TRAINED = Claim("RAT with the radius finds errors better", "AURC×1000", 1000.0, 2, [])


def _versus(rows: list[Row]) -> Iterator[Versus]:
    """Every pair of such trainings with the same seeds."""
    radius = _radius(rows)
    names = [VARIANTS[name] for name in ("rat", "rat_mixup")]
    for other in _trainings(rows):
        options = [of(rows, training=other, score=name) for name in ("msr", f"msr{STEP}")]
        options = [theirs for theirs in options if theirs]
        if other in names or not options:
            continue
        theirs = min(options, key=lambda own: spread(own, at("aurc")).mean)
        for training in names:
            ours = of(rows, training=training, score=radius)
            if ours and runs_of(ours) == runs_of(theirs):
                found = paired(ours, theirs, at("aurc"))
                yield Versus(training, other, theirs[0]["score"], found)


def _trained(rows: list[Row]) -> Iterator[Block]:
    found = list(_versus(rows))
    ours = list(dict.fromkeys(v.ours for v in found))
    others = list(dict.fromkeys(v.other for v in found))
    cells = {
        (v.ours, v.other): difference(v.found, MARKS, TRAINED.factor, TRAINED.digits) for v in found
    }
    scores = {v.other: v.score for v in found}
    table = [[f"{o}, {scores[o]}", *(cells.get((t, o), "–") for t in ours)] for o in others]
    if table:
        head = ["than", *(f"{training},\n{_radius(rows)}" for training in ours)]
        yield Block(f"{TRAINED.sentence} ({TRAINED.unit})", head, table, 1)


def sentences(result: dict[str, Any]) -> Iterator[str]:
    """One for each claim: how many of its comparisons bear it out."""
    rows: list[Row] = result["runs"]
    radius = _radius(rows)
    found = [c for c in comparisons(result) if not math.isnan(c.found.mean)]
    for claim in dict.fromkeys(c.claim.sentence for c in found):
        own = [c for c in found if c.claim.sentence == claim]
        than = ", ".join(dict.fromkeys(c.other for c in own))
        verdicts = counted([c.found for c in own])
        yield f"{claim}: {verdicts} comparisons ({radius} than {than}; each training)."
    versus = list(_versus(rows))
    if versus:
        than = ", ".join(dict.fromkeys(f"{v.other} with {v.score}" for v in versus))
        yield (
            f"{TRAINED.sentence}: {counted([v.found for v in versus])} comparisons "
            f"({', '.join(dict.fromkeys(v.ours for v in versus))} with {radius} than {than})."
        )
    yield from _best_under_corruption(rows)


def _best_under_corruption(rows: list[Row]) -> Iterator[str]:
    radius = _radius(rows)
    rows = [row for row in rows if row.get("corruptions")]
    if not rows or radius is None:
        return
    kinds = list(rows[0]["corruptions"])
    said = []
    for training in _trainings(rows):
        own = of(rows, training=training)
        names = [name for name in (radius, *_baselines(rows)) if of(own, score=name)]
        mean = {
            (name, kind): spread(of(own, score=name), at("corruptions", kind, "auroc")).mean
            for name in names
            for kind in kinds
        }
        won = sum(all(mean[radius, k] >= mean[name, k] for name in names) for k in kinds)
        said.append(f"{training} {won}")
    yield (
        f"{radius} has the highest mean AUROC of the compared scores under so many of the "
        f"{len(kinds)} corruptions (the paper: all): {', '.join(said)}."
    )
