"""Curves over thresholds at points that are the same for every run, and the rows of pages.

A row of one run has a hundred rates and, with diagnostics, as many bins, which is megabytes over
seeds and sets. Figures only draw means or the first seed, so a file of results holds these.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rrfast.evaluate.drawing import counted
from rrfast.evaluate.observations import Row, at, condensed, curve, grouped, of, without
from rrfast.metrics import roc_curve

#: Per cent of accepted test images at which the accuracy is computed (ODIN Fig. 11).
ACCEPTED = (50, 60, 70, 80, 85, 90, 95, 98, 99)
#: False positive rates at which the ROC curve of a run is computed.
RATES = tuple(i / 100 for i in range(101))
#: Indices of the rates to draw: curves are steep if few images or nearly all are accepted.
DRAWN_AT = (*range(10), *range(10, 30, 2), *range(30, 90, 5), *range(90, 99, 2), 99, 100)
#: Entries that `curves` replaces or that no page shows; the means of diagnostics stay.
LEFT_OUT = {"roc", "confidences", "thresholds", "mean_outside"}
MEANS = ("nan", "u1_mean", "u2_mean", "norm_mean")
#: Edges of the bins in which confidences are counted: from 0 to 1 as in ACET's App. H.
EDGES = tuple(i / 50 for i in range(51))


def accuracies(value: Tensor, correct: Tensor) -> tuple[list[float], list[float]]:
    """The accuracy of accepted and of rejected images at each of `ACCEPTED`; ties stay together.

    Example:
        >>> value = torch.tensor([4.0, 3.0, 2.0, 1.0])
        >>> accepted, rejected = accuracies(value, torch.tensor([True, True, False, True]))
        >>> accepted[0], rejected[0], accepted[-1], rejected[-1]
        (1.0, 0.5, 0.75, nan)
    """
    if value.isnan().any():
        return [math.nan] * len(ACCEPTED), [math.nan] * len(ACCEPTED)
    n = len(value)
    # The smallest integer that is at least p % of n, in integer arithmetic.
    least = torch.tensor([-(-p * n // 100) for p in ACCEPTED])
    threshold = value.sort(descending=True).values[least - 1]
    above = value >= threshold[:, None]
    found = [
        ((part & correct).sum(dim=1).double() / part.sum(dim=1)).tolist()
        for part in (above, ~above)
    ]
    return found[0], found[1]


def rates(value: Tensor, known: Tensor) -> list[float]:
    """The true positive rate at each of `RATES`, linear between thresholds, the highest for ties.

    Example:
        >>> value, known = torch.tensor([2.0, 1.0]), torch.tensor([True, False])
        >>> set(rates(value, known)), rates(torch.ones(2), known) == list(RATES)
        ({1.0}, True)
    """
    if value.isnan().any():
        return [math.nan] * len(RATES)
    curve = roc_curve(value, known, positive="correct")
    fpr, tpr = (torch.cat([x.new_zeros(1), x.cpu()]) for x in (curve.fpr, curve.tpr))
    found: list[float] = np.interp(RATES, fpr, tpr).tolist()
    return found


def curves(rows: Sequence[Row]) -> list[Row]:
    """The data of the figures, over all seeds or for the first one.

    Returns:
        Rows with `training`, `seed` (None for all seeds) and `kind`:

        * "score": a score on a set, `roc`: its mean at the rates of `DRAWN_AT`;
        * "set": a set, `confidences`: the counts of all seeds; for attacked images `not_resisted`,
          with their `roc`;
        * "diagnostics": a set, `diagnostics` of the first seed: for each, the `range` of its bins
          of equal width, and the density or the mean in them; and `outputs`;
        * "thresholds": a set, `thresholds` of the first seed.
    """
    return [
        *_of_all(rows),
        *_of_first(rows, "set", "diagnostics"),
        *_of_first(rows, "effect", "thresholds"),
    ]


def _of_all(rows: Sequence[Row]) -> Iterator[Row]:
    for kind, keys in (("set", ("set",)), ("score", ("score", "set"))):
        for (training, *who), own in grouped(of(rows, kind=kind), "training", *keys).items():
            row: Row = {"kind": kind, "training": training, "seed": None}
            row |= dict(zip(keys, who, strict=True))
            if kind == "score":
                yield row | {"roc": _mean(own, "roc")}
                continue
            row["confidences"] = counted(each["confidences"] for each in own)
            if all("not_resisted" in each for each in own):
                row["not_resisted"] = {"roc": _mean(own, "not_resisted", "roc")}
            yield row


def _mean(rows: Sequence[Row], *path: str) -> list[float]:
    return curve(rows, [at(*path, i) for i in DRAWN_AT])[0]


def _of_first(rows: Sequence[Row], kind: str, key: str) -> Iterator[Row]:
    there = [row for row in of(rows, kind=kind) if key in row]
    for (training,), own in grouped(there, "training").items():
        first = min(row["seed"] for row in own)
        for row in of(own, seed=first):
            found = {name: _drawn(value) for name, value in without(row[key], MEANS).items()}
            yield {"kind": key, "training": training, "seed": first, "set": row["set"], key: found}


def _drawn(value: Any) -> Any:
    """Bins without the parts that are not drawn; anything else unchanged."""
    if not isinstance(value, dict):
        return value
    ends = [value["edges"][0], value["edges"][-1]]
    return {"range": ends} | without(value, {"edges", "samples"})


def short(rows: Sequence[Row], _: Sequence[Row]) -> list[Row]:
    """The rows of a file, with everything that its page and its claims need."""
    found = condensed(rows, LEFT_OUT)
    for row in found:
        if "diagnostics" in row:
            row["diagnostics"] = {k: v for k, v in row["diagnostics"].items() if k in MEANS}
        if "not_resisted" in row:
            row["not_resisted"] = without(row["not_resisted"], {"roc"})
    return found


# -------------------------------------------------- attacks that a model resisted, and kinds of set

#: Suffix of the name of a set without the attacks that were resisted.
WITHOUT = ", not resisted"


def with_not_resisted(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows of sets; each set of attacked test images is followed by a row of those not resisted.

    Its `set` ends in `WITHOUT`, and its numbers are those of `not_resisted`. ACET's Table 1 counts
    only these.

    Example:
        >>> row = {"set": "adversarial_samples", "mmc": 0.8, "not_resisted": {"mmc": 0.9}}
        >>> [(row["set"], row["mmc"]) for row in with_not_resisted([row])]
        [('adversarial_samples', 0.8), ('adversarial_samples, not resisted', 0.9)]
    """
    for row in rows:
        yield row
        if "not_resisted" in row:
            yield row | row["not_resisted"] | {"set": row["set"] + WITHOUT}


def kind_of(name: str) -> str:
    """The kind of a set, without the text after a colon and without `WITHOUT`.

    Example:
        >>> kind_of("adversarial_samples:0.3, not resisted"), kind_of("noise, not resisted")
        ('adversarial_samples', 'noise')
    """
    return name.removesuffix(WITHOUT).partition(":")[0]
