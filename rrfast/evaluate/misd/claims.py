"""Whether an evaluation confirms the claims of RAT: every comparison, and a sentence each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from rrfast.evaluate.claims import RULE, Claim, Comparison, by_claim, compared, counted, known
from rrfast.evaluate.observations import Row, Value, at, grouped, of, spread, values
from rrfast.evaluate.tables import broken
from rrfast.objectives.variant_names import VARIANTS
from rrfast.scores.registry import STEP

#: The radius to compare: the first of these that is there.
RADII = ("radius_fast", "radius_search", "radius_bs", "radius_grad")
#: The scores it is compared with; without input pre-processing if none with it is there.
BASELINES = ("msr", "msr+eps", "odin", "doctor_alpha+eps", "doctor_beta+eps", "relu+eps")
#: The number of errors above a probability, over all seeds, from which an AUROC is compared.
ENOUGH = 20
LEGEND = (
    "Comparisons: the radius less the other of the same run, mean ± standard error over runs, "
    f"lower is better in all of them. ✓ confirmed and ✗ contradicted: {RULE}, as a single training "
    "seed always is, whatever its divisions."
)
FINDS = Claim("The radius finds errors better", "AURC×1000", 1000.0, 2)
DEPENDS = Claim("It depends less on T", "highest over lowest AURC", 1.0, 2)
ROBUST = Claim("It is more robust to corruption", "100 − AUROC %, mean over corruptions", digits=2)
CONFIDENT = Claim("It suffers less from over-confidence", "AUROC % lost where p is above", digits=2)
#: Table 2: the claim on RAT as a training.
BETTER = Claim("RAT with the radius finds errors better", "AURC×1000", 1000.0, 2)


def comparisons(result: dict[str, Any]) -> Iterator[Comparison]:
    """Every comparison that the rows allow, claim by claim.

    A number that is undefined for some run (a training without errors there) is NaN and decides
    nothing.
    """
    rows: list[Row] = result["runs"]
    radius = _radius(rows)
    if radius is not None:
        yield from _scores(rows, radius)
        yield from _trainings(rows, radius)


def _scores(rows: list[Row], radius: str) -> Iterator[Comparison]:
    """The radius against other scores, on each training."""
    trainings = values(rows, "training")
    # With "rat", on the first division only.
    corrupted = [row for row in rows if row.get("corruptions")]
    above = {t: _highest(of(rows, training=t, score=radius)) for t in trainings}
    thresholds = " ".join(p or "–" for p in above.values())
    confident = CONFIDENT._replace(unit=f"{CONFIDENT.unit} {thresholds}")
    for claim, there, value_of in (
        (FINDS, rows, {}),
        (DEPENDS, rows, dict.fromkeys(trainings, _swing)),
        (ROBUST, corrupted, dict.fromkeys(trainings, _under_corruption)),
        (confident, rows, {training: _loss(p) for training, p in above.items()}),
    ):
        by = grouped(there, "training", "score")
        for other in _baselines(rows):
            for training in trainings:
                value = value_of.get(training, at("aurc"))
                ours, theirs = (by.get((training, score), []) for score in (radius, other))
                # A number may be meaningless for a score: MSR has no temperature.
                if any(value(row) is not None for row in theirs):
                    yield from compared(claim, other, broken(training), (ours, theirs), value)


def _trainings(rows: list[Row], radius: str) -> Iterator[Comparison]:
    """RAT with the radius against every other training with MSR, the better of its two."""
    by, rats = grouped(rows, "training", "score"), [VARIANTS["rat"], VARIANTS["rat_mixup"]]
    for other in values(rows, "training"):
        options = [by[other, msr] for msr in ("msr", f"msr{STEP}") if (other, msr) in by]
        if other in rats or not options:
            continue
        theirs = min(options, key=lambda own: spread(own, at("aurc")).mean)
        score = theirs[0]["score"]
        for training in rats:
            pair, column = (by.get((training, radius), []), theirs), f"{training},\n{radius}"
            words, group = f"{other}, {score}", f"{other} with {score}"
            yield from compared(BETTER, words, column, pair, at("aurc"), group=group)


def _swing(row: Row) -> float | None:
    """§5.5, Fig. 3: the highest AURC over all temperatures, divided by the lowest."""
    values = [math.nan if v is None else v for v in row["temperature"].values()]
    return max(values) / min(values) if values and min(values) > 0 else None


def _under_corruption(row: Row) -> float | None:
    """§5.6, Fig. 4."""
    mean = under_corruption("auroc")(row)
    return None if mean is None else 1 - mean


def under_corruption(metric: str) -> Value:
    """The mean of a metric over the corruptions of a row; None if there are none."""

    def value(row: Row) -> float | None:
        values = [found[metric] for found in row.get("corruptions", {}).values()]
        return None if not values or None in values else sum(values) / len(values)

    return value


def _loss(threshold: str | None) -> Value:
    """B.4, Fig. B.1: the loss of AUROC among confident predictions."""

    def value(row: Row) -> float | None:
        if threshold is None:
            return None
        everywhere, there = row["above"]["0.0"]["auroc"], row["above"][threshold]["auroc"]
        return None if everywhere is None or there is None else everywhere - there

    return value


def _highest(rows: Sequence[Row]) -> str | None:
    """The highest probability above which every run has errors to find."""
    # The same error is in the test part of most divisions, but counts once.
    divisions = len({row["split"] for row in rows})
    above = [
        p
        for p in (rows[0]["above"] if rows else ())
        if float(p) > 0
        and sum(row["above"][p]["errors"] for row in rows) >= ENOUGH * divisions
        and all(row["above"][p]["auroc"] is not None for row in rows)
    ]
    return above[-1] if above else None


def _radius(rows: Sequence[Row]) -> str | None:
    there = {row["score"] for row in rows}
    return next((name for name in RADII if name in there), None)


def _baselines(rows: Sequence[Row]) -> list[str]:
    there = {row["score"] for row in rows}
    found = [name if name in there else name.removesuffix(STEP) for name in BASELINES]
    return [name for name in dict.fromkeys(found) if name in there]


def sentences(result: dict[str, Any]) -> Iterator[str]:
    """One for each claim: how many of its comparisons confirm it."""
    rows: list[Row] = result["runs"]
    radius = _radius(rows)
    for claim, own in by_claim(known(comparisons(result))).items():
        than = ", ".join(dict.fromkeys(one.group or one.row[0] for one in own))
        who = f"{radius} than {than}; each training"
        if claim == BETTER.sentence:
            ours = dict.fromkeys(one.column.partition(",\n")[0] for one in own)
            who = f"{', '.join(ours)} with {radius} than {than}"
        yield f"{claim}: {counted(own)} comparisons ({who})."
    yield from _best_under_corruption(rows)


def _best_under_corruption(rows: list[Row]) -> Iterator[str]:
    radius = _radius(rows)
    rows = [row for row in rows if row.get("corruptions")]
    if not rows or radius is None:
        return
    kinds = list(rows[0]["corruptions"])
    said, names = [], [radius, *_baselines(rows)]
    for (training,), own in grouped(rows, "training").items():
        by = grouped(own, "score")
        won = 0
        for kind in kinds:
            path = at("corruptions", kind, "auroc")
            mean = {name: spread(by[name,], path).mean for name in names if (name,) in by}
            won += all(mean.get(radius, math.nan) >= other for other in mean.values())
        said.append(f"{training} {won}")
    yield (
        f"{radius} has the highest mean AUROC of the compared scores under so many of the "
        f"{len(kinds)} corruptions (the paper: all): {', '.join(said)}."
    )
