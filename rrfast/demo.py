"""`rrfast demo`: `rrfast train --variants`, `rrfast evaluate` and `rrfast report` on digits.

Paired: for each seed both trainings see the same images, initial weights, batches and number of
epochs. The settings of the recipe were chosen on other seeds (1000 and up) than those reported (0
and up).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from rrfast._errors import require
from rrfast._machine import torch_threads
from rrfast._results import results_in
from rrfast.evaluate import trained_models
from rrfast.evaluate.demo import STUDY, TRAININGS
from rrfast.evaluate.misd.protocol import evaluate_as
from rrfast.evaluate.options import MisdOptions
from rrfast.report import report

RECIPE = "digits_rat"
DEMO_SCORES = ("msr", "radius_fast", "radius_bs", "radius_grad")


def run(
    out: Path | str = "rrfast-demo",
    *,
    seeds: int = 8,
    epochs: int | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Train, evaluate, print one table, and write the results to `out`.

    If it was stopped, it continues.

    Args:
        out: Folder for demo.json, demo.csv, demo.md, radius.png, report.html, the trainings and the
            finished parts of the evaluation; created if missing.
        seeds: Number of seeds; each gives one standard training and one with RAT.
        epochs: Epochs of every training; None: those of the recipe.
        console: Where to print; default standard output.

    Returns:
        What demo.json holds, as from `rrfast.evaluate.misd.evaluate`.

    Raises:
        BlockingIOError: Another demo is writing to `out`.
        ImportError: A package of `rrfast[demo]` is not installed.
        OSError: `out` cannot be written.
    """
    everything = "'rrfast[demo]'"
    require("rrfast demo", "matplotlib.figure", "matplotlib", everything)
    require("rrfast demo", "sklearn.datasets", "scikit-learn", everything)
    require("rrfast demo", "jinja2", install=everything)  # for the report
    from rrfast.train import load_recipe, train_variants

    recipe = load_recipe(RECIPE, [] if epochs is None else [f"training.epochs={epochs}"])
    epochs = recipe.training.epochs
    command = f"rrfast demo --seeds {seeds} --epochs {epochs}"
    out, shown = Path(out), console or Console()
    # Without a terminal, a line for every epoch would hide the table.
    inner = shown if shown.is_terminal else Console(quiet=True)
    # More threads gain nothing on networks this small, and lose much on a busy machine.
    with torch_threads(recipe.training.threads):
        folders = []
        with results_in(out, STUDY.stem):
            trainings = out / f"trainings_{epochs}"  # of other epochs, nothing can be resumed
            for trained in train_variants(
                recipe, trainings, TRAININGS, range(seeds), console=inner
            ):
                folders.append(trained.folder)
                if inner is not shown:
                    shown.print(f"{trained.folder.name}: trained", highlight=False)
        options = MisdOptions(
            scores=DEMO_SCORES, draws=0, sensitivity=False, command=command, console=console
        )
        result = evaluate_as(STUDY, trained_models(folders), out, options)
    report([out], out / "report.html", title="rrfast demo", command=command)
    shown.print("The same as a page for a browser: report.html", highlight=False)
    return result
