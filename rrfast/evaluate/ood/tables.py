"""Tables of an evaluation: ODIN's Tables 2 and 3, ACET's Table 1, and the hyper-parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from rrfast._tables import Block, settings
from rrfast.evaluate.claims import TRAINED, Claim, Line, claim_blocks, notes_of, trained, verdicts
from rrfast.evaluate.observations import Row, at, either, grouped, of, seeds_said, spread, values
from rrfast.evaluate.ood.claims import LEGEND, comparisons
from rrfast.evaluate.ood.curves import with_not_resisted
from rrfast.evaluate.ood.diagnostics import NEAREST
from rrfast.evaluate.ood.effects import FIXED, HOT, at_steps, fpr_at
from rrfast.evaluate.ood.measurements import LEAST
from rrfast.evaluate.ood.scaling import SURE, SURE_IN_BOX
from rrfast.evaluate.ood.sets import OUTSIDE
from rrfast.evaluate.tables import Column, Table, What, Words
from rrfast.scores.score import Point

COLUMNS = {
    name: Column(heading, name, 100.0, 1, higher)
    for name, heading, higher in (
        ("fpr", "FPR95\n%", False),
        ("detection_error", "detection\nerror %", False),
        ("least_error", "least\nerror %", False),
        ("auroc", "AUROC\n%", True),
        ("aupr_in", "AUPR\nin %", True),
        ("aupr_out", "AUPR\nout %", True),
    )
}
CONVENTION = (
    "Test images are the positive class: FPR95 is the share of a set that is accepted at the first "
    "threshold that accepts 95 % of the test images, detection error the mean of that share and "
    "the share of test images rejected there (ODIN §4.3), least error the lowest such mean over "
    "all thresholds (ODIN's released code, and most of its Table 2: errata 30); AUPR are "
    "average precisions, of the test images (in) and of the set (out). MMC: mean of the largest "
    "softmax probability at T = 1. AUROC and AUPR: higher is better; FPR95, both errors, and the "
    "MMC of a set: lower."
)


#: Headings of keys.
AGAINST, TRAINING, SCORE = {"set": "against"}, {"training": "training"}, {"score": "score"}


def blocks(result: dict[str, Any]) -> Iterator[Block]:
    """Every table for which there are rows."""
    kinds = {kind: own for (kind,), own in grouped(result["runs"], "kind").items()}
    scored, sets = kinds.get("score", []), kinds.get("set", [])
    if {"msr", "odin"} <= set(result["scores"]):
        pairs = [Words(c.heading, partial(_msr_and_odin, c)) for c in COLUMNS.values()]
        yield Table("As ODIN's Table 2: MSR / ODIN", TRAINING | AGAINST, pairs).block(scored)
    for (training,), own in grouped(kinds.get("effect", []), "training").items():
        if steps := [found for row in own if "hot" in row for found in at_steps(row)]:
            title = f"As ODIN's Table 2 with T = {HOT:g}, ODIN: {training}"
            yield Table(title, AGAINST | {"eps": "ε"}, [*COLUMNS.values()]).block(steps)
    for (training,), own in grouped(scored, "training").items():
        title = f"Every score, the best of each set bold: {training}"
        yield Table(title, AGAINST | SCORE, [*COLUMNS.values()], within=1).block(own)
    # The test images are not separated from anything, and the other sets have no labels.
    alone = dict.fromkeys(("auroc", "fpr"))
    both = [
        row | (alone if row["set"] == "inside" else {"error": None})
        for row in with_not_resisted(sets)
    ]
    title = "As ACET's Table 1: MSR of every training"
    yield Table(title, {"set": "images"} | TRAINING, AS_ACET).block(both)
    if "scaling" in kinds:
        title = "As ACET's Table 2: uniform noise scaled up"
        yield Table(title, TRAINING, SCALED).block(kinds["scaling"])
    names = (result["validation"], *result["against"])
    tuned_on = (_mean(f"tuned on\n{n}", "fpr", tuned=n) for n in names)
    for kind, title, columns in (
        ("transfer", "As ODIN's Table 3, FPR95 % of ODIN", [_mean("MSR", "baseline"), *tuned_on]),
        ("effect", "As ODIN's Fig. 3 and 4, FPR95 % of ODIN at fixed points", EFFECTS),
    ):
        for (training,), own in grouped(kinds.get(kind, []), "training").items():
            yield Table(f"{title}: {training}", AGAINST, columns).block(own)
    if tuned := [row for row in kinds["inside"] if row["hyperparameters"]]:
        yield Table("Hyper-parameters", TRAINING | SCORE, CHOSEN, words=1).block(tuned)
    if away := [row for row in sets if "distances" in row]:
        yield Table("How far the sets are", AGAINST | TRAINING, DISTANCES).block(away)
    yield from _trained(scored)
    yield from claim_blocks(comparisons(result))


def _mean(heading: str, what: What, **where: Any) -> Column:
    """A share in per cent, without a deviation."""
    return Column(heading, what, 100.0, 1, where=where, mean=True)


def _msr_and_odin(column: Column, rows: Sequence[Row]) -> str:
    scores = ({"score": score} for score in ("msr", "odin"))
    return " / ".join(column._replace(where=s, mean=True).cell(rows) for s in scores)


def _alphas(rows: Sequence[Row]) -> str:
    return ", ".join("∞" if row["alpha"] is None else f"{row['alpha']:.3g}" for row in rows)


def _points(rows: Sequence[Row]) -> str:
    points = Counter(settings(row["hyperparameters"]) for row in rows)
    return "; ".join(f"{p} ({n})" if len(rows) > 1 else p for p, n in points.most_common())


def _passes(key: str, rows: Sequence[Row]) -> str:
    return f"{spread(rows, at(key)).mean:.4g}"


def _fpr_at(point: Point, row: Row) -> float | None:
    return fpr_at(row["table"], point)


AS_ACET = (
    Column("test error\n%", "error"),
    *(Column(head, head.lower(), 1.0, 3) for head in ("MMC", "highest", "AUROC")),
    Column("FPR95", "fpr", 1.0, 3),
)
SCALED = (
    # Seed by seed: a mean is meaningless for factors that differ by orders of magnitude.
    Words("median α (each seed)", _alphas),
    Column("over-confident\nin [0, 1] %", "overconfident", 100.0, 1),
    Column("over-confident\nat its own α %", "overconfident_at_alpha", 100.0, 1),
)
#: ODIN at fixed points, and at T = 1000 with the tuned step.
EFFECTS = [
    *(_mean(f"T = {p['temperature']:g}\nε = {p['eps']:g}", partial(_fpr_at, p)) for p in FIXED),
    _mean(f"T = {HOT:g}\nε tuned", lambda row: _fpr_at(row["step"], row)),
]
#: The hyper-parameters of the scores that have any.
CHOSEN = (
    Words("chosen (seeds)", _points),
    Column("FPR95 % there", "validation_fpr", 100.0, 1),
    Words("F", partial(_passes, "forwards")),
    Words("B", partial(_passes, "backwards")),
)
DISTANCES = (
    Column("MMD²", ("distances", "mmd"), 1.0, 3),
    Column("energy\ndistance²", ("distances", "energy"), 1.0, 3),
)


def _trained(rows: Sequence[Row]) -> Iterator[Block]:
    """Comparison of trainings, set by set and score by score."""
    each = grouped(rows, "set", "score").items()
    for metric in ("fpr", "auroc"):
        column = COLUMNS[metric]
        claim = Claim(metric, "points", higher=bool(column.higher))
        lines = [Line(words, own, at(metric), claim) for words, own in each]
        yield from trained(
            f"{' '.join(column.heading.split())}, points", ["against", "score"], lines
        )


def conventions(result: dict[str, Any]) -> list[str]:
    """What a reader needs to know to read the tables."""
    rows, options = result["runs"], result["options"]
    inside = of(rows, kind="inside")
    again = "test sets drawn again from this one"
    lines = [CONVENTION, *seeds_said(inside, options["draws"], again)]
    images = either(inside, "images")
    tuned = any(row["hyperparameters"] for row in inside)
    by = f"; hyper-parameters by FPR95 of the validation split against {result['validation']}"
    lines.append(
        f"{', '.join(result['data'])}: {images} test images, and as many of each set{by * tuned}."
    )
    lines += _held_out(inside)
    fewest = min(row["images"] for row in inside)
    fewer = {
        row["set"]: n
        for row in of(rows, kind="set")
        if row["set"] != "inside" and (n := row["images"]) < fewest
    }
    if fewer:
        listed = ", ".join(f"{name} {n}" for name, n in fewer.items())
        lines.append(f"Fewer images, all that there are: {listed}.")
    sets = [*([result["validation"]] if tuned else []), *result["against"]]
    kinds = (name.partition(":")[::2] for name in sets)
    said = (f"{kind}{f' of {what}' * bool(what)}, {OUTSIDE[kind].said}" for kind, what in kinds)
    lines.append(f"Sets: {'; '.join(said)}.")
    lines += _of_acet(rows)
    if options["diagnostics"]:
        lines.append(
            f"MMD and energy distance: from at most {NEAREST} images of each set, unbiased."
        )
    if any(True for _ in comparisons(result)):
        lines.append(LEGEND)
    if len(values(rows, "training")) > 1:
        lines.append(TRAINED)
    return lines


def _held_out(inside: Sequence[Row]) -> Iterator[str]:
    """Test images used for tuning or for choosing weights, if the test set was divided."""
    both = [row for row in inside if row.get("shared")]
    if both:
        tuned = list(dict.fromkeys(row["score"] for row in both if row["hyperparameters"]))
        chosen = (
            f"on which {', '.join(tuned)} {'was' if len(tuned) == 1 else 'were'} tuned"
            if tuned
            else "on which none of these scores was tuned"
        )
        yield (
            f"All test images are used, as in the papers. {either(both, 'shared')} of them are "
            f"also the validation split, {chosen}; --images N leaves them out."
        )
        if any(row.get("checkpoint") != "given" for row in both):
            yield "Last weights were not chosen on any test image."
        given = dict.fromkeys(row["training"] for row in both if row.get("checkpoint") == "given")
        if given:
            yield f"It is unknown on which images the weights of {', '.join(given)} were chosen."
    best = [row for row in inside if row.get("left_out")]
    if best:
        yield (
            f"Not among the test images of best weights: {either(best, 'left_out')} of the test "
            "set that these were chosen on."
        )


def _of_acet(rows: Sequence[Row]) -> list[str]:
    """What a reader needs to know about scaled noise and attacked images."""
    lines = []
    scaling = of(rows, kind="scaling")
    if scaling:
        trials = sorted({row["trials"] for row in scaling if "trials" in row})
        counted = f" ({' or '.join(f'{n:,}' for n in trials)} images)" if trials else ""
        lines.append(
            f"α: the least factor found by a root search at which uniform noise{counted} has a "
            f"confidence of {SURE:.1%}; over-confident: the share that some factor brings to "
            f"{SURE_IN_BOX:.0%} when it is clipped to [0, 1], and beside it the share that "
            "reaches it at the image's own α."
        )
    attacked = [row for row in of(rows, kind="set") if "not_resisted" in row]
    if attacked:
        lines.append(
            "Not resisted: only attacked test images on which the model is wrong, or right with a "
            f"confidence below {LEAST} / classes. These are the Adv. Samples of ACET's Table 1, by "
            "its released code; the others here are all attacked images."
        )
    return lines


def notes(result: dict[str, Any]) -> list[str]:
    """Missing numbers, and whether the papers' claims are confirmed."""
    rows = result["runs"]
    undefined = (
        f"{row.get('score', 'the confidence')} ({row['training']}) on {row['set']}"
        for row in rows
        if row.get("nan")
    )
    heading = "Claims of ODIN §4, §5 and App. F, and of ACET's Table 1:"
    seen = ", ".join(sorted({row["training"] for row in rows if row["outliers"] != 0}))
    more = [f"The training of {seen} used images without a class."] if seen else []
    return notes_of(undefined, heading, verdicts(comparisons(result)), *more)
