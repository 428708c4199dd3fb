"""The figures on distal examples: how sure models are of what, and what passes with the images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from rrfast.evaluate.distal.appraisal import EDGES, SHARES
from rrfast.evaluate.distal.tables import NOISE
from rrfast.evaluate.drawing import Drawing, legend, panels, trainings, weights
from rrfast.evaluate.summary import Row, at, of, spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IMAGES = "test images"
#: Colour and line of each kind of input.
STYLES = {
    IMAGES: ("#000000", "-"),
    "uniform": ("#56B4E9", "--"),
    "smoothed": ("#009E73", "--"),
    "distal uniform": ("#0072B2", "-"),
    "distal smoothed": ("#D55E00", "-"),
}
#: Probabilities that have a tick on an axis of log-odds.
TICKS = (0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.999999)


def figures(result: dict[str, Any]) -> Iterator[Drawing]:
    """Every figure that there are rows for.

    Raises:
        ImportError: matplotlib is not installed.
    """
    several = len({row["checkpoint"] for row in result["runs"]}) > 1
    for checkpoint in dict.fromkeys(row["checkpoint"] for row in result["runs"]):
        rows = of(result["runs"], checkpoint=checkpoint)
        end, said = (f"_{checkpoint}", f", {weights(checkpoint)}") if several else ("", "")
        yield Drawing(
            f"distal_confidence{end}",
            f"Confidence on images and on noise{said}",
            "Share of each kind of input per bin of half a unit of log-odds, all seeds together, "
            "the outermost bins with what is beyond them; grey: the thresholds of the seeds.",
            partial(confidences, rows),
        )
        yield Drawing(
            f"distal_roc{end}",
            f"What passes with the test images{said}",
            "Share of the test images that pass against the share of noise that passes with them, "
            "mean over seeds; the higher the better.",
            partial(roc, rows),
        )


def confidences(rows: Sequence[Row]) -> Figure:
    """Histograms over the log-odds, a panel for each training."""
    figure, grid = panels(trainings(rows))
    used: set[int] = set()
    for training, ax in grid:
        own = of(rows, training=training)
        for name, (colour, line) in STYLES.items():
            kinds = [row if name == IMAGES else row["noise"][name] for row in own]
            counts = torch.tensor([kind["histogram"] for kind in kinds]).sum(0)
            if not int(counts.sum()):
                continue
            used |= set(counts.nonzero().squeeze(1).tolist())
            share = (100 * counts / counts.sum()).tolist()
            ax.stairs(share, EDGES, color=colour, ls=line, lw=1.3, label=_label(name))
        for row in own:
            if row["threshold"] is not None:
                ax.axvline(row["threshold"], color="#7F7F7F", lw=1)
        ax.set_xticks([math.log(p / (1 - p)) for p in TICKS], [f"{p:g}" for p in TICKS])
        ax.tick_params(axis="x", labelrotation=40, labelsize=8)
    if used:
        figure.axes[0].set_xlim(EDGES[min(used)] - 0.5, EDGES[max(used) + 1] + 0.5)
    figure.axes[0].set_ylim(bottom=0)
    legend(figure)
    figure.supxlabel("confidence p, on an axis of log-odds", fontsize=10)
    figure.supylabel("share of its kind per bin, %", fontsize=10)
    return figure


def roc(rows: Sequence[Row]) -> Figure:
    """Curves, a panel for each training."""
    figure, grid = panels(trainings(rows))
    for training, ax in grid:
        own = of(rows, training=training)
        for name in NOISE:
            found = [spread(own, at("noise", name, "roc", i)).mean for i in range(len(SHARES))]
            if not any(map(math.isnan, found)):
                colour, line = STYLES[name]
                # From the last test image on, only noise is let pass.
                x = [0.0, *(100 * f for f in found), 100.0]
                y = [0.0, *(100 * s for s in SHARES), 100.0]
                ax.plot(x, y, color=colour, ls=line, lw=1.4, label=_label(name))
        ax.set_xlim(-2, 102)
        ax.set_ylim(-2, 102)
    legend(figure)
    figure.supxlabel("noise that passes, %", fontsize=10)
    figure.supylabel("test images that pass, %", fontsize=10)
    return figure


def _label(name: str) -> str:
    return " ".join(NOISE[name].split()) if name in NOISE else name
