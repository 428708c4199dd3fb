"""Progress bars; rich, which draws them, is imported only for one that is drawn."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from operator import length_hint
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


def bars(
    console: Console, state: str = "", *, shown: bool = True, transient: bool = False
) -> Progress:
    """Progress bars with elapsed and remaining time, if `console` is a terminal.

    `state` is the text behind a bar, such as "{task.completed} of {task.total}". There are none
    unless `shown`, and `transient` ones are removed at the end.
    """
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    behind = [TextColumn(state)] if state else []
    return Progress(
        TextColumn("{task.description}", markup=False),  # names of folders may have brackets
        BarColumn(),
        *behind,
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=transient,
        disable=not (shown and console.is_terminal),
    )


def _has_terminal() -> bool:
    """Whether stderr is one; a program may have closed it, or have none."""
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:
        return False


@contextmanager
def batches_bar(
    loader: Iterable[Any], wanted: bool, after: float = 0.0
) -> Iterator[Callable[[float, float], None]]:
    """A bar of batches and images per second on stderr, if `wanted` and that is a terminal.

    The length of the loader, if it has one, is the total. It is shown `after` so many seconds, as
    quick work needs no bar, and removed at the end. Call what is yielded with the numbers of images
    and batches done since the last call; both may be fractions.
    """
    if not (wanted and _has_terminal()):
        yield lambda _images, _batches: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    console = Console(stderr=True)
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task("", total=length_hint(loader) or None)
    images, start = 0.0, perf_counter()

    def advance(more: float, batches: float) -> None:
        nonlocal images
        images += more
        seconds = perf_counter() - start
        bar.update(task, advance=batches, description=f"{images / seconds:,.0f} images/s")
        if seconds >= after:
            bar.start()

    if not after:
        bar.start()
    try:
        yield advance
    finally:
        bar.stop()
