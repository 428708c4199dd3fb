"""`rrfast ablate`: trainings with and without each part of RAT, over seeds (RAT Tables 1 and 5)."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from torch import nn

from rrfast._checks import check_number, check_one_of
from rrfast._colours import BLUE, ORANGE
from rrfast._results import require_matplotlib, results_in
from rrfast._tables import BETTER, CONVENTION, Block
from rrfast.data.splits import SPLITS, TUNINGS, Part, divide
from rrfast.data.tasks import Task
from rrfast.evaluate import drawing
from rrfast.evaluate.cache import of_score
from rrfast.evaluate.claims import Claim, Comparison, compared, counted, known, lower_on
from rrfast.evaluate.drawing import Drawing
from rrfast.evaluate.observations import Row, at, grouped, of, paired, spread, tuning_of, values
from rrfast.evaluate.options import Options
from rrfast.evaluate.run_numbers import median, shown
from rrfast.evaluate.run_study import Context, run_study
from rrfast.evaluate.scored_model import correct, on_divisions
from rrfast.evaluate.study import Study
from rrfast.evaluate.tables import Column, Table, mark_of
from rrfast.evaluate.trained_model import TrainedModel
from rrfast.metrics import METRICS
from rrfast.scores import SCORES, Radius, Score
from rrfast.scores.registry import OPTION, score_named
from rrfast.scores.score import Point

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rrfast.train.recipe_file import Recipe
    from rrfast.train.variants import Run

#: The score of the tables by default: the radius to four digits, in a quarter of RR-BS's passes.
SCORE = "radius_search"
#: The objectives that are compared, and how they are printed.
ABLATED = {"standard": "Standard", "at": "AT", "reverse_at": "ReverseAT", "rat": "RAT"}
_AURC = Column("AURC\n×1000", "aurc", 1000.0, 2)
#: The columns of every row, one table each.
FOUND = [
    Column("AUROC\n%", "auroc", 100.0, 1),
    _AURC,
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
_BOTH = ("radius_right", "radius_wrong")
#: Tables 1 and 5: a claim, the objective it is about, the objectives it is compared with, and the
#: columns it uses.
CLAIMS = {
    Claim("RAT has the lowest AURC"): ("rat", ("standard", "at", "reverse_at"), ("aurc",)),
    Claim("AT enlarges the radius of right and wrong", higher=True): ("at", ("standard",), _BOTH),
    Claim("ReverseAT shrinks both"): ("reverse_at", ("standard",), _BOTH),
    Claim("RAT separates: right over wrong", higher=True): (
        "rat",
        ("standard", "at"),
        ("radius_ratio",),
    ),
}
RULE = (
    "Claims of the paper, by the paired differences over seeds. ✓ confirmed and ✗ contradicted: 0 "
    "is outside the 95 % interval of Student's t; · undecided, always for a single seed."
)


def ablate(
    recipe: Recipe,
    out: Path | str,
    *,
    seeds: Sequence[int] = range(5),
    mixup: float | None = None,
    score: str = SCORE,
    tuning: str | None = None,
    changes: Sequence[str] = (),
    command: str = "",
    console: Console | None = None,
) -> dict[str, Any]:
    """Train with each objective, without Mixup and with it, and compare what the radius finds.

    Standard, AT, ReverseAT and RAT, with the model, the data and the settings of one recipe. For
    each seed, all of them see the same images and start from the same weights. All train for the
    same number of epochs, as in the paper; a step of AT, ReverseAT or RAT costs twice a standard
    one.

    Processes of torchrun share the images of every training and of its evaluation.

    The command is resumable: every training has a folder in out/trainings. A finished training is
    not repeated, and an interrupted one continues.

    Each comparison confirms or contradicts a claim by the rule of `rrfast evaluate`: 0 must be
    outside the 95 % interval of Student's t over seeds. One seed decides nothing.

    Args:
        recipe: Its objective gives eps and all other options; its name and mode are not used.
        out: Folder for ablation.json, ablation.md, ablation.png and the trainings.
        seeds: Seeds of the trainings; also of the data if the recipe gives it no seed.
        mixup: The alpha of Mixup in the rows with Mixup; None: that of the recipe's objective, or
            1.0 if that has none; 0: no such rows.
        score: A radius in `rrfast.scores.SCORES`; the paper's is "radius_bs".
        tuning: How its temperature is tuned, as for `rrfast.evaluate.misd.evaluate`: "rat" on a
            fifth of the whole test set, three times, as the paper does; "heldout" on the validation
            split. None: no tuning, T = 1 on the whole test split.
        changes: As for `rrfast.train.train_variants`.
        command: The command that the results name as their origin.
        console: Where to print; default standard output.

    Returns:
        What ablation.json holds: `command`, `date`, `device`, `versions`, `recipe`, and `runs`: a
        row per seed, objective, mixup and division. Its `training` is the name in
            `rrfast.train.VARIANTS`.

    Raises:
        BlockingIOError: Another run is writing to `out`.
        ImportError: matplotlib is not installed.
        TypeError, ValueError: There is no seed, `mixup` is below 0, `score` is not a radius, the
            data lacks the splits that `tuning` needs, or the recipe's options do not fit. All are
            raised before the first training.

    Source: RAT Tables 1 and 5; errata 11 to 13.
    """
    require_matplotlib("ablate")
    radii = [name for name, one in SCORES.items() if isinstance(one, Radius)]
    check_one_of("score", score.partition(OPTION)[0], radii)
    score_named(score)  # its options
    # An extra that `rrfast report` does not need.
    from msgspec import to_builtins

    from rrfast.train.recipe import make_task
    from rrfast.train.variants import own_mixup, train_variants

    mixup = own_mixup(recipe) if mixup is None else mixup
    check_number("mixup", mixup, least=0)

    divide(make_task(recipe), tuning)
    out = Path(out)
    variants: dict[str, Row] = {
        variant_of(objective, mixed): {"objective": objective, "mixup": mixed}
        for mixed in ([False, True] if mixup else [False])
        for objective in ABLATED
    }
    alpha = None if mixup in (0, own_mixup(recipe)) else mixup
    more: dict[str, Any] = {"mixup": alpha, "changes": changes, "console": console}
    # Under torchrun, the first process locks the folder for all.
    first = os.environ.get("RANK", "0") == "0"
    with results_in(out, STUDY.stem) if first else contextlib.nullcontext():
        runs = list(train_variants(recipe, out / "trainings", list(variants), seeds, **more))
    batch = recipe.training.validation_batch
    return run_study(
        STUDY,
        [TrainedModel(run.variant, run.seed, partial(_loaded, run)) for run in runs],
        out,
        partial(_rows, variants=variants, score=score, tuning=tuning, batch=batch),
        Options(batch=batch, command=command, console=console),
        steps=1,
        depends={},
        entries={
            "recipe": to_builtins(recipe),
            "seeds": list(seeds),
            "mixup": mixup,
            "score": score,
            "tuning": tuning,
        },
    )


def variant_of(objective: str, mixed: bool) -> str:
    """The name in `rrfast.train.VARIANTS`; standard training with Mixup is Mixup."""
    if not mixed:
        return objective
    return "mixup" if objective == "standard" else f"{objective}_mixup"


def named(objective: str, mixed: bool) -> str:
    """The printed name of a training."""
    return ABLATED[objective] + " + Mixup" * mixed


def _loaded(run: Run) -> tuple[nn.Module, Task]:
    from rrfast.train.recipe import load_trained

    # The recipe is the one that was passed in: its code already ran in the training.
    return load_trained(run.folder, trust=True)[0], run.task


def _rows(
    context: Context, variants: dict[str, Row], score: str, tuning: str | None, batch: int
) -> list[Row]:
    """A row for each division."""
    key = f"{of_score(score)}, tuning: {tuning}"
    found = context.step(key, _evaluated, context, score, tuning, batch)
    return [variants[context.trained.training] | row for row in found]


def _evaluated(context: Context, name: str, tuning: str | None, batch: int) -> list[Row]:
    """The metrics of the last weights on the test part of every division."""
    model, task, device = context.model, context.task, context.device
    # Without augmentation: the quantity that decides RAT's sign, at the end of the training.
    trained = correct(model, Part.whole(task.train).batches(batch, device))
    rows = []
    for split, on in enumerate(
        on_divisions(model, task, tuning, context.trained.seed, batch, device)
    ):
        score: Score = score_named(name)
        point: Point = {}
        if tuning is not None:
            score, point, _ = on.tuned(name)
        value, right = on.measured(score)[0], on.correct
        of_right, of_wrong = median(value[right]), median(value[~right])
        row: Row = {"split": split, "hyperparameters": dict(point), **shown(value, right)}
        rows.append(
            {
                **row,
                "training_accuracy": trained.double().mean().item(),
                "radius_right": of_right,
                "radius_wrong": of_wrong,
                "radius_ratio": of_right / of_wrong,
                "msr_aurc": METRICS["aurc"](on.msr, right),
            }
        )
    return rows


# ------------------------------------------------------------------------------------- the report


def blocks(result: dict[str, Any]) -> Iterator[Block]:
    """The tables."""
    rows = [run | {"training": named(run["objective"], run["mixup"])} for run in result["runs"]]
    for title, columns in (("Errors found by the radius", FOUND), ("Median radius", RADII)):
        yield Table(title, {"training": "training"}, columns).block(rows)


def conventions(result: dict[str, Any]) -> list[str]:
    """What a reader needs to know to read the tables."""
    recipe = result["recipe"]
    seeds, tuning = len(result["seeds"]), tuning_of(result)
    over = f"{seeds} seed{'s' * (seeds > 1)}"
    if tuning == "rat":
        each = f"{SPLITS} divisions of the test set"
        over = f"{over}, each the mean of {each}" if seeds > 1 else f"{each} of one training"
    mixup = f"Mixup alpha {result['mixup']:g}" if result["mixup"] else "without Mixup"
    setting = (
        f"Mean ± standard deviation over {over}. {recipe['model']['name']} on "
        f"{recipe['data']}; {recipe['objective']}, {mixup}; "
        f"{recipe['training']['epochs']} epochs for each."
    )
    tuned_on = f", T by AURC, {TUNINGS[tuning]}" if tuning else ""
    return [f"Score: {result['score']}{tuned_on}. {CONVENTION} {BETTER}", setting]


def notes(result: dict[str, Any]) -> list[str]:
    """Whether the numbers agree with the paper's."""
    # Divisions of one training are not repetitions of it.
    runs = "seeds" if len(result["seeds"]) > 1 or tuning_of(result) != "rat" else "divisions"
    lines = ["AURC × 1000, RAT minus the other on the same seed, mean ± standard error:"]
    by = grouped(result["runs"], "mixup", "objective")
    for (mixed, other), own in by.items():
        if other != "rat":
            less = paired(by[mixed, "rat"], own, at("aurc"))
            lines.append(f"  {named(other, mixed):<19}{lower_on(less, runs)}")
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
            told = ", ".join(f"{_ratio(rows, one)} of {ABLATED[one.row[1]]}" for one in own)
            yield f"  {claim.sentence}: {counted(own)} ({told or 'no errors'})"


def _ratio(rows: Sequence[Row], one: Comparison) -> str:
    ours, other = (spread(of(rows, objective=o), at(one.column)).mean for o in one.row)
    return (
        f"{mark_of(one.found, higher=one.claim.higher)} × {ours / other if other else math.nan:.2f}"
    )


def figures(result: dict[str, Any]) -> Iterator[Drawing]:
    """AURC and median radii of every training."""
    recipe, seeds = result["recipe"], len(result["seeds"])
    yield Drawing(
        "ablation",
        "AURC and radii",
        f"RAT Tables 1 and 5. {recipe['model']['name']} on {recipe['data']['name']}, {seeds} "
        "seeds: mean and standard deviation.",
        partial(figure, result["runs"]),
    )


def figure(rows: Sequence[Row]) -> Figure:
    """AURC of every training, and the median radius of right and wrong predictions."""
    titles = ("AURC × 1000, lower is better", "median radius × 1000, log scale")
    figure, grid = drawing.panels(titles, share=False)
    (_, left), (_, right) = grid
    with_mixup = values(rows, "mixup")
    for i, (mixed, colour) in enumerate(zip(with_mixup, (BLUE, ORANGE), strict=False)):
        groups = grouped(of(rows, mixup=mixed), "objective").values()
        label = "with Mixup" if mixed else "without Mixup"

        def drawn(column: str, i: int = i, groups: Iterable[list[Row]] = groups) -> Any:
            found = [spread(own, at(column)) for own in groups]
            return drawing.beside(i, len(with_mixup), found, 1000.0)

        x, means, stds = drawn("aurc")
        left.bar(x, means, 0.36, yerr=stds, color=colour, alpha=0.8, capsize=3, label=label)
        for place, own in zip(x, groups, strict=True):
            seeds = [math.nan if row["aurc"] is None else 1000 * row["aurc"] for row in own]
            left.plot([place] * len(seeds), seeds, "k.", ms=3, alpha=0.5)
        for group, face in (("right", colour), ("wrong", "white")):
            style: Any = {"fmt": "o", "color": colour, "mfc": face, "capsize": 3}
            right.errorbar(*drawn(f"radius_{group}"), **style, label=f"{group}, {label}")
    right.set_yscale("log")
    drawing.log_ticks(right.yaxis)
    for ax in (left, right):
        ax.set_xticks(range(len(ABLATED)), list(ABLATED.values()))
    return drawing.legend(figure)


STUDY = Study(
    "ablation",
    lambda result: f"What each part of RAT does: {result['recipe']['data']['name']}",
    conventions,
    blocks,
    notes,
    figures,
    command="ablate",
    told=lambda rows: f"{_AURC.title} {_AURC.cell(rows)}",
)
