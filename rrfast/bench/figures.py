"""Bars of images per second, and what more passes buy."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, told apart by the colour-blind.
OURS, COARSE, RIVAL = "#0072B2", "#56B4E9", "#999999"
LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
MARKERS = "osD^vPX*"


def throughput(result: dict[str, Any], path: Path) -> None:
    """One panel per batch size; a bar per contestant, images per second on a log scale."""
    from matplotlib.figure import Figure

    rows = [row for row in result["throughput"] if not row["error"]]
    batches = list(dict.fromkeys(row["batch"] for row in rows)) or [0]
    single = len({row["dtype"] for row in rows}) == 1
    names = list(dict.fromkeys((row["method"], row["dtype"]) for row in rows))
    figure = Figure(
        figsize=(1.2 + 3.9 * len(batches), 1.5 + 0.34 * len(names)), layout="constrained"
    )
    panels = figure.subplots(1, len(batches), sharex=True, sharey=True, squeeze=False)[0]
    for batch, ax in zip(batches, panels, strict=True):
        for row in (r for r in rows if r["batch"] == batch):
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
    values = [row["images_per_second"] for row in rows]
    if values:
        # Room for the label of the longest bar, and for the shortest to be seen.
        panels[0].set_xlim(10 ** math.floor(math.log10(min(values)) - 0.3), 4 * max(values))
    model = result["settings"]["model"].rpartition(":")[2]
    figure.suptitle(f"{model} on {result['device']}", fontsize=10)
    figure.supxlabel("images per second, log scale", fontsize=10)
    figure.savefig(path, dpi=150)


def pareto(result: dict[str, Any], path: Path) -> None:
    """The median radius, and with labels the AURC, against passes per sample."""
    from matplotlib.figure import Figure

    rows = result["pareto"]
    labelled = any(row["aurc"] is not None for row in rows)
    figure = Figure(figsize=(10.5 if labelled else 5.6, 4.4), layout="constrained")
    panels = figure.subplots(1, 2 if labelled else 1, sharex=True, squeeze=False)[0]
    _lines(panels[0], rows, "median_radius", 1.0)
    panels[0].set_yscale("log")
    panels[0].set_ylabel("median radius (lower: nearer to the boundary)")
    if labelled:
        _lines(panels[1], rows, "aurc", 1000.0)
        panels[1].set_ylabel("AURC × 1000 (lower: finds errors better)")
    figure.supxlabel("passes per sample, forwards + backwards, log scale", fontsize=10)
    figure.savefig(path, dpi=150)


def _lines(ax: Axes, rows: list[dict[str, Any]], column: str, factor: float) -> None:
    """A line per method with its name at its last point."""
    ends = []
    for i, method in enumerate(dict.fromkeys(row["method"] for row in rows)):
        own = [
            (row["passes"], factor * row[column])
            for row in rows
            if row["method"] == method and row[column] is not None and math.isfinite(row[column])
        ]
        if not own:
            continue
        colour, marker = LINES[i % len(LINES)], MARKERS[i % len(MARKERS)]
        passes, values = zip(*own, strict=True)
        ax.plot(passes, values, color=colour, marker=marker, ms=5, lw=1.4)
        ends.append((passes[-1], values[-1], "MSR" if method == "msr" else method, colour))
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.margins(x=0.12, y=0.08)
    ax.spines[["top", "right"]].set_visible(False)
    for x, y, name, colour in ends:
        ax.annotate(
            name, (x, y), (6, 4), textcoords="offset points", color=colour, fontsize=9, zorder=5
        )
