"""The training loop, on Lightning Fabric: killed and resumed or not, the same weights."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import time
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import torch
from rich.console import Console
from torch import Tensor, nn

from rrfast import _files, _torch_file, engine
from rrfast._checks import check_folder, check_labels, describe, make_folder
from rrfast._lock import alone
from rrfast._seeds import Stream, stream
from rrfast.data.loader import Data, length
from rrfast.models import FirstClasses
from rrfast.objectives import RAT, Objective
from rrfast.objectives.objective import ignored_label
from rrfast.train.bar import Bar
from rrfast.train.batches import Loader, Plan, Share
from rrfast.train.identity import FORMAT, Identity, identity
from rrfast.train.schedule import make_optimizer, make_schedule
from rrfast.train.settings import Training
from rrfast.train.validate import Validator

if TYPE_CHECKING:
    # Fabric takes seconds to import, with all that it looks at, and only a training needs it.
    from lightning_fabric import Fabric

#: Steps between two looks at the loss where a look waits for the device.
LOOK = 50


class NonFiniteLossError(ArithmeticError):
    """Loss or weights were NaN or infinite; the message says where, and where the batch is."""


class Fitted(NamedTuple):
    """What a training gives."""

    model: nn.Module  #: with the weights of the last step, in eval mode, on the training's device
    history: list[dict[str, float]]  #: a row per epoch, as log.csv
    best_epoch: int | None  #: of the weights that are best on the validation split; None without


class Progress(msgspec.Struct):
    """How far a training has come, beside weights and optimizer; a part of every checkpoint."""

    epoch: int = 0  #: that is going on, or comes next
    step: int = 0  #: steps of it that are done
    loss: float = 0.0  #: summed over those
    seconds: float = 0.0  #: spent in those
    history: list[dict[str, Any]] = []  #: numbers; an epoch stays the integer it is
    best_epoch: int | None = None
    least: float = math.inf  #: what the best epoch has the least of: AURC, or errors under attack


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

    What a step does is decided by the settings, the seed, and its number: the order of the images,
    augmentation and what the objective draws are drawn anew from them at every step. So a training
    that was killed and resumed gives the same weights as one that was not, bit for bit on a CPU
    with the same number of threads. Global random state is left as it was.

    Args:
        model: Maps [B, ...] to logits [B, K], K the number of classes plus what the objective asks
            for (`OpenMix`: 1). Trained in place, and moved to the device of the training.
        train: Images to train on: an `rrfast.data.Split`, or a data set with `y`, the labels [n],
            such as `rrfast.data.ImageFolder`. Each has a label: leave out those that a criterion's
            `ignore_index` stands for.
        training: The settings.
        objective: Default: `rrfast.RAT()`.
        validation: Images of which accuracy and AURC are taken after every epoch; None for none.
        out: Folder for what the training leaves, made where it is missing; None: nothing is
            written. checkpoint.pt has the whole state after the last whole epoch, or after
            `checkpoint_steps`; log.csv a row per epoch; best.pt the weights (a state_dict) with the
            lowest AURC, or with `training.validation_attack` the highest accuracy after it, the
            first of equals; last.pt those at the end. A file is there whole or not at all.
        resume: Continue from out/checkpoint.pt where there is one.
        beside: Further files for `out`, their text by name, written when a training begins.
        fabric: The processes and devices; default: those `torchrun` started, or this one, on CUDA
            where there is some, with `training.precision`.
        console: For the progress bar; default standard output. Where that is no terminal, a line
            per epoch.

    Returns:
        Fitted(model, history, best_epoch).

    Raises:
        BlockingIOError: Another run is writing into `out`.
        FileExistsError: `out` holds a training, and `resume` is False.
        NonFiniteLossError: The loss was NaN or infinite, or a weight where the weights would be
            kept. The batch is in out/nonfinite_RANK.pt.
        TypeError, ValueError: An argument has another type or value than said here; labels do not
            fit the logits; the checkpoint is truncated, of another model or of other settings.

    Cost: per step that of the objective, per epoch that of `validation_score` and, where it looks,
        of `validation_attack` on the validation images; the loss is looked at after every step on a
        CPU, and after every 50th on a GPU, so that the device does not wait.

    Example:
        >>> from rrfast.data import digits, digits_cnn
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
    if not isinstance(objective, Objective):
        raise TypeError(
            f"objective must be an Objective, such as rrfast.RAT(), got {describe(objective)}"
        )
    for name, data in (("train", train), ("validation", validation)):
        if data is not None and not hasattr(data, "y"):
            raise TypeError(
                f"{name} must be an rrfast.data.Split(x, y), or a data set with y, its labels, got "
                f"{describe(data)}"
            )
    out = None if out is None else Path(out)
    fabric = fabric or make_fabric(training)
    devices = [fabric.device] if fabric.device.type == "cuda" else []
    with _threads(training.threads), torch.random.fork_rng(devices):
        run = _Run(
            model,
            train,
            training,
            objective,
            validation,
            out,
            fabric,
            console or Console(),
        )
        with run.alone(resume):
            run.begin(resume, beside or {})
            return run.go()


def make_fabric(training: Training) -> Fabric:
    """The processes that `torchrun` started, or this one; on CUDA where there is some."""
    from lightning_fabric import Fabric

    from rrfast.train.precision import precision_options

    if torch.distributed.is_torchelastic_launched():
        import os

        local, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
        fabric = Fabric(
            devices=local,
            num_nodes=world // local,
            strategy="ddp",
            **precision_options(training.precision),
        )
    else:
        fabric = Fabric(devices=1, **precision_options(training.precision))
    fabric.launch()
    return fabric


def _check_fits(objective: Objective, training: Training, fabric: Fabric) -> None:
    """Raise unless the three say the same."""
    from lightning_fabric.plugins import MixedPrecision

    from rrfast.train.precision import AutocastPrecision

    epochs = getattr(objective, "epochs", None)
    if epochs not in (None, training.epochs):
        raise ValueError(
            f"objective.epochs must be those of the training, {training.epochs}, got {epochs}"
        )
    precision = fabric.strategy.precision
    if isinstance(precision, MixedPrecision) and not isinstance(precision, AutocastPrecision):
        raise ValueError(
            "fabric must not round the images, as its own mixed precision does; make it with "
            "rrfast.train.make_fabric, or with plugins=[rrfast.train.AutocastPrecision(...)]"
        )


def _check_all_labelled(objective: Objective, train: Data, classes: int) -> None:
    """Raise a ValueError of images whose label is no class, but one that the criterion leaves out.

    A batch of them has no mean; and shares of a batch, on processes or accumulated, count alike
    however many of their images do.
    """
    ignored = ignored_label(getattr(objective, "criterion", None))
    if ignored is None or 0 <= ignored < classes or not isinstance(train.y, Tensor):
        return
    left_out = int((train.y == ignored).sum())
    if left_out:
        raise ValueError(
            f"train must be images with labels, and {left_out} have {ignored}, which "
            "objective.criterion leaves out: leave these images out of train"
        )


def is_first_process() -> bool:
    """Whether this process is the one that writes and prints."""
    group = torch.distributed
    return not group.is_initialized() or group.get_rank() == 0


@contextlib.contextmanager
def _threads(threads: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Run:
    """One training: what stays the same, and how far it is."""

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
        _check_fits(objective, training, fabric)
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
        logits = self._logits("train", self.loader)
        self._try_criterion(logits)
        classes = logits.shape[1] - objective.extra_classes
        _check_all_labelled(objective, train, classes)
        check_labels("train.y", train.y, classes)
        if self.validator is not None and validation is not None:
            self._logits("validation", self.validator.loader)
            check_labels("validation.y", validation.y, classes)
        #: The model as it is used: without what the objective alone needs.
        self.classifier: nn.Module = self.model
        if objective.extra_classes:
            self.classifier = FirstClasses(self.model, classes)
        self.progress = Progress()
        self.bar = Bar(
            console if fabric.is_global_zero else Console(quiet=True),
            training.epochs,
            self.plan.steps,
        )
        #: Losses on the device that have not been looked at, of the steps just before.
        self.losses: list[Tensor] = []
        self.look = LOOK if fabric.device.type == "cuda" else 1

    def _logits(self, name: str, loader: Loader) -> Tensor:
        """Of the first image, to see that the model takes it."""
        (x, _), *_ = next(loader([Share(0, 0, (torch.zeros(1, dtype=torch.int64),))]))
        try:
            return engine.logits(self.model, x)
        except RuntimeError as error:
            first = str(error).split("\n", maxsplit=1)[0]
            raise ValueError(
                f"model must take images of shape {list(x.shape[1:])}, as {name} has them: {first}"
            ) from error

    def _try_criterion(self, logits: Tensor) -> None:
        """As a step will call it: a wrong number of class weights is found before the training."""
        criterion = getattr(self.objective, "criterion", None)
        if criterion is None:
            return
        if isinstance(criterion, nn.Module):
            criterion.to(self.fabric.device)  # the weights of its classes
        try:
            loss = criterion(logits, torch.zeros(1, dtype=torch.int64, device=logits.device))
        except (RuntimeError, TypeError) as error:
            first = str(error).split("\n", maxsplit=1)[0]
            raise ValueError(
                f"objective.criterion must take logits {list(logits.shape)} and labels [1]: {first}"
            ) from error
        if not isinstance(loss, Tensor) or loss.dim() != 0:
            raise ValueError(
                "objective.criterion must return a scalar, the mean over the batch, got "
                f"{describe(loss)}"
            )

    # ------------------------------------------------------------------------------------ the loop

    @contextlib.contextmanager
    def alone(self, resume: bool) -> Iterator[None]:
        """Make the folder, and keep other runs from writing there meanwhile."""
        if self.out is None:
            if resume:
                raise ValueError("resume needs out, the folder with the checkpoint")
            yield
            return
        check_folder("out", self.out)
        if self.training.tensorboard:
            _summary_writer()  # not after an epoch of hours
        with contextlib.ExitStack() as held:
            refused: OSError | None = None
            if self.fabric.is_global_zero:
                try:
                    make_folder("out", self.out)
                    held.enter_context(alone(self.out / "train.lock", self.out))
                except OSError as error:
                    refused = error
            # The first process holds it for all, which would wait for one that has failed.
            refused = self.fabric.broadcast(refused)
            if refused is not None:
                raise refused
            yield

    def begin(self, resume: bool, beside: Mapping[str, str]) -> None:
        """Write what is known before the first step, or take up where the checkpoint is."""
        if self.out is None:
            return
        path = self.out / "checkpoint.pt"
        if path.exists() and not resume:
            raise FileExistsError(
                f"{self.out} holds a training already: resume it, or give another folder"
            )
        # Of the first process alone: the sizes of a million files are asked for once.
        told = identity(*self._given) if self.fabric.is_global_zero else None
        self.identity: Identity = self.fabric.broadcast(told)  # type: ignore[assignment]
        if self.fabric.is_global_zero:
            self._prepare(self.out, beside, begun=path.exists())
        self.fabric.barrier()
        if path.exists():
            self._restore(path)

    @staticmethod
    def _prepare(out: Path, beside: Mapping[str, str], begun: bool) -> None:
        _files.remove_partial(out)
        if begun:
            return
        # Of a training whose checkpoint somebody deleted.
        for weights in ("best.pt", "last.pt"):
            (out / weights).unlink(missing_ok=True)
        for name, text in beside.items():
            _files.write_text(out / name, text)

    def go(self) -> Fitted:
        """From where it is to the end."""
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
                self._check(share)
                self._check_weights(share)
                progress.seconds += time.perf_counter() - started
                self._save()
                started = time.perf_counter()
        self._check(share)
        self._check_weights(share)
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
        self.losses.append(torch.stack(losses).mean())
        self.progress.step += 1
        if len(self.losses) == self.look:
            self._check(share)
        if self.training.clip_norm is not None:
            # What is not finite is left to the loss, or to the scaler of 16-bit training: to find
            # it here is to wait for the device in every step.
            self.fabric.clip_gradients(
                self.model,
                self.optimizer,
                max_norm=self.training.clip_norm,
                error_if_nonfinite=False,
            )
        self.optimizer.step()
        self.schedule.step()

    def _backward(self, loss: Tensor) -> None:
        # Of `AutocastPrecision`, which has the scaler of 16 bits.
        scaled = getattr(self.fabric.strategy.precision, "scaled", None)
        if scaled is not None:
            loss = scaled(loss)
        self.fabric.backward(loss)

    def _seed(self, share: Share) -> None:
        """What is drawn in a step is drawn from its number alone: nothing has to be saved.

        The same on the CPU of all processes, for what they draw together; another on each GPU, for
        dropout.
        """
        seed = stream(self.training.seed, Stream.STEP, share.epoch, share.step)
        torch.default_generator.manual_seed(seed)
        if self.fabric.device.type == "cuda":
            rank = self.fabric.global_rank
            torch.cuda.manual_seed(
                stream(self.training.seed, Stream.STEP, share.epoch, share.step, rank)
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
            best = least < progress.least  # never of NaN
            if best:
                progress.least, progress.best_epoch = least, progress.epoch
        progress.history.append(row)
        progress.epoch += 1
        progress.step, progress.loss, progress.seconds = 0, 0.0, 0.0
        if best:
            # Before the checkpoint: were it the other way round and the process killed between the
            # two, the resumed training would not know that these weights are missing.
            self._save_weights("best.pt")
        # Likewise the log: a training that was saved in its last epoch is over, and writes no more.
        self._log()
        self._save()
        self.bar.end_of_epoch(row)

    # --------------------------------------------------------------------------- non-finite losses

    def _check(self, last: Share) -> None:
        """Look at the losses up to that of `last`; the one place where the device is waited for."""
        if not self.losses:
            return
        losses = torch.stack(self.losses).float()
        # The same on all processes. It reduces in place, and `losses` are this process's own.
        mean = torch.as_tensor(self.fabric.all_reduce(losses.clone())).tolist()
        self.losses.clear()
        bad = next((i for i, loss in enumerate(mean) if not math.isfinite(loss)), None)
        if bad is not None:
            step = last.step - (len(mean) - 1 - bad)
            self._stop(last.epoch, step, f"the loss was {mean[bad]}", losses[bad])
        self.progress.loss += sum(mean)

    def _check_weights(self, last: Share) -> None:
        """Before they are kept: no loss has seen what the step of `last` made of them."""
        finite = torch.stack([p.detach().isfinite().all() for p in self.bare.parameters()]).all()
        if not finite:
            said = "the loss was finite and the weights after it are not"
            self._stop(last.epoch, last.step, said, torch.tensor(math.nan))

    def _stop(self, epoch: int, step: int, said: str, own: Tensor) -> None:
        share = self.plan.epoch(epoch)[step]
        where = "nowhere, since there is no folder to write to (out)"
        if self.out is not None:
            path = self.out / f"nonfinite_{self.fabric.global_rank}.pt"
            if not own.isfinite():
                # Made again from its number, as it was.
                batches = next(self.loader([share]))
                _torch_file.save(
                    path,
                    {
                        "epoch": epoch,
                        "step": step,
                        "places": torch.cat(share.places),
                        "x": torch.cat([x for x, _ in batches]).cpu(),
                        "y": torch.cat([y for _, y in batches]).cpu(),
                        "loss": float(own),
                    },
                )
            where = f"in {self.out / 'nonfinite_*.pt'}, a file per process that saw it"
        # The first process to fail ends the others, which may still be writing theirs.
        self.fabric.barrier()
        raise NonFiniteLossError(
            f"{said} in epoch {epoch}, step {step} (from 0); its batch is {where}. "
            "A lower learning rate, a longer warm-up or clip_norm may help"
        )

    # ------------------------------------------------------------------------------------ the files

    def _restore(self, path: Path) -> None:
        state = _checkpoint(path)
        differing = self.identity.differences(state["identity"])
        if differing:
            raise ValueError(
                f"{path} is of another training: {'; '.join(differing)}. Resume it with its own "
                "settings, or give another folder"
            )
        there, world = state["steps"], state["world"]
        if there != self.plan.steps:
            # The learning rate is that of a step's number, and so is what a step sees.
            raise ValueError(
                f"{path} is of a training with {there} steps an epoch, processes: {world}; here "
                f"are {self.plan.steps}, processes: {self.fabric.world_size}. The end of an epoch "
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
            self.bare.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            if self._scaler is not None:
                self._scaler.load_state_dict(state["scaler"])
            self.progress = msgspec.convert(state["progress"], Progress)
            epoch, step = self.progress.epoch, self.progress.step
            if not (0 <= epoch <= self.training.epochs and 0 <= step < self.plan.steps):
                raise ValueError(f"it is in epoch {epoch}, step {step}, of which there is none")
        except Exception as error:  # of a file that somebody else has written it can be anything
            first = " ".join(str(error).split("\n")[:2]).replace("\t", "")
            raise ValueError(
                f"{path} is of another model, or not as it was written: {first.rstrip('.')}. "
                "Resume it with the model it was begun with, or give another folder"
            ) from error

    def _save(self) -> None:
        if self.out is not None and self.fabric.is_global_zero:
            _torch_file.save(
                self.out / "checkpoint.pt",
                {
                    "format": FORMAT,
                    "identity": self.identity.parts,
                    "steps": self.plan.steps,
                    "world": self.fabric.world_size,
                    "model": self.bare.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "schedule": self.schedule.state_dict(),
                    "scaler": None if self._scaler is None else self._scaler.state_dict(),
                    "progress": msgspec.to_builtins(self.progress),
                },
            )

    def _save_weights(self, name: str) -> None:
        if self.out is not None and self.fabric.is_global_zero:
            _torch_file.save(self.out / name, self.bare.state_dict())

    def _log(self) -> None:
        """The whole history: a file that fits the checkpoint, however often it was resumed."""
        if self.out is None or not self.fabric.is_global_zero:
            return
        history = self.progress.history
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, history[0])
        writer.writeheader()
        writer.writerows(history)
        _files.write_text(self.out / "log.csv", text.getvalue())
        if self.training.tensorboard:
            _log_events(self.out / "tensorboard", history[-1])

    @property
    def _scaler(self) -> torch.amp.GradScaler | None:
        """Of 16-bit training."""
        return getattr(self.fabric.strategy.precision, "scaler", None)


def _log_events(folder: Path, row: dict[str, float]) -> None:
    epoch = int(row["epoch"])
    # What a killed training wrote from this epoch on is dropped by purge_step.
    with _summary_writer()(str(folder), purge_step=epoch) as events:
        for name, value in row.items():
            if name != "epoch" and not math.isnan(value):
                events.add_scalar(name, value, epoch)


def _summary_writer() -> Any:
    """TensorBoard's; or an ImportError that names the remedy."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError(
            f"training.tensorboard needs TensorBoard: {error}. Install it with: "
            "pip install tensorboard"
        ) from error
    return SummaryWriter


def _checkpoint(path: Path) -> dict[str, Any]:
    """What `_Run._save` wrote."""
    try:
        state = _torch_file.load(path)
    except ValueError as error:
        raise ValueError(f"{error}. Delete it to begin anew") from error
    parts = {"model", "optimizer", "schedule", "scaler", "progress"}
    missing = {part for part in parts if not isinstance(state.get(part), dict)}
    missing -= {"scaler"} if "scaler" in state else set()  # None but for 16 bits
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
