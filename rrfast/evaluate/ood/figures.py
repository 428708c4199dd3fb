"""Figures of an evaluation: ODIN's Fig. 1 to 5 and 7 to 11, ACET's App. G and H."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from rrfast._colours import BLUE, GREY
from rrfast.evaluate import drawing
from rrfast.evaluate.drawing import Drawing, Style, counted, drawn, file_name, line, styles
from rrfast.evaluate.observations import Row, at, curve, grouped, of, spread, values
from rrfast.evaluate.ood.curves import ACCEPTED, DRAWN_AT, EDGES, RATES, WITHOUT, with_not_resisted
from rrfast.evaluate.ood.effects import COLD, HOT, PAPER, THRESHOLDS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKERS = "os^Dv<>P"


def roc(rows: Sequence[Row], key: str) -> Figure:
    """A panel for each set, a line for each value of `key`."""
    points = drawing.along(
        [100 * RATES[i] for i in DRAWN_AT], [at("roc", i) for i in range(len(DRAWN_AT))]
    )
    x, y = "images of the set accepted, %", "test images accepted, %"
    figure = drawing.lines(rows, "set", key, points, height=3.2, x=x, y=y)
    for ax in figure.axes:
        ax.axhline(95, color=GREY, lw=0.8, ls=":")
        ax.set_ylim(0, 101)
    return figure


def confidence(rows: Sequence[Row]) -> Figure:
    """A panel for each set, a line for each training."""
    looks = styles(values(rows, "training"))
    x, y = "largest softmax probability", "share of the set per bin, %, log scale"
    figure, grid = drawing.panels(values(rows, "set"), 2.8, x=x, y=y)
    for name, ax in grid:
        for (training,), own in grouped(of(rows, set=name), "training").items():
            counts = counted(row["confidences"] for row in own)
            drawing.histogram(ax, EDGES, counts, looks[training], training)
        ax.set_yscale("log")
        ax.set_xlim(0, 1)
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    return drawing.legend(figure)


def accepted(rows: Sequence[Row]) -> Figure:
    """Two panels for each training, accepted and rejected images; a line for each score."""
    parts = [
        row | {"panel": f"{training}: {part}", "right": row[part]}
        for (training,), own in grouped(rows, "training").items()
        for part in ("accepted", "rejected")
        for row in own
    ]
    points = drawing.along(ACCEPTED, [at("right", i) for i in range(len(ACCEPTED))])
    x, y = "test images accepted (TPR), %", "accuracy, %"
    return drawing.lines(parts, "panel", "score", points, x=x, y=y, share="col", wide=2)


#: Panels of the diagnostics: a histogram or a mean in bins, with the axis labels.
EXPLAINED = {
    "u1": ("U1", "density"),
    "u2_given_u1": ("U1", "mean of U2"),
    "norm": ("gradient, T = 1000", "density"),
    "norm_given_s": ("S at T = 1000", "mean gradient, T = 1000"),
    "norm_given_s1": ("S at T = 1", "mean gradient, T = 1"),
}


def explained(rows: Sequence[Row]) -> Figure:
    """A panel for each diagnostic, a line for each set; that of the test images is thick."""
    looks = _of_sets(values(rows, "set"), "inside")
    figure, grid = drawing.panels(list(EXPLAINED), share=False)
    for key, ax in grid:
        for row in (row for row in rows if key in row["diagnostics"]):
            found = row["diagnostics"][key]
            height, (low, high) = found.get("density") or found["mean"], found["range"]
            middle = [low + (i + 0.5) * (high - low) / len(height) for i in range(len(height))]
            # A bin without an image has no mean.
            known = [(x, y) for x, y in zip(middle, height, strict=True) if y is not None]
            x, y = zip(*known, strict=True)
            line(ax, x, y, looks[row["set"]], row["set"], 1.0)
        horizontal, vertical = EXPLAINED[key]
        if vertical == "density":
            # Noise on which a model has learnt a low confidence lies in one narrow peak.
            ax.set_yscale("log")
            vertical += ", log scale"
        ax.set(xlabel=horizontal, ylabel=vertical, title="")
        # The range of S at a high temperature is small, so its tick labels are long.
        ax.locator_params(axis="x", nbins=4)
    return drawing.legend(figure)


def _of_sets(names: Iterable[str], thick: str) -> dict[str, Style]:
    """A style for each set, of which one is thick."""
    return {
        name: style._replace(width=2.4 if name == thick else 1.2)
        for name, style in styles(names).items()
    }


def outputs(rows: Sequence[Row]) -> Figure:
    """A panel for each set, a bar for each class."""
    from matplotlib.ticker import MaxNLocator

    found = {row["set"]: row["diagnostics"].get("outputs") for row in rows}
    titles = [name for name, logits in found.items() if logits]
    figure, grid = drawing.panels(titles, 2.6, x="class", y="logit")
    for name, ax in grid:
        ax.bar(range(len(found[name])), found[name], color=BLUE)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))  # a class is a whole number
    return figure


#: Panels of the effects: the axis, and the fixed hyper-parameter.
EFFECTS = {
    "ε = 0": ("temperature", {"eps": 0.0}),
    f"T = {COLD:g}": ("eps", {"temperature": COLD}),
    f"T = {HOT:g}": ("eps", {"temperature": HOT}),
}


def effects(rows: Sequence[Row]) -> Figure:
    """A panel for each of `EFFECTS`, a line for each set; that of the validation set is thick."""
    looks = _of_sets(values(rows, "set"), "".join(values(of(rows, kind="tuning"), "set")))
    figure, grid = drawing.panels(list(EFFECTS), share=False)
    for title, ax in grid:
        axis, fixed = EFFECTS[title]
        for name, style in looks.items():
            own = of(rows, set=name)
            table = own[0]["table"]
            there = {
                table[axis][i]: at("table", "fpr", i)
                for i in range(len(table["fpr"]))
                if all(table[key][i] == value for key, value in fixed.items())
            }
            x = sorted(there)
            line(ax, x, curve(own, [there[p] for p in x])[0], style, name, marker=".")
        if axis == "temperature":
            ax.set_xscale("log")
        else:
            ax.locator_params(axis="x", nbins=5)
        label = {"temperature": "T, log scale", "eps": "ε"}[axis]
        ax.set(xlabel=label, ylabel="FPR95, %", ylim=(-2, 102))
    return drawing.legend(figure)


def thresholds(rows: Sequence[Row]) -> Figure:
    """One panel: the share above each threshold, of the test images and of each set."""
    figure, grid = drawing.panels([""], x="threshold δ on the softmax score", y="accepted, %")
    [(_, ax)] = grid
    looks = _of_sets(["inside", *values(rows, "set")], "inside")
    known = [row for row in rows if "tpr" in row["thresholds"]]
    for row in known:
        found = row["thresholds"]
        step = (found["high"] - found["low"]) / (THRESHOLDS - 1)
        delta = [found["low"] + i * step for i in range(THRESHOLDS)]
        if row is known[0]:
            line(ax, delta, found["tpr"], looks["inside"], "inside")
            above = (d for d, tpr in zip(delta, found["tpr"], strict=True) if 100 * tpr >= 95)
            ax.axvline(max(above, default=0), color=GREY, lw=0.8, ls=":")
        line(ax, delta, found["fpr"], looks[row["set"]], row["set"])
    ax.locator_params(axis="x", nbins=5)
    ax.set_ylim(-2, 102)
    return drawing.legend(figure)


def distance(rows: Sequence[Row]) -> Figure:
    """A panel for each training: FPR95 by MMD, a marker per set in the colour of each score."""
    sets, scored = of(rows, kind="set"), of(rows, kind="score")
    names = [name for name in values(sets, "set") if name != "inside"]
    looks = styles(values(scored, "score"))
    x, y = "MMD² from the test images", "FPR95, %"
    figure, grid = drawing.panels(values(sets, "training"), x=x, y=y)
    for training, ax in grid:
        for i, name in enumerate(names):
            far = spread(of(sets, training=training, set=name), at("distances", "mmd")).mean
            marker = MARKERS[i % len(MARKERS)]
            ax.plot([], [], marker, color=GREY, ms=6, ls="", label=name)
            for score, style in looks.items():
                own = of(scored, training=training, set=name, score=score)
                fpr = 100 * spread(own, at("fpr")).mean
                ax.plot([far], [fpr], marker, color=style.colour, mfc="none", ms=6, ls="")
        for score, style in looks.items():
            ax.plot([], [], color=style.colour, lw=4, label=score)
    return drawing.legend(figure)


# -------------------------------------------------------------------------- which figures there are

ROC = "Test images accepted against images of the set accepted, mean over seeds."


def figures(result: dict[str, Any]) -> Iterator[Drawing]:
    """Every figure for which there are rows."""
    runs, curves = result["runs"], result["curves"]
    trainings = values(runs, "training")
    for training in trainings:
        yield from drawn(
            file_name("roc", training),
            f"ROC curves: {training}",
            f"ODIN Fig. 1. {ROC}",
            partial(roc, key="score"),
            of(curves, kind="score", training=training),
        )
    sets = of(curves, kind="set")
    if "msr" in result["scores"] and len(trainings) > 1:
        # Attacked sets without the resisted images, as in the paper, each in its own panel.
        left = [row for row in with_not_resisted(sets) if row["set"].endswith(WITHOUT)]
        yield from drawn(
            "roc_trainings",
            "ROC curves of MSR by training",
            f"ACET App. G. {ROC}",
            partial(roc, key="training"),
            [*of(curves, kind="score", score="msr"), *left],
        )
    yield from drawn(
        "confidence",
        "How sure the trainings are",
        "ACET App. H. Largest softmax probability of the test images and of each set, all seeds "
        "together, log scale.",
        confidence,
        sets,
    )
    yield from drawn(
        "accepted",
        "Right among accepted and rejected test images",
        "ODIN Fig. 11. Accuracy among the test images that a score accepts, and among the others; "
        "mean over seeds.",
        accepted,
        of(runs, kind="inside"),
    )
    for of_one in (_diagnostics, _effects):
        for training in trainings:
            yield from of_one(training, result)
    sets = of(runs, kind="set")
    if any("distances" in row for row in sets):
        yield from drawn(
            "distance",
            "FPR95 against distance",
            "ODIN Fig. 2. A marker is a set, a colour a score; mean over seeds.",
            distance,
            [*sets, *of(runs, kind="score")],
        )


def _diagnostics(training: str, result: dict[str, Any]) -> Iterator[Drawing]:
    rows = of(result["curves"], kind="diagnostics", training=training)
    seed = f"of seed {rows[0]['seed']}" if rows else ""
    yield from drawn(
        file_name("diagnostics", training),
        f"Logits and gradients: {training}",
        f"ODIN Fig. 5 and 7 to 9, {seed}. U1 and U2: first and second moment of the largest logit "
        "minus the others; gradient: L1 norm of that of log S.",
        explained,
        rows,
    )
    yield from drawn(
        file_name("outputs", training),
        f"The outputs of each class: {training}",
        f"ODIN Fig. 5 (f, g), {seed}. Logits of one image of each set, with a U1 that is in the "
        "middle of those of the set.",
        outputs,
        [row for row in rows if "outputs" in row["diagnostics"]],
    )


def _effects(training: str, result: dict[str, Any]) -> Iterator[Drawing]:
    tuning, effect = (
        of(result["runs"], kind=kind, training=training) for kind in ("tuning", "effect")
    )
    yield from drawn(
        file_name("effects", training),
        f"What the temperature and the step do: {training}",
        "ODIN Fig. 3 and 4. FPR95 of ODIN on each set, by T without a step, and by the step at "
        f"T = {COLD:g} and {HOT:g}; mean over seeds. The thick line is what tuning looks at: the "
        "validation split against the set that is tuned on.",
        effects,
        of([*tuning, *effect], score="odin"),
    )
    rows = of(result["curves"], kind="thresholds", training=training)
    yield from drawn(
        file_name("thresholds", training),
        f"What is accepted, by the threshold: {training}",
        f"ODIN Fig. 10, of seed {rows[0]['seed'] if rows else ''}, at T = "
        f"{PAPER['temperature']:g} and ε = {PAPER['eps']:g}. The share of the test images (TPR, "
        "thick) and of each set (FPR) above a threshold on the softmax score; dotted, that of "
        "95 % TPR.",
        thresholds,
        rows,
    )
