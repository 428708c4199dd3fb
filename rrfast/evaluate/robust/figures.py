"""The figures of an evaluation under attack: bars per attack, and accuracy against the radius."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from rrfast._tables import number
from rrfast.evaluate.drawing import COLOURS, LINES, Drawing, legend, panels, weights
from rrfast.evaluate.robust.tables import (
    ACCURACY,
    CLEAN,
    columns,
    curve_radii,
    heading,
    label,
    radius,
    under,
)
from rrfast.evaluate.observations import of, spread, values

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
        partial(attacks, result),
    )
    if curve_radii(result):
        yield Drawing(
            "robust_curve",
            f"Accuracy under {label('pgd', result)} against eps",
            "Mean over seeds, and one standard deviation. At 0 the images as they are.",
            partial(curve, result),
        )

    pictured = [row for row in of(result["runs"], attack=CLEAN) if "pictured" in row]
    if pictured:
        yield from _of_margins(pictured[0])


def _of_margins(row: dict[str, Any]) -> Iterator[Drawing]:
    """IRAT's Fig. 2 to 4, of one network."""
    whose = f"{row['training']}, seed {row['seed']}, {weights(row['checkpoint'])}."
    points, examples = row["pictured"]["points"], row["pictured"]["examples"]
    for name, figure, title, x, y in (
        ("robust_margins", 2, "Margin against the label's probability", "true", "margin"),
        ("robust_similarity", 4, "Similarity against the incorrect rate", "rate", "similarity"),
    ):
        yield Drawing(name, title, f"IRAT Fig. {figure}. {whose}", partial(_scatter, points, x, y))
    yield Drawing(
        "robust_examples",
        "Probabilities and similarity of an unsure and of a sure prediction",
        f"IRAT Fig. 3. The label is red. {whose}",
        partial(_bars, examples),
    )


#: Axes of the scatters.
AXES = {
    "true": "p_y",
    "margin": "margin m (Eq. 4)",
    "rate": "1 − p_y",
    "similarity": "similarity c (Eq. 11)",
}


def _scatter(points: list[dict[str, list[float]]], x: str, y: str) -> Figure:
    figure, grid = panels(["as they are", "after PGD-10"])
    for part, (_, ax) in zip(points, grid, strict=True):
        lines = zip(part["true"], part["margin"], part["similarity"], strict=True)
        known = [line for line in lines if None not in line]
        for right, colour in ((True, COLOURS[1]), (False, COLOURS[5])):
            own = [line for line in known if (line[1] < 0) == right]
            values = {
                "true": [p for p, _, _ in own],
                "margin": [m for _, m, _ in own],
                "rate": [1 - p for p, _, _ in own],
                "similarity": [c for _, _, c in own],
            }
            name = "right" if right else "wrong"
            ax.scatter(values[x], values[y], s=8, color=colour, label=name, lw=0)
        ax.set_xlabel(AXES[x], fontsize=10)
    legend(figure)
    figure.supylabel(AXES[y], fontsize=10)
    return figure


def _bars(examples: list[dict[str, Any]]) -> Figure:
    figure, grid = panels([f"c = {number(e['similarity'], 1.0, 2)}" for e in examples])
    for example, (_, ax) in zip(examples, grid, strict=True):
        colours = [COLOURS[2 if k == example["y"] else 1] for k in range(len(example["p"]))]
        heights = [math.nan if p is None else p for p in example["p"]]
        ax.bar(range(len(heights)), heights, color=colours)
        ax.set_xlabel("class", fontsize=10)
    figure.supylabel("probability", fontsize=10)
    return figure


def attacks(result: dict[str, Any]) -> Figure:
    """A group of bars for each attack, a bar for each training."""
    from matplotlib.figure import Figure

    order, names = values(result["runs"], "training"), columns(result)
    there = values(result["runs"], "checkpoint")
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
    axes[-1].set_xticks(range(len(names)), [heading(name, result) for name in names])
    legend(figure)
    return figure


def curve(result: dict[str, Any]) -> Figure:
    """A line for each training, a panel for each checkpoint."""
    figure, grid = panels([weights(checkpoint) for checkpoint in values(result["runs"], "checkpoint")])
    for checkpoint, (_, ax) in zip(values(result["runs"], "checkpoint"), grid, strict=True):
        rows = of(result["runs"], checkpoint=checkpoint)
        for i, training in enumerate(values(rows, "training")):
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
