"""Tables of an evaluation: RAT's Tables 2, 3 and B.2, and every score on every training."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from rrfast._tables import BETTER, COLUMNS, CONVENTION, SHOWN, Block
from rrfast.data.splits import TUNINGS
from rrfast.evaluate.claims import TRAINED, Claim, Line, claim_blocks, notes_of, trained
from rrfast.evaluate.misd.choice import choice, choices, first_block, less_msr
from rrfast.evaluate.misd.choice import conventions as choice_conventions
from rrfast.evaluate.misd.claims import LEGEND, comparisons, sentences
from rrfast.evaluate.observations import Row, Value, at, grouped, of, seeds_said, tuning_of, values
from rrfast.evaluate.tables import Column, Table, Words, broken, metric
from rrfast.objectives.variant_names import VARIANTS

#: The rows of RAT's Table 2: a training, and scores of which the first that is there is used.
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
#: Numbers of a row on its network, with their headings.
NETWORK = {
    "train_accuracy": "on training\nimages %",
    "gradient_auroc": "AUROC of small\ngradients %",
}
#: Their explanation.
GRADIENTS = (
    "Accuracy on training images: without augmentation, on at most as many as there are test "
    "images. AUROC of small gradients: minus the L1 norm of the margin's gradient as a score by "
    "itself; below 50 %, right predictions have the larger gradients, by which a radius divides "
    "the margin."
)
#: Symbols of hyper-parameters in papers; others keep their names.
SYMBOLS = {"temperature": "T"}


def blocks(result: dict[str, Any]) -> Iterator[Block]:
    """Every table for which there are rows."""
    rows = result["runs"]
    trainings = values(rows, "training")
    if len(trainings) == 1:
        yield first_block(rows, trainings[0])
    else:
        yield from choices(rows, trainings)
    yield from _paper(rows)
    if len(trainings) > 1:
        yield from less_msr(rows, trainings)
        for name in SHOWN[:3]:
            column = metric(name)._replace(higher=name == "auroc")
            columns = [column._replace(heading=broken(t), where={"training": t}) for t in trainings]
            title = f"{column.title} by score and training, the best of each training bold"
            yield Table(title, {"score": "score"}, columns).block(rows)
    yield _networks(rows)
    yield from _trained(rows, "", at)
    corrupted = [row for row in rows if "corrupted" in row]
    under = partial(at, "corrupted")
    yield from _trained(corrupted, ", mean over the corruptions", under)
    yield from claim_blocks(comparisons(result), "than")
    yield from _chosen(rows, trainings)


def _paper(rows: list[Row]) -> Iterator[Block]:
    by = grouped(rows, "training", "score")
    lines: dict[tuple[Any, ...], list[Row]] = {}
    for name, candidates in PAPER:
        there = [(VARIANTS[name], score) for score in candidates if (VARIANTS[name], score) in by]
        lines |= {key: by[key] for key in there[:1]}
    if len({training for training, _ in lines}) > 1:
        columns: list[Column | Words] = [*map(metric, SHOWN), SEEN]
        keys = {"training": "training", "score": "score"}
        yield Table("As RAT's Table 2", keys, columns).of_lines(lines)


def _networks(rows: list[Row]) -> Block:
    """Numbers that are the same for all scores, so taken from any one of them."""
    groups = grouped(rows, "training").values()
    facts = [Column(head, ("network", name)) for name, head in NETWORK.items()]
    columns: list[Column | Words] = [metric("accuracy"), *facts, SEEN]
    any_one = [row for own in groups for row in of(own, score=own[0]["score"])]
    return Table("Trainings", {"training": "training"}, columns).block(any_one)


def _seen(rows: Sequence[Row]) -> str:
    outliers = rows[0]["outliers"]
    return "not known" if outliers is None else str(outliers or "–")


SEEN = Words("outliers\nseen", _seen)


def _trained(rows: list[Row], where: str, value: Callable[[str], Value]) -> Iterator[Block]:
    """Comparison of trainings, score by score."""
    each = grouped(rows, "score")
    less = Claim("AURC", "× 1000", *COLUMNS["aurc"][1:])
    aurc = [Line(words, own, value("aurc"), less) for words, own in each.items()]
    yield from trained(f"AURC × 1000 under the same score{where}", ["score"], aurc)
    more = Claim("AUROC", "points", 100.0, 2, higher=True)
    points = [Line(words, own, value("auroc"), more) for words, own in each.items()]
    # The accuracy is the same for all scores.
    first = list(each.values())[:1]
    points += [Line(("accuracy",), own, value("accuracy"), more) for own in first]
    yield from trained(f"AUROC and accuracy, points{where}", ["score"], points)


def _chosen(rows: list[Row], trainings: Sequence[str]) -> Iterator[Block]:
    """The hyper-parameters used for testing each score."""
    tuned = [row for row in rows if row["hyperparameters"]]
    if tuned:
        runs = max(map(len, grouped(tuned, "score", "training").values()))
        title = "Hyper-parameters, as tuned" + ", in brackets on how many runs" * (runs > 1)
        columns = [Words(t, partial(_settings, training=t)) for t in trainings]
        yield Table(title, {"score": "score"}, columns, words=len(trainings)).block(tuned)


def _settings(rows: Sequence[Row], training: str) -> str:
    """Each value with the number of its runs."""
    rows, said = of(rows, training=training), []
    for name in dict.fromkeys(name for row in rows for name in row["hyperparameters"]):
        counts = Counter(row["hyperparameters"][name] for row in rows)
        # None sorts below all numbers: for MaxLogitPNorm it means MSR.
        ordered = sorted(counts, key=lambda value: -math.inf if value is None else value)
        told = [
            f"{'None' if value is None else f'{value:g}'}" + f" ({counts[value]})" * (len(rows) > 1)
            for value in ordered
        ]
        said.append(f"{SYMBOLS.get(name, name)} {', '.join(told)}")
    return "; ".join(said) or "–"


def conventions(result: dict[str, Any]) -> list[str]:
    """What a reader needs to know to read the tables; for one training, first the score to take."""
    rows, options = result["runs"], result["options"]
    trainings = values(rows, "training")
    sentence = choice(rows).sentence if len(trainings) == 1 else ""
    again = (
        "test sets drawn again from this one, those without an error or without a right prediction "
        "left out"
    )
    counts = {(r["training"], r["seed"], r["split"]): (r["errors"], r["images"]) for r in rows}
    errors = [errors for errors, _ in counts.values()]
    images = sorted({images for _, images in counts.values()})
    most = " to ".join(str(n) for n in sorted({min(errors), max(errors)}))
    names = dict.fromkeys(name for row in rows for name in row["hyperparameters"])
    symbols = f" ({', '.join(SYMBOLS.get(name, name) for name in names)})" if names else ""
    tested = (
        f"{', '.join(result['data'])}: {' or '.join(map(str, images))} test images, of which "
        f"{most} are errors; hyper-parameters{symbols} by AURC, {TUNINGS[tuning_of(options)]}."
    )
    return [
        *([sentence] if sentence else []),
        tested,
        *_chosen_on(rows),
        *seeds_said(rows, options["draws"], again),
        *choice_conventions(rows, options["draws"]),
        *([LEGEND] if any(True for _ in comparisons(result)) else []),
        *([TRAINED] if len(trainings) > 1 else []),
        *([GRADIENTS] if any("network" in row for row in rows) else []),
        f"{CONVENTION} {BETTER}",
    ]


def _chosen_on(rows: list[Row]) -> Iterator[str]:
    """Trainings whose weights were chosen on images used here; () for earlier results."""
    chosen = {row["training"]: row["chosen_on"] for row in rows if row.get("chosen_on")}
    if chosen:
        counts = " or ".join(map(str, sorted(set(chosen.values()))))
        yield (
            f"The best weights of {', '.join(chosen)} were chosen on {counts} images of "
            "this test set, so that their numbers are too good. Last weights were not."
        )


def notes(result: dict[str, Any]) -> list[str]:
    """Missing numbers, and whether the paper's claims are confirmed."""
    undefined = (f"{row['score']} ({row['training']})" for row in result["runs"] if row["nan"])
    return notes_of(undefined, "Claims of RAT §5 and B.4:", sentences(result))
