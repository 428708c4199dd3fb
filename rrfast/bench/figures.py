"""Figures: images per second, and quality against passes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from rrfast._colours import BLACK, BLUE, COLOURS, GREY, SKY
from rrfast.evaluate.drawing import Drawing, plain_axes
from rrfast.evaluate.observations import Row, of, values

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Methods in float32, in 16 bits, and the baselines.
OURS, COARSE, RIVAL = BLUE, SKY, "#999999"
LINES = (*COLOURS[1:7], BLACK, GREY)
MARKERS = "osD^vPX*"
#: Least share of radii that a setting must find to be drawn.
FOUND = 0.95
#: Possible positions of a label: offset from its point in points, and the alignment.
PLACES = (
    ((7, 0), "left"),
    ((0, 11), "center"),
    ((0, -11), "center"),
    ((7, 11), "left"),
    ((7, -11), "left"),
    ((-7, 0), "right"),
    ((0, 22), "center"),
    ((0, -22), "center"),
    ((7, 22), "left"),
)


def figures(result: dict[str, Any]) -> Iterator[Drawing]:
    """Every figure for which there are rows."""
    yield Drawing(
        "throughput",
        "Throughput",
        "Images per second by batch size, log scale; grey: MSR and the released loop.",
        partial(throughput, result),
    )
    if result.get("pareto"):
        yield Drawing(
            "pareto",
            "What passes buy",
            "The median radius, and with labels the AURC, against passes per sample; hollow: "
            "estimated, not seen to flip.",
            partial(pareto, result),
        )


def throughput(result: dict[str, Any]) -> Figure:
    """One panel per batch size; a bar per contestant, images per second on a log scale."""
    from matplotlib.figure import Figure

    rows = [row for row in result["throughput"] if not row["error"]]
    batches = values(rows, "batch") or [0]
    single = len(values(rows, "dtype")) == 1
    names = list(dict.fromkeys((row["method"], row["dtype"]) for row in rows))
    figure = Figure(
        figsize=(1.2 + 3.9 * len(batches), 1.5 + 0.34 * len(names)), layout="constrained"
    )
    panels = figure.subplots(1, len(batches), sharex=True, sharey=True, squeeze=False)[0]
    for batch, ax in zip(batches, panels, strict=True):
        for row in of(rows, batch=batch):
            at, value = names.index((row["method"], row["dtype"])), row["images_per_second"]
            colour = OURS if row["dtype"] == "float32" else COARSE
            rival = row["method"] in ("msr", "naive loop")
            ax.barh(at, value, color=RIVAL if rival else colour, height=0.72)
            label = f" {value:,.0f}" if value >= 10 else f" {value:.2g}"
            ax.text(value, at, label, va="center", fontsize=9)
        ax.set_xscale("log")
        ax.set_title(f"batch {batch}", fontsize=11)
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(axis="y", length=0)
    labels = [("MSR" if m == "msr" else m) + ("" if single else f", {d}") for m, d in names]
    panels[0].set_yticks(range(len(names)), labels)
    panels[0].invert_yaxis()
    if rows:
        # Room for the label of the longest bar, and for the shortest to be seen.
        images = [row["images_per_second"] for row in rows]
        panels[0].set_xlim(10 ** math.floor(math.log10(min(images)) - 0.3), 4 * max(images))
    model = result["settings"]["model"].rpartition(":")[2]
    figure.suptitle(f"{model} on {result['device']}", fontsize=10)
    figure.supxlabel("images per second, log scale", fontsize=10)
    return figure


def pareto(result: dict[str, Any]) -> Figure:
    """The median radius, and with labels the AURC, against passes per sample.

    Settings that found fewer than `FOUND` of the radii are left out: their infinities tie, and
    their values would dominate the scale.
    """
    from matplotlib.figure import Figure

    rows = [row for row in result["pareto"] if row["found"] >= FOUND]
    labelled = any(row["aurc"] is not None for row in rows)
    figure = Figure(figsize=(10.5 if labelled else 5.6, 4.6), layout="constrained")
    panels = figure.subplots(1, 2 if labelled else 1, sharex=True, squeeze=False)[0]
    names = values(result["pareto"], "method")
    ends = [_lines(panels[0], rows, names, "median_radius", 1.0)]
    panels[0].set_ylabel("median radius (hollow: estimated, not seen to flip)")
    if labelled:
        ends.append(_lines(panels[1], rows, names, "aurc", 1000.0))
        panels[1].set_ylabel("AURC × 1000 (lower is better)")
    figure.supxlabel("passes per sample, forwards + backwards, log scale", fontsize=10)
    model = result["settings"]["model"].rpartition(":")[2]
    left_out = len(result["pareto"]) - len(rows)
    note = (
        f"; {left_out} settings found under {100 * FOUND:g} % of radii, not drawn"
        if left_out
        else ""
    )
    figure.suptitle(f"{model}, {result['settings']['samples']} images{note}", fontsize=10)
    figure.draw_without_rendering()  # places the panels, so that the labels can be placed
    for ax, labels in zip(panels, ends, strict=True):
        _place(ax, labels)
    return figure


class Label(NamedTuple):
    """A name, and the points of its line; the label belongs to the last point."""

    text: str
    colour: str
    points: list[tuple[float, float]]


def _lines(ax: Axes, rows: list[Row], names: list[str], column: str, factor: float) -> list[Label]:
    """A line per method, with a fixed colour per method; hollow if no flip was seen."""
    labels = []
    for i, method in enumerate(names):
        own = [
            (row["passes"], factor * row[column])
            for row in rows
            if row["method"] == method and row[column] is not None and math.isfinite(row[column])
        ]
        if own:
            colour, marker = LINES[i % len(LINES)], MARKERS[i % len(MARKERS)]
            flipped = any(row["flipped"] > 0 for row in rows if row["method"] == method)
            face = colour if flipped else "white"
            ax.plot(*zip(*own, strict=True), color=colour, marker=marker, ms=5, lw=1.4, mfc=face)
            labels.append(Label("MSR" if method == "msr" else method, colour, own))
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.margins(x=0.14, y=0.12)
    plain_axes(ax)
    return labels


def _place(ax: Axes, labels: list[Label]) -> None:
    """Put every label beside its last point, at the first free position."""
    from matplotlib.transforms import Bbox

    points = [ax.transData.transform(point) for label in labels for point in label.points]
    taken: list[Bbox] = []
    for label in labels:
        for offset, side in PLACES:
            text = ax.annotate(
                label.text,
                label.points[-1],
                offset,
                textcoords="offset points",
                color=label.colour,
                fontsize=9,
                ha=side,
                va="center",
            )
            box = text.get_window_extent().padded(1)
            free = not any(box.contains(*point) for point in points)
            if free and not any(box.overlaps(other) for other in taken):
                break
            if (offset, side) != PLACES[-1]:
                text.remove()
        taken.append(box)
