"""Figures of an evaluation: RAT's Fig. 2, 3, 4 and B.1, and risk against coverage."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rrfast._colours import BLACK, BLUE, GREEN, GREY, ORANGE, PINK, SKY, VERMILION
from rrfast._tables import number
from rrfast.evaluate import drawing
from rrfast.evaluate.drawing import (
    RIGHT_AND_WRONG,
    Drawing,
    Points,
    Style,
    counted,
    drawn,
    file_name,
)
from rrfast.evaluate.misd.curves import DRAWN, DRAWN_AT, first_of
from rrfast.evaluate.misd.measurements import EDGES
from rrfast.evaluate.observations import Row, at, grouped, of, spread, values
from rrfast.scores.registry import STEP

if TYPE_CHECKING:
    from matplotlib.figure import Figure


#: Warm colours for the radii, cold colours or grey for all others.
STYLES = {
    "radius_fast": Style(VERMILION, "-", "o"),
    "radius_search": Style(ORANGE, "--", "D"),
    "radius_bs": Style(ORANGE, "-", "s"),
    "radius_refined": Style("#A52A2A", "-.", "h"),
    "radius_grad": Style(PINK, "--", "v"),
    "radius_deepfool": Style(PINK, "-.", "<"),
    "radius_pgd": Style(VERMILION, "-.", ">"),
    "radius_fab": Style("#A52A2A", "--", "p"),
    "radius_fmn": Style(ORANGE, "-.", "H"),
    "msr": Style(BLACK, "-", "x"),
    "odin": Style(BLUE, "-", "^"),
    "doctor_alpha": Style(SKY, "-.", "P"),
    "doctor_beta": Style(SKY, "-", "d"),
    "relu": Style(GREEN, "-.", "X"),
    "entropy": Style(GREEN, "-", "*"),
    "margin": Style(GREY, "--", "1"),
    "max_logit": Style("#5D3A9B", "-", "2"),
    "max_logit_pnorm": Style("#5D3A9B", "--", "3"),
    "energy": Style(BLUE, "--", "4"),
}
#: With more lines than this, bands are left out, because they would hide the lines.
BANDS = 9
#: The line style of a score after ODIN's step, in the colour of the score.
STEPPED = ":"


def figures(result: dict[str, Any]) -> Iterator[Drawing]:
    """Every figure for which there are rows."""
    rows: list[Row] = result["curves"]
    score = first_of(DRAWN, rows)
    if score is not None:
        divisions = len({row["split"] for row in result["runs"]})
        others = [name for name in _drawn(rows) if name in DRAWN and name != score]
        beside = f" ({', '.join(others)}: not drawn)" * bool(others)
        divided = f" and {divisions} divisions, in which images recur" if divisions > 1 else ""
        yield from drawn(
            "radius",
            "Radii of right and wrong predictions",
            f"RAT Fig. 2. {score}{beside}, all seeds together{divided}; bars: share of the group "
            "per bin; lines: medians of the seeds, averaged.",
            radius_histograms,
            of(rows, score=score),
        )
    yield from drawn(
        "risk_coverage",
        "Risk against coverage",
        "Errors among the accepted, per cent, mean over seeds; lower is better, and the area under "
        "a line is its AURC.",
        risk_coverage,
        rows,
    )
    if len(_drawn(rows)) > 1 and of(rows, score="msr"):
        yield from drawn(
            "risk_less_msr",
            "Risk less MSR's against coverage",
            "The previous figure relative to MSR: errors among the accepted minus those with MSR, "
            "points, mean over seeds; below 0, a score is better than MSR at that coverage.",
            risk_less_msr,
            rows,
        )
    swept = [row for row in rows if row["temperature"]]
    yield from drawn(
        "temperature",
        "AURC against temperature",
        "RAT Fig. 3. AURC × 1000 on the test part at every T of RAT B.1, eps as tuned; mean "
        f"over seeds{_spread_said(swept)}.",
        temperature,
        swept,
    )
    for (training,), own in grouped(rows, "training").items():
        yield from drawn(
            file_name("corruptions", training),
            f"Under corruption: {training}",
            f"RAT Fig. 4. Severity {result['options'].get('severity')}; tuned on clean images; "
            "mean over seeds, and one standard deviation.",
            corruptions,
            [row for row in own if row.get("corruptions")],
        )
    yield from drawn(
        "above",
        "Among confident predictions",
        "RAT Fig. B.1. AUROC among predictions whose softmax probability p is above a threshold; "
        f"mean over seeds{_spread_said(rows)}, where every seed has errors left.",
        above,
        rows,
    )


def _drawn(rows: Sequence[Row]) -> dict[str, Style]:
    """Every score with its style, radii first."""
    there = values(rows, "score")
    order = [end for name in STYLES for end in (name, f"{name}{STEP}") if end in there]
    return {name: _style(name) for name in dict.fromkeys([*order, *there])}


def _style(name: str) -> Style:
    style = STYLES.get(name.removesuffix(STEP)) or Style(GREY, "-.", "+")
    return style._replace(line=STEPPED) if name.endswith(STEP) else style


def _few(rows: Sequence[Row]) -> bool:
    """Whether the lines leave room for bands."""
    return len(_drawn(rows)) <= BANDS


def _spread_said(rows: Sequence[Row]) -> str:
    """The part of a caption that describes the bands."""
    return ", and one standard deviation" * _few(rows)


def _lines(rows: Sequence[Row], points: Points, **looks: Any) -> Figure:
    """A panel for each training, a line for each score."""
    return drawing.lines(rows, "training", "score", points, _drawn(rows), **looks)


def radius_histograms(rows: Sequence[Row]) -> Figure:
    """Fig. 2: the distance of right and wrong predictions from the decision boundary."""
    x, y = f"radius ({rows[0]['score']}), log scale", "share of its group per bin, %"
    figure, grid = drawing.panels(values(rows, "training"), 2.9, x=x, y=y)
    used: list[float] = []
    for training, ax in grid:
        own = of(rows, training=training)
        for group, style in RIGHT_AND_WRONG.items():
            found = [row["histogram"][group] for row in own]
            counts = counted(one["counts"] for one in found)
            outside = sum(one["outside"] for one in found)
            total = sum(counts) + outside
            if total == 0:
                continue
            median = spread(own, at("histogram", group, "median")).mean
            # None if the median of a seed is infinite: then most of the group have no finite
            # radius.
            said = f"{median:.2g}" if math.isfinite(median) else "undefined"
            label = f"{group}: {total:,}, median {said}" + f"\n{outside} not drawn" * bool(outside)
            # Bins in pairs: a few hundred images do not fill twenty bins per decade.
            pairs = [sum(pair) for pair in zip(counts[::2], counts[1::2], strict=True)]
            drawing.histogram(ax, EDGES[::2], pairs, style, label, median, total)
            used += [
                e for n, *ends in zip(counts, EDGES, EDGES[1:], strict=False) if n for e in ends
            ]
        ax.set_xscale("log")
        ax.legend(frameon=False, fontsize=8, loc="upper left")
    if used:
        ax.set_xlim(min(used) / 1.3, max(used) * 1.3)
        low, high = ax.get_ylim()
        ax.set_ylim(low, 1.25 * high)  # room for the legend
    return figure


#: Errors among the accepted predictions against the share of accepted ones.
_RISK = drawing.along(DRAWN_AT, [at("risk", i) for i in range(len(DRAWN_AT))])


def risk_coverage(rows: Sequence[Row]) -> Figure:
    """Errors among the accepted predictions against the share of accepted ones."""
    figure = _lines(rows, _RISK, x="coverage, %", y="errors among the accepted, %")
    # The panels share this axis; by default it would end at the highest drawn line.
    figure.axes[-1].set_ylim(bottom=0)
    return figure


def risk_less_msr(rows: Sequence[Row]) -> Figure:
    """The same minus MSR's, which separates the lines of scores that are almost equal."""
    from matplotlib.ticker import NullLocator

    msr = {row["training"]: _RISK([row])[1] for row in of(rows, score="msr")}

    def less(own: list[Row]) -> tuple[Sequence[float], list[float], Sequence[float]]:
        x, means, stds = _RISK(own)
        theirs = msr.get(own[0]["training"], [math.nan] * len(x))
        return x, [one - other for one, other in zip(means, theirs, strict=True)], stds

    y = "errors less MSR's, points; log scale from ± 0.2"
    figure = _lines(rows, less, x="coverage, %", y=y)
    # Linear around 0 and logarithmic beyond, so that one poor score does not flatten the others.
    ax = figure.axes[-1]
    ax.set_yscale("symlog", linthresh=0.2, linscale=1)
    low, high = ax.get_ylim()
    ends = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
    shown = [tick for end in ends for tick in (-end, end) if low <= tick <= high]
    ax.set_yticks(
        [0, *shown], ["0", *(number(tick, 1, 1 if abs(tick) < 1 else 0, "+") for tick in shown)]
    )
    ax.yaxis.set_minor_locator(NullLocator())
    return figure


def temperature(rows: Sequence[Row]) -> Figure:
    """Fig. 3: how much a score depends on its temperature."""

    def aurc(own: list[Row]) -> tuple[list[float], list[float], list[float]]:
        places = sorted(own[0]["temperature"], key=float)
        found = _over_runs(own[0]["temperature"][t] for t in places)
        return [float(t) for t in places], *found

    labels = {"x": "temperature T, log scale", "y": "AURC × 1000, log scale"}
    figure = _lines(rows, aurc, factor=1000.0, band=_few(rows), marked=True, **labels)
    for ax in figure.axes:
        ax.set_xscale("log")
        ax.set_yscale("log")
        drawing.log_ticks(ax.xaxis, (1,))
        drawing.log_ticks(ax.yaxis)
    return figure


def corruptions(rows: Sequence[Row]) -> Figure:
    """Fig. 4: AUROC and FPR95 under each corruption for one training."""
    from matplotlib.figure import Figure

    kinds, names = list(rows[0]["corruptions"]), _drawn(rows)
    # A marker needs a sixteenth of an inch next to the others.
    wide = max(10.0, 1.0 + len(kinds) * len(names) / 16)
    figure = Figure(figsize=(wide, 6), layout="constrained")
    pair = figure.subplots(2, 1, sharex=True)
    named = (("auroc", "AUROC, %"), ("fpr_at_tpr", "FPR95, %"))
    for ax, (metric, label) in zip(pair, named, strict=True):
        for i, (name, style) in enumerate(names.items()):
            [row] = of(rows, score=name)
            found = _over_runs(row["corruptions"][kind][metric] for kind in kinds)
            ax.errorbar(
                *drawing.beside(i, len(names), [*zip(*found, strict=True)]),
                fmt=style.marker,
                color=style.colour,
                mfc="none" if style.line == STEPPED else style.colour,
                ms=5,
                lw=0.8,
                label=name,
            )
        ax.set_ylabel(label)
        drawing.plain_axes(ax, "y")
        ax.set_xlim(-0.5, len(kinds) - 0.5)
        for j in range(1, len(kinds)):
            ax.axvline(j - 0.5, color=GREY, lw=0.4, alpha=0.5)
    named_kinds = [kind.replace("_", " ") for kind in kinds]
    pair[1].set_xticks(range(len(kinds)), named_kinds, rotation=35, ha="right")
    return drawing.legend(figure, list(names))


#: Thresholds with a label in Fig. B.1, besides the last: the others are too close to one of them.
SHOWN_TICKS = ("all", "0.5", "0.8", "0.9", "0.95", "0.99", "0.999")


def above(rows: Sequence[Row]) -> Figure:
    """Fig. B.1: AUROC among predictions above a confidence, on an axis of nines."""
    ticks: dict[float, str] = {}

    def auroc(own: list[Row]) -> tuple[list[float], list[float], list[float]]:
        # Up to the last threshold above which every seed has errors.
        points = zip(own[0]["above"], *_over_runs(own[0]["above"].values()), strict=True)
        known = [point for point in points if not math.isnan(point[1])]
        thresholds, means, stds = map(list, zip(*known, strict=True)) if known else ([], [], [])
        x = [-math.log10(1 - float(p)) for p in thresholds]
        ticks.update(zip(x, (p if float(p) else "all" for p in thresholds), strict=True))
        return x, means, stds

    labels = {"x": "predictions with p above, log scale of 1 − p", "y": "AUROC, %"}
    figure = _lines(rows, auroc, band=_few(rows), marked=True, **labels)
    ax = figure.axes[-1]
    # The part of a band above 100 % is meaningless.
    ax.set_ylim(top=min(ax.get_ylim()[1], 101))
    last = max(ticks, default=None)
    shown = {x: label for x, label in ticks.items() if label in SHOWN_TICKS or x == last}
    ax.set_xticks(list(shown), list(shown.values()))
    return figure


def _over_runs(pairs: Iterable[Sequence[float | None]]) -> tuple[list[float], list[float]]:
    """Means and standard deviations, as `curve` has them; NaN for None, and where there is none."""
    both = zip(*((*pair, None)[:2] for pair in pairs), strict=True)
    means, stds = ([math.nan if x is None else x for x in part] for part in both)
    return means, stds
