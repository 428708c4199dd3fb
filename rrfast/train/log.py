"""The log of a training's epochs: log.csv, and TensorBoard's events."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

from rrfast import _files
from rrfast._errors import missing


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
