"""The tables of an evaluation: RAT's Tables 2, 3 and B.2, and every score on every training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from rrfast.evaluate.cell import cell, leading
from rrfast.evaluate.division import PROTOCOLS
from rrfast.evaluate.misd.claims import LEGEND, claim_blocks, sentences
from rrfast.evaluate.summary import Row, at, of, spread
from rrfast.tables import COLUMNS, CONVENTION, SHOWN, Block
from rrfast.train.variant_names import VARIANTS

#: What RAT's Table 2 has a row for: training, and scores of which the first that is there is taken.
PAPER = (
    ("standard", ("msr+eps", "msr")),
    ("standard", ("odin",)),
    ("standard", ("doctor_alpha+eps", "doctor_alpha")),
    ("standard", ("relu+eps", "relu")),
    ("openmix", ("msr+eps", "msr")),
    ("mixup", ("msr+eps", "msr")),
    ("regmixup", ("msr+eps", "msr")),
    ("rat_mixup", ("radius_bs", "radius_search", "radius_fast")),
    ("rat_mixup", ("msr+eps", "msr")),
    ("rat", ("radius_bs", "radius_search", "radius_fast")),
    ("rat", ("msr+eps", "msr")),
)


def blocks(result: dict[str, Any]) -> Iterator[Block]:
    """Every table that there are rows for."""
    rows = result["runs"]
    trainings = list(dict.fromkeys(row["training"] for row in rows))
    scores = list(dict.fromkeys(row["score"] for row in rows))
    paper = _paper(rows)
    if paper is not None:
        yield paper
    if len(trainings) == 1:
        each = [(score, of(rows, score=score)) for score in scores]
        cells = [[s, *_cells(own), _less_msr(own), *_passes(own)] for s, own in each]
        head = ["score", *(COLUMNS[name][0] for name in SHOWN), "AURC less\nMSR's", "F", "B"]
        yield Block(f"Errors found: {trainings[0]}", head, cells, 1)
        yield from claim_blocks(result)
        return
    for name in SHOWN[:3]:
        heading, factor, digits = COLUMNS[name]
        cells = [
            [s, *(_cell(of(rows, score=s, training=t), name, factor, digits) for t in trainings)]
            for s in scores
        ]
        best = frozenset(
            (place, j)
            for j, training in enumerate(trainings, 1)
            for place in _best(rows, scores, training, name)
        )
        title = f"{' '.join(heading.split())} by score and training, the best of each training bold"
        yield Block(title, ["score", *(t.replace(" ", "\n", 1) for t in trainings)], cells, 1, best)
    # The same for all scores, so of any one of them.
    accuracy = [
        _cell(of(rows, score=scores[0], training=t), "accuracy", 100.0, 2) for t in trainings
    ]
    outliers = [str(of(rows, training=t)[0]["outliers"] or "–") for t in trainings]
    cells = [list(cells) for cells in zip(trainings, accuracy, outliers, strict=True)]
    yield Block("Trainings", ["training", "accuracy\n%", "outliers\nseen"], cells, 1)
    yield from claim_blocks(result)


def _best(rows: list[Row], scores: list[str], training: str, name: str) -> list[int]:
    """Places of the scores with the best mean; several where they tie."""
    means = [spread(of(rows, score=s, training=training), at(name)).mean for s in scores]
    return leading(means, lowest=name != "auroc")


def _paper(rows: list[Row]) -> Block | None:
    cells = []
    for name, candidates in PAPER:
        of_training = of(rows, training=VARIANTS[name])
        there = {row["score"] for row in of_training}
        score = next((score for score in candidates if score in there), None)
        if score is None:
            continue
        own = of(of_training, score=score)
        cells.append([VARIANTS[name], score, *_cells(own), str(own[0]["outliers"] or "–")])
    if len({cell[0] for cell in cells}) < 2:
        return None
    head = ["training", "score", *(COLUMNS[name][0] for name in SHOWN), "outliers\nseen"]
    return Block("As RAT's Table 2", head, cells, 2)


def _cells(rows: list[Row]) -> list[str]:
    return [_cell(rows, name, *COLUMNS[name][1:]) for name in SHOWN]


def _less_msr(rows: list[Row]) -> str:
    """A dash where a run has no difference: made before there were any, or without a bootstrap."""
    if not rows or not all(row.get("less_msr") for row in rows):
        return "–"
    interval = rows[0]["less_msr"]["aurc"][1:]
    return cell(rows, at("less_msr", "aurc", 0), *COLUMNS["aurc"][1:], interval)


def _passes(rows: list[Row]) -> list[str]:
    return [f"{spread(rows, at(name)).mean:.4g}" for name in ("forwards", "backwards")]


def _cell(rows: list[Row], name: str, factor: float, digits: int) -> str:
    interval = rows[0]["intervals"].get(name) if rows else None
    return cell(rows, at(name), factor, digits, interval)


def notes(result: dict[str, Any]) -> list[str]:
    """What the numbers are, and what they say of the paper's claims."""
    rows, options = result["runs"], result["options"]
    pairs = {(row["training"], row["seed"]) for row in rows}
    seeds = sorted(set(Counter(training for training, _ in pairs).values()))
    splits = {row["split"] for row in rows}
    several = []
    if seeds[-1] > 1:
        counts_of = " or ".join(str(n) for n in seeds if n > 1)
        each = f", each the mean over {len(splits)} divisions" * (len(splits) > 1)
        several.append(f"Mean ± standard deviation over {counts_of} training seeds{each}.")
    alone = "Of a training with one seed: " if seeds[-1] > 1 else ""
    single = ""
    if seeds[0] == 1 and len(splits) > 1:
        single = f"mean ± standard deviation over {len(splits)} divisions of one test set."
    elif seeds[0] == 1 and options["draws"]:
        single = (
            f"in brackets the 95 % interval over {options['draws']} test sets drawn again from "
            "this one, those without an error or without a right prediction left out."
        )
    if single:
        several.append(alone + single if alone else single[0].upper() + single[1:])
    counts = {(r["training"], r["seed"], r["split"]): (r["errors"], r["images"]) for r in rows}
    errors = [errors for errors, _ in counts.values()]
    images = sorted({images for _, images in counts.values()})
    most = " to ".join(str(n) for n in sorted({min(errors), max(errors)}))
    tested = (
        f"{', '.join(result['data'])}: {' or '.join(map(str, images))} test images, of which "
        f"{most} are errors; hyper-parameters (T, eps) by AURC, {PROTOCOLS[options['protocol']]}."
    )
    if options["draws"] and len({row["training"] for row in rows}) == 1:
        several.append(
            "AURC less MSR's (×1000) on the same images; an interval of it is paired, and each is "
            "for itself: `rrfast.compare` has those that hold for all scores at once."
        )
    lines = [
        CONVENTION,
        *several,
        tested,
    ]
    undefined = sorted({f"{row['score']} ({row['training']})" for row in rows if row["nan"]})
    if undefined:
        lines.append(f"NaN on some images, and so no metric: {', '.join(undefined)}.")
    said = list(sentences(result))
    return lines + ([LEGEND, "Claims of RAT §5 and B.4:", *said] if said else [])
