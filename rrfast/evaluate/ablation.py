"""The tables, claims and figure of an ablation: RAT's Tables 1 and 5."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from rrfast._tables import BETTER, CONVENTION, Block
from rrfast.data.splits import PROTOCOLS, SPLITS
from rrfast.evaluate.claims import Claim, Comparison, compared, counted, known, lower_on
from rrfast.evaluate.drawing import COLOURS, Drawing
from rrfast.evaluate.observations import Paired, Row, at, grouped, of, paired, spread, values
from rrfast.evaluate.study import Study
from rrfast.evaluate.tables import Column, Table, mark_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The objectives that are compared, and how they are printed.
OBJECTIVES = {"standard": "Standard", "at": "AT", "reverse_at": "ReverseAT", "rat": "RAT"}
#: The columns of every row, one table each.
FOUND = [
    Column("AUROC\n%", "auroc", 100.0, 1),
    Column("AURC\n×1000", "aurc", 1000.0, 2),
    Column("FPR95\n%", "fpr_at_tpr", 100.0, 1),
    Column("accuracy\n%", "accuracy", 100.0, 2),
    Column("in\ntraining", "training_accuracy", 100.0, 1),
    Column("AURC of\nMSR ×1000", "msr_aurc", 1000.0, 2),
]
RADII = [
    Column("of right\n×1000", "radius_right", 1000.0, 2),
    Column("of wrong\n×1000", "radius_wrong", 1000.0, 2),
    Column("right\n/ wrong", "radius_ratio", 1.0, 2),
]
#: Tables 1 and 5: a claim, the objective it is about, the objectives it is compared with, and the
#: #: columns it uses.
CLAIMS = {
    Claim("RAT has the lowest AURC"): ("rat", ("standard", "at", "reverse_at"), ("aurc",)),
    Claim("AT enlarges the radius of right and wrong", higher=True): (
        *("at", ("standard",)),
        ("radius_right", "radius_wrong"),
    ),
    Claim("ReverseAT shrinks both"): (
        *("reverse_at", ("standard",)),
        ("radius_right", "radius_wrong"),
    ),
    Claim("RAT separates: right over wrong", higher=True): (
        *("rat", ("standard", "at")),
        ("radius_ratio",),
    ),
}
RULE = (
    "Claims of the paper, by the paired differences over seeds. ✓ confirmed and ✗ contradicted: 0 "
    "is outside the 95 % interval of Student's t; · undecided, always for a single seed."
)


def named(objective: str, mixed: bool) -> str:
    """The printed name of a training."""
    return OBJECTIVES[objective] + " + Mixup" * mixed


def _less(runs: Sequence[Row]) -> Iterator[tuple[bool, str, Paired]]:
    by = grouped(runs, "mixup", "objective")
    for (mixed, other), own in by.items():
        if other != "rat":
            yield mixed, other, paired(by[mixed, "rat"], own, at("aurc"))


# ------------------------------------------------------------------------------------- the report


def blocks(result: dict[str, Any]) -> Iterator[Block]:
    """The tables."""
    rows = [run | {"training": named(run["objective"], run["mixup"])} for run in result["runs"]]
    for title, columns in (("Errors found by the radius", FOUND), ("Median radius", RADII)):
        yield Table(title, {"training": "training"}, columns).block(rows)


def conventions(result: dict[str, Any]) -> list[str]:
    """What a reader needs to know to read the tables."""
    recipe = result["recipe"]
    seeds, protocol = len(result["seeds"]), result.get("protocol")
    over = f"{seeds} seed{'s' * (seeds > 1)}"
    if protocol == "rat":
        each = f"{SPLITS} divisions of the test set"
        over = f"{over}, each the mean of {each}" if seeds > 1 else f"{each} of one training"
    mixup = f"Mixup alpha {result['mixup']:g}" if result["mixup"] else "without Mixup"
    setting = (
        f"Mean ± standard deviation over {over}. {recipe['model']['name']} on "
        f"{recipe['data']}; {recipe['objective']}, {mixup}; "
        f"{recipe['training']['epochs']} epochs for each."
    )
    tuned_on = f", T by AURC, {PROTOCOLS[protocol]}" if protocol else ""
    return [f"Score: {result['score']}{tuned_on}. {CONVENTION} {BETTER}", setting]


def notes(result: dict[str, Any]) -> list[str]:
    """Whether the numbers agree with the paper's."""
    # Divisions of one training are not repetitions of it.
    runs = "seeds" if len(result["seeds"]) > 1 or result.get("protocol") != "rat" else "divisions"
    lines = ["AURC × 1000, RAT minus the other on the same seed, mean ± standard error:"]
    for mixed, other, found in _less(result["runs"]):
        lines.append(f"  {named(other, mixed):<19}{lower_on(found, runs)}")
    return lines + list(claims(result["runs"]))


def comparisons(rows: Sequence[Row]) -> Iterator[Comparison]:
    """Every comparison of `CLAIMS` on trainings that all use Mixup or all do not."""
    for claim, (ours, others, columns) in CLAIMS.items():
        for other in others:
            pair = of(rows, objective=ours), of(rows, objective=other)
            for column in columns:
                yield from compared(claim, (ours, other), column, pair, at(column))


def claims(runs: Sequence[Row]) -> Iterator[str]:
    """A line per claim: how many of its comparisons confirm it, by the rule of `Paired`."""
    yield RULE
    for (mixed,), rows in grouped(runs, "mixup").items():
        yield "With Mixup:" if mixed else "Without Mixup:"
        found = known(comparisons(rows))
        for claim in CLAIMS:
            own = [one for one in found if one.claim == claim]
            told = ", ".join(f"{_ratio(rows, one)} of {OBJECTIVES[one.row[1]]}" for one in own)
            yield f"  {claim.sentence}: {counted(own)} ({told or 'no errors'})"


def _ratio(rows: Sequence[Row], one: Comparison) -> str:
    ours, other = (spread(of(rows, objective=o), at(one.column)).mean for o in one.row)
    return (
        f"{mark_of(one.found, higher=one.claim.higher)} × {ours / other if other else math.nan:.2f}"
    )


def figures(result: dict[str, Any]) -> Iterator[Drawing]:
    """AURC and median radii of every training."""
    yield Drawing("ablation", "AURC and radii", "RAT Tables 1 and 5.", partial(figure, result))


def figure(result: dict[str, Any]) -> Figure:
    """AURC of every training, and the median radius of right and wrong predictions."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(10, 4), layout="constrained")
    left, right = drawing.subplots(1, 2)
    names = list(OBJECTIVES.values())
    for mixed, colour in zip(
        values(result["runs"], "mixup"), (COLOURS[1], COLOURS[5]), strict=False
    ):
        groups = grouped(of(result["runs"], mixup=mixed), "objective").values()
        label = "with Mixup" if mixed else "without Mixup"
        x = [i + (0.2 if mixed else -0.2) for i in range(len(names))]
        means, stds = _drawn(groups, "aurc")
        left.bar(x, means, 0.36, yerr=stds, color=colour, alpha=0.8, capsize=3, label=label)
        for place, rows in zip(x, groups, strict=True):
            seeds = [math.nan if row["aurc"] is None else 1000 * row["aurc"] for row in rows]
            left.plot([place] * len(seeds), seeds, "k.", ms=3, alpha=0.5)
        for group, face in (("right", colour), ("wrong", "white")):
            means, stds = _drawn(groups, f"radius_{group}")
            style = {"fmt": "o", "color": colour, "mfc": face, "capsize": 3}
            right.errorbar(x, means, stds, **style, label=f"{group}, {label}")
    left.set_ylabel("AURC × 1000 of the radius (lower is better)")
    right.set_ylabel("median radius × 1000, log scale")
    right.set_yscale("log")
    for axis in (right.yaxis.set_major_formatter, right.yaxis.set_minor_formatter):
        axis(lambda value, _: f"{value:g}")
    left.margins(y=0.25)  # room for the legend above the bars
    for ax in (left, right):
        ax.set_xticks(range(len(names)), names)
        ax.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False, fontsize=9, loc="upper right", ncols=2)
    right.legend(frameon=False, fontsize=9)
    drawing.suptitle(
        f"{result['recipe']['model']['name']} on {result['recipe']['data']['name']}, "
        f"{len(result['seeds'])} seeds: mean and standard deviation",
        fontsize=10,
    )
    return drawing


def _drawn(groups: Iterable[Sequence[Row]], column: str) -> tuple[list[float], list[float]]:
    """Means and standard deviations in thousandths; undefined values are not drawn."""
    found = [spread(rows, at(column)) for rows in groups]
    return [1000 * f.mean for f in found], [0 if math.isnan(f.std) else 1000 * f.std for f in found]


STUDY = Study(
    "ablation",
    lambda result: f"What each part of RAT does: {result['recipe']['data']['name']}",
    conventions,
    blocks,
    notes,
    figures,
    command="ablate",
)
