"""Tables of an evaluation under attack: IRAT's Tables 1 and 5, and differences of trainings.

Trainings with another tau, or without the similarity, give IRAT's Tables 3, 4, 7 and 8.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

from rrfast._tables import Block, number
from rrfast.evaluate.claims import RULE, Claim, Comparison, compared, difference_block
from rrfast.evaluate.observations import (
    Row,
    at,
    by_weights,
    either,
    fewer_images,
    grouped,
    of,
    seeds_said,
    spread,
    values,
)
from rrfast.evaluate.tables import Column, Table
from rrfast.objectives.variant_names import PRINTED

#: Rows in the place of an attack: no attack, and the worst of all.
CLEAN, WORST = "clean", "worst"
#: Printed names; an attack that is not listed is printed by its own name.
LABELS = {
    CLEAN: "Clean",
    "fgsm": "FGSM",
    "pgd": "PGD-{steps}",
    "cw_pgd": "CW-PGD-{steps}",
    "apgd_ce": "APGD-CE",
    "apgd_dlr": "APGD-DLR",
    "apgd_t": "APGD-T",
    "fab_t": "FAB-T",
    "square": "Square",
    "autoattack": "AA (ours)",
    "autoattack_package": "AA",
    WORST: "Worst case",
}
LESS = Claim("Accuracy less that of another training", "points", digits=2, higher=True)
#: Suffix of the name of a training that IRAT's margin reweighting was added to.
ADDED = " + reweighting"
ACCURACY = at("accuracy")
#: `Training.best` without an attack.
AURC = "the lowest AURC"


def columns(result: dict[str, Any]) -> list[str]:
    """Every column of the main tables, by its name in the rows."""
    return [CLEAN, *result["attacks"], WORST]


def label(name: str, result: dict[str, Any]) -> str:
    """The printed name of an attack."""
    return LABELS.get(name, name).format(steps=result["options"]["steps"])


def radius(eps: float) -> str:
    """A radius in a table: in 255ths if that is a small whole number.

    Example:
        >>> radius(8 / 255), radius(0.03), radius(0.0)
        ('8/255', '0.03', '0')
    """
    steps = round(255 * eps)
    whole = 0 < steps <= 32 and abs(255 * eps - steps) < 1e-9
    return f"{steps}/255" if whole else f"{eps:g}"


def heading(name: str, result: dict[str, Any]) -> str:
    """The heading of an attack's column: a name such as PGD-100 breaks if it is too wide."""
    return label(name, result).replace(" ", "\n")


def where(name: str, result: dict[str, Any]) -> dict[str, Any]:
    """The values that the rows of a column have."""
    return {"attack": name, "eps": 0.0 if name == CLEAN else result["options"]["eps"]}


def under(result: dict[str, Any], rows: Sequence[Row], name: str) -> list[Row]:
    """Those of the rows that are of a column."""
    return of(rows, **where(name, result))


def curve_radii(result: dict[str, Any]) -> list[float]:
    """The radii of PGD; none if the only one already has its own column."""
    radii = sorted(values(of(result["runs"], attack="pgd"), "eps"))
    alone = [result["options"]["eps"]] if "pgd" in result["attacks"] else []
    return radii if set(radii) - set(alone) else []


def blocks(result: dict[str, Any]) -> Iterator[Block]:
    """Every table for which there are rows."""
    rows = [row | {"intervals": {"accuracy": row["interval"]}} for row in result["runs"]]
    eps, there = radius(result["options"]["eps"]), by_weights(rows)
    by_attack = [
        # A second digit is far inside an interval, and seven columns fill a terminal.
        Column(heading(name, result), "accuracy", 100.0, 2, True, where(name, result), False, 1)
        for name in columns(result)
    ]
    for whose, own in there.items():
        title = f"Accuracy under attack %, eps = {eps}, {whose}"
        yield Table(title, {"training": "training"}, by_attack).block(own)
    for whose, own in there.items():
        if found := differences(result, own):
            title = f"{LESS.sentence}, {LESS.unit}, {whose}"
            yield difference_block(title, ["training", "less"], found)
    if radii := curve_radii(result):
        by_radius = [Column(radius(eps), "accuracy", where={"eps": eps}) for eps in radii]
        for whose, own in there.items():
            title = f"Accuracy under {label('pgd', result)} %, by eps, {whose}"
            yield Table(title, {"training": "training"}, by_radius).block(of(own, attack="pgd"))


def differences(result: dict[str, Any], rows: Sequence[Row]) -> list[Comparison]:
    """One training minus another with the same seeds, under every attack; `group` names the other.

    Every training minus the baseline; a training with IRAT's margin minus the same without it (the
    arrows of IRAT's Tables 1 and 2); a training with the printed signs minus the same with ours.
    The rows are those of one checkpoint.
    """
    by = grouped(rows, "training")
    pairs = [(t, result["baseline"]) for (t,) in by if t != result["baseline"]]
    for end in (ADDED, PRINTED):
        pairs += [(t, t.removesuffix(end)) for (t,) in by if t.endswith(end)]
    found: list[Comparison] = []
    for pair, name in itertools.product(dict.fromkeys(pairs), columns(result)):
        ours, theirs = (under(result, by.get((t,), []), name) for t in pair)
        found += compared(LESS, pair, heading(name, result), (ours, theirs), ACCURACY, group=name)
    return found


def conventions(result: dict[str, Any]) -> list[str]:
    """What a reader needs to know to read the tables."""
    rows = result["runs"]
    what = (
        f"{', '.join(result['data'])}: the share of {either(rows, 'images')} test images that are "
        "classified correctly before and after the attack, in per cent, higher is better; the "
        "worst case: after every attack of the table."
    )
    again = "test sets drawn again from this one"
    seeds = seeds_said(rows, result["options"]["draws"], again)
    lines = [what, *fewer_images(result), *seeds]
    if any(differences(result, own) for own in by_weights(rows).values()):
        lines.append(
            f"Differences: mean ± standard error over seeds. ✓ above and ✗ below: {RULE}, always "
            "for a single training seed."
        )
    if "autoattack" in result["attacks"]:
        lines.append(
            "AA (ours) is rrfast's own implementation of the attacks of AutoAttack, and not the "
            "published package."
        )
    if "autoattack_package" in result["attacks"]:
        lines.append("AA is the standard version of the published package autoattack.")
    if left_out := [row for row in rows if row.get("left_out")]:
        lines.append(
            "Not among the test images of the best checkpoint: "
            f"{either(left_out, 'left_out')} of the test set that it was chosen on. The last one "
            "is tested on images of all of it."
        )
    return lines + _chosen(result)


def _chosen(result: dict[str, Any]) -> list[str]:
    """The criterion of the best checkpoints, by training if it differs."""
    by: dict[str, dict[str, None]] = {}
    for row in of(result["runs"], checkpoint="best"):
        # A result without the criterion is older than the second one.
        by.setdefault(row.get("best") or AURC, {})[row["training"]] = None
    lines = []
    for best, whose in by.items():
        which = f" of {', '.join(whose)}" if len(by) > 1 else ""
        line = f"The best checkpoint{which} is best.pt, with {best} on the validation split"
        line += "; the paper's is the most accurate there under PGD-20" * (best == AURC)
        lines.append(f"{line}.")
    return lines


def notes(result: dict[str, Any]) -> list[str]:
    """Sentences on what the numbers show."""
    return [
        sentence
        for of_one in (_side_by_side, _overestimated, _together, _doubted, _masked)
        for whose, rows in by_weights(result["runs"]).items()
        for sentence in of_one(result, whose, rows)
    ]


def _side_by_side(result: dict[str, Any], whose: str, rows: Sequence[Row]) -> Iterator[str]:
    """Which trainings differ from the baseline under PGD, under AutoAttack, and in the worst case.

    IRAT's Table 1: reweighting raises MAIL's accuracy under PGD and lowers it under AutoAttack.
    """
    shown = (CLEAN, "pgd", "autoattack", "autoattack_package", WORST)
    found = differences(result, rows)
    for name, other in itertools.product(shown, dict.fromkeys(one.row[1] for one in found)):
        own = [one for one in found if (one.group, one.row[1]) == (name, other)]
        told = {
            word: ", ".join(one.row[0] for one in own if one.confirmed == verdict)
            for verdict, word in ((1, "above"), (-1, "below"), (0, "undecided"))
        }
        if own:
            parts = "; ".join(f"{word} {names}" for word, names in told.items() if names)
            yield f"{label(name, result)}, {whose}, against {other}: {parts}."


def _means(result: dict[str, Any], rows: Sequence[Row], name: str) -> dict[str, float]:
    """The accuracy of every training in a column."""
    groups = grouped(under(result, rows, name), "training")
    return {training: spread(own, ACCURACY).mean for (training,), own in groups.items()}


def _overestimated(result: dict[str, Any], whose: str, rows: Sequence[Row]) -> Iterator[str]:
    """By how much PGD alone overestimates the accuracy."""
    if "pgd" in result["attacks"] and len(result["attacks"]) > 1:
        worst = _means(result, rows, WORST)
        listed = ", ".join(
            f"{training} {number(mean - worst[training], 100.0, 2)}"
            for training, mean in _means(result, rows, "pgd").items()
        )
        yield (
            f"Images that withstand {label('pgd', result)} but not another attack, in points "
            f"({whose}): {listed}."
        )


def _together(result: dict[str, Any], whose: str, rows: Sequence[Row]) -> Iterator[str]:
    """The correlation of IRAT's similarity c with the incorrect rate."""
    clean = [row for row in under(result, rows, CLEAN) if "r" in row]
    said = [
        f"{training} {' and '.join(map(_between, zip(*(row['r'] for row in own), strict=True)))}"
        for (training,), own in grouped(clean, "training").items()
    ]
    if said:
        yield (
            f"r of 1 − p_y and IRAT's similarity c ({whose}; Eq. 23, 0.98 in the paper), before "
            f"and after PGD-10: {'; '.join(said)}."
        )


def _between(values: Sequence[float | None]) -> str:
    """From the smallest to the largest over seeds; None is undefined."""
    texts = [f"{r:.3f}" for r in sorted(r for r in values if r is not None)]
    return " to ".join(dict.fromkeys(texts[:1] + texts[-1:])) or "undefined"


def _doubted(_: dict[str, Any], whose: str, rows: Sequence[Row]) -> Iterator[str]:
    """Reasons to doubt the attacks."""
    for row in of(rows, attack=CLEAN):
        for sentence in row["doubts"]:
            yield f"Warning: {row['training']}, seed {row['seed']}, {whose}: {sentence}"


def _masked(result: dict[str, Any], whose: str, rows: Sequence[Row]) -> Iterator[str]:
    """A sign of masked gradients: one step that beats many."""
    many = _means(result, rows, "pgd")
    for training, one in _means(result, rows, "fgsm").items():
        if one < many.get(training, math.nan):
            yield (
                f"Warning: {training}, {whose}, is less accurate under FGSM than under "
                f"{label('pgd', result)}: its gradients may be masked, and attacks by them may "
                "prove nothing."
            )
