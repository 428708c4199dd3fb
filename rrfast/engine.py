"""The one place that runs a model: in eval mode, parameters frozen, passes counted."""

from __future__ import annotations

import contextlib
import functools
import itertools
import threading
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
    and parameter is what it was; where several engines hold one, in one thread or in many, the last
    to leave restores it. `DistributedDataParallel` wrappers are looked through, wherever they are
    in the model: they would wait for processes that may not be there. A plain function runs as it
    is, and so does the module inside it.

    Attributes:
        forwards: Forward passes so far, each over a batch or a part of it.
        backwards: Backward passes so far.
        forward_samples: Samples that went through those forwards.
        backward_samples: Samples that went through those backwards.
        gradient: Of the last backward.
    """

    gradient: Tensor | None = None

    def __init__(self, model: Model) -> None:
        if not callable(model):
            raise TypeError(f"model must be callable, got {type(model).__name__}")
        self.model = model
        self.forwards = self.forward_samples = 0
        self.backwards = self.backward_samples = 0
        self._leave = contextlib.ExitStack()
        self._shared: tuple[Tensor, Recorded] | None = None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            for module in modules_of(self.model):
                stack.enter_context(_frozen(module))
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

    def record(self, x: Tensor) -> Recorded:
        """A forward whose graph is kept, for as many gradients at `x` as are asked for.

        Cost: 1 forward, and 1 backward for every gradient.

        Raises:
            ValueError: The logits do not depend on `x` in a way that autograd can follow, or the
                model changes `x` in place.
        """
        return Recorded(self, x)

    def forward_backward(
        self, x: Tensor, temperature: float, seed_of: SeedOf = ops.direction_seed
    ) -> Clean:
        """Logits, prediction, margin and the gradient whose sign is the worst-case direction.

        Cost: 1 forward, 1 backward; no forward at the input that is being shared.

        Raises:
            ValueError: As `record`.
        """
        shared = self._shared is not None and self._shared[0] is x
        recorded = self._shared[1] if shared and self._shared is not None else self.record(x)
        prediction, margin, seed = seed_of(recorded.logits, temperature)
        return Clean(recorded.logits, prediction, margin, recorded.grad(seed, last=not shared))

    @contextlib.contextmanager
    def sharing(self, x: Tensor) -> Iterator[None]:
        """Inside, every `forward_backward` at this very tensor uses one forward.

        Cost: 1 forward on entering; the activations it saved live until the end.
        """
        self._shared = (x, self.record(x))
        try:
            yield
        finally:
            self._shared = None

    def _logits(self, x: Tensor) -> Tensor:
        output = self.model(x)
        self.forwards += 1
        self.forward_samples += x.shape[0]
        logits = output_logits(output)
        check_logits("the model's logits", logits)
        if logits.shape[0] != x.shape[0]:
            raise ValueError(
                f"the model's logits must have one row per sample of x, {x.shape[0]}, "
                f"got {describe(logits)}"
            )
        # The finer of the two precisions decides; a copy only if a float64 input meets a coarser
        # model.
        return logits.double() if accumulate_dtype(x.dtype) == torch.float64 else logits


class Recorded:
    """A forward pass that gradients with respect to its input can be taken of.

    Attributes:
        logits: [B, K], detached.
    """

    logits: Tensor

    def __init__(self, engine: Engine, x: Tensor) -> None:
        self._engine = engine
        self._x = x.detach().requires_grad_(True)
        self._graph: Tensor | None = self._record()
        self.logits = self._graph.detach()
        if isinstance(engine.model, torch._dynamo.OptimizedModule):
            # mode="reduce-overhead" reuses its outputs' memory in the next forward.
            self.logits = self.logits.clone()

    def grad(self, seed: Tensor, *, last: bool = False) -> Tensor:
        """The gradient of sum(seed * logits) with respect to the input, [B, ...].

        Cost: 1 backward. A model of `torch.compile` whose first backward ever was its graph's last
        gives up what it saved in every backward; each gradient after one then costs a forward too.

        Args:
            seed: The cotangent, [B, K].
            last: Let go of the graph.
        """
        if self._graph is None:
            self._graph = self._record()
        try:
            (grad,) = torch.autograd.grad(self._graph, self._x, seed, retain_graph=not last)
        except RuntimeError as error:
            if last or "donated buffers" not in str(error):
                raise
            (grad,) = torch.autograd.grad(self._graph, self._x, seed)
            last = True
        self._engine.gradient = grad
        self._engine.backwards += 1
        self._engine.backward_samples += self._x.shape[0]
        if last:
            self._graph = None
        return grad

    def _record(self) -> Tensor:
        try:
            with torch.enable_grad():
                logits = self._engine._logits(self._x)
        except RuntimeError as error:
            if "leaf Variable" in str(error) and "in-place" in str(error):
                raise ValueError(
                    "model must not change its input in place, as a first layer with inplace=True "
                    "does; give lambda x: model(x.clone()) if it has to"
                ) from error
            raise
        if not logits.requires_grad:
            raise ValueError(
                "model must be differentiable with respect to x, but its logits carry no gradient: "
                "it detaches them, runs under torch.no_grad(), or ignores x"
            )
        return logits


def output_logits(output: object) -> Tensor:
    """What a model returned, or its `.logits`."""
    logits = getattr(output, "logits", output)
    if not isinstance(logits, Tensor):
        raise TypeError(
            "model must return a tensor of logits, or an object with .logits, "
            f"got {type(output).__name__}"
        )
    return logits


def modules_of(model: object) -> list[nn.Module]:
    """The module a callable runs: itself, the one it is a method of, the one a partial calls."""
    if isinstance(model, functools.partial):
        return modules_of(model.func)
    owner = model if isinstance(model, nn.Module) else getattr(model, "__self__", None)
    return [owner] if isinstance(owner, nn.Module) else []


def device_of(model: Model) -> torch.device | None:
    """Where the model's first parameter or buffer is; None for a function or without any."""
    for module in modules_of(model):
        for tensor in itertools.chain(module.parameters(), module.buffers()):
            return tensor.device
    return None


#: What engines hold changed: by module and name, how many hold it, and how it is put back.
_held: dict[tuple[int, str], tuple[int, Callable[[], object]]] = {}
_lock = threading.RLock()


@contextlib.contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    modules = list(model.modules())
    # By hand: named_parameters() takes several times as long, and a call pays for each parameter.
    parameters = [
        (module, name, parameter)
        for module in modules
        for name, parameter in module._parameters.items()
        if parameter is not None
    ]
    if any(parameter.is_inference() for _, _, parameter in parameters):
        raise ValueError(
            "model must have parameters that autograd can use, but some were made under "
            "torch.inference_mode(); build and load the model outside of it"
        )
    held: list[tuple[int, str]] = []

    def hold(module: nn.Module, name: str, restore: Callable[[], object]) -> None:
        key = (id(module), name)
        holders, first = _held.get(key, (0, restore))
        _held[key] = (holders + 1, first)
        held.append(key)

    try:
        with _lock:
            for module in modules:
                # Flag by flag, not by model.eval(): users override train(), and a model may be in
                # a mixed mode.
                if getattr(module, "training", False) or (id(module), "training") in _held:
                    hold(module, "training", functools.partial(setattr, module, "training", True))
                    module.training = False
                if isinstance(module, nn.parallel.DistributedDataParallel):
                    hold(module, "forward", functools.partial(delattr, module, "forward"))
                    module.forward = module.module.__call__  # type: ignore[method-assign]
            for module, name, parameter in parameters:
                if parameter.requires_grad or (id(module), name) in _held:
                    hold(module, name, functools.partial(_thaw, module, name, parameter))
                    parameter.requires_grad_(False)
        yield
    finally:
        _release(held)


def _release(held: list[tuple[int, str]]) -> None:
    """Put back what nobody else holds; all that can be, whatever fails."""
    failed: list[Exception] = []
    with _lock:
        for key in held:
            holders, restore = _held.pop(key)
            if holders > 1:
                _held[key] = (holders - 1, restore)
                continue
            try:
                restore()
            except Exception as error:  # noqa: BLE001 - raised when all the rest is restored
                failed.append(error)
    if failed:
        raise failed[0]


def _thaw(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
    """Let a parameter require a gradient again, and what stands in its place by now.

    A sharded model (`fully_shard`) registers other tensors under its names while it runs.
    """
    parameter.requires_grad_(True)
    registered = module._parameters.get(name)
    if registered is not None:
        registered.requires_grad_(True)


def logits(model: Model, x: Tensor) -> Tensor:
    """The model's logits in eval mode, without a graph; the model is left as it was.

    Args:
        model: Maps [B, ...] to logits [B, K], or to an object with `.logits`. It must not change
            its input in place: `x` is handed on as it is.
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
