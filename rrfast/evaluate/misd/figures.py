"""The figures of an evaluation: RAT's Fig. 2, 3, 4 and B.1, and risk against coverage."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from rrfast._tables import number
from rrfast.evaluate.drawing import Drawing, legend, panels, trainings
from rrfast.evaluate.misd.appraisal import COVERAGES, EDGES
from rrfast.evaluate.summary import Row, Value, at, of, per_run, spread
from rrfast.scores.registry import STEP

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Style(NamedTuple):
    """How a score is drawn, in every figure."""

    colour: str
    line: str
    marker: str


#: The radii warm, all else cold or grey; told apart by lines and markers too, for the colour-blind.
STYLES = {
    "radius_fast": Style("#D55E00", "-", "o"),
    "radius_search": Style("#E69F00", "--", "D"),
    "radius_bs": Style("#E69F00", "-", "s"),
    "radius_refined": Style("#A52A2A", "-.", "h"),
    "radius_grad": Style("#CC79A7", "--", "v"),
    "radius_deepfool": Style("#CC79A7", "-.", "<"),
    "radius_pgd": Style("#D55E00", "-.", ">"),
    "radius_fab": Style("#A52A2A", "--", "p"),
    "msr": Style("#000000", "-", "x"),
    "odin": Style("#0072B2", "-", "^"),
    "doctor_alpha": Style("#56B4E9", "-.", "P"),
    "doctor_beta": Style("#56B4E9", "-", "d"),
    "relu": Style("#009E73", "-.", "X"),
    "entropy": Style("#009E73", "-", "*"),
    "margin": Style("#7F7F7F", "--", "1"),
    "max_logit": Style("#5D3A9B", "-", "2"),
    "max_logit_pnorm": Style("#5D3A9B", "--", "3"),
    "energy": Style("#0072B2", "--", "4"),
}
#: The line of a score after ODIN's step, in the colour of the score.
STEPPED = ":"
#: More lines than these are drawn without their bands, which would hide them.
BANDS = 9
#: Which radius the histograms are of, the first of these that there is.
DRAWN = (
    *("radius_bs", "radius_search", "radius_fast", "radius_grad"),
    *("radius_refined", "radius_deepfool", "radius_pgd", "radius_fab"),
)


def figures(result: dict[str, Any]) -> Iterator[Drawing]:
    """Every figure that there are rows for.

    Raises:
        ImportError: matplotlib is not installed.
    """
    rows: list[Row] = result["runs"]
    score = next((name for name in DRAWN if of(rows, score=name)), None)
    if score is not None:
        divisions = len({row["split"] for row in rows})
        others = [name for name in _drawn(rows) if name in DRAWN and name != score]
        beside = f" ({', '.join(others)}: not drawn)" * bool(others)
        divided = f" and {divisions} divisions, in which images recur" if divisions > 1 else ""
        yield Drawing(
            "radius",
            "Radii of right and wrong predictions",
            f"RAT Fig. 2. {score}{beside}, all seeds together{divided}; bars: share of the group "
            "per bin; lines: medians of the seeds, averaged.",
            partial(radius_histograms, of(rows, score=score)),
        )
    yield Drawing(
        "risk_coverage",
        "Risk against coverage",
        "Errors among the accepted, per cent, mean over seeds; lower is better, and the area under "
        "a line is its AURC.",
        partial(risk_coverage, rows),
    )
    if "msr" in {row["score"] for row in rows} and len(_drawn(rows)) > 1:
        yield Drawing(
            "risk_less_msr",
            "Risk less MSR's against coverage",
            "The figure before, looked at closely: errors among the accepted less those with MSR, "
            "points, mean over seeds; below 0 a score is better than MSR at that coverage.",
            partial(risk_less_msr, rows),
        )
    if any(row["temperature"] for row in rows):
        yield Drawing(
            "temperature",
            "AURC against temperature",
            "RAT Fig. 3. AURC × 1000 on the test part at every T of RAT B.1, eps as tuned; mean "
            f"over seeds{_spread_said([row for row in rows if row['temperature']])}.",
            partial(temperature, rows),
        )
    if any(row.get("corruptions") for row in rows):
        for training in trainings(rows):
            yield Drawing(
                f"corruptions_{training}".lower().replace(" + ", "_"),
                f"Under corruption: {training}",
                f"RAT Fig. 4. Severity {result['options']['severity']}; tuned on clean images; "
                "mean over seeds, and one standard deviation.",
                partial(corruptions, of(rows, training=training)),
            )
    yield Drawing(
        "above",
        "Among confident predictions",
        "RAT Fig. B.1. AUROC among predictions whose softmax probability p is above a threshold; "
        f"mean over seeds{_spread_said(rows)}, where every seed has errors left.",
        partial(above, rows),
    )


def _drawn(rows: Sequence[Row]) -> dict[str, Style]:
    """Every score with its style: the radii first."""
    there = dict.fromkeys(row["score"] for row in rows)
    order = [end for name in STYLES for end in (name, f"{name}{STEP}") if end in there]
    return {name: _style(name) for name in dict.fromkeys([*order, *there])}


def _style(name: str) -> Style:
    style = STYLES.get(name.removesuffix(STEP)) or Style("#7F7F7F", "-.", "+")
    return style._replace(line=STEPPED) if name.endswith(STEP) else style


def _legend(figure: Figure, rows: Sequence[Row]) -> None:
    """Every score that any panel has: a training without errors may have none of them."""
    legend(figure, list(_drawn(rows)))


def _spread_said(rows: Sequence[Row]) -> str:
    """What a figure with bands has to say of them."""
    return ", and one standard deviation" * (len(_drawn(rows)) <= BANDS)


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
        for name, style in _drawn(rows).items():
            means = _risks(of(rows, training=training, score=name))
            ax.plot(_COVERED, means, color=style.colour, ls=style.line, lw=1.4, label=name)
    # The axes share it, and it would end at the top of those that are drawn.
    ax.set_ylim(bottom=0)
    _legend(figure, rows)
    figure.supxlabel("coverage, %", fontsize=10)
    figure.supylabel("errors among the accepted, %", fontsize=10)
    return figure


def risk_less_msr(rows: Sequence[Row]) -> Figure:
    """The same, less MSR's: where lines of good scores lie on each other, these do not."""
    from matplotlib.ticker import NullLocator

    figure, grid = panels(trainings(rows))
    for training, ax in grid:
        msr = _risks(of(rows, training=training, score="msr"))
        ax.axhline(0, color=STYLES["msr"].colour, lw=1.4, label="msr")
        for name, style in _drawn(rows).items():
            if name != "msr":
                means = _risks(of(rows, training=training, score=name))
                less = [one - other for one, other in zip(means, msr, strict=True)]
                ax.plot(_COVERED, less, color=style.colour, ls=style.line, lw=1.4, label=name)
    # Linear about 0, and logarithmic beyond: a score that is far off does not flatten the others.
    ax.set_yscale("symlog", linthresh=0.2, linscale=1)
    low, high = ax.get_ylim()
    ends = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
    shown = [tick for end in ends for tick in (-end, end) if low <= tick <= high]
    ax.set_yticks(
        [0, *shown], ["0", *(number(tick, 1, 1 if abs(tick) < 1 else 0, "+") for tick in shown)]
    )
    ax.yaxis.set_minor_locator(NullLocator())
    _legend(figure, rows)
    figure.supxlabel("coverage, %", fontsize=10)
    figure.supylabel("errors less MSR's, points; log scale from ± 0.2", fontsize=10)
    return figure


_COVERED = [100 * coverage for coverage in COVERAGES]


def _risks(rows: Sequence[Row]) -> list[float]:
    """Per cent, the mean over runs at each coverage; NaN where there is no row."""
    return [100 * spread(rows, at("risk", i)).mean for i in range(len(COVERAGES))]


def temperature(rows: Sequence[Row]) -> Figure:
    """Fig. 3: how much a score depends on its temperature."""
    from matplotlib.ticker import LogLocator, NullLocator

    rows = [row for row in rows if row["temperature"]]
    figure, grid = panels(trainings(rows))
    for training, ax in grid:
        for name in _drawn(rows):
            own = of(rows, training=training, score=name)
            if own:
                places = sorted(own[0]["temperature"], key=float)
                values = [at("temperature", t) for t in places]
                _band(ax, [float(t) for t in places], own, values, 1000.0, name, rows)
        ax.set_xscale("log")
        ax.set_yscale("log")
        # At 1, 2 and 5 of every decade: more labels than these stand on each other.
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_minor_locator(NullLocator())
            axis.set_major_formatter(lambda value, _: f"{value:g}")
    _legend(figure, rows)
    figure.supxlabel("temperature T, log scale", fontsize=10)
    figure.supylabel("AURC × 1000, log scale", fontsize=10)
    return figure


def corruptions(rows: Sequence[Row]) -> Figure:
    """Fig. 4: AUROC and FPR95 under each corruption, of one training."""
    from matplotlib.figure import Figure

    rows = [row for row in rows if row.get("corruptions")]
    kinds, names = list(rows[0]["corruptions"]), _drawn(rows)
    # A marker wants a sixteenth of an inch beside the others.
    wide = max(10.0, 1.0 + len(kinds) * len(names) / 16)
    figure = Figure(figsize=(wide, 6), layout="constrained")
    pair = figure.subplots(2, 1, sharex=True)
    named = (("auroc", "AUROC, %"), ("fpr_at_tpr", "FPR95, %"))
    for ax, (metric, label) in zip(pair, named, strict=True):
        for i, (name, style) in enumerate(names.items()):
            own = of(rows, score=name)
            found = [spread(own, at("corruptions", kind, metric)) for kind in kinds]
            # Side by side, so that no marker hides another.
            places = [j + 0.8 * ((i + 0.5) / len(names) - 0.5) for j in range(len(kinds))]
            ax.errorbar(
                places,
                [100 * f.mean for f in found],
                [0 if math.isnan(f.std) else 100 * f.std for f in found],
                fmt=style.marker,
                color=style.colour,
                mfc="none" if style.line == STEPPED else style.colour,
                ms=5,
                lw=0.8,
                label=name,
            )
        ax.set_ylabel(label)
        ax.grid(alpha=0.25, lw=0.6, axis="y")
        ax.set_xlim(-0.5, len(kinds) - 0.5)
        for j in range(1, len(kinds)):
            ax.axvline(j - 0.5, color="#7F7F7F", lw=0.4, alpha=0.5)
        ax.spines[["top", "right"]].set_visible(False)
    pair[1].set_xticks(
        range(len(kinds)), [kind.replace("_", " ") for kind in kinds], rotation=35, ha="right"
    )
    _legend(figure, rows)
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
                _band(ax, [_nines(float(p)) for p in known], own, values, 100.0, name, rows)
    # Of a band, what is above 100 % says nothing.
    ax.set_ylim(top=min(ax.get_ylim()[1], 101))
    shown = {place: label for place, label in ticks.items() if label in SHOWN_TICKS}
    ax.set_xticks(list(shown), list(shown.values()))
    _legend(figure, rows)
    figure.supxlabel("predictions with p above, log scale of 1 − p", fontsize=10)
    figure.supylabel("AUROC, %", fontsize=10)
    return figure


#: Thresholds that have a label in Fig. B.1: the others stand too close to one of them.
SHOWN_TICKS = ("all", "0.5", "0.8", "0.9", "0.95", "0.98", "0.99", "0.995", "0.999")


def _nines(probability: float) -> float:
    """Places of 9: 1 at 0.9, 2 at 0.99."""
    return -math.log10(1 - probability)


def _band(
    ax: Axes,
    x: list[float],
    rows: Sequence[Row],
    values: Sequence[Value],
    factor: float,
    name: str,
    beside: Sequence[Row],
) -> None:
    """Mean over runs, and one standard deviation where few scores are beside it."""
    style = _style(name)
    found = [spread(rows, value) for value in values]
    means = [factor * f.mean for f in found]
    ax.plot(
        x,
        means,
        color=style.colour,
        ls=style.line,
        marker=style.marker,
        mfc="none" if style.line == STEPPED else style.colour,
        ms=4,
        lw=1.4,
        label=name,
    )
    if len(_drawn(beside)) <= BANDS and len(per_run(rows, values[0])) > 1:
        low = [factor * (f.mean - f.std) for f in found]
        high = [factor * (f.mean + f.std) for f in found]
        ax.fill_between(x, low, high, color=style.colour, alpha=0.12, lw=0)
