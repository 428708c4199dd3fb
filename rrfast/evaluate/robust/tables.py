"""The tables of an evaluation under attack: IRAT's Tables 1 and 5, and what tells trainings apart.

Trainings with another tau, or without the similarity, give IRAT's Tables 3, 4, 7 and 8.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from rrfast._tables import Block, number
from rrfast.evaluate.cell import cell, difference, leading
from rrfast.evaluate.drawing import trainings, weights
from rrfast.evaluate.summary import Paired, Row, at, fewer, of, paired, runs_of, spread
from rrfast.objectives.variant_names import PRINTED

#: What stands in the place of an attack: none, and all of them.
CLEAN, WORST = "clean", "worst"
#: As printed; an attack that is not here is printed by its name.
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
MARKS = "✗·✓"
#: What the name of a training ends with that IRAT's margin reweighting was added to.
ADDED = " + reweighting"
ACCURACY = at("accuracy")
#: `Training.best` without an attack.
AURC = "the lowest AURC"


def columns(result: dict[str, Any]) -> list[str]:
    """Every column of the main tables, as the rows call it."""
    return [CLEAN, *result["attacks"], WORST]


def label(name: str, result: dict[str, Any]) -> str:
    """An attack as it is printed."""
    return LABELS.get(name, name).format(steps=result["options"]["steps"])


def radius(eps: float) -> str:
    """As a table has it: in 255ths where it is a small number of them.

    Example:
        >>> radius(8 / 255), radius(0.03), radius(0.0)
        ('8/255', '0.03', '0')
    """
    steps = round(255 * eps)
    whole = 0 < steps <= 32 and abs(255 * eps - steps) < 1e-9
    return f"{steps}/255" if whole else f"{eps:g}"


def checkpoints(result: dict[str, Any]) -> list[str]:
    """Those that there are, in their order."""
    return list(dict.fromkeys(row["checkpoint"] for row in result["runs"]))


def under(result: dict[str, Any], checkpoint: str, name: str) -> list[Row]:
    """The rows of a column."""
    eps = 0.0 if name == CLEAN else result["options"]["eps"]
    return of(result["runs"], checkpoint=checkpoint, attack=name, eps=eps)


def blocks(result: dict[str, Any]) -> Iterator[Block]:
    """Every table that there are rows for."""
    names, eps = columns(result), radius(result["options"]["eps"])
    # PGD-100 and the like break where the table would be too wide.
    head = ["training", *(label(name, result).replace(" ", "\n") for name in names)]
    for checkpoint in checkpoints(result):
        order = trainings(of(result["runs"], checkpoint=checkpoint))
        cells, best = [[training] for training in order], set()
        for j, name in enumerate(names, 1):
            own = [of(under(result, checkpoint, name), training=t) for t in order]
            for line, rows in zip(cells, own, strict=True):
                interval = rows[0]["interval"] if len(rows) == 1 else []
                # A second digit is far within an interval, and seven columns fill a terminal.
                digits = 1 if interval else 2
                line.append(cell(rows, ACCURACY, digits=digits, interval=interval))
            means = [spread(rows, ACCURACY).mean for rows in own]
            best |= {(i, j) for i in leading(means)}
        title = f"Accuracy under attack %, eps = {eps}, {weights(checkpoint)}"
        yield Block(title, head, cells, 1, frozenset(best))
    for checkpoint in checkpoints(result):
        yield from _differences(result, checkpoint, head)
    yield from _curve(result)


def _differences(result: dict[str, Any], checkpoint: str, head: list[str]) -> Iterator[Block]:
    found = compared(result, checkpoint)
    cells = [
        [*pair, *(difference(found[(*pair, name)], MARKS) for name in columns(result))]
        for pair in dict.fromkeys((ours, theirs) for ours, theirs, _ in found)
    ]
    if cells:
        title = f"Accuracy less that of another training, points, {weights(checkpoint)}"
        yield Block(title, [head[0], "less", *head[1:]], cells, 2)


def compared(result: dict[str, Any], checkpoint: str) -> dict[tuple[str, str, str], Paired]:
    """One training less another with the same seeds, by both and the attack.

    Every training less the baseline, and one that IRAT's margin was added to less what it was added
    to: the arrows of IRAT's Tables 1 and 2. One with the printed signs less the same with ours.
    """
    order, found = trainings(of(result["runs"], checkpoint=checkpoint)), {}
    pairs = [(t, result["baseline"]) for t in order]
    for end in (ADDED, PRINTED):
        pairs += [(t, t.removesuffix(end)) for t in order if t.endswith(end)]
    for ours, theirs in dict.fromkeys(pairs):
        for name in columns(result):
            rows = under(result, checkpoint, name)
            one, other = of(rows, training=ours), of(rows, training=theirs)
            if ours != theirs and one and runs_of(one) == runs_of(other):
                found[ours, theirs, name] = paired(one, other, ACCURACY)
    return found


def _curve(result: dict[str, Any]) -> Iterator[Block]:
    for checkpoint in checkpoints(result):
        rows = of(result["runs"], checkpoint=checkpoint, attack="pgd")
        radii = sorted({row["eps"] for row in rows})
        # One that is a column of its own needs no other table.
        if set(radii) - ({result["options"]["eps"]} if "pgd" in result["attacks"] else set()):
            cells = [
                [t, *(cell(of(rows, training=t, eps=eps), ACCURACY) for eps in radii)]
                for t in trainings(rows)
            ]
            title = f"Accuracy under {label('pgd', result)} %, by eps, {weights(checkpoint)}"
            yield Block(title, ["training", *map(radius, radii)], cells, 1)


def conventions(result: dict[str, Any]) -> list[str]:
    """What has to be known to read the tables."""
    rows = result["runs"]
    images = " or ".join(str(n) for n in sorted({row["images"] for row in rows}))
    what = (
        f"{', '.join(result['data'])}: the share of {images} test images that are right as they "
        "are and after the attack, in per cent, higher is better; the worst case: after every "
        "attack of the table."
    )
    lines = [what, *fewer(result), *_runs(result)]
    if any(compared(result, checkpoint) for checkpoint in checkpoints(result)):
        lines.append(
            "Differences: mean ± standard error over seeds. ✓ above and ✗ below: 0 is outside the "
            "95 % interval of Student's t, as it is in one of twenty comparisons without a "
            "difference; · undecided, as a single training seed always is."
        )
    if "autoattack" in result["attacks"]:
        lines.append(
            "AA (ours) is rrfast's own implementation of the attacks of AutoAttack, and not the "
            "published package."
        )
    if "autoattack_package" in result["attacks"]:
        lines.append("AA is the standard version of the published package autoattack.")
    left_out = sorted({row["left_out"] for row in rows if row.get("left_out")})
    if left_out:
        lines.append(
            f"Not among the test images of the best checkpoint: {' or '.join(map(str, left_out))} "
            "of the test set that it was chosen on. The last one is tested on images of all of it."
        )
    return lines + _chosen(result)


def _chosen(result: dict[str, Any]) -> list[str]:
    """What the best checkpoints have, and which training's they are where they differ in that."""
    by: dict[str, dict[str, None]] = {}
    for row in of(result["runs"], checkpoint="best"):
        # A result without it is older than the other criterion.
        by.setdefault(row.get("best") or AURC, {})[row["training"]] = None
    lines = []
    for best, whose in by.items():
        which = f" of {', '.join(whose)}" if len(by) > 1 else ""
        line = f"The best checkpoint{which} is best.pt, with {best} on the validation split"
        line += "; the paper's is the most accurate there under PGD-20" * (best == AURC)
        lines.append(f"{line}.")
    return lines


def notes(result: dict[str, Any]) -> list[str]:
    """What the numbers say."""
    return [
        *_side_by_side(result),
        *_overestimated(result),
        *_together(result),
        *_masked(result),
    ]


def _runs(result: dict[str, Any]) -> Iterator[str]:
    pairs = {(row["training"], row["seed"]) for row in result["runs"]}
    seeds = sorted(set(Counter(training for training, _ in pairs).values()))
    if seeds[-1] > 1:
        counts = " or ".join(str(n) for n in seeds if n > 1)
        yield f"Mean ± standard deviation over {counts} training seeds."
    if seeds[0] == 1 and result["options"]["draws"]:
        yield (
            "Of a training with one seed: in brackets the 95 % interval over "
            f"{result['options']['draws']} test sets drawn again from this one."
        )


def _side_by_side(result: dict[str, Any]) -> Iterator[str]:
    """Which trainings differ from the baseline under PGD, under AutoAttack, and in the worst case.

    IRAT's Table 1: what raises MAIL under PGD lowers it under AutoAttack.
    """
    names = [
        n for n in (CLEAN, "pgd", "autoattack", "autoattack_package", WORST) if n in columns(result)
    ]
    said = []
    for checkpoint in checkpoints(result):
        found = compared(result, checkpoint)
        for name, other in itertools.product(names, dict.fromkeys(pair[1] for pair in found)):
            own = {pair[0]: found[pair] for pair in found if pair[1:] == (other, name)}
            parts = []
            for verdict, word in ((1, "above"), (-1, "below"), (0, "undecided")):
                listed = ", ".join(t for t, d in own.items() if d.verdict == verdict)
                parts += [f"{word} {listed}"] * bool(listed)
            said.append(
                f"{label(name, result)}, {weights(checkpoint)}, against {other}: "
                f"{'; '.join(parts)}."
            )
    yield from said


def _overestimated(result: dict[str, Any]) -> Iterator[str]:
    """What PGD alone would report too much."""
    if "pgd" not in result["attacks"] or len(result["attacks"]) < 2:
        return
    for checkpoint in checkpoints(result):
        pgd, worst = (under(result, checkpoint, name) for name in ("pgd", WORST))
        more = {
            t: spread(of(pgd, training=t), ACCURACY).mean
            - spread(of(worst, training=t), ACCURACY).mean
            for t in trainings(pgd)
        }
        listed = ", ".join(f"{t} {number(value, 100.0, 2)}" for t, value in more.items())
        yield (
            f"So many points of all images stand {label('pgd', result)} and not another attack "
            f"({weights(checkpoint)}): {listed}."
        )


def _together(result: dict[str, Any]) -> Iterator[str]:
    """How IRAT's similarity c goes with the incorrect rate."""
    for checkpoint in checkpoints(result):
        rows = [row for row in under(result, checkpoint, CLEAN) if "r" in row]
        said = []
        for training in trainings(rows):
            pairs = zip(*(row["r"] for row in of(rows, training=training)), strict=True)
            said.append(f"{training} {' and '.join(map(_between, pairs))}")
        if said:
            yield (
                f"r of 1 − p_y and IRAT's similarity c ({weights(checkpoint)}; Eq. 23, 0.98 in the "
                f"paper), of the images as they are and after PGD-10: {'; '.join(said)}."
            )


def _between(values: Sequence[float | None]) -> str:
    """From the least to the largest over seeds; None is undefined."""
    texts = [f"{r:.3f}" for r in sorted(r for r in values if r is not None)]
    return " to ".join(dict.fromkeys(texts[:1] + texts[-1:])) or "undefined"


def _masked(result: dict[str, Any]) -> Iterator[str]:
    """Signs of gradients that lead nowhere: one step that beats many, and those of `sanity`."""
    for row in of(result["runs"], attack=CLEAN):
        for sentence in row["doubts"]:
            yield (
                f"Warning: {row['training']}, seed {row['seed']}, {weights(row['checkpoint'])}: "
                f"{sentence}"
            )
    for checkpoint in checkpoints(result):
        single, many = (under(result, checkpoint, name) for name in ("fgsm", "pgd"))
        for training in trainings(single):
            one, all_of = (
                spread(of(rows, training=training), ACCURACY).mean for rows in (single, many)
            )
            if not math.isnan(all_of) and one < all_of:
                yield (
                    f"Warning: {training}, {weights(checkpoint)}, is less accurate under FGSM "
                    f"than under {label('pgd', result)}: its gradients may lead nowhere, and "
                    "attacks by them may prove nothing."
                )
