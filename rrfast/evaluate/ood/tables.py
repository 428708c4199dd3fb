"""The tables of an evaluation: ODIN's Tables 2 and 3, ACET's Table 1, and what was chosen."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from rrfast._tables import Block, number, settings
from rrfast.evaluate.cell import leading
from rrfast.evaluate.ood.claims import LEGEND, claim_blocks, sentences
from rrfast.evaluate.ood.diagnosis import NEAREST
from rrfast.evaluate.ood.effects import FIXED, HOT, fpr_at
from rrfast.evaluate.ood.outside import OUTSIDE
from rrfast.evaluate.ood.resisted import LEAST, with_not_resisted
from rrfast.evaluate.ood.scaled_noise import SURE, SURE_IN_BOX
from rrfast.evaluate.summary import Row, Value, at, of, spread
from rrfast.evaluate.trained import LEGEND as TRAINED
from rrfast.evaluate.trained import Line, trained
from rrfast.scores.score import Point

#: Metric: as printed, factor, digits, whether higher is better.
COLUMNS = {
    "fpr": ("FPR95\n%", 100.0, 1, False),
    "detection_error": ("detection\nerror %", 100.0, 1, False),
    "least_error": ("least\nerror %", 100.0, 1, False),
    "auroc": ("AUROC\n%", 100.0, 1, True),
    "aupr_in": ("AUPR\nin %", 100.0, 1, True),
    "aupr_out": ("AUPR\nout %", 100.0, 1, True),
}


CONVENTION = (
    "What is inside is the positive class: FPR95 is the share of a set that is accepted at the "
    "first threshold that accepts 95 % of the test images, detection error the mean of that share "
    "and of that of the test images rejected there (ODIN §4.3), least error the lowest such mean "
    "of all thresholds (ODIN's released code, and most of its Table 2: errata 30); AUPR are "
    "average precisions, of the test images (in) and of the set (out). MMC: mean of the largest "
    "softmax probability at T = 1. AUROC and AUPR: higher is better; FPR95, both errors, and the "
    "MMC of a set: lower."
)


def blocks(result: dict[str, Any]) -> Iterator[Block]:
    """Every table that there are rows for."""
    rows = result["runs"]
    trainings = list(dict.fromkeys(row["training"] for row in rows))
    scored = of(rows, kind="score")
    if {"msr", "odin"} <= set(result["scores"]):
        yield _as_odin(scored, trainings)
    for training in trainings:
        yield _every_score(of(scored, training=training), training)
    yield _as_acet(list(with_not_resisted(of(rows, kind="set"))), trainings)
    scaling = of(rows, kind="scaling")
    if scaling:
        yield _scaling(scaling)
    for training in trainings:
        transfer = of(rows, kind="transfer", training=training)
        if transfer:
            yield _transfer(transfer, training, [result["validation"], *result["against"]])
    for training in trainings:
        effect = of(rows, kind="effect", training=training)
        if effect:
            yield _effects(effect, training)
    yield from _chosen(of(rows, kind="inside"))
    away = [row for row in of(rows, kind="set") if "distances" in row]
    if away:
        yield _distances(away)
    yield from _trained(scored)
    yield from claim_blocks(result)


def _as_odin(rows: list[Row], trainings: Sequence[str]) -> Block:
    cells = []
    for training in trainings:
        for name in _values(rows, "set"):
            own = of(rows, training=training, set=name)
            both = [of(own, score=score) for score in ("msr", "odin")]
            pairs = (
                " / ".join(_mean(part, _measured(metric), factor, digits) for part in both)
                for metric, (_, factor, digits, _) in COLUMNS.items()
            )
            cells.append([training, name, *pairs])
    head = ["training", "against", *(head for head, *_ in COLUMNS.values())]
    return Block("As ODIN's Table 2: MSR / ODIN", head, cells, 2)


def _every_score(rows: list[Row], training: str) -> Block:
    """Sets by score; the best of each set bold."""
    cells: list[list[str]] = []
    best: set[tuple[int, int]] = set()
    for name in _values(rows, "set"):
        own = of(rows, set=name)
        scores = _values(own, "score")
        for j, (metric, (_, _, _, higher)) in enumerate(COLUMNS.items(), 2):
            means = [spread(of(own, score=score), _measured(metric)).mean for score in scores]
            best |= {(len(cells) + i, j) for i in leading(means, lowest=not higher)}
        cells += [[name, score, *_cells(of(own, score=score))] for score in scores]
    head = ["against", "score", *(head for head, *_ in COLUMNS.values())]
    return Block(
        f"Every score, the best of each set bold: {training}", head, cells, 2, frozenset(best)
    )


def _as_acet(rows: list[Row], trainings: Sequence[str]) -> Block:
    cells = []
    for name in _values(rows, "set"):
        for training in trainings:
            own = of(rows, training=training, set=name)
            rest = (
                ["–", "–"]
                if name == "inside"
                else [_cell(own, at(metric), 1.0, 3) for metric in ("auroc", "fpr")]
            )
            error = _cell(own, at("error"), 100.0, 2) if name == "inside" else "–"
            highest = _cell(own, at("highest"), 1.0, 3) if _have("highest", own) else "–"
            mmc = _cell(own, at("mmc"), 1.0, 3)
            cells.append([name, training, error, mmc, highest, *rest])
    head = ["images", "training", "test error\n%", "MMC", "highest", "AUROC", "FPR95"]
    return Block("As ACET's Table 1: MSR of every training", head, cells, 2)


def _scaling(rows: list[Row]) -> Block:
    """Seed by seed: factors that differ by orders of magnitude have no mean."""
    cells = []
    for training in _values(rows, "training"):
        own = of(rows, training=training)
        alphas = ", ".join("∞" if row["alpha"] is None else f"{row['alpha']:.3g}" for row in own)
        shares = [
            _cell(own, at(key), 100.0, 1) if _have(key, own) else "–"
            for key in ("overconfident", "overconfident_at_alpha")
        ]
        cells.append([training, alphas, *shares])
    head = [
        "training",
        "median α (each seed)",
        "over-confident\nin [0, 1] %",
        "so at its own\nα of row 1 %",
    ]
    return Block("As ACET's Table 2: uniform noise scaled up", head, cells, 1)


def _transfer(rows: list[Row], training: str, columns: Sequence[str]) -> Block:
    cells = []
    for name in _values(rows, "set"):
        own = of(rows, set=name)
        baseline = _mean(own, at("baseline"), 100.0, 1)
        found = [_mean(of(own, tuned=column), at("fpr"), 100.0, 1) for column in columns]
        cells.append([name, baseline, *found])
    head = ["against", "MSR", *(f"tuned on\n{column}" for column in columns)]
    return Block(f"As ODIN's Table 3, FPR95 % of ODIN: {training}", head, cells, 1)


def _effects(rows: list[Row], training: str) -> Block:
    """ODIN at the same points everywhere, and with the step that is tuned at T = 1000."""
    cells = []
    for name in _values(rows, "set"):
        own = of(rows, set=name)
        at_points = [
            *(_mean(own, partial(_fpr_at, point), 100.0, 1) for point in FIXED),
            _mean(own, lambda row: _fpr_at(row["step"], row), 100.0, 1),
        ]
        cells.append([name, *at_points])
    heads = [f"T = {point['temperature']:g}\nε = {point['eps']:g}" for point in FIXED]
    title = f"As ODIN's Fig. 3 and 4, FPR95 % of ODIN at fixed points: {training}"
    return Block(title, ["against", *heads, f"T = {HOT:g}\nε tuned"], cells, 1)


def _fpr_at(point: Point, row: Row) -> float | None:
    return fpr_at(row["table"], point)


def _chosen(rows: list[Row]) -> Iterator[Block]:
    """Of the scores that have any."""
    cells = []
    for training in _values(rows, "training"):
        for score in _values(rows, "score"):
            own = of(rows, training=training, score=score)
            points = Counter(
                settings(row["hyperparameters"]) for row in own if row["hyperparameters"]
            )
            if points:
                said = "; ".join(
                    f"{p} ({n})" if len(own) > 1 else p for p, n in points.most_common()
                )
                fpr = _cell(own, at("validation_fpr"), 100.0, 1)
                passes = [f"{spread(own, at(key)).mean:.4g}" for key in ("forwards", "backwards")]
                cells.append([training, score, said, fpr, *passes])
    head = ["training", "score", "chosen (seeds)", "FPR95 % there", "F", "B"]
    if cells:
        yield Block("Hyper-parameters", head, cells, 3)


def _distances(rows: list[Row]) -> Block:
    cells = [
        [
            name,
            training,
            *(
                _cell(of(rows, set=name, training=training), at("distances", key), 1.0, 3)
                for key in ("mmd", "energy")
            ),
        ]
        for name in _values(rows, "set")
        for training in _values(rows, "training")
    ]
    return Block(
        "How far the sets are", ["against", "training", "MMD²", "energy\ndistance²"], cells, 2
    )


def _trained(rows: list[Row]) -> Iterator[Block]:
    """Trainings against each other, set by set and score by score."""
    each = [
        ((name, score), of(rows, set=name, score=score))
        for name in _values(rows, "set")
        for score in _values(rows, "score")
    ]
    for metric in ("fpr", "auroc"):
        heading, factor, digits, higher = COLUMNS[metric]
        lines = [Line(words, own, at(metric), factor, digits, higher) for words, own in each]
        yield from trained(f"{' '.join(heading.split())}, points", ["against", "score"], lines)


def _said(name: str) -> str:
    kind, argument = name.partition(":")[::2]
    return f"{kind}{f' of {argument}' * bool(argument)}, {OUTSIDE[kind].said}"


def _have(key: str, rows: Sequence[Row]) -> bool:
    """Whether it was asked when the rows were made: reports read older ones too."""
    return all(key in row for row in rows)


def _values(rows: Sequence[Row], key: str) -> list[str]:
    """Each once, in the order they come."""
    return list(dict.fromkeys(row[key] for row in rows))


def _cells(rows: list[Row]) -> list[str]:
    return [
        _cell(rows, _measured(name), factor, digits, name)
        for name, (_, factor, digits, _) in COLUMNS.items()
    ]


def _measured(metric: str) -> Value:
    """A metric of a row; None in a result from before there was this metric."""
    return lambda row: row.get(metric)


def _mean(rows: list[Row], value: Value, factor: float, digits: int) -> str:
    mean = spread(rows, value).mean
    return number(None if math.isnan(mean) else mean, factor, digits)


def _cell(rows: list[Row], value: Value, factor: float, digits: int, metric: str = "") -> str:
    """Mean ± standard deviation; of a single run its bootstrap interval."""
    if not rows:
        return "–"
    found, mean = spread(rows, value), _mean(rows, value, factor, digits)
    if not math.isnan(found.std):
        return f"{mean} ± {number(found.std, factor, digits)}"
    if found.runs == 1 and metric in rows[0].get("intervals", ()):
        low, high = (number(end, factor, digits) for end in rows[0]["intervals"][metric])
        return f"{mean} [{low}, {high}]"
    return mean


def conventions(result: dict[str, Any]) -> list[str]:
    """What has to be known to read the tables."""
    rows, options = result["runs"], result["options"]
    inside = of(rows, kind="inside")
    seeds = Counter(training for training, _ in {(r["training"], r["seed"]) for r in inside})
    lines = [CONVENTION]
    several = sorted({n for n in seeds.values() if n > 1})
    if several:
        counts = " or ".join(map(str, several))
        lines.append(f"Mean ± standard deviation over {counts} training seeds.")
    if min(seeds.values()) == 1 and options["draws"]:
        alone = "Of a training with one seed: in" if several else "In"
        lines.append(
            f"{alone} brackets the 95 % interval over {options['draws']} test sets drawn again "
            "from this one."
        )
    images = " or ".join(map(str, sorted({row["images"] for row in inside})))
    tuned = any(row["hyperparameters"] for row in inside)
    by = f"; hyper-parameters by FPR95 of the validation split against {result['validation']}"
    lines.append(
        f"{', '.join(result['data'])}: {images} test images, and as many of each set{by * tuned}."
    )
    lines += _held_out(inside)
    # A set's images are those whose confidence is in a histogram, or is NaN.
    fewest = min(row["images"] for row in inside)
    fewer = {
        row["set"]: n
        for row in of(rows, kind="set")
        if row["set"] != "inside" and (n := sum(row["confidences"]) + row["nan"]) < fewest
    }
    if fewer:
        listed = ", ".join(f"{name} {n}" for name, n in fewer.items())
        lines.append(f"Fewer images, all that there are: {listed}.")
    sets = [*([result["validation"]] if tuned else []), *result["against"]]
    lines.append(f"Sets: {'; '.join(map(_said, sets))}.")
    lines += _of_acet(rows)
    if options["diagnostics"]:
        lines.append(f"MMD and energy distance: of at most {NEAREST} images of each set, unbiased.")
    if any(True for _ in claim_blocks(result)):
        lines.append(LEGEND)
    if len(seeds) > 1:
        lines.append(TRAINED)
    return lines


def _held_out(inside: Sequence[Row]) -> Iterator[str]:
    """Which test images scores were tuned on or weights chosen on, where a release is divided."""
    both = [row for row in inside if row.get("shared")]
    if both:
        tuned = list(dict.fromkeys(row["score"] for row in both if row["hyperparameters"]))
        chosen = (
            f"on which {', '.join(tuned)} {'was' if len(tuned) == 1 else 'were'} tuned: to these "
            "they are not new"
            if tuned
            else "on which none of these scores has anything to choose"
        )
        yield (
            f"All of the test set is inside, as in the papers. {_counts(both, 'shared')} of these "
            f"images are the validation split too, {chosen}; --images N is without them."
        )
        if any(row.get("checkpoint") != "given" for row in both):
            yield "Last weights were chosen on none of the test set."
        given = dict.fromkeys(row["training"] for row in both if row.get("checkpoint") == "given")
        if given:
            yield f"What the weights of {', '.join(given)} were chosen on is not known here."
    best = [row for row in inside if row.get("left_out")]
    if best:
        yield (
            f"Not among the test images of best weights: {_counts(best, 'left_out')} of the test "
            "set that these were chosen on."
        )


def _counts(rows: Sequence[Row], key: str) -> str:
    return " or ".join(map(str, sorted({row[key] for row in rows})))


def _of_acet(rows: Sequence[Row]) -> list[str]:
    """What has to be known of noise that is scaled up, and of attacked images."""
    lines = []
    scaling = of(rows, kind="scaling")
    if scaling:
        trials = sorted({row["trials"] for row in scaling if "trials" in row})
        counted = f" ({' or '.join(f'{n:,}' for n in trials)} images)" if trials else ""
        lines.append(
            f"α: the least factor found by a root search at which uniform noise{counted} has a "
            f"confidence of {SURE:.1%}; over-confident: the share that some factor brings to "
            f"{SURE_IN_BOX:.0%} when it is clipped to [0, 1], and beside it the share that the "
            "image's own α brings there."
        )
    attacked = [row for row in of(rows, kind="set") if "not_resisted" in row]
    if attacked:
        lines.append(
            "Not resisted: attacked test images alone of which the model is wrong, or right with a "
            f"confidence below {LEAST} / classes. These are the Adv. Samples of ACET's Table 1, by "
            "its released code; the others here are all attacked images."
        )
    return lines


def notes(result: dict[str, Any]) -> list[str]:
    """What is not there, and what the numbers say of the papers' claims."""
    rows, lines = result["runs"], []
    undefined = {
        f"{row.get('score', 'the confidence')} ({row['training']}) on {row['set']}"
        for row in rows
        if row.get("nan")
    }
    if undefined:
        lines.append(f"NaN on some images, and so no metric: {', '.join(sorted(undefined))}.")
    seen = sorted({row["training"] for row in rows if row["outliers"] != 0})
    if seen:
        lines.append(f"Images of no class were in the training of {', '.join(seen)}.")
    said = list(sentences(result))
    return lines + (
        ["Claims of ODIN §4, §5 and App. F, and of ACET's Table 1:", *said] if said else []
    )
