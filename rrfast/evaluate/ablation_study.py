"""`rrfast ablate`: trainings with and without each part of RAT, over seeds (RAT Tables 1 and 5)."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from rich.console import Console

from rrfast import engine
from rrfast._checks import check_number
from rrfast._device import chosen_device
from rrfast._machine import machine
from rrfast._processes import shared, sharing
from rrfast._results import plain, require_matplotlib, results_in, write_json
from rrfast.data.splits import Part, divide
from rrfast.evaluate.ablation import OBJECTIVES, STUDY
from rrfast.evaluate.misd.appraisal import Options, grounds, measured, shown, tuned
from rrfast.evaluate.study import print_result, write_page
from rrfast.metrics import METRICS
from rrfast.scores import SCORES, Radius
from rrfast.scores.registry import score_named
from rrfast.scores.score import Point

if TYPE_CHECKING:
    from torch import Tensor

    from rrfast.train.recipe_file import Recipe
    from rrfast.train.variants import Run

#: The score of the tables by default: the radius to four digits, in a quarter of RR-BS's passes.
SCORE = "radius_search"


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
        mixup: The alpha of Mixup in the rows with Mixup; 0: no such rows.
        score: A radius in `rrfast.scores.SCORES`; the paper's is "radius_bs".
        protocol: How its temperature is tuned, as for `rrfast.evaluate.misd.evaluate`: "rat" on a
            fifth of the whole test set, three times, as the paper does; "heldout" on the validation
            split. None: no tuning, T = 1 on the whole test split.
        command: The command that the results name as their origin.
        console: Where to print; default standard output.

    Returns:
        What ablation.json holds: `command`, `date`, `device`, `versions`, `recipe`, and `runs`: a
        row per seed, objective, mixup and division.

    Raises:
        BlockingIOError: Another run is writing to `out`.
        ImportError: matplotlib is not installed.
        TypeError, ValueError: There is no seed, `mixup` is below 0, `score` is not a radius, the
            data lacks the splits that `protocol` needs, or the recipe's options do not fit. All are
            raised before the first training.

    Source: RAT Tables 1 and 5; errata 11 to 13.
    """
    require_matplotlib("ablate")
    check_number("mixup", mixup, zero=True)
    if not isinstance(score_named(score), Radius):
        radii = [name for name, one in SCORES.items() if isinstance(one, Radius)]
        raise ValueError(f"score must be a radius, of {', '.join(radii)}, got {score!r}")
    from rrfast.train.recipe import make_task  # an extra that `rrfast report` does not need

    divide(make_task(recipe), protocol)
    asked = _Asked(mixup, score, protocol)
    console = console or Console()
    out = Path(out)
    # Under torchrun, the first process locks the folder for all.
    first = os.environ.get("RANK", "0") == "0"
    with results_in(out, "ablation") if first else contextlib.nullcontext():
        return _ablate(recipe, out, seeds, asked, command, console)


class _Asked(NamedTuple):
    """Options that are the same for every seed."""

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

    def written() -> dict[str, Any]:
        # As it will be read back: None for NaN.
        result: dict[str, Any] = plain(
            {
                "command": command,
                **machine(chosen_device(None)),
                "recipe": msgspec.to_builtins(recipe),
                "seeds": list(seeds),
                **asked._asdict(),
                "runs": runs,
            }
        )
        write_json(out / "ablation.json", result)
        page = write_page(STUDY, out, result)
        print_result(STUDY, result, out, ["ablation.json", *page], console)
        return result

    with sharing() as group:
        return group.first(written)


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
        # Not around the training, whose processes may need another backend.
        with sharing() as group:
            rows = group.everywhere(partial(_evaluated, run, asked))
        for found in rows:
            if group.rank == 0 and not console.is_terminal:
                worth = f"AURC {1000 * found['aurc']:.2f}, {100 * found['accuracy']:.2f} % right"
                console.print(f"{run.folder.name}: {worth}", highlight=False)
            yield {"seed": run.seed, **compared[run.variant], **found}


def variant_of(objective: str, mixed: bool) -> str:
    """The name in `rrfast.train.VARIANTS`; standard training with Mixup is Mixup."""
    if not mixed:
        return objective
    return "mixup" if objective == "standard" else f"{objective}_mixup"


def _evaluated(run: Run, asked: _Asked) -> list[dict[str, Any]]:
    """The metrics of the last weights on the test part of every division."""
    # The recipe is the one that was passed in: its code already ran in the training.
    from rrfast.train.recipe import load_trained

    model, recipe = load_trained(run.folder, trust=True)
    device, batch = chosen_device(None), recipe.training.validation_batch
    model.to(device)
    # Without augmentation: the quantity that decides RAT's sign, at the end of the training.
    trained = shared(
        lambda _, b: engine.logits(model, b[0]).argmax(1) == b[1],
        Part.whole(run.task.train).batches(batch, device, recipe.training.workers),
    )
    options, rows = Options(batch=batch), []
    for split, on in enumerate(grounds(model, run.task, asked.protocol, run.seed, device, batch)):
        score = score_named(asked.score)
        point: Point = {}
        if asked.protocol is not None:
            score, point, _ = tuned(asked.score, on, options)
        value, right = measured(score, on, options)[0], on.correct
        of_right, of_wrong = _median(value[right]), _median(value[~right])
        rows.append(
            {
                "split": split,
                "hyperparameters": dict(point),
                **shown(value, right),
                "training_accuracy": torch.cat(trained).double().mean().item(),
                "radius_right": of_right,
                "radius_wrong": of_wrong,
                "radius_ratio": of_right / of_wrong,
                "msr_aurc": METRICS["aurc"](on.msr, right),
            }
        )
    return rows


def _median(values: Tensor) -> float:
    return values.double().quantile(0.5).item() if len(values) else math.nan
