"""Checkpoints: the whole state of a training as a file, to resume from."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from rrfast import _checksummed
from rrfast._errors import first_line
from rrfast.train.fabric import Fabric
from rrfast.train.identity import FORMAT, Identity


class Progress(msgspec.Struct):
    """The progress of a training, apart from weights and optimizer; part of every checkpoint."""

    epoch: int = 0  #: current or next epoch
    step: int = 0  #: steps of this epoch that are done
    loss: float = 0.0  #: sum over these steps
    seconds: float = 0.0  #: time of these steps
    history: list[dict[str, Any]] = []  #: rows of numbers; the epoch is an integer
    best_epoch: int | None = None
    least: float = math.inf  #: the value of the best epoch: AURC, or errors under attack


@dataclass(frozen=True)
class Checkpoint:
    """The file checkpoint.pt of a training, and its content apart from the progress."""

    path: Path
    identity: Identity
    fabric: Fabric
    steps: int  #: per epoch
    epochs: int
    model: nn.Module
    optimizer: Optimizer
    schedule: LRScheduler

    def restored(self) -> Progress:
        """Restore the state of the file, and return its progress.

        A file that is truncated, of another model or of other settings is a ValueError.
        """
        path, state = self.path, _read(self.path)
        differing = self.identity.differences(state["identity"])
        if differing:
            raise ValueError(
                f"{path} is of another training: {'; '.join(differing)}. Resume it with its own "
                "settings, or give another folder"
            )
        there, world = state["steps"], state["world"]
        if there != self.steps:
            # The number of a step decides its learning rate and its images.
            raise ValueError(
                f"{path} is of a training with {there} steps an epoch, processes: {world}; here "
                f"are {self.steps}, processes: {self.fabric.world_size}. The end of an epoch "
                "is cut to equal shares. Resume it with that number of processes, or give another "
                "folder"
            )
        if self.identity.unseen and self.fabric.is_global_zero:
            warnings.warn(
                f"{path} is resumed without knowing whether these are what it was begun with: "
                f"{'; '.join(self.identity.unseen)}",
                RuntimeWarning,
                stacklevel=5,
            )
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            if self._scaler is not None:
                self._scaler.load_state_dict(state["scaler"])
            progress: Progress = msgspec.convert(state["progress"], Progress)
            epoch, step = progress.epoch, progress.step
            if not (0 <= epoch <= self.epochs and 0 <= step < self.steps):
                raise ValueError(f"it is in epoch {epoch}, step {step}, of which there is none")
        except Exception as error:  # a file of another origin can raise anything
            first = first_line(error)
            raise ValueError(
                f"{path} is of another model, or not as it was written: {first.rstrip('.')}. "
                "Resume it with the model it was begun with, or give another folder"
            ) from error
        return progress

    def save(self, progress: Progress) -> None:
        """Write the file, completely or not at all."""
        scaler = self._scaler
        _checksummed.write_state(
            self.path,
            {
                "format": FORMAT,
                "identity": self.identity.parts,
                "steps": self.steps,
                "world": self.fabric.world_size,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "scaler": None if scaler is None else scaler.state_dict(),
                "progress": msgspec.to_builtins(progress),
            },
        )

    @property
    def _scaler(self) -> torch.amp.GradScaler | None:
        """The gradient scaler of 16-bit training."""
        return getattr(self.fabric.strategy.precision, "scaler", None)


def _read(path: Path) -> dict[str, Any]:
    """Read the file of `Checkpoint.save`."""
    try:
        state = _checksummed.read_state(path)
    except ValueError as error:
        raise ValueError(f"{error}. Delete it to begin anew") from error
    parts = {"model", "optimizer", "schedule", "scaler", "progress"}
    missing = {part for part in parts if not isinstance(state.get(part), dict)}
    missing -= {"scaler"} if "scaler" in state else set()  # only for 16 bits
    if state.get("format") == FORMAT:
        missing |= {"steps", "world"} - set(state)
        told = state.get("identity")
        if not isinstance(told, dict) or not all(isinstance(part, dict) for part in told.values()):
            missing.add("identity")
    if missing:
        raise ValueError(f"{path} is no checkpoint of a training: it lacks {sorted(missing)}")
    if state.get("format") != FORMAT:
        raise ValueError(
            f"{path} is of another version of rrfast, which told less or more of its training: "
            "resume it with that version, or give another folder"
        )
    return state
