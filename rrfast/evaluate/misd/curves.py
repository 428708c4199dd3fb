"""Means over runs for the figures, and rows without the curves that only figures use.

A row of one run has a hundred risks, fifteen corruptions and three hundred bins, which is megabytes
over seeds and scores. Figures only draw means of them, so a file of results holds the means.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rrfast._tables import SHOWN
from rrfast.evaluate.drawing import counted
from rrfast.evaluate.misd.choice import decided
from rrfast.evaluate.misd.measurements import COVERAGES
from rrfast.evaluate.observations import Row, at, condensed, curve, grouped, of, spread, without
from rrfast.metrics import METRICS
from rrfast.metrics.paired import PAIRED

#: Per cent of coverage at which the risk is drawn: most errors are among the images accepted last.
DRAWN_AT = (*range(5, 50, 5), *range(50, 90, 2), *range(90, 101))
#: Metrics that are drawn for every corruption (Fig. 4).
CORRUPTED = ("auroc", "fpr_at_tpr")
#: The radius of the histograms: the first of these that is there.
DRAWN = (
    *("radius_bs", "radius_search", "radius_fast", "radius_grad"),
    *("radius_refined", "radius_deepfool", "radius_pgd", "radius_fab"),
)
#: The radius to compare: the first of these that is there.
COMPARED = ("radius_fast", "radius_search", "radius_bs", "radius_grad")
#: The number of errors above a probability, over all seeds, from which an AUROC is compared.
ENOUGH = 20
#: Entries that a file has once for all runs, or that no page shows; the CSV file has them.
LEFT_OUT = {
    *("risk", "temperature", "corruptions", "histogram", "validation_aurc"),
    *(name for name in METRICS if name not in (*SHOWN, *PAIRED)),
}


def first_of(names: Sequence[str], rows: Sequence[Row]) -> str | None:
    """The first of several scores for which there are rows."""
    there = {row["score"] for row in rows}
    return next((name for name in names if name in there), None)


def curves(rows: Sequence[Row]) -> list[Row]:
    """A row for each training and score, over all seeds and divisions, with the data to draw.

    Returns:
        Rows with `training`, `score`, `seed` None, and, over the runs:

        * `risk`: its mean at the coverages of `DRAWN_AT`;
        * `temperature`, at every T, and `above`, at every probability: [mean, standard deviation];
        * `corruptions`: [mean, standard deviation] of the metrics of `CORRUPTED` under each;
        * `histogram`, for the first radius of `DRAWN`: all counts, and the mean of the medians;
        * `confident`, for the first of `COMPARED`: the highest probability above which every run
          has errors to find, or None.
    """
    drawn, compared = first_of(DRAWN, rows), first_of(COMPARED, rows)
    risks = [at("risk", COVERAGES.index(percent / 100)) for percent in DRAWN_AT]
    found = []
    for (training, score), own in grouped(rows, "training", "score").items():
        row: Row = {"training": training, "score": score, "seed": None}
        row["risk"], _ = curve(own, risks)
        for key, path in (("temperature", ()), ("above", ("auroc",))):
            places = sorted(own[0][key], key=float)
            row[key] = {place: _over_runs(own, key, place, *path) for place in places}
        under = [each for each in own if each.get("corruptions")]
        row["corruptions"] = {
            kind: {metric: _over_runs(under, "corruptions", kind, metric) for metric in CORRUPTED}
            for kind in (under[0]["corruptions"] if under else ())
        }
        if score == drawn:
            row["histogram"] = _together(own)
        if score == compared:
            row["confident"] = _confident(own)
        found.append(row)
    return found


def _over_runs(rows: Sequence[Row], *path: str) -> list[float]:
    return [*spread(rows, at(*path))[:2]]


def _together(rows: Sequence[Row]) -> dict[str, Any]:
    found = {}
    for group in ("right", "wrong"):
        own = [row["histogram"][group] for row in rows]
        found[group] = {
            "counts": counted(one["counts"] for one in own),
            "outside": sum(one["outside"] for one in own),
            "median": spread(rows, at("histogram", group, "median")).mean,
        }
    return found


def _confident(rows: Sequence[Row]) -> str | None:
    # The same error is in the test part of most divisions, but counts once.
    divisions = len({row["split"] for row in rows})
    above = [
        p
        for p in rows[0]["above"]
        if float(p) > 0
        and sum(row["above"][p]["errors"] for row in rows) >= ENOUGH * divisions
        and not math.isnan(spread(rows, at("above", p, "auroc")).mean)
    ]
    return above[-1] if above else None


def confident(curves: Sequence[Row], training: str) -> str | None:
    """The probability for the claims on confident predictions of a training; None for none."""
    found = (row["confident"] for row in of(curves, training=training) if "confident" in row)
    return next(found, None)


def summaries(row: Row) -> dict[str, Any]:
    """The numbers of one run's curves that the claims use.

    Returns:
        `swing`: the highest AURC over all temperatures, divided by the lowest (§5.5, Fig. 3); and
            `corrupted`, as from `under_corruption`. Each is missing if it was not requested.
    """
    said: dict[str, Any] = {}
    swept = [math.nan if aurc is None else aurc for aurc in row["temperature"].values()]
    if swept and min(swept) > 0:
        said["swing"] = max(swept) / min(swept)
    if row.get("corruptions"):
        said["corrupted"] = under_corruption(row)
    return said


def under_corruption(row: Row) -> dict[str, float | None]:
    """The mean of every metric over the corruptions of a run (§5.6, Fig. 4); {} without any."""
    kinds = list(row.get("corruptions", {}).values())
    found = {metric: [kind[metric] for kind in kinds] for kind in kinds[:1] for metric in kind}
    return {m: None if None in each else sum(each) / len(each) for m, each in found.items()}


def short(rows: Sequence[Row], curves: Sequence[Row]) -> list[Row]:
    """The rows of a file, with everything that its page and its claims need.

    `above` only at the probability of the claims, and `corrupted` without FPR95, which no table
    has.
    """
    found = condensed(decided(rows), LEFT_OUT)
    for row in found:
        p = confident(curves, row["training"])
        row["above"] = {} if p is None else {p: {"auroc": row["above"][p]["auroc"]}}
        if "corrupted" in row:
            row["corrupted"] = without(row["corrupted"], {"fpr_at_tpr"})
    return found
