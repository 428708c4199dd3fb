"""The training loop, on Lightning Fabric: the same weights, whether interrupted or not."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from torch import Tensor, nn

from rrfast import _checksummed, _files
from rrfast._checks import check_folder, check_labels, make_folder
from rrfast._lock import alone
from rrfast._machine import torch_threads
from rrfast._seeds import Stream, derive_seed
from rrfast.data.loader import Data, length
from rrfast.models import FirstClasses
from rrfast.objectives import RAT, Objective
from rrfast.train.batches import Loader, Plan, Share
from rrfast.train.checkpoint import Checkpoint, Progress
from rrfast.train.checks import (
    Losses,
    check_all_labelled,
    check_given,
    check_settings,
    first_logits,
    try_criterion,
)
from rrfast.train.fabric import Fabric, make_fabric
from rrfast.train.identity import identity
from rrfast.train.log import Bar, summary_writer, write_log
from rrfast.train.schedule import make_optimizer, make_schedule
from rrfast.train.settings import Training
from rrfast.train.validate import Validator


class Fitted(NamedTuple):
    """The result of a training."""

    model: nn.Module  #: with the weights of the last step, in eval mode, on the training's device
    history: list[dict[str, float]]  #: a row per epoch, as in log.csv
    best_epoch: int | None  #: epoch of the best weights on the validation split; None without one


def fit(
    model: nn.Module,
    train: Data,
    *,
    training: Training,
    objective: Objective | None = None,
    validation: Data | None = None,
    out: Path | str | None = None,
    resume: bool = False,
    beside: Mapping[str, str] | None = None,
    fabric: Fabric | None = None,
    console: Console | None = None,
) -> Fitted:
    """Train a model.

    The settings, the seed and the number of a step decide everything that it does: the order of the
    images, augmentation and the objective's draws. So a training that was killed and resumed gives
    the same weights as one that was not, bit for bit on a CPU with the same number of threads. The
    global random state is restored.

    Args:
        model: Maps [B, ...] to logits [B, K], K the number of classes plus the extra logits of the
            objective (`OpenMix`: 1). Trained in place, and moved to the device of the training.
        train: Images to train on: an `rrfast.data.Split`, or a data set with `y`, the labels [n],
            such as `rrfast.data.ImageFolder`. Every image must have a label: leave out those with a
            criterion's `ignore_index`.
        training: The settings.
        objective: Default: `rrfast.RAT()`.
        validation: Images to measure accuracy and AURC on after every epoch; None for none.
        out: Folder for the results, made if it is missing; None: nothing is written. checkpoint.pt
            has the whole state after the last complete epoch, or after `checkpoint_steps`; log.csv
            a row per epoch; best.pt the weights (a state_dict) with the lowest AURC, or with
            `training.validation_attack` the highest accuracy under it, the first among equals;
            last.pt the weights at the end. Files are written completely or not at all.
        resume: Continue from out/checkpoint.pt if it exists.
        beside: Further text files for `out`, by name, written at the start of a training.
        fabric: The processes and devices; default: those of `torchrun`, or this process, on CUDA if
            available, with `training.precision`.
        console: For the progress bar; default standard output. If that is not a terminal, a line
            per epoch.

    Returns:
        Fitted(model, history, best_epoch).

    Raises:
        BlockingIOError: Another run is writing into `out`.
        FileExistsError: `out` holds a training, and `resume` is False.
        NonFiniteLossError: The loss was NaN or infinite, or a weight when weights were to be saved.
            The batch is in out/nonfinite_RANK.pt.
        TypeError, ValueError: An argument has a wrong type or value; labels do not fit the logits;
            the checkpoint is truncated, of another model or of other settings.

    Cost: per step that of the objective, per epoch that of `validation_score` and, in its epochs,
    of `validation_attack` on the validation images. The loss is checked after every step on a CPU,
    and after every 50th on a GPU, so that the host rarely waits.

    Example:
        >>> from rrfast.data import digits
        >>> from rrfast.models import digits_cnn
        >>> train, validation, test = digits()
        >>> settings = Training(epochs=1, optimizer="adamw", learning_rate=3e-3, warmup_epochs=0.5)
        >>> console = Console(quiet=True)
        >>> fitted = fit(
        ...     digits_cnn(), train, training=settings, validation=validation, console=console
        ... )
        >>> sorted(fitted.history[0])
        ['epoch', 'learning_rate', 'loss', 'ms_per_step', 'validation_accuracy', 'validation_aurc']
    """
    objective = RAT() if objective is None else objective
    check_given(objective, train=train, validation=validation)
    out = None if out is None else Path(out)
    fabric = fabric or make_fabric(training)
    devices = [fabric.device] if fabric.device.type == "cuda" else []
    with torch_threads(training.threads), torch.random.fork_rng(devices):
        run = _Run(model, train, training, objective, validation, out, fabric, console or Console())
        with run.alone(resume):
            run.begin(resume, beside or {})
            return run.go()


class _Run:
    """One training: its fixed parts, and its progress."""

    def __init__(
        self,
        model: nn.Module,
        train: Data,
        training: Training,
        objective: Objective,
        validation: Data | None,
        out: Path | None,
        fabric: Fabric,
        console: Console,
    ) -> None:
        self.training, self.objective, self.out, self.fabric = training, objective, out, fabric
        self._given = (training, objective, train, validation)
        check_settings(objective, training, fabric)
        if training.channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.bare = model
        self.plan = Plan(length(train), training, world=fabric.world_size, rank=fabric.global_rank)
        self.loader = Loader(train, training, fabric.device, fabric.global_rank)
        optimizer = make_optimizer(model, training)
        self.model, self.optimizer = fabric.setup(model, optimizer)
        self.schedule = make_schedule(optimizer, training, self.plan.steps)
        if validation is None and training.validation_attack is not None:
            raise ValueError(
                "validation must be given: training.validation_attack is on its images"
            )
        self.validator = None if validation is None else Validator(validation, training, fabric)
        logits = first_logits("train", self.model, self.loader)
        try_criterion(objective, logits)
        classes = logits.shape[1] - objective.extra_classes
        check_all_labelled(objective, train, classes)
        check_labels("train.y", train.y, classes)
        if self.validator is not None and validation is not None:
            first_logits("validation", self.model, self.validator.loader)
            check_labels("validation.y", validation.y, classes)
        #: The model for use, without the extra logits of the objective.
        self.classifier: nn.Module = self.model
        if objective.extra_classes:
            self.classifier = FirstClasses(self.model, classes)
        self.progress = Progress()
        shown = console if fabric.is_global_zero else Console(quiet=True)
        self.bar = Bar(shown, training.epochs, self.plan.steps)
        self.losses = Losses(model, self.plan, self.loader, fabric, out)
        self.checkpoint: Checkpoint | None = None

    @contextlib.contextmanager
    def alone(self, resume: bool) -> Iterator[None]:
        """Make the folder, and lock it against other runs."""
        if self.out is None:
            if resume:
                raise ValueError("resume needs out, the folder with the checkpoint")
            yield
            return
        check_folder("out", self.out)
        if self.training.tensorboard:
            summary_writer()  # fail now, not after an epoch of hours
        with contextlib.ExitStack() as held:
            refused: OSError | None = None
            if self.fabric.is_global_zero:
                try:
                    make_folder("out", self.out)
                    held.enter_context(alone(self.out / "train.lock", self.out))
                except OSError as error:
                    refused = error
            # The first process holds the lock for all; the others would wait for one that has
            # failed.
            refused = self.fabric.broadcast(refused)
            if refused is not None:
                raise refused
            yield

    def begin(self, resume: bool, beside: Mapping[str, str]) -> None:
        """Write the first files, or restore the checkpoint."""
        if self.out is None:
            return
        path = self.out / "checkpoint.pt"
        if path.exists() and not resume:
            raise FileExistsError(
                f"{self.out} holds a training already: resume it, or give another folder"
            )
        # Only in the first process, so that the sizes of a million files are read once.
        told = identity(*self._given) if self.fabric.is_global_zero else None
        self.checkpoint = Checkpoint(
            path,
            self.fabric.broadcast(told),  # type: ignore[arg-type]
            self.fabric,
            self.plan.steps,
            self.training.epochs,
            self.bare,
            self.optimizer,
            self.schedule,
        )
        if self.fabric.is_global_zero:
            _files.remove_partial(self.out)
        if self.fabric.is_global_zero and not path.exists():
            # From a training whose checkpoint was deleted.
            for weights in ("best.pt", "last.pt"):
                (self.out / weights).unlink(missing_ok=True)
            for name, text in beside.items():
                _files.write_text(self.out / name, text)
        self.fabric.barrier()
        if path.exists():
            self.progress = self.checkpoint.restored()

    def go(self) -> Fitted:
        """Run to the end."""
        with self.bar:
            while self.progress.epoch < self.training.epochs:
                self._epoch()
        self.bare.eval()
        self._save_weights("last.pt")
        return Fitted(self.bare, self.progress.history, self.progress.best_epoch)

    def _epoch(self) -> None:
        progress = self.progress
        self.model.train()
        shares = self.plan.epoch(progress.epoch, progress.step)
        started = time.perf_counter()
        for share, batches in zip(shares, self.loader(shares), strict=True):
            self._step(share, batches)
            looked = progress.step - len(self.losses)
            mean = progress.loss / looked if looked else math.nan
            self.bar.advance(progress.epoch, progress.step, mean)
            often = self.training.checkpoint_steps
            if often and progress.step % often == 0 and progress.step < self.plan.steps:
                self._look(share)
                progress.seconds += time.perf_counter() - started
                self._save()
                started = time.perf_counter()
        self._look(share)
        progress.seconds += time.perf_counter() - started
        self._end_of_epoch()

    def _step(self, share: Share, batches: list[tuple[Tensor, Tensor]]) -> None:
        """One step of the optimizer."""
        self._seed(share)
        self.optimizer.zero_grad()
        quiet = partial(self.fabric.no_backward_sync, self.model)
        losses = []
        for i, (x, y) in enumerate(batches, 1):
            with contextlib.nullcontext() if i == len(batches) else quiet():
                losses.append(
                    self.objective.backward(
                        self.model,
                        x,
                        y,
                        epoch=share.epoch,
                        backward=lambda loss: self._backward(loss / len(batches)),
                        no_sync=quiet,
                    )
                )
        self.progress.step += 1
        self.progress.loss += self.losses.add(torch.stack(losses).mean(), share)
        if self.training.clip_norm is not None:
            # Non-finite norms are found by the loss, or by the scaler of 16-bit training: checking
            # here would wait for the device in every step.
            self.fabric.clip_gradients(
                self.model,
                self.optimizer,
                max_norm=self.training.clip_norm,
                error_if_nonfinite=False,
            )
        self.optimizer.step()
        self.schedule.step()

    def _look(self, last: Share) -> None:
        """Check the losses before anything of the steps up to `last` is saved."""
        self.progress.loss += self.losses.looked_at(last)
        self.losses.check_weights(last)

    def _backward(self, loss: Tensor) -> None:
        # `AutocastPrecision` has the gradient scaler of 16-bit training.
        scaled = getattr(self.fabric.strategy.precision, "scaled", None)
        if scaled is not None:
            loss = scaled(loss)
        self.fabric.backward(loss)

    def _seed(self, share: Share) -> None:
        """Seed a step by its number only, so that no random state has to be saved.

        The seed is the same on the CPU of all processes, for their joint draws, and different on
        each GPU, for dropout.
        """
        seed = derive_seed(self.training.seed, Stream.STEP, share.epoch, share.step)
        torch.default_generator.manual_seed(seed)
        if self.fabric.device.type == "cuda":
            rank = self.fabric.global_rank
            torch.cuda.manual_seed(
                derive_seed(self.training.seed, Stream.STEP, share.epoch, share.step, rank)
            )

    def _end_of_epoch(self) -> None:
        progress = self.progress
        row = {
            "epoch": progress.epoch,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "loss": progress.loss / self.plan.steps,
            "ms_per_step": 1000 * progress.seconds / self.plan.steps,
        }
        best = False
        if self.validator is not None:
            attack = self.training.validation_attack
            looks = attack is not None and attack.looks(progress.epoch, self.training.epochs)
            found = self.validator(self.classifier, attacked=looks)
            row |= {"validation_accuracy": found.accuracy, "validation_aurc": found.aurc}
            if attack is not None:
                row["validation_attacked"] = found.attacked
            least = found.aurc if attack is None else 1 - found.attacked
            best = least < progress.least  # False for NaN
            if best:
                progress.least, progress.best_epoch = least, progress.epoch
        progress.history.append(row)
        progress.epoch += 1
        progress.step, progress.loss, progress.seconds = 0, 0.0, 0.0
        if best:
            # Before the checkpoint: otherwise, if the process were killed in between, the resumed
            # training would not know that these weights are missing.
            self._save_weights("best.pt")
        # Likewise the log: a training whose last epoch is saved writes nothing more.
        self._log()
        self._save()
        self.bar.end_of_epoch(row)

    def _save(self) -> None:
        if self.checkpoint is not None and self.fabric.is_global_zero:
            self.checkpoint.save(self.progress)

    def _save_weights(self, name: str) -> None:
        if self.out is not None and self.fabric.is_global_zero:
            _checksummed.write_state(self.out / name, self.bare.state_dict())

    def _log(self) -> None:
        if self.out is not None and self.fabric.is_global_zero:
            write_log(self.out, self.progress.history, tensorboard=self.training.tensorboard)
