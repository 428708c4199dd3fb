"""The tables on distal examples: what passes of noise, and the errors among what passes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from rrfast._tables import Block, number
from rrfast.evaluate.cell import cell, difference, leading
from rrfast.evaluate.drawing import trainings, weights
from rrfast.evaluate.summary import Row, at, fewer, of, paired, runs_of, spread

#: Noise as it is and moved, as the rows call it; and as it is printed.
NOISE = {
    "uniform": "uniform\nnoise",
    "smoothed": "smoothed\nnoise",
    "distal uniform": "distal,\nuniform",
    "distal smoothed": "distal,\nsmoothed",
}
#: The test images as they are and after attacks.
ATTACKED = {"clean": "test", "ce": "PGD-CE", "other": "PGD-other", "worst": "worst"}
#: What the article reports: FPR of distal examples.
CLAIMED = {"PGD-AT": 1.0, "AT": 1.0, "CCAT": 0.0}


def blocks(result: dict[str, Any]) -> Iterator[Block]:
    """Every table that there are rows for."""
    tpr = _percent(result["options"]["tpr"])
    for checkpoint in dict.fromkeys(row["checkpoint"] for row in result["runs"]):
        rows = of(result["runs"], checkpoint=checkpoint)
        for title, key in (
            (f"FPR of noise at {tpr} TPR %", "fpr"),
            ("AUROC of test images against noise %", "auroc"),
        ):
            yield _table(f"{title}, {weights(checkpoint)}", rows, key, lowest=key == "fpr")
        yield _means(f"Mean confidence %, {weights(checkpoint)}", rows)
        yield _errors(f"Errors % at {tpr} TPR, {weights(checkpoint)}", rows)


def _table(title: str, rows: list[Row], key: str, *, lowest: bool) -> Block:
    order, best = trainings(rows), set()
    cells = [[training] for training in order]
    for j, name in enumerate(NOISE, 1):
        value = at("noise", name, key)
        means = []
        for line in cells:
            own = of(rows, training=line[0])
            interval = own[0]["noise"][name]["intervals"][key]
            line.append(cell(own, value, interval=interval))
            means.append(spread(own, value).mean)
        best |= {(i, j) for i in leading(means, lowest=lowest)}
    return Block(title, ["training", *NOISE.values()], cells, 1, frozenset(best))


def _means(title: str, rows: list[Row]) -> Block:
    cells = []
    for training in trainings(rows):
        own = of(rows, training=training)
        noise = [cell(own, at("noise", name, "mean")) for name in NOISE]
        cells.append([training, cell(own, at("mean")), *noise, cell(own, at("probability"))])
    head = ["training", "test\nimages", *NOISE.values(), "threshold"]
    return Block(title, head, cells, 1)


def _errors(title: str, rows: list[Row]) -> Block:
    pairs = [(name, key) for name in ATTACKED for key in ("robust", "thresholded")]
    cells = [
        [t, *(cell(of(rows, training=t), at("errors", name, key)) for name, key in pairs)]
        for t in trainings(rows)
    ]
    head = [f"{ATTACKED[name]},\n{'all' if key == 'robust' else 'accepted'}" for name, key in pairs]
    return Block(title, ["training", *head], cells, 1)


def _steps(options: dict[str, Any]) -> str:
    """Of the attack on noise; a result without the name is older than it."""
    if options.get("distal_attack") != "article":
        return f"{options['steps']} steps"
    return "by the attack and the smoothing of the article's code, 10 steps"


def conventions(result: dict[str, Any]) -> list[str]:
    """What has to be known to read the tables."""
    rows, options = result["runs"], result["options"]
    images = " or ".join(str(n) for n in sorted({row["images"] for row in rows}))
    held = sorted({row["held"] for row in rows})
    ranks = " to ".join(str(n) for n in dict.fromkeys([held[0], held[-1]]))
    seeds = sorted({len(of(rows, training=t, checkpoint=c)) for t, c in _groups(rows)})
    threshold = (
        f"{', '.join(result['data'])}: the confidence is the largest softmax probability; the "
        f"threshold is the one that {_percent(options['tpr'])} of the {ranks} right predictions of "
        "the validation split reach, of which no number is."
    )
    noise = (
        f"Noise: {options['noise']} images of each kind; distal: each moved within eps = "
        f"{options['eps']:g} to where the model is surest, {_steps(options)}, "
        f"{options['restarts']} restart{'s' * (options['restarts'] > 1)}. FPR: those that pass, "
        "lower is better; a mean confidence of 1/K is the lowest of K classes."
    )
    errors = (
        f"Errors: of {images} test images, all of them or among the accepted, as they are and "
        "where any accepted result of an attack is one; lower is better."
    )
    lines = [threshold, noise, errors, *fewer(result)]
    if seeds[-1] > 1:
        lines.append(
            "Mean ± standard deviation over "
            f"{' or '.join(str(n) for n in seeds if n > 1)} training seeds."
        )
    if seeds[0] == 1 and options["draws"]:
        lines.append(
            f"Of a training with one seed: in brackets the 95 % interval over {options['draws']} "
            "sets of images drawn again from these."
        )
    return lines


def notes(result: dict[str, Any]) -> list[str]:
    """What the numbers say of the article's claim."""
    return list(_claim(result["runs"]))


def _claim(rows: list[Row]) -> Iterator[str]:
    """AT lets every distal example pass, CCAT none."""
    value = at("noise", "distal uniform", "fpr")
    yield "The article (CIFAR-10, WRN): of distal examples all pass AT, 100 %, and none CCAT, 0 %."
    for training, checkpoint in _groups(rows):
        own = of(rows, training=training, checkpoint=checkpoint)
        claimed = CLAIMED.get(training)
        beside = "" if claimed is None else f"; the article: {100 * claimed:g} %"
        low, high = (
            end(math.nan if (v := value(r)) is None else v for r in own) for end in (min, max)
        )
        yield (
            f"{training}, {weights(checkpoint)}: {cell(own, value)} %, from "
            f"{number(low, 100.0, 1)} to {number(high, 100.0, 1)} over {len(own)} "
            f"seed{'s' * (len(own) > 1)}{beside}."
        )
    for checkpoint in dict.fromkeys(row["checkpoint"] for row in rows):
        there = of(rows, checkpoint=checkpoint)
        names = trainings(there)
        other = next((name for name in ("PGD-AT", "AT") if name in names), None)
        if other is None or "CCAT" not in names:
            continue
        ours, theirs = (of(there, training=name) for name in ("CCAT", other))
        if runs_of(ours) == runs_of(theirs):
            found = paired(ours, theirs, value)
            word = {-1: "confirmed", 0: "undecided", 1: "contradicted"}[found.verdict]
            yield (
                f"CCAT lets fewer distal examples pass than {other}, {weights(checkpoint)}: "
                f"{word} ({difference(found, '✓·✗')} points, mean ± standard error over seeds)."
            )


def _groups(rows: list[Row]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((row["training"], row["checkpoint"]) for row in rows))


def _percent(share: float) -> str:
    return f"{100 * share:.10g} %"
