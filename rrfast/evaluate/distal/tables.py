"""Tables on distal examples: the share of accepted noise, and the errors among accepted images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from rrfast._tables import Block, number
from rrfast.evaluate.claims import Claim, compared
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
    weights,
)
from rrfast.evaluate.tables import Column, Table, cell

#: Noise, unchanged and as distal examples: the key in the rows, and the printed name.
NOISE = {
    "uniform": "uniform\nnoise",
    "smoothed": "smoothed\nnoise",
    "distal uniform": "distal,\nuniform",
    "distal smoothed": "distal,\nsmoothed",
}
#: The test images before and after attacks.
ATTACKED = {"clean": "test", "ce": "PGD-CE", "other": "PGD-other", "worst": "worst"}
#: The FPR of distal examples that the article reports.
CLAIMED = {"PGD-AT": 1.0, "AT": 1.0, "CCAT": 0.0}
#: The training that CCAT is compared with: the first of these that is there.
RIVALS = ("PGD-AT", "AT")


def blocks(result: dict[str, Any]) -> Iterator[Block]:
    """Every table for which there are rows."""
    for whose, rows in by_weights(result["runs"]).items():
        for table in _tables(_percent(result["options"]["keep_correct"]), whose):
            yield table.block(rows)


def _tables(tpr: str, whose: str) -> Iterator[Table]:
    def noise(what: str, *, higher: bool | None = None) -> list[Column]:
        return [Column(head, ("noise", n, what), higher=higher) for n, head in NOISE.items()]

    errors = [
        Column(f"{head},\n{said}", ("errors", name, key))
        for name, head in ATTACKED.items()
        for key, said in (("robust", "all"), ("thresholded", "accepted"))
    ]
    mean, threshold = Column("test\nimages", "mean"), Column("threshold", "probability")
    for title, columns in (
        (f"FPR of noise at {tpr} TPR %", noise("fpr", higher=False)),
        ("AUROC of test images against noise %", noise("auroc", higher=True)),
        ("Mean confidence %", [mean, *noise("mean"), threshold]),
        (f"Errors % at {tpr} TPR", errors),
    ):
        yield Table(f"{title}, {whose}", {"training": "training"}, columns)


def _steps(options: dict[str, Any]) -> str:
    """The steps of the attack on noise; an older result does not name the attack."""
    if options.get("distal_attack") != "article":
        return f"{options['steps']} steps"
    return "by the attack and the smoothing of the article's code, 10 steps"


def conventions(result: dict[str, Any]) -> list[str]:
    """What a reader needs to know to read the tables."""
    rows, options = result["runs"], result["options"]
    held = sorted({row["held"] for row in rows})
    ranks = " to ".join(str(n) for n in dict.fromkeys([held[0], held[-1]]))
    threshold = (
        f"{', '.join(result['data'])}: the confidence is the largest softmax probability; the "
        f"threshold is the one that {_percent(options['keep_correct'])} of the {ranks} right "
        "predictions of the validation split reach; that split is used for nothing else."
    )
    noise = (
        f"Noise: {options['noise']} images of each kind; distal: each moved within eps = "
        f"{options['eps']:g} to a higher confidence, {_steps(options)}, "
        f"{options['restarts']} restart{'s' * (options['restarts'] > 1)}. FPR: the share that is "
        "accepted, lower is better; with K classes, the lowest mean confidence is 1/K."
    )
    errors = (
        f"Errors: among all of {either(rows, 'images')} test images or among the accepted, before "
        "attacks and after them, if any accepted result of an attack is an error; lower is better."
    )
    again = "sets of images drawn again from these"
    seeds = seeds_said(rows, options["draws"], again)
    return [threshold, noise, errors, *fewer_images(result), *seeds]


def notes(result: dict[str, Any]) -> list[str]:
    """Whether the numbers agree with the article's claim."""
    return list(_claim(result["runs"]))


def _claim(rows: list[Row]) -> Iterator[str]:
    """The claim: AT accepts every distal example, CCAT none."""
    value = at("noise", "distal uniform", "fpr")
    yield "The article (CIFAR-10, WRN): AT accepts all distal examples, 100 %, and CCAT none, 0 %."
    for (training, checkpoint), own in grouped(rows, "training", "checkpoint").items():
        claimed = CLAIMED.get(training)
        beside = "" if claimed is None else f"; the article: {100 * claimed:g} %"
        shares = [math.nan if (share := value(row)) is None else share for row in own]
        low, high = (number(end(shares), 100.0, 1) for end in (min, max))
        yield (
            f"{training}, {weights(checkpoint)}: {cell(spread(own, value))} %, from {low} to "
            f"{high} over {len(own)} seed{'s' * (len(own) > 1)}{beside}."
        )
    for whose, there in by_weights(rows).items():
        other = next((name for name in RIVALS if of(there, training=name)), "")
        claim = Claim(f"CCAT accepts fewer distal examples than {other}", digits=2)
        pair = of(there, training="CCAT"), of(there, training=other)
        for found in compared(claim, "CCAT", other, pair, value):
            word = {1: "confirmed", 0: "undecided", -1: "contradicted"}[found.confirmed]
            yield (
                f"{claim.sentence}, {whose}: {word} ({found.cell} points, mean ± "
                "standard error over seeds)."
            )


def _percent(share: float) -> str:
    return f"{100 * share:.10g} %"
