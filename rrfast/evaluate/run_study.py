"""The loop over the models that every `rrfast evaluate` runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from rich.console import Console

from rrfast._checks import make_folder
from rrfast._device import chosen_device
from rrfast._errors import first_line
from rrfast._files import remove_partial
from rrfast._machine import machine
from rrfast._processes import Processes, sharing
from rrfast._progress import bars
from rrfast._results import require_matplotlib, results_in, shortened
from rrfast.data.splits import Part
from rrfast.engine import logits
from rrfast.evaluate.cache import Cache, identity
from rrfast.evaluate.observations import Row
from rrfast.evaluate.options import Options
from rrfast.evaluate.study import Result, Study, write_results
from rrfast.evaluate.trained_model import TrainedModel

if TYPE_CHECKING:
    from torch import nn

    from rrfast.data.tasks import Task


class Context(NamedTuple):
    """A model to evaluate, and everything needed for it."""

    trained: TrainedModel
    model: nn.Module  #: the model, on the device
    task: Task
    device: torch.device
    cache: Cache
    advance: Callable[[], object]  #: advances the progress bar by one step

    def step(self, key: str, make: Callable[..., Any], *arguments: Any) -> Any:
        """A part, as from `Cache.get`, that is a step of the progress bar."""
        found = self.cache.get(key, make, *arguments)
        self.advance()
        return found


def run_study(
    study: Study,
    trained_models: Sequence[TrainedModel],
    out: Path | str,
    rows_of: Callable[[Context], list[dict[str, Any]]],
    options: Options,
    *,
    steps: int,
    depends: dict[str, Any],
    entries: dict[str, Any] | None = None,
) -> Result:
    """Evaluate every model, and write STEM.json, STEM.csv, STEM.md and the figures.

    The processes of torchrun share the images of every score. All numbers are those of one process
    with as many threads, except times. The first one writes.

    Args:
        study: The kind of evaluation.
        trained_models: Trained models with their data.
        out: Folder for the results; finished parts of a model are kept in out/parts.
        rows_of: Computes the rows of one model, to which its training, its seed and its data are
            added, and as division the first.
        options: The options, which the result records; with `every_run`, its rows keep the curves
            of every run.
        steps: Steps of the progress bar per model.
        depends: The options that all numbers depend on: if they change, no kept part is reused.
        entries: Entries of the result, some in the place of options.

    Returns:
        What STEM.json holds, see `rrfast.evaluate.read_result`: `command`, `date`, `device`,
        `versions`, `options`, `data`, `runs`, `curves` and `entries`.

    Raises:
        BlockingIOError: Another run of the same study is writing to `out`.
        ChildProcessError: Another process was killed; finished parts are kept.
        ImportError: matplotlib is not installed.
        OSError: `out` cannot be written.
        ValueError: There is no trained model, the device is not available, or processes have other
            weights, data, versions, devices or threads; and whatever `rows_of` raises. An error in
            one process ends all.
    """
    require_matplotlib("evaluate")
    if not trained_models:
        raise ValueError("trained_models must hold at least one trained model, got none")
    where, console, entries = chosen_device(options.device), options.console, entries or {}
    if console is None:
        console = Console(emoji=False)
        if not console.is_terminal:
            console.width = 140  # lines of a file may be longer than rich's default of 80 columns
    out = Path(out)

    every_run = getattr(options, "every_run", False)

    def made(runs: list[Row], speaking: Console) -> Result:
        curves = study.curves(runs)
        result = {
            "command": options.command,
            **machine(where),
            "options": {k: v for k, v in options.recorded().items() if k not in entries},
            "data": list(dict.fromkeys(trained.data for trained in trained_models)),
            **entries,
            # First, since `rrfast report` makes the same page from the file.
            "runs": shortened(runs if every_run else study.short(runs, curves)),
            "curves": shortened(curves),
        }
        write_results(study, result, shortened(runs), out, speaking)
        return result

    with sharing() as group, contextlib.ExitStack() as held:
        speaking = console if group.rank == 0 else Console(quiet=True)
        # The first process locks the folder for all, and writes.
        group.first(lambda: held.enter_context(results_in(out, study.stem)))
        here = machine(where)
        group.agree({name: here[name] for name in ("versions", "device", "threads")})
        go = partial(_rows, study, trained_models, out / "parts", rows_of, steps, depends, where)
        runs = group.everywhere(lambda: go(speaking, group))
        return group.first(lambda: made(runs, speaking))


def _rows(
    study: Study,
    trained_models: Sequence[TrainedModel],
    parts: Path,
    rows_of: Callable[[Context], list[dict[str, Any]]],
    steps: int,
    depends: dict[str, Any],
    where: torch.device,
    console: Console,
    group: Processes,
) -> list[dict[str, Any]]:
    """The rows of all models, model by model."""
    group.first(lambda: make_folder("the folder for parts in out", parts))
    group.first(lambda: remove_partial(parts, study.stem))
    runs: list[dict[str, Any]] = []
    with bars(console, "{task.completed} of {task.total}") as progress:
        bar = progress.add_task("", total=steps * len(trained_models))
        for i, trained in enumerate(trained_models):
            title = f"{trained.training}, seed {trained.seed}"
            title += ", best checkpoint" * (trained.checkpoint == "best")
            progress.update(bar, description=title)
            model, task = group.everywhere(trained.load)
            model.to(where)
            whose = identity(model, task, where) | depends | {"seed": trained.seed}
            group.agree(whose)
            cache = Cache(parts, study.stem, whose)
            _check_classes(title, model, task, where)
            context = Context(trained, model, task, where, cache, partial(progress.advance, bar))
            try:
                who = {"training": trained.training, "seed": trained.seed, "split": 0}
                own = [who | row | {"data": trained.data} for row in rows_of(context)]
            except ValueError as error:
                raise ValueError(f"{title}: {error}") from error
            runs += own
            progress.update(bar, completed=steps * (i + 1))
            if not console.is_terminal:
                console.print(f"{title}: {study.told(own)}", highlight=False, markup=False)
    return runs


def _check_classes(title: str, model: nn.Module, task: Task, device: torch.device) -> None:
    """Raise unless there are as many logits as classes, on one image: before hours of work."""
    if task.test is None:
        return  # the protocol says so
    ((x, _),) = Part(task.test, torch.zeros(1, dtype=torch.int64)).batches(1, device)
    try:
        found = logits(model, x).shape[1]
    except RuntimeError as error:
        raise ValueError(
            f"the model of {title} must take the images of its data, {list(x.shape[1:])}: "
            f"{first_line(error)}"
        ) from error
    # With more logits than classes, it is unknown which logits belong to the classes.
    if found != task.classes:
        raise ValueError(
            f"the model of {title} must have a logit for each of the {task.classes} classes of its "
            f"data and no other, got {found}: a label is an index of a logit; for a folder of "
            "images, it is the index of the class's name among the sorted names. Give data with "
            "all classes of the model, or a model with only the classes of the data "
            "(rrfast.models.FirstClasses keeps the first)"
        )
