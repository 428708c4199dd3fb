"""The figures of an evaluation: RAT's Fig. 2, 3, 4 and B.1, and risk against coverage."""

from __future__ import annotations

import itertools
import math
from collections.abc import Container, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from rrfast.evaluate.drawing import Drawing, legend, panels, trainings
from rrfast.evaluate.misd.appraisal import COVERAGES, EDGES
from rrfast.evaluate.summary import Row, Value, at, of, per_run, spread
from rrfast.scores.named import STEP

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Style(NamedTuple):
    """How a score is drawn, in every figure."""

    colour: str
    line: str
    marker: str


#: Okabe and Ito's colours, told apart by the colour-blind: the radii warm, all else cold or grey.
STYLES = {
    "radius_fast": Style("#D55E00", "-", "o"),
    "radius_bs": Style("#E69F00", "-", "s"),
    "radius_search": Style("#E69F00", "--", "D"),
    "radius_grad": Style("#CC79A7", "--", "v"),
    "msr": Style("#000000", "-", "x"),
    "msr+eps": Style("#7F7F7F", "--", "+"),
    "odin": Style("#0072B2", "-", "^"),
    "doctor_alpha+eps": Style("#56B4E9", "-.", "P"),
    "relu+eps": Style("#009E73", ":", "X"),
}
#: Which radius the histograms are of, the first of these that there is.
DRAWN = ("radius_bs", "radius_search", "radius_fast", "radius_grad")


def figures(result: dict[str, Any]) -> Iterator[Drawing]:
    """Every figure that there are rows for.

    Raises:
        ImportError: matplotlib is not installed.
    """
    rows: list[Row] = result["runs"]
    score = next((name for name in DRAWN if of(rows, score=name)), None)
    if score is not None:
        divisions = len({row["split"] for row in rows})
        divided = f" and {divisions} divisions, in which images recur" if divisions > 1 else ""
        yield Drawing(
            "radius",
            "Radii of right and wrong predictions",
            f"RAT Fig. 2. {score}, all seeds together{divided}; bars: share of the group per bin; "
            "lines: medians of the seeds, averaged.",
            radius_histograms(of(rows, score=score)),
        )
    yield Drawing(
        "risk_coverage",
        "Risk against coverage",
        "Errors among the accepted, per cent, mean over seeds; lower is better, and the area under "
        "a line is its AURC.",
        risk_coverage(rows),
    )
    if any(row["temperature"] for row in rows):
        yield Drawing(
            "temperature",
            "AURC against temperature",
            "RAT Fig. 3. AURC × 1000 on the test part at every T of RAT B.1, eps as tuned; mean "
            "over seeds, and one standard deviation.",
            temperature(rows),
        )
    if any(row.get("corruptions") for row in rows):
        for training in trainings(rows):
            yield Drawing(
                f"corruptions_{training}".lower().replace(" + ", "_"),
                f"Under corruption: {training}",
                f"RAT Fig. 4. Severity {result['options']['severity']}; tuned on clean images; "
                "mean over seeds, and one standard deviation.",
                corruptions(of(rows, training=training)),
            )
    yield Drawing(
        "above",
        "Among confident predictions",
        "RAT Fig. B.1. AUROC among predictions whose softmax probability p is above a threshold; "
        "mean over seeds, where every seed has errors left.",
        above(rows),
    )


def _drawn(rows: Sequence[Row]) -> list[str]:
    """The scores with a style, in its order."""
    return _ordered({row["score"] for row in rows})


def _ordered(there: Container[str]) -> list[str]:
    found = [name if name in there else name.removesuffix(STEP) for name in STYLES]
    return [name for name in dict.fromkeys(found) if name in there]


def _style(name: str) -> Style:
    """That of a score with input pre-processing is its own without it, where it has no other."""
    return STYLES[name if name in STYLES else f"{name}{STEP}"]


def _legend(figure: Figure) -> None:
    """Every score that any panel has: a training without errors may have none of them."""
    legend(figure, [end for name in STYLES for end in (name, name.removesuffix(STEP))])


def radius_histograms(rows: Sequence[Row]) -> Figure:
    """Fig. 2: how far right and wrong predictions are from the boundary."""
    figure, grid = panels(trainings(rows), 2.9)
    centres = [math.sqrt(a * b) for a, b in itertools.pairwise(EDGES)]
    # Pairs of bins: twenty to a decade are more than a few hundred images fill.
    edges = EDGES[::2]
    last: Axes | None = None
    used: list[float] = []
    for training, ax in grid:
        own = of(rows, training=training)
        for group, colour, line in (("right", "#0072B2", "-"), ("wrong", "#D55E00", "--")):
            counts = torch.tensor([row["histogram"][group]["counts"] for row in own]).sum(0)
            total = int(counts.sum()) + sum(row["histogram"][group]["outside"] for row in own)
            if total == 0:
                continue
            share = (100 * counts / total).tolist()
            median = spread(own, at("histogram", group, "median")).mean
            label = f"{group}: {total:,}"
            # None where a seed's is infinite: then most of the group have no radius to find.
            label += f", median {median:.2g}" if math.isfinite(median) else ", median undefined"
            ax.hist(centres, edges, weights=share, color=colour, alpha=0.25)
            ax.hist(
                centres, edges, weights=share, histtype="step", color=colour, ls=line, label=label
            )
            ax.axvline(median, color=colour, ls=line, lw=1)
            used += [c for c, n in zip(centres, counts.tolist(), strict=True) if n]
        ax.set_xscale("log")
        ax.legend(frameon=False, fontsize=8, loc="upper left")
        last = ax
    if last is not None and used:
        last.set_xlim(min(used) / 1.3, max(used) * 1.3)
        low, high = last.get_ylim()
        last.set_ylim(low, 1.25 * high)  # room for the legend
    figure.supxlabel(f"radius ({rows[0]['score']}), log scale", fontsize=10)
    figure.supylabel("share of its group per bin, %", fontsize=10)
    return figure


def risk_coverage(rows: Sequence[Row]) -> Figure:
    """Errors among the accepted, against how many are accepted."""
    figure, grid = panels(trainings(rows))
    for training, ax in grid:
        for name in _drawn(rows):
            own = of(rows, training=training, score=name)
            if own:
                means = [100 * spread(own, at("risk", i)).mean for i in range(len(COVERAGES))]
                style = _style(name)
                coverage = [100 * c for c in COVERAGES]
                ax.plot(coverage, means, color=style.colour, ls=style.line, lw=1.4, label=name)
    # The axes share it, and it would end at the top of those that are drawn.
    ax.set_ylim(bottom=0)
    _legend(figure)
    figure.supxlabel("coverage, %", fontsize=10)
    figure.supylabel("errors among the accepted, %", fontsize=10)
    return figure


def temperature(rows: Sequence[Row]) -> Figure:
    """Fig. 3: how much a score depends on its temperature."""
    figure, grid = panels(trainings([row for row in rows if row["temperature"]]))
    for training, ax in grid:
        for name in _drawn(rows):
            own = [row for row in of(rows, training=training, score=name) if row["temperature"]]
            if own:
                places = sorted(own[0]["temperature"], key=float)
                values = [at("temperature", t) for t in places]
                _band(ax, [float(t) for t in places], own, values, 1000.0, name)
        ax.set_xscale("log")
        ax.set_yscale("log")
        for axis in (ax.yaxis.set_major_formatter, ax.yaxis.set_minor_formatter):
            axis(lambda value, _: f"{value:g}")
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    _legend(figure)
    figure.supxlabel("temperature T, log scale", fontsize=10)
    figure.supylabel("AURC × 1000, log scale", fontsize=10)
    return figure


def corruptions(rows: Sequence[Row]) -> Figure:
    """Fig. 4: AUROC and FPR95 under each corruption, of one training."""
    from matplotlib.figure import Figure

    rows = [row for row in rows if row.get("corruptions")]
    kinds = list(rows[0]["corruptions"])
    figure = Figure(figsize=(10, 6), layout="constrained")
    pair = figure.subplots(2, 1, sharex=True)
    named = (("auroc", "AUROC, %"), ("fpr_at_tpr", "FPR95, %"))
    for ax, (metric, label) in zip(pair, named, strict=True):
        names = _drawn(rows)
        for i, name in enumerate(names):
            own = of(rows, score=name)
            found = [spread(own, at("corruptions", kind, metric)) for kind in kinds]
            # Side by side, so that no marker hides another.
            places = [j + 0.6 * ((i + 0.5) / len(names) - 0.5) for j in range(len(kinds))]
            ax.errorbar(
                places,
                [100 * f.mean for f in found],
                [0 if math.isnan(f.std) else 100 * f.std for f in found],
                fmt=_style(name).marker,
                color=_style(name).colour,
                ms=5,
                lw=0.8,
                label=name,
            )
        ax.set_ylabel(label)
        ax.grid(alpha=0.25, lw=0.6, axis="y")
        ax.spines[["top", "right"]].set_visible(False)
    pair[1].set_xticks(
        range(len(kinds)), [kind.replace("_", " ") for kind in kinds], rotation=35, ha="right"
    )
    _legend(figure)
    return figure


def above(rows: Sequence[Row]) -> Figure:
    """Fig. B.1: AUROC among predictions above a confidence."""
    figure, grid = panels(trainings(rows))
    ticks: dict[float, str] = {}
    for training, ax in grid:
        for name in _drawn(rows):
            own = of(rows, training=training, score=name)
            # Up to the last threshold at which every seed has errors left.
            known = [
                p
                for p in (own[0]["above"] if own else ())
                if all(row["above"][p]["auroc"] is not None for row in own)
            ]
            if known:
                ticks |= {_nines(float(p)): p if float(p) else "all" for p in known}
                values = [at("above", p, "auroc") for p in known]
                _band(ax, [_nines(float(p)) for p in known], own, values, 100.0, name)
    # Of a band, what is above 100 % says nothing.
    ax.set_ylim(top=min(ax.get_ylim()[1], 101))
    shown = {place: label for place, label in ticks.items() if label in SHOWN_TICKS}
    ax.set_xticks(list(shown), list(shown.values()))
    _legend(figure)
    figure.supxlabel("predictions with p above, log scale of 1 − p", fontsize=10)
    figure.supylabel("AUROC, %", fontsize=10)
    return figure


#: Thresholds that have a label in Fig. B.1: the others stand too close to one of them.
SHOWN_TICKS = ("all", "0.5", "0.8", "0.9", "0.95", "0.98", "0.99", "0.995", "0.999")


def _nines(probability: float) -> float:
    """Places of 9: 1 at 0.9, 2 at 0.99."""
    return -math.log10(1 - probability)


def _band(
    ax: Axes, x: list[float], rows: Sequence[Row], values: Sequence[Value], factor: float, name: str
) -> None:
    """Mean over runs, and one standard deviation."""
    style = _style(name)
    found = [spread(rows, value) for value in values]
    means = [factor * f.mean for f in found]
    ax.plot(
        x, means, color=style.colour, ls=style.line, marker=style.marker, ms=4, lw=1.4, label=name
    )
    if len(per_run(rows, values[0])) > 1:
        low = [factor * (f.mean - f.std) for f in found]
        high = [factor * (f.mean + f.std) for f in found]
        ax.fill_between(x, low, high, color=style.colour, alpha=0.12, lw=0)
