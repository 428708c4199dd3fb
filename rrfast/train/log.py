"""The epochs of a training: its progress bar, log.csv, and TensorBoard's events."""

from __future__ import annotations

import csv
import io
import math
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from rrfast import _files
from rrfast._errors import missing
from rrfast._progress import bars

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on


class Bar:
    """A bar over all steps; if the output is not a terminal, a line per epoch instead.

    The line ends with the time since the start of this process's training, as
    hours:minutes:seconds.
    """

    def __init__(self, console: Console, epochs: int, steps: int) -> None:
        self._console = console
        self._epochs, self._steps = epochs, steps
        self._progress = bars(console, "{task.fields[state]}")
        self._task = self._progress.add_task("", total=epochs * steps, state="")
        self._validated = ""
        self._begun = time.perf_counter()
        self._started: tuple[float, int] | None = None  #: start time, and steps done before

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self, epoch: int, step: int, loss: float) -> None:
        """Call after a step: `step` steps of the epoch are done, with this mean loss."""
        done = epoch * self._steps + step
        cost = ""
        if self._started is None:
            self._started = time.perf_counter(), done
        else:
            since, first = self._started
            cost = f", {1000 * (time.perf_counter() - since) / (done - first):.3g} ms/step"
        self._progress.update(
            self._task,
            completed=done,
            description=f"epoch {epoch + 1} of {self._epochs}",
            state=f"loss {loss:.4f}{cost}{self._validated}",
        )

    def end_of_epoch(self, row: dict[str, float]) -> None:
        """Call after an epoch, with its row of the log."""
        if "validation_accuracy" in row:
            self._validated = (
                f", validation: {100 * row['validation_accuracy']:.2f} % right, "
                f"AURC {1000 * row['validation_aurc']:.2f}"
            )
            if not math.isnan(row.get("validation_attacked", math.nan)):
                attacked = 100 * row["validation_attacked"]
                self._validated += f", {attacked:.2f} % right under attack"
        # Validation does not count as time of steps.
        self._started = None
        if not self._console.is_terminal:
            seconds = round(time.perf_counter() - self._begun)
            self._console.print(
                f"epoch {int(row['epoch']) + 1} of {self._epochs}: loss {row['loss']:.4f}, "
                f"{row['ms_per_step']:.3g} ms/step{self._validated}, {timedelta(seconds=seconds)}",
                highlight=False,
                soft_wrap=True,  # one line, whatever its length
            )


def write_log(out: Path, history: list[dict[str, Any]], *, tensorboard: bool) -> None:
    """Write the whole history, so that the file agrees with the checkpoint after any resume."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, history[0])
    writer.writeheader()
    writer.writerows(history)
    _files.write_text(out / "log.csv", text.getvalue())
    if tensorboard:
        _log_events(out / "tensorboard", history[-1])


def _log_events(folder: Path, row: dict[str, float]) -> None:
    epoch = int(row["epoch"])
    # purge_step drops what a killed training wrote from this epoch on.
    with summary_writer()(str(folder), purge_step=epoch) as events:
        for name, value in row.items():
            if name != "epoch" and not math.isnan(value):
                events.add_scalar(name, value, epoch)


def summary_writer() -> Any:
    """TensorBoard's writer, or an ImportError with the install command."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise missing("training.tensorboard", "TensorBoard", error) from error
    return SummaryWriter
