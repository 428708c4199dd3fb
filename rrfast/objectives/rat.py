"""Radius Aware Training: right samples away from the boundary, wrong ones towards it (RAT §4)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rrfast import ops
from rrfast.checks import check_batch, check_logits, check_number, describe
from rrfast.engine import Model


class Scaler(Protocol):
    """What `torch.amp.GradScaler` has and `RAT.backward` needs."""

    def scale(self, outputs: Tensor) -> Tensor:
        """The loss times the scale."""


@dataclass(frozen=True, eq=False)
class RAT:
    """Radius Aware Training with FGSM inside.

        L = loss(f(x), y) + loss(f(x'), y),    x' = x + s_b * eps * sign(grad_x loss(f(x), y))

    `mode="rat"`: s = +1 where the model is right and -1 where it is wrong. `"at"`: s = +1
    (adversarial training). `"reverse_at"`: s = -1. One line in a training loop:

        loss = rrfast.RAT(eps=1e-3).backward(model, x, y)

    The model stays in the mode it is in: the passes of a training step are training passes.

    Source: RAT Eq. 9 to 12.

    Attributes:
        eps: Length of the step, in units of `scale`, >= 0. The paper's 1e-3 is for inputs in
            [0, 1].
        mode: "rat", "at" or "reverse_at".
        criterion: The loss of logits and labels, a scalar. Default: `cross_entropy`, the mean over
            the batch.
        bounds: The box for x', see `rrfast.ops.channel_bounds`; None for none, as released.
        scale: The unit of eps, see `rrfast.ops.channel_scale`; None for x's own. With inputs
            normalised by `std`, 1 / std makes eps a pixel step.
        batch_norm: "both": both passes update the running statistics of BatchNorm, as released.
            "clean": only the clean one does; the other normalises by its own batch and leaves no
            trace.

    Example:
        >>> model = torch.nn.Linear(4, 3)
        >>> x, y = torch.rand(8, 4), torch.randint(3, (8,))
        >>> loss = RAT(eps=1e-2).backward(model, x, y)
        >>> loss.requires_grad, model.weight.grad is None
        (False, False)
    """

    eps: float = 1e-3
    mode: ops.Mode = "rat"
    criterion: Callable[[Tensor, Tensor], Tensor] = nn.functional.cross_entropy
    bounds: ops.Bounds | None = None
    scale: ops.Scale | None = None
    batch_norm: Literal["both", "clean"] = "both"

    def __post_init__(self) -> None:
        check_number("eps", self.eps, zero=True)
        ops.check_mode(self.mode)
        if self.batch_norm not in ("both", "clean"):
            raise ValueError(f"batch_norm must be 'both' or 'clean', got {self.batch_norm!r}")

    def backward(
        self,
        model: Model,
        x: Tensor,
        y: Tensor,
        *,
        backward: Scaler | Callable[[Tensor], object] | None = None,
    ) -> Tensor:
        """Add the gradient of the objective to the parameters' `.grad`, and return its value.

        The first backward gives the gradient of the parameters and that of the input together, so
        that a step is 2 forwards and 2 backwards. With a `DistributedDataParallel` model gradients
        are reduced once, in the second; wrapped in something else that has no `no_sync`, twice, to
        the same result.

        Args:
            model: Maps [B, ...] to logits [B, K], or to an object with `.logits`.
            x: Inputs [B, ...], floating point; not modified, and its `.grad` not touched.
            y: Labels [B] int64.
            backward: How to run a backward. None: `loss.backward()`. A `torch.amp.GradScaler`:
                `scaler.scale(loss).backward()`. A callable such as `fabric.backward`: called with
                each loss.

        Returns:
            The loss, a detached scalar.

        Raises:
            TypeError, ValueError: `x` or `y` has another type or shape than said here.

        Cost: 2 forwards, 2 backwards; the first graph is freed before the second is built.

        Example:
            >>> model, x, y = torch.nn.Linear(4, 3), torch.rand(8, 4), torch.randint(3, (8,))
            >>> scaler = torch.amp.GradScaler("cpu")
            >>> RAT().backward(model, x, y, backward=scaler).shape
            torch.Size([])
        """
        run = _backward_with(backward)
        x = _leaf(x, y)
        no_sync = getattr(model, "no_sync", None)
        with no_sync() if no_sync is not None else contextlib.nullcontext():
            logits = _logits(model, x)
            clean = self.criterion(logits, y)
            run(clean)
        if x.grad is None:
            raise ValueError(
                "model must be differentiable with respect to x, but the backward of its loss left "
                "no gradient there"
            )
        adversarial = self._adversarial(model, x, x.grad, logits, y)
        run(adversarial)
        return clean.detach() + adversarial.detach()

    def __call__(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        """The objective as a scalar to call backward on, for loops that want to do so themselves.

        Cost: 2 forwards and, with the caller's backward, 3 backwards: the input gradient is needed
        before the loss exists, so the clean pass is differentiated twice, and both graphs are alive
        at once. `backward` has one backward and one live graph less. A `torch.compile`d model
        frees its graph in the first backward: use `backward` there.

        Args:
            model: As for `backward`.
            x: As for `backward`.
            y: As for `backward`.

        Returns:
            The loss, a scalar with a graph.

        Raises:
            TypeError, ValueError: As for `backward`.

        Example:
            >>> model, x, y = torch.nn.Linear(4, 3), torch.rand(8, 4), torch.randint(3, (8,))
            >>> loss = RAT()(model, x, y)
            >>> loss.backward()
            >>> model.weight.grad.shape
            torch.Size([3, 4])
        """
        x = _leaf(x, y)
        logits = _logits(model, x)
        clean = self.criterion(logits, y)
        (grad,) = torch.autograd.grad(clean, x, retain_graph=True)
        return clean + self._adversarial(model, x, grad, logits, y)

    def _adversarial(
        self, model: Model, x: Tensor, grad: Tensor, logits: Tensor, y: Tensor
    ) -> Tensor:
        perturbed, _ = ops.rat_perturb(
            x.detach(), grad, logits.detach(), y, self.eps, self.mode, self.bounds, self.scale
        )
        with (
            _batch_norm_untracked(model) if self.batch_norm == "clean" else contextlib.nullcontext()
        ):
            return self.criterion(_logits(model, perturbed), y)


def _leaf(x: Tensor, y: Tensor) -> Tensor:
    """`x` as a leaf of its own, so that its gradient lands there and not with the caller."""
    check_batch(x)
    if not isinstance(y, Tensor) or y.dtype != torch.int64:
        raise TypeError(f"y must be an int64 tensor of class labels, got {describe(y)}")
    if y.shape != x.shape[:1]:
        raise ValueError(f"y must have one label per sample of x, {x.shape[0]}, got {describe(y)}")
    if x.shape[0] == 0:
        raise ValueError("x must hold at least one sample, got an empty batch")
    with torch.inference_mode(False):
        leaf = x.clone() if x.is_inference() else x.detach()
    return leaf.requires_grad_(True)


def _logits(model: Model, x: Tensor) -> Tensor:
    output = model(x)
    logits: Any = getattr(output, "logits", output)
    check_logits("the model's logits", logits)
    assert isinstance(logits, Tensor)
    return logits


def _backward_with(
    backward: Scaler | Callable[[Tensor], object] | None,
) -> Callable[[Tensor], object]:
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


@contextlib.contextmanager
def _batch_norm_untracked(model: Model) -> Iterator[None]:
    """BatchNorm in training mode normalises by the batch and leaves its statistics alone."""
    modules = model.modules() if isinstance(model, nn.Module) else ()
    tracking = [
        m for m in modules if isinstance(m, _BatchNorm) and m.training and m.track_running_stats
    ]
    for module in tracking:
        module.track_running_stats = False
    try:
        yield
    finally:
        for module in tracking:
            module.track_running_stats = True
