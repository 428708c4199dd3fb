"""Checks that the parts of a training fit together, before the first step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rrfast import engine
from rrfast._checks import describe
from rrfast._errors import first_line
from rrfast.data.loader import Data
from rrfast.objectives import Objective
from rrfast.objectives.objective import ignored_label
from rrfast.train.batches import Loader, Share
from rrfast.train.settings import Training

if TYPE_CHECKING:
    from lightning_fabric import Fabric


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
