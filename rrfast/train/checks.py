"""Checks of a training: of what it is given, and of its losses for NaN and infinity."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from rrfast import _checksummed, engine
from rrfast._checks import describe
from rrfast._errors import first_line
from rrfast.data.loader import Data
from rrfast.objectives import Objective
from rrfast.objectives.objective import ignored_label
from rrfast.train.batches import Loader, Plan, Share
from rrfast.train.fabric import Fabric
from rrfast.train.settings import Training

#: Steps between two checks of the loss if a check waits for the device.
LOOK = 50


def check_given(objective: object, train: object, validation: object) -> None:
    """Raise a TypeError unless these are an objective and two data sets with labels.

    The second may be None.
    """
    if not isinstance(objective, Objective):
        raise TypeError(
            f"objective must be an Objective, such as rrfast.RAT(), got {describe(objective)}"
        )
    for name, images in {"train": train, "validation": validation}.items():
        absent = name == "validation" and images is None
        if not (absent or hasattr(images, "y")):
            raise TypeError(
                f"{name} must be an rrfast.data.Split(x, y), or a data set with y, its labels, got "
                f"{describe(images)}"
            )


def check_settings(objective: Objective, training: Training, fabric: Fabric) -> None:
    """Raise unless the three agree."""
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


def check_all_labelled(objective: Objective, train: Data, classes: int) -> None:
    """Raise a ValueError if images have the label that the criterion ignores.

    A batch of only such images has no mean; and the shares of a batch, on processes or accumulated,
    have equal weights whatever the number of their labelled images.
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


def first_logits(name: str, model: nn.Module, loader: Loader) -> Tensor:
    """The logits of the first image, to check that the model accepts it."""
    (x, _), *_ = next(loader([Share(0, 0, (torch.zeros(1, dtype=torch.int64),))]))
    try:
        return engine.logits(model, x)
    except RuntimeError as error:
        first = first_line(error)
        raise ValueError(
            f"model must take images of shape {list(x.shape[1:])}, as {name} has them: {first}"
        ) from error


def try_criterion(objective: Objective, logits: Tensor) -> None:
    """Call the criterion once, to find a wrong number of class weights before the training."""
    criterion = getattr(objective, "criterion", None)
    if criterion is None:
        return
    if isinstance(criterion, nn.Module):
        criterion.to(logits.device)  # moves its class weights
    try:
        loss = criterion(logits, torch.zeros(1, dtype=torch.int64, device=logits.device))
    except (RuntimeError, TypeError) as error:
        first = first_line(error)
        raise ValueError(
            f"objective.criterion must take logits {list(logits.shape)} and labels [1]: {first}"
        ) from error
    if not isinstance(loss, Tensor) or loss.dim() != 0:
        raise ValueError(
            "objective.criterion must return a scalar, the mean over the batch, got "
            f"{describe(loss)}"
        )


class NonFiniteLossError(ArithmeticError):
    """Loss or weights were NaN or infinite; the message has the step and the file of its batch."""


class Losses:
    """The losses of the last steps, on the device, that are not checked yet.

    Checks raise a `NonFiniteLossError`.
    """

    def __init__(
        self, model: nn.Module, plan: Plan, loader: Loader, fabric: Fabric, out: Path | None
    ) -> None:
        self._model, self._plan, self._loader = model, plan, loader
        self._fabric, self._out = fabric, out
        self._waiting: list[Tensor] = []
        #: Steps from one check to the next.
        self.look = LOOK if fabric.device.type == "cuda" else 1

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, loss: Tensor, share: Share) -> float:
        """Call after a step; checks if it is time to, and returns the sum of the checked losses."""
        self._waiting.append(loss)
        return self.looked_at(share) if len(self) == self.look else 0.0

    def looked_at(self, last: Share) -> float:
        """The sum of the losses up to that of `last`, which are checked; waits for the device."""
        if not self._waiting:
            return 0.0
        losses = torch.stack(self._waiting).float()
        # The same on all processes. It reduces in place, but `losses` must stay this process's own.
        mean = torch.as_tensor(self._fabric.all_reduce(losses.clone())).tolist()
        self._waiting.clear()
        bad = next((i for i, loss in enumerate(mean) if not math.isfinite(loss)), None)
        if bad is not None:
            step = last.step - (len(mean) - 1 - bad)
            self._stop(last.epoch, step, f"the loss was {mean[bad]}", losses[bad])
        return float(sum(mean))

    def check_weights(self, last: Share) -> None:
        """Check the weights before they are saved: no loss was computed from them yet."""
        finite = torch.stack([p.detach().isfinite().all() for p in self._model.parameters()]).all()
        if not finite:
            said = "the loss was finite and the weights after it are not"
            self._stop(last.epoch, last.step, said, torch.tensor(math.nan))

    def _stop(self, epoch: int, step: int, said: str, own: Tensor) -> None:
        share = self._plan.epoch(epoch)[step]
        where = "nowhere, since there is no folder to write to (out)"
        if self._out is not None:
            path = self._out / f"nonfinite_{self._fabric.global_rank}.pt"
            if not own.isfinite():
                # The batch is made again from its number.
                batches = next(self._loader([share]))
                _checksummed.write_state(
                    path,
                    {
                        "epoch": epoch,
                        "step": step,
                        "places": torch.cat(share.indices),
                        "x": torch.cat([x for x, _ in batches]).cpu(),
                        "y": torch.cat([y for _, y in batches]).cpu(),
                        "loss": float(own),
                    },
                )
            where = f"in {self._out / 'nonfinite_*.pt'}, a file per process that saw it"
        # The first process that fails ends the others, which may still be writing their files.
        self._fabric.barrier()
        raise NonFiniteLossError(
            f"{said} in epoch {epoch}, step {step} (from 0); its batch is {where}. "
            "A lower learning rate, a longer warm-up or clip_norm may help"
        )
