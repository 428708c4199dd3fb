"""The figures of an evaluation under attack: bars per attack, and accuracy against the radius."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rrfast.evaluate.drawing import COLOURS, LINES, Drawing, legend, panels, trainings, weights
from rrfast.evaluate.robust.tables import (
    ACCURACY,
    CLEAN,
    checkpoints,
    columns,
    label,
    radius,
    under,
)
from rrfast.evaluate.summary import of, spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figures(result: dict[str, Any]) -> Iterator[Drawing]:
    """Every figure that there are rows for.

    Raises:
        ImportError: matplotlib is not installed.
    """
    yield Drawing(
        "robust_attacks",
        "Accuracy under each attack",
        f"IRAT Tables 1 and 5. eps = {radius(result['options']['eps'])}; mean over seeds, and one "
        "standard deviation.",
        attacks(result),
    )
    radii = {row["eps"] for row in of(result["runs"], attack="pgd")}
    if radii - ({result["options"]["eps"]} if "pgd" in result["attacks"] else set()):
        yield Drawing(
            "robust_curve",
            f"Accuracy under {label('pgd', result)} against eps",
            "Mean over seeds, and one standard deviation. At 0 the images as they are.",
            curve(result),
        )


def attacks(result: dict[str, Any]) -> Figure:
    """A group of bars for each attack, a bar for each training."""
    from matplotlib.figure import Figure

    order, names = trainings(result["runs"]), columns(result)
    there = checkpoints(result)
    figure = Figure(
        figsize=(max(6.0, 1.5 + 0.2 * len(names) * (len(order) + 1)), 0.6 + 3 * len(there)),
        layout="constrained",
    )
    axes = figure.subplots(len(there), 1, sharex=True, sharey=True, squeeze=False).flatten()
    width = 0.8 / len(order)
    for ax, checkpoint in zip(axes, there, strict=True):
        for i, training in enumerate(order):
            found = [
                spread(of(under(result, checkpoint, name), training=training), ACCURACY)
                for name in names
            ]
            ax.bar(
                [j + width * (i + 0.5) - 0.4 for j in range(len(names))],
                [100 * f.mean for f in found],
                0.9 * width,
                yerr=[0 if math.isnan(f.std) else 100 * f.std for f in found],
                color=COLOURS[i % len(COLOURS)],
                hatch="//" * (i // len(COLOURS)),
                edgecolor="white",
                lw=0,
                error_kw={"lw": 0.8, "ecolor": "#7F7F7F"},
                label=training,
            )
        ax.set_title(weights(checkpoint), fontsize=11)
        ax.set_ylabel("accuracy, %", fontsize=10)
        ax.grid(alpha=0.25, lw=0.6, axis="y")
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xticks(
        range(len(names)), [label(name, result).replace(" ", "\n") for name in names]
    )
    legend(figure)
    return figure


def curve(result: dict[str, Any]) -> Figure:
    """A line for each training, a panel for each checkpoint."""
    figure, grid = panels([weights(checkpoint) for checkpoint in checkpoints(result)])
    for checkpoint, (_, ax) in zip(checkpoints(result), grid, strict=True):
        rows = of(result["runs"], checkpoint=checkpoint)
        for i, training in enumerate(trainings(rows)):
            own = of(rows, training=training)
            by_radius = {0.0: of(own, attack=CLEAN)} | {
                eps: of(own, attack="pgd", eps=eps)
                for eps in sorted({row["eps"] for row in of(own, attack="pgd")})
            }
            found = [spread(part, ACCURACY) for part in by_radius.values()]
            x, means = list(by_radius), [100 * f.mean for f in found]
            colour, line = COLOURS[i % len(COLOURS)], LINES[i // len(COLOURS) % len(LINES)]
            ax.plot(x, means, marker="o", ms=4, lw=1.4, label=training, color=colour, ls=line)
            if not math.isnan(found[0].std):
                low = [100 * (f.mean - f.std) for f in found]
                high = [100 * (f.mean + f.std) for f in found]
                ax.fill_between(x, low, high, color=colour, alpha=0.12, lw=0)
            ax.set_xticks(x, [radius(eps) for eps in x])
        ax.set_ylim(bottom=0)
    legend(figure)
    figure.supxlabel("eps", fontsize=10)
    figure.supylabel("accuracy, %", fontsize=10)
    return figure
