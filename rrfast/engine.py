"""The one place that runs a model: in eval mode, parameters frozen, passes counted."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from rrfast import ops
from rrfast.checks import check_batch, check_logits, describe
from rrfast.reference import accumulate_dtype

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on

#: Anything that maps a batch to logits [B, K], or to an object with such `.logits`.
Model = Callable[[Tensor], Any]
#: prediction, margin and cotangent from logits and a temperature, as `rrfast.ops.direction_seed`.
SeedOf = Callable[[Tensor, float], tuple[Tensor, Tensor, Tensor]]


class Clean(NamedTuple):
    """What one forward and one backward at the clean input give."""

    logits: Tensor  #: [B, K]
    prediction: Tensor  #: [B] int64
    margin: Tensor  #: [B], h_prediction - h_runner_up
    grad: Tensor  #: [B, ...], gradient of logsumexp_{k != y}(h_k / T) - h_y / T times T


def check_input(x: object) -> Tensor:
    """The input as a model may differentiate it: detached, and no inference tensor.

    Raises:
        TypeError: `x` is no tensor, or of a dtype that has no gradient here.
        ValueError: `x` has no batch dimension.
    """
    if isinstance(x, Tensor) and not x.is_floating_point():
        raise TypeError(
            "x must be a floating-point tensor, because the radius is a step in it, got "
            f"{describe(x)}; convert it as the model expects, for example x.float() / 255"
        )
    check_batch(x)
    assert isinstance(x, Tensor)
    with torch.inference_mode(False):
        # Autograd cannot save an inference tensor; a copy made outside inference mode it can.
        return x.clone() if x.is_inference() else x.detach()


class Engine:
    """One model, ready to be differentiated with respect to its input, for one call.

    A context manager. Inside, every module is in eval mode and no parameter requires a gradient:
    weight gradients are neither computed nor are their activations kept. On leaving, every module
    and parameter is what it was. A `DistributedDataParallel` wrapper is looked through: it would
    wait for processes that may not be there. A plain function runs as it is.

    Attributes:
        forwards: Forward passes so far.
        backwards: Backward passes so far.
    """

    def __init__(self, model: Model) -> None:
        if not callable(model):
            raise TypeError(f"model must be callable, got {type(model).__name__}")
        self.model = (
            model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
        )
        self.forwards = 0
        self.backwards = 0
        self._leave = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            if isinstance(self.model, nn.Module):
                stack.enter_context(_frozen(self.model))
            self._leave = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave.__exit__(kind, error, traceback)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, K] without a graph. Cost: 1 forward."""
        with torch.no_grad():
            return self._logits(x)

    def forward_backward(
        self, x: Tensor, temperature: float, seed_of: SeedOf = ops.direction_seed
    ) -> Clean:
        """Logits, prediction, margin and the gradient whose sign is the worst-case direction.

        Cost: 1 forward, 1 backward.

        Raises:
            ValueError: The logits do not depend on `x` in a way that autograd can follow.
        """
        x = x.detach().requires_grad_(True)
        with torch.enable_grad():
            logits = self._logits(x)
        if not logits.requires_grad:
            raise ValueError(
                "model must be differentiable with respect to x, but its logits carry no gradient: "
                "it detaches them, runs under torch.no_grad(), or ignores x"
            )
        prediction, margin, seed = seed_of(logits.detach(), temperature)
        (grad,) = torch.autograd.grad(logits, x, seed)
        self.backwards += 1
        return Clean(logits.detach(), prediction, margin, grad)

    def _logits(self, x: Tensor) -> Tensor:
        output = self.model(x)
        self.forwards += 1
        logits = getattr(output, "logits", output)
        if not isinstance(logits, Tensor):
            raise TypeError(
                "model must return a tensor of logits, or an object with .logits, "
                f"got {type(output).__name__}"
            )
        check_logits("the model's logits", logits)
        if logits.shape[0] != x.shape[0]:
            raise ValueError(
                f"the model's logits must have one row per sample of x, {x.shape[0]}, "
                f"got {describe(logits)}"
            )
        # The finer of the two precisions decides; a copy only if a float64 input meets a coarser
        # model.
        return logits.double() if accumulate_dtype(x.dtype) == torch.float64 else logits


@contextlib.contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    # Flags are set one by one, and not by model.eval(): users override train(), and a model may be
    # in a mixed mode.
    training = [module for module in model.modules() if module.training]
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for module in training:
            module.training = False
        for parameter in parameters:
            parameter.requires_grad_(False)
        yield
    finally:
        for module in training:
            module.training = True
        for parameter in parameters:
            parameter.requires_grad_(True)


def logits(model: Model, x: Tensor) -> Tensor:
    """The model's logits in eval mode, without a graph; the model is left as it was.

    Args:
        model: Maps [B, ...] to logits [B, K], or to an object with `.logits`.
        x: [B, ...], floating point.

    Returns:
        [B, K], detached.

    Raises:
        TypeError, ValueError: `x` is not floating point, or the output is not [B, K >= 2] logits.

    Cost: 1 forward.

    Example:
        >>> logits(torch.nn.Linear(4, 3), torch.zeros(2, 4)).shape
        torch.Size([2, 3])
    """
    x = check_input(x)
    with Engine(model) as engine:
        return engine.forward(x)
