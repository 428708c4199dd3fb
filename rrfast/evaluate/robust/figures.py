"""Figures of an evaluation under attack: bars per attack, and accuracy against the radius."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from rrfast._colours import BLUE, COLOURS, GREY, ORANGE, VERMILION
from rrfast._tables import number
from rrfast.evaluate import drawing
from rrfast.evaluate.drawing import Drawing
from rrfast.evaluate.observations import Row, by_weights, of, spread, values, weights
from rrfast.evaluate.robust import tables
from rrfast.evaluate.robust.tables import ACCURACY, CLEAN, label, radius

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figures(result: dict[str, Any]) -> Iterator[Drawing]:
    """Every figure for which there are rows."""
    yield Drawing(
        "robust_attacks",
        "Accuracy under each attack",
        f"IRAT Tables 1 and 5. eps = {radius(result['options']['eps'])}; mean over seeds, and one "
        "standard deviation.",
        partial(attacks, result),
    )
    if tables.curve_radii(result):
        yield Drawing(
            "robust_curve",
            f"Accuracy under {label('pgd', result)} against eps",
            "Mean over seeds, and one standard deviation. At 0 the images as they are.",
            partial(by_radius, result),
        )

    pictured = [row for row in of(result["runs"], attack=CLEAN) if "pictured" in row]
    if pictured:
        yield from _of_margins(pictured[0])


def _of_margins(row: dict[str, Any]) -> Iterator[Drawing]:
    """IRAT's Fig. 2 to 4 for one network."""
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
    titles = ["as they are", "after PGD-10"]
    figure, grid = drawing.panels(titles, x=AXES[x], y=AXES[y])
    for part, (_, ax) in zip(points, grid, strict=True):
        columns = zip(part["true"], part["margin"], part["similarity"], strict=True)
        known = [
            {"true": p, "rate": 1 - p, "margin": m, "similarity": c}
            for p, m, c in columns
            if None not in (p, m, c)
        ]
        for name, colour in (("right", BLUE), ("wrong", ORANGE)):
            own = [at for at in known if (at["margin"] < 0) == (name == "right")]
            places, heights = ([at[axis] for at in own] for axis in (x, y))
            ax.scatter(places, heights, s=8, color=colour, label=name, lw=0)
    return drawing.legend(figure)


def _bars(examples: list[dict[str, Any]]) -> Figure:
    titles = [f"c = {number(example['similarity'], 1.0, 2)}" for example in examples]
    figure, grid = drawing.panels(titles, x="class", y="probability")
    for example, (_, ax) in zip(examples, grid, strict=True):
        colours = [VERMILION if k == example["y"] else BLUE for k in range(len(example["p"]))]
        heights = [math.nan if p is None else p for p in example["p"]]
        ax.bar(range(len(heights)), heights, color=colours)
    return figure


def attacks(result: dict[str, Any]) -> Figure:
    """A group of bars for each attack, a bar for each training."""
    from matplotlib.figure import Figure

    order, names = values(result["runs"], "training"), tables.columns(result)
    there = by_weights(result["runs"])
    figure = Figure(
        figsize=(max(6.0, 1.5 + 0.2 * len(names) * (len(order) + 1)), 0.6 + 3 * len(there)),
        layout="constrained",
    )
    axes = figure.subplots(len(there), 1, sharex=True, sharey=True, squeeze=False).flatten()
    for ax, (whose, rows) in zip(axes, there.items(), strict=True):
        for i, training in enumerate(order):
            own = of(rows, training=training)
            found = [spread(tables.under(result, own, name), ACCURACY) for name in names]
            where, means, stds = drawing.beside(i, len(order), found)
            ax.bar(
                where,
                means,
                0.72 / len(order),
                yerr=stds,
                color=COLOURS[i % len(COLOURS)],
                hatch="//" * (i // len(COLOURS)),
                edgecolor="white",
                lw=0,
                error_kw={"lw": 0.8, "ecolor": GREY},
                label=training,
            )
        ax.set_title(whose, fontsize=11)
        ax.set_ylabel("accuracy, %", fontsize=10)
        drawing.plain_axes(ax, "y")
        ax.set_axisbelow(True)
    axes[-1].set_xticks(range(len(names)), [tables.heading(name, result) for name in names])
    return drawing.legend(figure)


def by_radius(result: dict[str, Any]) -> Figure:
    """A line for each training, a panel for each checkpoint."""
    rows = [
        row | {"panel": weights(row["checkpoint"])}
        for row in result["runs"]
        if row["attack"] in (CLEAN, "pgd")
    ]
    radii = sorted(values(rows, "eps"))

    def accuracies(own: list[Row]) -> tuple[list[float], list[float], list[float]]:
        found = [spread(of(own, eps=eps), ACCURACY) for eps in radii]
        return radii, [f.mean for f in found], [f.std for f in found]

    looks = drawing.styles(values(rows, "training"))
    looks = {name: style._replace(marker="o") for name, style in looks.items()}
    more: dict[str, Any] = {"band": True, "marked": True, "x": "eps", "y": "accuracy, %"}
    figure = drawing.lines(rows, "panel", "training", accuracies, looks, **more)
    for ax in figure.axes:
        ax.set_xticks(radii, [radius(eps) for eps in radii])
        ax.set_ylim(bottom=0)
    return figure
