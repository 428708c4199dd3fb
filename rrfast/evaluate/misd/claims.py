"""The claims of RAT: every comparison that decides them, and a sentence each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from rrfast.evaluate.claims import RULE, Claim, Comparison, by_claim, compared, counted, known
from rrfast.evaluate.misd.curves import COMPARED, confident, first_of
from rrfast.evaluate.observations import Row, Value, at, grouped, spread, values
from rrfast.evaluate.tables import broken
from rrfast.objectives.variant_names import VARIANTS
from rrfast.scores.registry import STEP

#: The scores it is compared with; without input pre-processing if none with it is there.
BASELINES = ("msr", "msr+eps", "odin", "doctor_alpha+eps", "doctor_beta+eps", "relu+eps")
LEGEND = (
    "Comparisons: the radius minus the other score in the same run, mean ± standard error over "
    f"runs; lower is better. ✓ confirmed and ✗ contradicted: {RULE}, always for a single training "
    "seed, whatever its divisions."
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
    radius = first_of(COMPARED, rows)
    if radius is not None:
        yield from _scores(rows, result["curves"], radius)
        yield from _trainings(rows, radius)


def _scores(rows: list[Row], curves: list[Row], radius: str) -> Iterator[Comparison]:
    """The radius against other scores, on each training."""
    trainings = values(rows, "training")
    # With "rat", on the first division only.
    corrupted = [row for row in rows if "corrupted" in row]
    above = {t: confident(curves, t) for t in trainings}
    sure = CONFIDENT._replace(unit=f"{CONFIDENT.unit} {_thresholds(list(above.values()))}")
    for claim, there, value_of in (
        (FINDS, rows, {}),
        (DEPENDS, rows, dict.fromkeys(trainings, at("swing"))),
        (ROBUST, corrupted, dict.fromkeys(trainings, _under_corruption)),
        (sure, rows, {training: _loss(p) for training, p in above.items()}),
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


def _under_corruption(row: Row) -> float | None:
    mean = at("corrupted", "auroc")(row)
    return None if mean is None else 1 - mean


def _thresholds(above: Sequence[str | None]) -> str:
    """In the order of the trainings, which are the columns; one if they share it."""
    several = len(set(above)) > 1
    said = ", ".join(p or "–" for p in (above if several else above[:1]))
    return f"{said}, column by column" if several else said


def _loss(threshold: str | None) -> Value:
    """B.4, Fig. B.1: the loss of AUROC among confident predictions."""

    def value(row: Row) -> float | None:
        if threshold is None:
            return None
        everywhere, there = row["auroc"], row["above"][threshold]["auroc"]
        return None if everywhere is None or there is None else everywhere - there

    return value


def _baselines(rows: Sequence[Row]) -> list[str]:
    there = {row["score"] for row in rows}
    found = [name if name in there else name.removesuffix(STEP) for name in BASELINES]
    return [name for name in dict.fromkeys(found) if name in there]


def sentences(result: dict[str, Any]) -> Iterator[str]:
    """One for each claim: how many of its comparisons confirm it."""
    radius = first_of(COMPARED, result["runs"])
    for claim, own in by_claim(known(comparisons(result))).items():
        than = ", ".join(dict.fromkeys(one.group or one.row[0] for one in own))
        who = f"{radius} than {than}; each training"
        if claim == BETTER.sentence:
            ours = dict.fromkeys(one.column.partition(",\n")[0] for one in own)
            who = f"{', '.join(ours)} with {radius} than {than}"
        yield f"{claim}: {counted(own)} comparisons ({who})."
    yield from _best_under_corruption(result["curves"], radius)


def _best_under_corruption(curves: list[Row], radius: str | None) -> Iterator[str]:
    rows = [row for row in curves if row["corruptions"]]
    if not rows or radius is None:
        return
    kinds = list(rows[0]["corruptions"])
    said, names = [], [radius, *_baselines(rows)]
    for (training,), own in grouped(rows, "training").items():
        by = grouped(own, "score")
        won = 0
        for kind in kinds:
            auroc = at("corruptions", kind, "auroc", 0)
            mean = {name: spread(by[name,], auroc).mean for name in names if (name,) in by}
            won += all(mean.get(radius, math.nan) >= other for other in mean.values())
        said.append(f"{training} {won}")
    yield (
        f"Number of the {len(kinds)} corruptions under which {radius} has the highest mean AUROC "
        f"of the compared scores (the paper: all): {', '.join(said)}."
    )
