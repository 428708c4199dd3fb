"""The figure of the study: AURC regime by regime, and what goes with the radius's loss."""

from __future__ import annotations

import math
from textwrap import fill
from typing import TYPE_CHECKING, Any

from predict import networks
from tables import RADIUS, Study

from rrfast._colours import COLOURS
from rrfast.evaluate.observations import at, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SCORES = {"msr": ("o", "MSR"), RADIUS: ("s", "radius")}
ABOVE: dict[str, Any] = {
    "frameon": False,
    "fontsize": 8,
    "ncols": 3,
    "loc": "lower center",
    "bbox_to_anchor": (0.5, 1.0),
}
TRAININGS = dict(zip(("Standard", "AT", "RAT"), COLOURS, strict=False))


def figure(study: Study) -> Figure:
    """Left: mean ± standard error over seeds. Right: a point for each network."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = drawn.subplots(1, 2, width_ratios=(3, 2))
    _levels(study, left)
    _networks(study, right)
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25, lw=0.6)
    return drawn


def _levels(study: Study, ax: Axes) -> None:
    labelled = set()
    for j, group in enumerate(study.groups):
        known = study.compared(group)
        for i, training in enumerate(known):
            name = training.partition(",")[0]
            for score, (marker, said) in SCORES.items():
                found = spread(study.of(group, training, score), at("aurc"))
                error = 0.0 if math.isnan(found.std) else found.std / math.sqrt(found.runs)
                label = f"{name}, {said}"
                ax.errorbar(
                    j + 0.7 * ((i + 0.5) / len(known) - 0.5),
                    1000 * found.mean,
                    1000 * error,
                    fmt=marker,
                    color=TRAININGS[name],
                    mfc=TRAININGS[name] if score == "msr" else "none",  # what is below shows
                    ms=6,
                    label=None if label in labelled else label,
                )
                labelled.add(label)
    said = [fill(group, 12) for group in study.groups]
    ax.set_xticks(range(len(said)), said, fontsize=9)
    ax.set_xlabel("training images × epochs")
    ax.set_ylabel("AURC × 1000, lower is better")
    ax.legend(**ABOVE)


def _networks(study: Study, ax: Axes) -> None:
    every = networks(study.rows, RADIUS)
    for j, group in enumerate(study.groups):
        own = [one for one in every if one.group == group]
        x, y = [100 * one.gradient for one in own], [100 * one.gain for one in own]
        ax.plot(x, y, "o", color=COLOURS[j % len(COLOURS)], ms=4, alpha=0.8, label=group)
    ax.axhline(0, color="black", lw=0.8)
    ax.set_xlabel("AUROC of small gradients alone, %")
    ax.set_ylabel("AURC of the radius over MSR's, less 1, %")
    ax.legend(**ABOVE)
