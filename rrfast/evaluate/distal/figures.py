"""Figures on distal examples: confidence by kind of input, and noise accepted with the images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from rrfast._colours import BLACK, BLUE, GREEN, GREY, SKY, VERMILION
from rrfast.evaluate import drawing
from rrfast.evaluate.distal.measurements import EDGES, SHARES
from rrfast.evaluate.distal.tables import NOISE
from rrfast.evaluate.drawing import Drawing, Style, counted
from rrfast.evaluate.observations import Row, at, curve, grouped, of, values, weights

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IMAGES = "test images"
#: Style of each kind of input.
STYLES = {
    IMAGES: Style(BLACK),
    "uniform": Style(SKY, "--"),
    "smoothed": Style(GREEN, "--"),
    "distal uniform": Style(BLUE),
    "distal smoothed": Style(VERMILION),
}
#: Probabilities with a tick on an axis of log-odds.
TICKS = (0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.999999)


def figures(result: dict[str, Any]) -> Iterator[Drawing]:
    """Every figure for which there are rows."""
    there = grouped(result["runs"], "checkpoint")
    for (checkpoint,), rows in there.items():
        end, said = (f"_{checkpoint}", f", {weights(checkpoint)}") if len(there) > 1 else ("", "")
        yield Drawing(
            f"distal_confidence{end}",
            f"Confidence on images and on noise{said}",
            "Share of each kind of input per bin of half a unit of log-odds, all seeds together, "
            "the outermost bins with all values beyond them; grey: the thresholds of the seeds.",
            partial(confidences, rows),
        )
        yield Drawing(
            f"distal_roc{end}",
            f"Noise accepted with the test images{said}",
            "Share of accepted test images against the share of noise accepted with them, mean "
            "over seeds; higher is better.",
            partial(roc, rows),
        )


def confidences(rows: Sequence[Row]) -> Figure:
    """Histograms over the log-odds, a panel for each training."""
    x, y = "confidence p, on an axis of log-odds", "share of its kind per bin, %"
    figure, grid = drawing.panels(values(rows, "training"), x=x, y=y)
    used: set[int] = set()
    for training, ax in grid:
        own = of(rows, training=training)
        for name, style in STYLES.items():
            kinds = [row if name == IMAGES else row["noise"][name] for row in own]
            counts = counted(kind["histogram"] for kind in kinds)
            if any(counts):
                used |= {i for i, n in enumerate(counts) if n}
                drawing.histogram(ax, EDGES, counts, style, _label(name))
        for row in own:
            if row["threshold"] is not None:
                ax.axvline(row["threshold"], color=GREY, lw=1)
        ax.set_xticks([math.log(p / (1 - p)) for p in TICKS], [f"{p:g}" for p in TICKS])
        ax.tick_params(axis="x", labelrotation=40, labelsize=8)
    if used:
        figure.axes[0].set_xlim(EDGES[min(used)] - 0.5, EDGES[max(used) + 1] + 0.5)
    figure.axes[0].set_ylim(bottom=0)
    return drawing.legend(figure)


def roc(rows: Sequence[Row]) -> Figure:
    """Curves, a panel for each training."""
    kinds = [row | {"kind": _label(name), "of": name} for row in rows for name in NOISE]
    # After the last test image, only noise is still to be accepted.
    shares = [0.0, *SHARES, 1.0]

    def passing(own: list[Row]) -> tuple[list[float], list[float], list[float]]:
        numbers = [at("noise", own[0]["of"], "roc", i) for i in range(len(SHARES))]
        found, _ = curve(own, numbers)
        known = not any(map(math.isnan, found))
        return [0.0, *(100 * f for f in found), 100.0] if known else [], shares, shares

    x, y = "noise that passes, %", "test images that pass, %"
    looks = {_label(name): STYLES[name] for name in NOISE}
    figure = drawing.lines(kinds, "training", "kind", passing, looks, x=x, y=y)
    for ax in figure.axes:
        ax.set_xlim(-2, 102)
        ax.set_ylim(-2, 102)
    return figure


def _label(name: str) -> str:
    return " ".join(NOISE[name].split()) if name in NOISE else name
