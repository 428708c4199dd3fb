"""The figures of an evaluation: ODIN's Fig. 1, 2, 5, 7 to 9 and 11, ACET's App. G and H."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rrfast.evaluate.drawing import COLOURS, LINES, Drawing, legend, panels, trainings
from rrfast.evaluate.ood.appraisal import ACCEPTED, EDGES, RATES
from rrfast.evaluate.ood.resisted import WITHOUT, with_not_resisted
from rrfast.evaluate.summary import Row, at, of, spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKERS = "os^Dv<>P"


def figures(result: dict[str, Any]) -> Iterator[Drawing]:
    """Every figure that there are rows for.

    Raises:
        ImportError: matplotlib is not installed.
    """
    rows: list[Row] = result["runs"]
    scored, sets = of(rows, kind="score"), of(rows, kind="set")
    names = trainings(rows)
    for training in names:
        yield Drawing(
            f"roc_{_file(training)}",
            f"ROC curves: {training}",
            "ODIN Fig. 1. Test images accepted against images of the set accepted, mean over "
            "seeds.",
            roc(of(scored, training=training), "score"),
        )
    if "msr" in result["scores"] and len(names) > 1:
        yield Drawing(
            "roc_trainings",
            "ROC curves of MSR by training",
            "ACET App. G. Test images accepted against images of the set accepted, mean over "
            "seeds.",
            roc([*of(scored, score="msr"), *_not_resisted(sets)], "training"),
        )
    yield Drawing(
        "confidence",
        "How sure the trainings are",
        "ACET App. H. Largest softmax probability of the test images and of each set, all seeds "
        "together, log scale.",
        confidence(sets),
    )
    yield Drawing(
        "accepted",
        "Right among accepted and rejected test images",
        "ODIN Fig. 11. Accuracy among the test images that a score accepts, and among the others; "
        "mean over seeds.",
        accepted(of(rows, kind="inside")),
    )
    diagnosed = [row for row in sets if "diagnostics" in row]
    for training in names if diagnosed else ():
        own = of(diagnosed, training=training)
        first = of(own, seed=min(row["seed"] for row in own))
        yield Drawing(
            f"diagnostics_{_file(training)}",
            f"Logits and gradients: {training}",
            f"ODIN Fig. 5 and 7 to 9, of seed {first[0]['seed']}. U1 and U2: first and second "
            "moment of the largest logit less the others; gradient: L1 norm of that of log S.",
            explained(first),
        )
    if any("distances" in row for row in sets):
        yield Drawing(
            "distance",
            "FPR95 against distance",
            "ODIN Fig. 2. A marker is a set, a colour a score; mean over seeds.",
            distance(sets, scored),
        )


def _not_resisted(sets: Sequence[Row]) -> list[Row]:
    """The set as the paper has it, in a panel of its own."""
    return [row for row in with_not_resisted(sets) if row["set"].endswith(WITHOUT)]


def _file(training: str) -> str:
    return re.sub(r"[^\w]+", "_", training.lower()).strip("_")


def _styles(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and line of each, in the order they come."""
    return {
        name: (COLOURS[i % len(COLOURS)], LINES[i // len(COLOURS) % len(LINES)])
        for i, name in enumerate(dict.fromkeys(names))
    }


def roc(rows: Sequence[Row], key: str) -> Figure:
    """A panel for each set, a line for each value of `key`."""
    styles = _styles([row[key] for row in rows])
    figure, grid = panels(list(dict.fromkeys(row["set"] for row in rows)), 3.2)
    for name, ax in grid:
        for line, (colour, dashes) in styles.items():
            own = of(rows, **{"set": name, key: line})
            means = [100 * spread(own, at("roc", i)).mean for i in range(len(RATES))]
            rates = [100 * rate for rate in RATES]
            ax.plot(rates, means, color=colour, ls=dashes, lw=1.4, label=line)
        ax.axhline(95, color="#7F7F7F", lw=0.8, ls=":")
        ax.set_ylim(0, 101)
    legend(figure)
    figure.supxlabel("images of the set accepted, %", fontsize=10)
    figure.supylabel("test images accepted, %", fontsize=10)
    return figure


def confidence(rows: Sequence[Row]) -> Figure:
    """A panel for each set, a line for each training."""
    styles = _styles(trainings(rows))
    figure, grid = panels(list(dict.fromkeys(row["set"] for row in rows)), 2.8)
    for name, ax in grid:
        for training, (colour, dashes) in styles.items():
            own = of(rows, set=name, training=training)
            counts = [sum(row["confidences"][i] for row in own) for i in range(len(EDGES) - 1)]
            total = max(sum(counts), 1)
            share = [100 * n / total for n in counts]
            ax.stairs(share, EDGES, color=colour, ls=dashes, lw=1.3, label=training)
        ax.set_yscale("log")
        ax.set_xlim(0, 1)
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    legend(figure)
    figure.supxlabel("largest softmax probability", fontsize=10)
    figure.supylabel("share of the set per bin, %, log scale", fontsize=10)
    return figure


def accepted(rows: Sequence[Row]) -> Figure:
    """Two panels for each training, of the accepted and of the rejected; a line for each score."""
    styles = _styles([row["score"] for row in rows])
    kinds = [(training, key) for training in trainings(rows) for key in ("accepted", "rejected")]
    figure, grid = panels([f"{training}: {key}" for training, key in kinds], share="col", wide=2)
    for (training, key), (_, ax) in zip(kinds, grid, strict=True):
        for score, (colour, dashes) in styles.items():
            own = of(rows, training=training, score=score)
            means = [100 * spread(own, at(key, i)).mean for i in range(len(ACCEPTED))]
            ax.plot(ACCEPTED, means, color=colour, ls=dashes, lw=1.4, label=score)
    legend(figure)
    figure.supxlabel("test images accepted (TPR), %", fontsize=10)
    figure.supylabel("accuracy, %", fontsize=10)
    return figure


#: Panels of the diagnostics: a histogram, or a mean in bins, and the labels of the axes.
EXPLAINED = {
    "u1": ("U1", "density"),
    "u2_given_u1": ("U1", "mean of U2"),
    "norm": ("gradient, T = 1000", "density"),
    "norm_given_s": ("S at T = 1000", "mean gradient, T = 1000"),
    "norm_given_s1": ("S at T = 1", "mean gradient, T = 1"),
}


def explained(rows: Sequence[Row]) -> Figure:
    """A panel for each diagnostic, a line for each set; those of the inside are thick."""
    styles = _styles([row["set"] for row in rows])
    figure, grid = panels(list(EXPLAINED), share=False)
    for key, ax in grid:
        for row in rows:
            found = row["diagnostics"].get(key)
            if found is None:
                continue
            colour, dashes = styles[row["set"]]
            wide = 2.4 if row["set"] == "inside" else 1.2
            edges = found["edges"]
            middle = [(a + b) / 2 for a, b in itertools.pairwise(edges)]
            height = found["density" if "density" in found else "mean"]
            # Of a bin without an image there is no mean.
            known = [(x, y) for x, y in zip(middle, height, strict=True) if y is not None]
            ax.plot(*zip(*known, strict=True), color=colour, ls=dashes, lw=wide, label=row["set"])
        horizontal, vertical = EXPLAINED[key]
        if vertical == "density":
            # Noise that a model has learnt to be unsure of lies in one narrow peak.
            ax.set_yscale("log")
            vertical += ", log scale"
        ax.set_xlabel(horizontal)
        ax.set_ylabel(vertical)
        ax.set_title("")
        # The range of S at a high temperature is small, and its numbers long.
        ax.locator_params(axis="x", nbins=4)
    legend(figure)
    return figure


def distance(sets: Sequence[Row], scored: Sequence[Row]) -> Figure:
    """A panel for each training: FPR95 by MMD, a marker per set in the colour of each score."""
    names = [name for name in dict.fromkeys(row["set"] for row in sets) if name != "inside"]
    styles = _styles([row["score"] for row in scored])
    figure, grid = panels(trainings(sets))
    for training, ax in grid:
        for i, name in enumerate(names):
            far = spread(of(sets, training=training, set=name), at("distances", "mmd")).mean
            marker = MARKERS[i % len(MARKERS)]
            ax.plot([], [], marker, color="#7F7F7F", ms=6, ls="", label=name)
            for score, (colour, _) in styles.items():
                own = of(scored, training=training, set=name, score=score)
                fpr = 100 * spread(own, at("fpr")).mean
                ax.plot([far], [fpr], marker, color=colour, mfc="none", ms=6, ls="")
        for score, (colour, _) in styles.items():
            ax.plot([], [], color=colour, lw=4, label=score)
    legend(figure)
    figure.supxlabel("MMD² from the test images", fontsize=10)
    figure.supylabel("FPR95, %", fontsize=10)
    return figure
