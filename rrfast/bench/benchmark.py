"""A whole benchmark run: measures, saves after every part, reports."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from rrfast._machine import machine
from rrfast._progress import bars
from rrfast._results import for_json, require_matplotlib, results_in
from rrfast.bench.pareto import pareto
from rrfast.bench.peers import check_in_box, peers
from rrfast.bench.quality import tuned
from rrfast.bench.settings import Settings
from rrfast.bench.speed import speed
from rrfast.bench.subject import Subject, load
from rrfast.bench.tables import STUDY
from rrfast.bench.throughput import throughput, worth
from rrfast.evaluate.study import write_results


def run(
    settings: Settings | None = None,
    out: Path | str = "rrfast-bench",
    console: Console | None = None,
) -> dict[str, Any]:
    """Measure, print the tables, and write `bench.json`, `bench.md` and the figures to `out`.

    Args:
        settings: What to measure; default `Settings()`.
        out: Folder for the results, made if it is missing.
        console: Where to print; default standard output.

    Returns:
        The content of `bench.json`: `command`, `date`, `device`, `versions`, `settings`,
        `complete`, and the rows of `throughput` (one per batch size, dtype and contestant), `worth`
        (one per dtype and contestant), and if requested `tuned`, `speed`, `pareto` and `peers`.

    Raises:
        BlockingIOError: Another benchmark is writing into `out`.
        ImportError: matplotlib, or a package of the model, is not installed.
        OSError: `out` cannot be written, or a file is missing.
        ValueError: Model, weights and data do not fit together.
        KeyboardInterrupt: Raised again after the results so far were written, with `complete`
            false.

    Example: see `rrfast.bench`.
    """
    settings = settings or Settings()
    console = console or Console()
    require_matplotlib("bench")
    out = Path(out)
    subject = load(settings)
    if settings.peers:
        check_in_box(subject.x)
    with results_in(out, "bench"):
        return _run(subject, settings, out, console)


def _run(subject: Subject, settings: Settings, out: Path, console: Console) -> dict[str, Any]:
    started = time.perf_counter()
    result: dict[str, Any] = {
        "command": settings.command(),
        **machine(subject.x.device),
        "settings": {
            **asdict(settings),
            "methods": settings.contestants(),
            "data": subject.data,
            "weights": settings.weights if subject.checkpoint == "given" else subject.checkpoint,
        },
        "complete": False,
        "seconds": 0.0,
        "throughput": [],
        "worth": [],
    }
    try:
        _measure(subject, settings, result, console)
        result["complete"] = True
    finally:
        # Also after an interrupt or an error, to keep results that took hours.
        result["seconds"] = round(time.perf_counter() - started, 1)
        if result["throughput"]:
            # As its file has it: without NaN and infinity, so that both make the same page.
            write_results(STUDY, for_json(result), [], out, console)
    return result


def _measure(
    subject: Subject, settings: Settings, result: dict[str, Any], console: Console
) -> None:
    with bars(console, transient=True) as progress:

        def part(title: str) -> Callable[[str, float], object]:
            task = progress.add_task(title, total=1.0)

            def show(label: str, done: float) -> None:
                progress.update(task, description=f"{title} {label}".strip(), completed=done)

            return show

        for batch in sorted(settings.batch):
            rows, outcomes = throughput(subject, settings, batch, part(f"batch {batch}:"))
            result["throughput"] += rows
        result["worth"] = worth(subject, settings, outcomes, part(""))
        if settings.tuning:
            result["tuned"] = tuned(subject, settings, part("T tuned:"))
        if settings.speed:
            result["speed"] = speed(subject, settings, part("speed:"))
        if settings.pareto:
            result["pareto"] = pareto(subject, settings, part(""))
        if settings.peers:
            result["peers"] = peers(subject, settings, part("peers:"))
