"""The interface of a training objective, and how its backward runs."""

from __future__ import annotations

import contextlib
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from rrfast._checks import (
    check_batch,
    check_count,
    check_dense,
    check_labels,
    check_logits,
    describe,
    is_integer,
)
from rrfast._reading import may_read
from rrfast.engine import output_logits
from rrfast.engine.in_place import output_of

if TYPE_CHECKING:
    from rrfast.engine import Model

#: A loss of logits [B, K] and labels [B], a mean over the batch, such as `cross_entropy`.
#: `torch.nn.CrossEntropyLoss` has label smoothing and class weights.
Criterion = Callable[[Tensor, Tensor], Tensor]


class Scaler(Protocol):
    """The part of `torch.amp.GradScaler` that an objective's backward needs."""

    def scale(self, outputs: Tensor) -> Tensor:
        """The loss times the scale."""


#: How to run a backward: None, a scaler, or a function that is called with each loss.
Backward = Scaler | Callable[[Tensor], object] | None
#: Makes a context in which backwards do not reduce gradients: `DistributedDataParallel.no_sync`.
NoSync = Callable[[], contextlib.AbstractContextManager[Any]]


class Objective(ABC):
    """A training objective: `objective.backward(model, x, y)` in place of a loss and its backward.

        for x, y in loader:
            optimizer.zero_grad()
            loss = objective.backward(model, x, y, epoch=epoch)
            optimizer.step()

    The objective does not change the model's mode: put it into training mode. Torch's default
    generator on the CPU decides all random numbers. If all processes of a distributed training have
    the same `torch.manual_seed`, they draw together the same shares of mixing and outliers as one
    process would for the joint batch. Starts of attacks, and noise, differ between processes, and
    from those that one process would draw.
    """

    #: Number of logits that the model must have beyond the classes of the data.
    extra_classes: int = 0

    @abstractmethod
    def __call__(self, model: Model, x: Tensor, y: Tensor, *, epoch: int | None = None) -> Tensor:
        """The objective as a scalar with a graph, for loops that call backward themselves.

        Arguments and errors are those of `backward`.
        """

    def backward(
        self,
        model: Model,
        x: Tensor,
        y: Tensor,
        *,
        epoch: int | None = None,
        backward: Backward = None,
        no_sync: NoSync | None = None,
    ) -> Tensor:
        """Add the gradient of the objective to the parameters' `.grad`, and return its value.

        Args:
            model: Maps [B, ...] to logits [B, K], or to an object with `.logits`.
            x: Inputs [B, ...], floating point; neither they nor their `.grad` are changed. If x
                requires a gradient, so do all inputs of the model, as checkpointing with
                use_reentrant=True needs. It must not have a graph, because the layers before it
                would not be trained.
            y: Labels [B] int64, from 0 to K - 1. To leave out a label, use
                `torch.nn.CrossEntropyLoss(ignore_index=-100)` as the criterion.
            epoch: The epoch, counted from 0; for objectives that change during the training.
            backward: How to run a backward. None: `loss.backward()`. A `torch.amp.GradScaler`:
                `scaler.scale(loss).backward()`. A callable such as `fabric.backward`: called with
                each loss.
            no_sync: Makes the context of all passes but the last, in which processes do not reduce
                gradients; default: the model's `no_sync`, which `DistributedDataParallel` has.

        Returns:
            The loss, a detached scalar.

        Raises:
            TypeError, ValueError: `x` or `y` has a wrong type or shape, or `x` has a graph;
                gradients are off, as under `torch.no_grad()`; the criterion does not return a
                scalar; `x` lies outside the box of an objective with `bounds`; a label is not a
                class of the model. On a GPU only the first call with a model checks the last two.
        """
        del no_sync  # the only pass is the last
        run = run_backward(backward)
        loss = self(model, x, y, epoch=epoch)
        run(loss)
        return loss.detach()

    def _logits(self, model: Model, x: Tensor, y: Tensor, *, again: bool = False) -> Tensor:
        """As `model_logits`, and check that every label is a class."""
        logits = model_logits(model, x, again=again)
        if may_read("labels", model, y):
            ignored = ignored_label(getattr(self, "criterion", None))
            meant = y if ignored is None else y.masked_fill(y == ignored, 0)
            check_labels("y", meant, logits.shape[1] - self.extra_classes)
        return logits


def check_pair(x: Tensor, y: Tensor, *, sparse: bool = False) -> tuple[Tensor, Tensor]:
    """Check the batch, and return a copy of `x` and `y`, which are not inference tensors.

    A model may change the copy. It requires a gradient if `x` does.

    Args:
        x: [B, ...].
        y: [B].
        sparse: Whether `x` may be sparse.

    Raises:
        TypeError, ValueError: `x` is not [B, ...] floating point with B > 0, or has a graph, or `y`
            is not [B] int64.
    """
    check_batch(x)
    if not sparse:
        check_dense("x", x)
    if x.grad_fn is not None:
        raise ValueError(
            f"x must have no graph, got one from {x.grad_fn.name()}: the layers before x would get "
            "no gradient. Give the whole model and its input, or x.detach() if nothing before x is "
            "to be trained"
        )
    if not isinstance(y, Tensor) or y.dtype != torch.int64:
        raise TypeError(f"y must be an int64 tensor of class labels, got {describe(y)}")
    if y.shape != x.shape[:1]:
        raise ValueError(f"y must have one label per sample of x, {x.shape[0]}, got {describe(y)}")
    if x.shape[0] == 0:
        raise ValueError("x must hold at least one sample, got an empty batch")
    with torch.inference_mode(False):
        # Autograd cannot save an inference tensor, but it can save a copy made outside inference
        # mode.
        own = x.detach().clone().requires_grad_(x.requires_grad)
        return own, y.clone() if y.is_inference() else y


def model_logits(model: Model, x: Tensor, *, again: bool = False) -> Tensor:
    """The model's logits [B, K], with their graph.

    Args:
        model: Maps x to logits.
        x: [B, ...].
        again: Whether x is needed again, so that the model must not change it.
    """
    logits = output_logits(output_of(model, x, keep=True) if again else model(x))
    check_logits("the model's logits", logits)
    return logits


def loss_of(criterion: Criterion, logits: Tensor, y: Tensor) -> Tensor:
    """The criterion's scalar."""
    loss = criterion(logits, y)
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        raise ValueError(
            "criterion must give a scalar, the mean over the batch, got "
            f"{describe(loss)}; with reduction='none' it gives a loss for each sample"
        )
    return loss


def check_epochs(name: str, some: int, epochs: int | None) -> None:
    """Raise a ValueError unless `some` of all `epochs`, if these are known, leave at least one."""
    check_count(name, some, least=0)
    if epochs is None:
        return
    check_count("epochs", epochs)
    if some >= epochs:
        raise ValueError(
            f"{name} must be less than all {epochs} epochs, or none is left, got {some}"
        )


def counted(epoch: int | None, name: str) -> int:
    """`epoch`, or a ValueError unless it is the number of an epoch; the option `name` needs it."""
    if not is_integer(epoch) or epoch < 0:
        raise ValueError(
            f"epoch must be the number of the epoch, from 0, where {name} is set, got "
            f"{describe(epoch)}"
        )
    return epoch


def check_gradients_on() -> None:
    """Raise a ValueError if gradients are off."""
    if not torch.is_grad_enabled():
        raise ValueError(
            "an objective's gradient must be taken where gradients are on, not under "
            "torch.no_grad() or torch.inference_mode()"
        )


def ignored_label(criterion: object) -> int | None:
    """The label that a criterion leaves out (`ignore_index`); None for none."""
    if isinstance(criterion, functools.partial):
        return criterion.keywords.get("ignore_index", ignored_label(criterion.func))
    return getattr(criterion, "ignore_index", None)


def run_backward(backward: Backward) -> Callable[[Tensor], object]:
    """Turn `backward` into a function of a loss.

    Raises:
        TypeError: It has another type.
        ValueError: Gradients are off; or, when called, the loss has no gradient.
    """
    check_gradients_on()
    run = _runner(backward)

    def checked(loss: Tensor) -> object:
        if not loss.requires_grad:
            raise ValueError(
                "model must have a parameter that requires a gradient and that its logits depend "
                "on, but the loss has no gradient"
            )
        return run(loss)

    return checked


def _runner(backward: Backward) -> Callable[[Tensor], object]:
    if backward is None:
        return lambda loss: loss.backward()
    scale = getattr(backward, "scale", None)
    if scale is not None:
        return lambda loss: scale(loss).backward()
    if callable(backward):
        return backward
    raise TypeError(
        f"backward must be None, a GradScaler or a callable such as fabric.backward, got "
        f"{type(backward).__name__}"
    )
