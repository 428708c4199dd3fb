"""The tables of an evaluation: RAT's Tables 2, 3 and B.2, and every score on every training."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from rrfast._tables import BETTER, COLUMNS, CONVENTION, SHOWN, Block
from rrfast.data.splits import PROTOCOLS
from rrfast.evaluate.cell import cell, leading
from rrfast.evaluate.misd.choice import choice, choices, first_block, less_msr
from rrfast.evaluate.misd.choice import conventions as choice_conventions
from rrfast.evaluate.misd.claims import LEGEND, claim_blocks, sentences, under_corruption
from rrfast.evaluate.summary import Row, Value, at, of, spread
from rrfast.evaluate.trained import LEGEND as TRAINED
from rrfast.evaluate.trained import Line, trained
from rrfast.objectives.variant_names import VARIANTS

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
#: What a row says of its network, as printed.
NETWORK = {
    "train_accuracy": "on training\nimages %",
    "gradient_auroc": "AUROC of small\ngradients %",
}
#: What these are.
GRADIENTS = (
    "Accuracy on training images: of as many of them as are tested on at most, not augmented. "
    "AUROC of small gradients: of minus the L1 norm of the gradient of the margin, by itself; "
    "below 50 % right predictions have the larger gradients, and a radius is a margin "
    "divided by them."
)
#: Hyper-parameters as papers write them; others by their names.
SYMBOLS = {"temperature": "T"}


def blocks(result: dict[str, Any]) -> Iterator[Block]:
    """Every table that there are rows for."""
    rows = result["runs"]
    trainings = list(dict.fromkeys(row["training"] for row in rows))
    scores = list(dict.fromkeys(row["score"] for row in rows))
    if len(trainings) == 1:
        yield first_block(rows, trainings[0])
    else:
        yield from choices(rows, trainings)
    paper = _paper(rows)
    if paper is not None:
        yield paper
    yield from _by_training(rows, trainings, scores) if len(trainings) > 1 else ()
    yield _networks(rows)
    yield from _trained(rows, "", at)
    corrupted = [row for row in rows if row.get("corruptions")]
    yield from _trained(corrupted, ", mean over the corruptions", under_corruption)
    yield from claim_blocks(result)
    yield from _chosen(rows, trainings, scores)


def _by_training(rows: list[Row], trainings: list[str], scores: list[str]) -> Iterator[Block]:
    yield from less_msr(rows, trainings)
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


def _chosen(rows: list[Row], trainings: list[str], scores: list[str]) -> Iterator[Block]:
    """The hyper-parameters that every score was tested with."""
    cells = [
        [score, *(_settings(of(rows, score=score, training=t)) for t in trainings)]
        for score in scores
    ]
    cells = [line for line in cells if set(line[1:]) != {"–"}]
    if cells:
        runs = max(len(of(rows, score=scores[0], training=t)) for t in trainings)
        title = "Hyper-parameters, as tuned" + ", in brackets on how many runs" * (runs > 1)
        yield Block(title, ["score", *trainings], cells, len(trainings) + 1)


def _settings(rows: list[Row]) -> str:
    """Each value with the number of runs that have it."""
    names = dict.fromkeys(name for row in rows for name in row["hyperparameters"])
    said = []
    for name in names:
        values = Counter(row["hyperparameters"][name] for row in rows)
        # None is below all numbers: of MaxLogitPNorm it is MSR.
        ordered = sorted(values, key=lambda value: -math.inf if value is None else value)
        counts = [
            f"{'None' if value is None else f'{value:g}'}" + f" ({values[value]})" * (len(rows) > 1)
            for value in ordered
        ]
        said.append(f"{SYMBOLS.get(name, name)} {', '.join(counts)}")
    return "; ".join(said) or "–"


def _networks(rows: list[Row]) -> Block:
    """What is the same for all scores, so of any one of them."""
    cells = []
    for training in dict.fromkeys(row["training"] for row in rows):
        own = of(rows, training=training)
        own = of(own, score=own[0]["score"])
        # Not in results of earlier versions, nor without a radius.
        facts = [
            cell(own, at("network", key))
            if all(key in row.get("network", ()) for row in own)
            else "–"
            for key in NETWORK
        ]
        accuracy = _cell(own, "accuracy", 100.0, 2)
        cells.append([training, accuracy, *facts, _seen(own[0]["outliers"])])
    head = ["training", "accuracy\n%", *NETWORK.values(), "outliers\nseen"]
    return Block("Trainings", head, cells, 1)


def _seen(outliers: int | None) -> str:
    return "not known" if outliers is None else str(outliers or "–")


def _trained(rows: list[Row], where: str, value: Callable[[str], Value]) -> Iterator[Block]:
    """Trainings against each other, score by score."""
    scores = list(dict.fromkeys(row["score"] for row in rows))
    each = [((score,), of(rows, score=score)) for score in scores]
    aurc = [Line(words, own, value("aurc"), *COLUMNS["aurc"][1:]) for words, own in each]
    yield from trained(f"AURC × 1000 under the same score{where}", ["score"], aurc)
    points = [Line(words, own, value("auroc"), higher=True) for words, own in each]
    if each:
        points.append(Line(("accuracy",), each[0][1], value("accuracy"), higher=True))
    yield from trained(f"AUROC and accuracy, points{where}", ["score"], points)


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
        cells.append([VARIANTS[name], score, *_cells(own), _seen(own[0]["outliers"])])
    if len({cell[0] for cell in cells}) < 2:
        return None
    head = ["training", "score", *(COLUMNS[name][0] for name in SHOWN), "outliers\nseen"]
    return Block("As RAT's Table 2", head, cells, 2)


def _cells(rows: list[Row]) -> list[str]:
    return [_cell(rows, name, *COLUMNS[name][1:]) for name in SHOWN]


def _cell(rows: list[Row], name: str, factor: float, digits: int) -> str:
    interval = rows[0]["intervals"].get(name) if rows else None
    return cell(rows, at(name), factor, digits, interval)


def conventions(result: dict[str, Any]) -> list[str]:
    """What has to be known to read the tables; of one training the score to take before it."""
    rows, options = result["runs"], result["options"]
    trainings = list(dict.fromkeys(row["training"] for row in rows))
    sentence = choice(rows).sentence if len(trainings) == 1 else ""
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
    names = dict.fromkeys(name for row in rows for name in row["hyperparameters"])
    symbols = f" ({', '.join(SYMBOLS.get(name, name) for name in names)})" if names else ""
    tested = (
        f"{', '.join(result['data'])}: {' or '.join(map(str, images))} test images, of which "
        f"{most} are errors; hyper-parameters{symbols} by AURC, {PROTOCOLS[options['protocol']]}."
    )
    return [
        *([sentence] if sentence else []),
        tested,
        *_chosen_on(rows),
        *several,
        *choice_conventions(rows, options["draws"]),
        *([LEGEND] if any(True for _ in claim_blocks(result)) else []),
        *([TRAINED] if len({row["training"] for row in rows}) > 1 else []),
        *([GRADIENTS] if any("network" in row for row in rows) else []),
        f"{CONVENTION} {BETTER}",
    ]


def _chosen_on(rows: list[Row]) -> Iterator[str]:
    """Whose weights were chosen on images that are tuned and tested on; () in earlier results."""
    chosen = {row["training"]: row["chosen_on"] for row in rows if row.get("chosen_on")}
    if chosen:
        counts = " or ".join(map(str, sorted(set(chosen.values()))))
        yield (
            f"The best weights of {', '.join(chosen)} were chosen on {counts} images of "
            "this test set, so that their numbers are too good; with last weights nothing was."
        )


def notes(result: dict[str, Any]) -> list[str]:
    """What is not there, and what the numbers say of the paper's claims."""
    rows = result["runs"]
    undefined = sorted({f"{row['score']} ({row['training']})" for row in rows if row["nan"]})
    lines = [f"NaN on some images, and so no metric: {', '.join(undefined)}."] if undefined else []
    said = list(sentences(result))
    return lines + (["Claims of RAT §5 and B.4:", *said] if said else [])
