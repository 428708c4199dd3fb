"""`rrfast ablate`: what each part of RAT does over training seeds (RAT Tables 1 and 5)."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from rich.console import Console

from rrfast import _tables, engine
from rrfast._checks import check_number
from rrfast._device import chosen_device
from rrfast._files import write_text
from rrfast._machine import machine
from rrfast._results import plain, require_matplotlib, results_in, write_figure, write_json
from rrfast._tables import BETTER, CONVENTION, Block, number
from rrfast.data.splits import PROTOCOLS, SPLITS, Part, divide
from rrfast.evaluate.misd.appraisal import Options, grounds, measured, shown, tuned
from rrfast.evaluate.misd.claims import MARKS
from rrfast.evaluate.summary import Paired, at, counted, of, paired, spread
from rrfast.metrics import METRICS
from rrfast.scores import SCORES, Radius
from rrfast.scores.registry import score_named
from rrfast.scores.score import Point

if TYPE_CHECKING:
    from torch import Tensor

    from rrfast.train.recipe_file import Recipe
    from rrfast.train.variants import Run


#: The objectives that are compared, and how they are printed.
OBJECTIVES = {"standard": "Standard", "at": "AT", "reverse_at": "ReverseAT", "rat": "RAT"}
#: The score of the tables by default: the radius to four digits, in a quarter of RR-BS's passes.
SCORE = "radius_search"
#: What comes with every row: name, as printed, factor, digits; a table each.
FOUND = {
    "auroc": ("AUROC\n%", 100.0, 1),
    "aurc": ("AURC\n×1000", 1000.0, 2),
    "fpr_at_tpr": ("FPR95\n%", 100.0, 1),
    "accuracy": ("accuracy\n%", 100.0, 2),
    "training_accuracy": ("in\ntraining", 100.0, 1),
    "msr_aurc": ("AURC of\nMSR ×1000", 1000.0, 2),
}
RADII = {
    "radius_right": ("of right\n×1000", 1000.0, 2),
    "radius_wrong": ("of wrong\n×1000", 1000.0, 2),
    "radius_ratio": ("right\n/ wrong", 1.0, 2),
}
COLUMNS = FOUND | RADII


def ablate(
    recipe: Recipe,
    out: Path | str,
    *,
    seeds: Sequence[int] = range(5),
    mixup: float = 1.0,
    score: str = SCORE,
    protocol: str | None = None,
    command: str = "",
    console: Console | None = None,
) -> dict[str, Any]:
    """Train with each objective, without Mixup and with it, and compare what the radius finds.

    Standard, AT, ReverseAT and RAT, with the model, the data and the settings of one recipe. For a
    seed all of them see the same images and begin with the same weights. All train for the same
    number of epochs, as in the paper; a step of AT, ReverseAT or RAT costs twice a standard one.

    The whole is resumable: every training has a folder in out/trainings, one that is over is not
    done again, and one that was stopped goes on.

    A claim is confirmed or contradicted, comparison by comparison, by the rule of `rrfast
    evaluate`: where 0 is outside the 95 % interval of Student's t over seeds. One seed decides
    nothing.

    Args:
        recipe: Its objective gives eps and all other options; its name and mode are not used.
        out: Folder for ablation.json, ablation.md, ablation.png and the trainings.
        seeds: Of the trainings; also of the data, where the recipe gives them none.
        mixup: The alpha of Mixup in the rows that have it; 0: there are no such rows.
        score: A radius in `rrfast.scores.SCORES`; the paper's is "radius_bs".
        protocol: How its temperature is tuned, as of `rrfast.evaluate.misd.evaluate`: "rat" on a
            fifth of the whole test set, three times, as the paper does; "heldout" on the validation
            split. None: not at all, T = 1 on the whole test split.
        command: What the results are to say made them.
        console: Where to print; default standard output.

    Returns:
        What ablation.json holds: `command`, `date`, `device`, `versions`, `recipe`, `runs` (a row
        per seed, objective, mixup and division), `summary` (mean and standard deviation over seeds;
        of a single one, over its divisions) and
        `paired` (RAT less each of the others on the same seed: mean, standard error, wins).

    Raises:
        BlockingIOError: Another run is writing into `out`.
        ImportError: matplotlib is not installed.
        TypeError, ValueError: There is no seed, `mixup` is below 0, `score` is no radius, the data
            have not the splits that `protocol` needs, or the recipe's options do not fit; all of it
            before the first training.

    Source: RAT Tables 1 and 5; errata 11 to 13.
    """
    require_matplotlib("ablate")
    check_number("mixup", mixup, zero=True)
    if not isinstance(score_named(score), Radius):
        radii = [name for name, one in SCORES.items() if isinstance(one, Radius)]
        raise ValueError(f"score must be a radius, of {', '.join(radii)}, got {score!r}")
    from rrfast.train.recipe import make_task  # an extra, which `rrfast report` needs not

    divide(make_task(recipe), protocol)
    asked = _Asked(mixup, score, protocol)
    console = console or Console()
    out = Path(out)
    # Under torchrun the first process holds the folder for all.
    first = os.environ.get("RANK", "0") == "0"
    with results_in(out, "ablation") if first else contextlib.nullcontext():
        return _ablate(recipe, out, seeds, asked, command, console)


class _Asked(NamedTuple):
    """What is asked of every seed."""

    mixup: float
    score: str
    protocol: str | None


def _ablate(
    recipe: Recipe,
    out: Path,
    seeds: Sequence[int],
    asked: _Asked,
    command: str,
    console: Console,
) -> dict[str, Any]:
    import msgspec

    runs = list(_runs(recipe, out, seeds, asked, console))
    # As it will be read again: None for NaN.
    result: dict[str, Any] = plain(
        {
            "command": command,
            **machine(chosen_device(None)),
            "recipe": msgspec.to_builtins(recipe),
            "seeds": list(seeds),
            **asked._asdict(),
            "summary": _summary(runs),
            "paired": _paired(runs),
            "runs": runs,
        }
    )
    console.print("\n".join(conventions(result)), highlight=False, markup=False)
    console.print(_tables.terminal(blocks(result)))
    console.print("\n".join(notes(result)), highlight=False, markup=False)
    write_json(out / "ablation.json", result)
    written = ["ablation.json", *write_page(out, result)]
    console.print(f"\nWritten to {out}: {', '.join(written)}", highlight=False)
    return result


# ---------------------------------------------------------------------------------------- the runs


def _runs(
    recipe: Recipe, out: Path, seeds: Sequence[int], asked: _Asked, console: Console
) -> Iterator[dict[str, Any]]:
    compared = {
        variant_of(objective, mixed): {"objective": objective, "mixup": mixed}
        for mixed in ([False, True] if asked.mixup else [False])
        for objective in OBJECTIVES
    }
    from rrfast.train.variants import train_variants

    alpha = asked.mixup or None
    done = train_variants(
        recipe, out / "trainings", list(compared), seeds, mixup=alpha, console=console
    )
    for run in done:
        for found in _evaluated(run, asked):
            if not console.is_terminal:
                worth = f"AURC {1000 * found['aurc']:.2f}, {100 * found['accuracy']:.2f} % right"
                console.print(f"{run.folder.name}: {worth}", highlight=False)
            yield {"seed": run.seed, **compared[run.variant], **found}


def variant_of(objective: str, mixed: bool) -> str:
    """The name in `rrfast.train.VARIANTS`; standard training with Mixup is Mixup."""
    if not mixed:
        return objective
    return "mixup" if objective == "standard" else f"{objective}_mixup"


def _evaluated(run: Run, asked: _Asked) -> Iterator[dict[str, Any]]:
    """The metrics of the last weights on the test part of every division."""
    # The recipe is the one that was given: its code ran in the training.
    from rrfast.train.recipe import load_trained

    model, recipe = load_trained(run.folder, trust=True)
    device, batch = chosen_device(None), recipe.training.validation_batch
    model.to(device)
    # Without augmentation: of what RAT's sign is decided by, at the end of the training.
    trained = [
        engine.logits(model, x).argmax(1) == y
        for x, y in Part.whole(run.task.train).batches(batch, device, recipe.training.workers)
    ]
    options = Options(batch=batch)
    for split, on in enumerate(grounds(model, run.task, asked.protocol, run.seed, device, batch)):
        score = score_named(asked.score)
        point: Point = {}
        if asked.protocol is not None:
            score, point, _ = tuned(asked.score, on, options)
        value, right = measured(score, on, options)[0], on.correct
        of_right, of_wrong = _median(value[right]), _median(value[~right])
        yield {
            "split": split,
            "hyperparameters": dict(point),
            **shown(value, right),
            "training_accuracy": torch.cat(trained).double().mean().item(),
            "radius_right": of_right,
            "radius_wrong": of_wrong,
            "radius_ratio": of_right / of_wrong,
            "msr_aurc": METRICS["aurc"](on.msr, right),
        }


def _median(values: Tensor) -> float:
    return values.double().quantile(0.5).item() if len(values) else math.nan


# ---------------------------------------------------------------------------------- the statistics


def _mixed(rows: Sequence[dict[str, Any]]) -> list[bool]:
    """Without Mixup, and with it where there is such a row."""
    return sorted({row["mixup"] for row in rows})


def _summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for mixed in _mixed(runs):
        for objective in OBJECTIVES:
            own = of(runs, objective=objective, mixup=mixed)
            found = {column: spread(own, at(column)) for column in COLUMNS}
            rows.append(
                {"objective": objective, "mixup": mixed}
                | {column: {"mean": s.mean, "std": s.std} for column, s in found.items()}
            )
    return rows


def _less(
    runs: list[dict[str, Any]], mixed: bool, one: str, other: str, column: str = "aurc"
) -> Paired:
    """A column of one objective less that of another on the same seed."""
    # Results of before have one division, and do not say so.
    rows, less = (
        [{"split": 0} | run for run in of(runs, objective=objective, mixup=mixed)]
        for objective in (one, other)
    )
    return paired(rows, less, at(column))


def _paired(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """RAT less each of the others on the same seed."""
    rows = []
    for mixed in _mixed(runs):
        for other in [name for name in OBJECTIVES if name != "rat"]:
            found = _less(runs, mixed, "rat", other)
            rows.append(
                {
                    "other": other,
                    "mixup": mixed,
                    "mean": found.mean,
                    "standard_error": found.standard_error,
                    "lower": found.lower,
                    "seeds": found.runs,
                }
            )
    return rows


# ------------------------------------------------------------------------------------- the report


def _named(objective: str, mixed: bool) -> str:
    return OBJECTIVES[objective] + " + Mixup" * mixed


def blocks(result: dict[str, Any]) -> Iterator[Block]:
    """The tables."""
    for title, columns in (("Errors found by the radius", FOUND), ("Median radius", RADII)):
        rows = [
            [
                _named(row["objective"], row["mixup"]),
                *(
                    _cell(row[name], factor, digits)
                    for name, (_, factor, digits) in columns.items()
                ),
            ]
            for row in result["summary"]
        ]
        yield Block(title, ["training", *(head for head, _, _ in columns.values())], rows, 1)


def _cell(both: dict[str, float | None], factor: float, digits: int) -> str:
    spread = "" if both["std"] is None else f" ± {number(both['std'], factor, digits)}"
    return number(both["mean"], factor, digits) + spread


def conventions(result: dict[str, Any]) -> list[str]:
    """What has to be known to read the tables."""
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
    """Whether the numbers come out as the paper's."""
    lines = [
        "AURC × 1000, RAT less the other on the same seed, mean ± standard error:",
    ]
    # Divisions of one training are no repetitions of it.
    runs = "seeds" if len(result["seeds"]) > 1 or result.get("protocol") != "rat" else "divisions"
    for row in result["paired"]:
        error = row["standard_error"]
        spread = "" if error is None else f" ± {number(error, 1000, 2)}"
        lines.append(
            f"  {_named(row['other'], row['mixup']):<19}"
            f"{number(row['mean'], 1000, 2, '+')}{spread}, lower on {row['lower']} of "
            f"{row['seeds']} {runs}"
        )
    return lines + list(claims(result))


class _Claim(NamedTuple):
    """What the paper says of one objective against others."""

    sentence: str
    subject: str
    lower: bool  #: whether the subject's column is to be the lower one
    others: tuple[str, ...]
    columns: tuple[str, ...]


#: Tables 1 and 5.
CLAIMS = (
    _Claim("RAT has the lowest AURC", "rat", True, ("standard", "at", "reverse_at"), ("aurc",)),
    _Claim(
        "AT enlarges the radius of right and wrong",
        "at",
        False,
        ("standard",),
        ("radius_right", "radius_wrong"),
    ),
    _Claim(
        "ReverseAT shrinks both",
        "reverse_at",
        True,
        ("standard",),
        ("radius_right", "radius_wrong"),
    ),
    _Claim("RAT separates: right over wrong", "rat", False, ("standard", "at"), ("radius_ratio",)),
)
RULE = (
    "Claims of the paper, by the paired differences over seeds. ✓ confirmed and ✗ contradicted: 0 "
    "is outside the 95 % interval of Student's t; · undecided, as a single seed always is."
)


def claims(result: dict[str, Any]) -> Iterator[str]:
    """A line per claim: how many of its comparisons bear it out, by the rule of `Paired`."""
    runs = result["runs"]
    yield RULE
    for mixed in _mixed(runs):
        yield "With Mixup:" if mixed else "Without Mixup:"
        for claim in CLAIMS:
            found = []
            for other in claim.others:
                pair = (claim.subject, other) if claim.lower else (other, claim.subject)
                found += [(other, c, _less(runs, mixed, *pair, column=c)) for c in claim.columns]
            # One that is undefined for some seed, which has no error, decides nothing.
            found = [one for one in found if not math.isnan(one[-1].mean)]
            told = ", ".join(
                f"{MARKS[less.verdict + 1]} × "
                f"{_ratio(runs, mixed, claim.subject, other, column):.2f} of {OBJECTIVES[other]}"
                for other, column, less in found
            )
            verdicts = counted([less for *_, less in found])
            yield f"  {claim.sentence}: {verdicts} ({told or 'no errors'})"


def _ratio(runs: list[dict[str, Any]], mixed: bool, subject: str, other: str, column: str) -> float:
    one, two = (
        spread(of(runs, objective=objective, mixup=mixed), at(column)).mean
        for objective in (subject, other)
    )
    return one / two if two else math.nan


def write_page(out: Path, result: dict[str, Any]) -> list[str]:
    """Write ablation.md and its figure; their names."""
    write_text(out / "ablation.md", _markdown(result))
    figure(result, out / "ablation.png")
    return ["ablation.md", "ablation.png"]


def _markdown(result: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    threads = result["recipe"]["training"]["threads"] or result["threads"]
    return (
        f"# rrfast ablate\n\n{_tables.listed(conventions(result))}\n\n"
        f"{_tables.markdown(blocks(result))}\n\n{_tables.preformatted(notes(result))}\n\n"
        f"![AURC and radii](ablation.png)\n\n{_tables.code(result['command'])}, "
        f"{result['device']}, {threads} thread{'s' * (threads > 1)}; {versions}; "
        f"{result['date']}.\n"
    )


def figure(result: dict[str, Any], path: Path) -> None:
    """AURC of every training, and the median radius of right and wrong predictions."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(10, 4), layout="constrained")
    left, right = drawing.subplots(1, 2)
    names = list(OBJECTIVES.values())
    # Okabe and Ito's colours, told apart by the colour-blind.
    for mixed, colour in zip(_mixed(result["runs"]), ("#0072B2", "#E69F00"), strict=False):
        rows = [row for row in result["summary"] if row["mixup"] == mixed]
        label = "with Mixup" if mixed else "without Mixup"
        at = [i + (0.2 if mixed else -0.2) for i in range(len(names))]
        means = [_drawn(row["aurc"]["mean"]) for row in rows]
        stds = [_drawn(row["aurc"]["std"] or 0.0) for row in rows]
        left.bar(at, means, 0.36, yerr=stds, color=colour, alpha=0.8, capsize=3, label=label)
        own = [r for r in result["runs"] if r["mixup"] == mixed]
        for place, row in zip(at, rows, strict=True):
            seeds = [_drawn(r["aurc"]) for r in own if r["objective"] == row["objective"]]
            left.plot([place] * len(seeds), seeds, "k.", ms=3, alpha=0.5)
        for group, face in (("right", colour), ("wrong", "white")):
            right.errorbar(
                at,
                [_drawn(row[f"radius_{group}"]["mean"]) for row in rows],
                [_drawn(row[f"radius_{group}"]["std"] or 0.0) for row in rows],
                fmt="o",
                color=colour,
                mfc=face,
                capsize=3,
                label=f"{group}, {label}",
            )
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
    write_figure(path, drawing)


def _drawn(value: float | None) -> float:
    """In thousandths; what is undefined, null in the file, is not drawn."""
    return math.nan if value is None else 1000 * value
