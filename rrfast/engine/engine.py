"""The only place that runs a model: in eval mode, parameters frozen, passes counted."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch._C import _set_grad_enabled as set_grad_enabled

from rrfast._checks import (
    check_batch,
    check_dense,
    check_labels,
    check_logits,
    check_model,
    describe,
    output_logits,
)
from rrfast._reading import may_read
from rrfast.engine.frozen import OF_INFERENCE, Frozen
from rrfast.engine.gradient import NO_GRADIENT, input_gradient
from rrfast.engine.in_place import IN_PLACE, output_of
from rrfast.engine.modules_inside import modules_of
from rrfast.ops import Memory, accumulate_dtype, unchecked

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on

#: Anything that maps a batch to logits [B, K], or to an object with such `.logits`.
Model = Callable[[Tensor], Any]
#: What `rrfast.ops.direction_seed` gives, from logits and a temperature.
SeedOf = Callable[[Tensor, float], tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]


class Clean(NamedTuple):
    """The results of one forward and one backward at the clean input."""

    logits: Tensor  #: [B, K]
    prediction: Tensor  #: [B] int64
    margin: Tensor  #: [B], h_prediction - h_runner_up
    grad: Tensor  #: [B, ...], gradient of logsumexp_{k != y}(h_k / T) - h_y / T times T
    runner_up: Tensor  #: [B] int64
    clear: Tensor  #: [B], the margin, or more where rounding could hide it; see `direction_seed`


def check_input(x: object) -> Tensor:
    """The input in a form that autograd can use: detached, and not an inference tensor.

    Raises:
        TypeError: `x` is not a tensor, or its dtype has no gradient here.
        ValueError: `x` has no batch dimension, or its samples have no elements.
    """
    if isinstance(x, Tensor) and not x.is_floating_point():
        raise TypeError(
            "x must be a floating-point tensor, because the radius is a step in it, got "
            f"{describe(x)}; convert it as the model expects, for example x.float() / 255, and in "
            "place of token ids give their embeddings"
        )
    check_batch(x)
    assert isinstance(x, Tensor)
    if 0 in x.shape[1:] and x.shape[0] > 0:
        raise ValueError(f"x must have at least one element per sample, got {describe(x)}")
    if not torch.is_inference_mode_enabled() and not x.is_inference():
        return x.detach()
    with torch.inference_mode(False):
        # Autograd cannot save an inference tensor, but it can save a copy made outside inference
        # mode.
        return x.clone() if x.is_inference() else x.detach()


class Engine:
    """One model, ready to be differentiated with respect to its input, for one call.

    A context manager, entered once. Inside, every module is in eval mode and no parameter requires
    a gradient: weight gradients are not computed, and activations for them are not kept. On
    leaving, the state of every module and parameter is restored, even after an exception; see
    `Frozen`. `DistributedDataParallel` wrappers anywhere in the model are bypassed, because they
    would wait for other processes. If the model is a function or an object,
    `rrfast.engine.modules_inside.modules_of` finds the modules that it refers to.

    Args:
        model: Maps [B, ...] to logits [B, K], or to an object with such `.logits`.
        labels: Labels [B] int64, to be checked against the classes of the first logits; None for
            none. On a device only the first engine of a model checks them, because it must wait.
        called: What an error message calls them.

    Attributes:
        forwards: Forward passes so far, each over a batch or a part of it.
        backwards: Backward passes so far.
        forward_samples: Samples that went through those forwards.
        backward_samples: Samples that went through those backwards.
        classes: K, known after the first forward.
        gradient: The gradient of the last backward.
    """

    forwards = forward_samples = backwards = backward_samples = 0
    classes: int | None = None
    gradient: Tensor | None = None
    _samples = 0  # in the first forward
    _kind: tuple[int, torch.dtype] | None = None  # classes and dtype of its logits
    _latest: Tensor | None = None
    _cudnn = True  # whether cuDNN may run recurrent networks for a gradient
    _shared: tuple[Tensor, Recorded] | None = None
    memory = cached_property(lambda _: Memory())  #: what steps between passes write into

    def __init__(
        self, model: Model, labels: Tensor | None = None, *, called: str = "labels"
    ) -> None:
        check_model(model)
        self.model = model
        self._labels, self._called = labels, called
        self._frozen = Frozen()

    def __enter__(self) -> Self:
        if self._frozen.begun:
            raise RuntimeError("an Engine is entered once; make another one for another call")
        try:
            self._frozen.freeze(modules_of(self.model))
        except BaseException:
            self._frozen.close()
            raise
        return self

    #: That of `Frozen`, without a Python function in between; `Changes` says why.
    __exit__ = property(attrgetter("_frozen.__exit__"))

    def forward(self, x: Tensor, *, copy: bool = True) -> Tensor:
        """Logits [B, K] without a graph. Cost: 1 forward.

        Args:
            x: [B, ...].
            copy: Whether they outlive the next forward, in which a captured model overwrites them.
        """
        before = torch.is_grad_enabled()
        set_grad_enabled(False)  # torch.no_grad() is twice as much Python
        try:
            logits = self._logits(x)
            return logits.clone() if copy else logits
        finally:
            set_grad_enabled(before)

    def record(self, x: Tensor, *, copy: bool = True) -> Recorded:
        """A forward whose graph is kept, for any number of gradients at `x`.

        Cost: 1 forward, and 1 backward per gradient.

        Args:
            x: [B, ...].
            copy: As for `forward`, of the logits that it has.

        Raises:
            ValueError: The logits do not depend on `x` in a way that autograd can follow, or the
                model changes `x` in place.
        """
        return Recorded(self, x, copy=copy)

    def forward_backward(
        self, x: Tensor, temperature: float, seed_of: SeedOf = unchecked.direction_seed
    ) -> Clean:
        """Logits, prediction, margin and the gradient whose sign is the worst-case direction.

        Cost: 1 forward, 1 backward; no forward if `x` is the input of `sharing`.

        Raises:
            ValueError: As `record`.
        """
        shared = self._shared[1] if self._shared is not None and self._shared[0] is x else None
        recorded = shared or self.record(x)
        prediction, margin, seed, runner_up, clear = seed_of(recorded.logits, temperature)
        grad = recorded.grad(seed, last=shared is None)
        return Clean(recorded.logits, prediction, margin, grad, runner_up, clear)

    @contextlib.contextmanager
    def sharing(self, x: Tensor) -> Iterator[None]:
        """Inside, all calls of `forward_backward` with this same tensor share one forward.

        Cost: 1 forward on entering; the activations it saved live until the end.
        """
        self._shared = (x, self.record(x))
        try:
            yield
        finally:
            self._shared = None

    def saw_classes(self, count: int) -> None:
        """Check the labels against the number of classes, before a loss indexes logits by them.

        A wrong label would raise an IndexError, or on a GPU fail an assertion that ends the
        process.

        Raises:
            ValueError: A label is not a class.
        """
        self.classes = count
        if self._labels is not None and may_read("labels", self.model, self._labels):
            check_labels(self._called, self._labels, count)
        self._labels = None

    def _logits(self, x: Tensor) -> Tensor:
        first = self.forwards == 0
        try:
            logits = output_logits(output_of(self.model, x, keep=first))
        except Exception as error:
            reason = self._reason(x, error)
            if reason is None:
                raise
            raise ValueError(reason) from error
        self._samples = x.shape[0] if first else self._samples
        self.forwards += 1
        self.forward_samples += x.shape[0]
        self._latest = logits
        if logits.dim() == 1 and (x.dim() == 1 or logits.shape != x.shape[:1]):
            raise ValueError(_UNBATCHED.format(describe(x), "its logits have none"))
        check_logits("the model's logits", logits)
        if logits.shape[0] != x.shape[0]:
            raise ValueError(
                f"the model's logits must have one row per sample of x, {x.shape[0]}, "
                f"got {describe(logits)}"
            )
        kind = logits.shape[1], logits.dtype
        if kind != self._kind:
            if self._kind is not None:
                raise ValueError(
                    "model must return logits of one number of classes and one dtype, "
                    f"{self._kind[0]} in {str(self._kind[1]).removeprefix('torch.')} in its first "
                    f"pass, but then got {describe(logits)}"
                )
            self._kind = kind
            self.saw_classes(logits.shape[1])
        # The more precise dtype of the two; this copies only if a float64 input meets a coarser
        # model.
        return logits.double() if accumulate_dtype(x.dtype) == torch.float64 else logits

    def _reason(self, x: Tensor, error: Exception) -> str | None:
        """Why the model failed, if the cause is certain and not an error of the model itself."""
        if isinstance(error, torch.OutOfMemoryError) or str(error) == IN_PLACE:
            return None
        parameters = (p for module in modules_of(self.model) for p in module.parameters())
        if "Inference tensors" in str(error) and any(p.is_inference() for p in parameters):
            return OF_INFERENCE
        if self.forwards and x.shape[0] != self._samples:
            return (
                f"model must take parts of a batch here, and took {self._samples} samples but not "
                f"{x.shape[0]}, like a model that was exported for one batch size: this goes on "
                "with the samples that are left. Take a method that does not, or export the model "
                "with a dynamic batch dimension"
            )
        if self.forwards == 0 and 0 < x.dim() <= 3:
            with torch.no_grad(), contextlib.suppress(Exception):
                one = output_logits(self.model(x.detach()[None].clone()))
                if one.dim() == 2 and len(one) == 1:
                    return _UNBATCHED.format(describe(x), "the model takes x[None] and not x")
        return None


class Recorded:
    """A forward pass whose gradients with respect to its input can be taken.

    Attributes:
        logits: [B, K], detached.
    """

    logits: Tensor

    def __init__(self, engine: Engine, x: Tensor, *, copy: bool = True) -> None:
        check_dense("x", x)
        self._engine = engine
        self._x = x.detach().requires_grad_(True)
        self._graph: Tensor | None = self._record()
        same = self._output.dtype == self._graph.dtype
        logits = self._output if same else self._graph.detach()
        self.logits = logits.clone() if copy else logits

    def grad(self, seed: Tensor, *, last: bool = False) -> Tensor:
        """The gradient of sum(seed * logits) with respect to the input, [B, ...].

        Cost: 1 backward. If the first backward of a `torch.compile` model was the last of its
            graph, the model frees its saved tensors in every backward; each further gradient then
            costs another forward. So does the first gradient of a recurrent network on CUDA: cuDNN
            has no backward in eval mode, and this engine then records with torch's own kernels.

        Args:
            seed: The cotangent, [B, K].
            last: Free the graph.
        """
        if self._graph is None or self._overwritten():
            self._graph = self._record()
        try:
            grad = input_gradient(self._graph, self._x, seed, retain_graph=not last)
        except RuntimeError as error:
            if self._cudnn and "RNN backward can only be called in training mode" in str(error):
                self._engine._cudnn = False
                self._graph = self._record()
                grad = input_gradient(self._graph, self._x, seed, retain_graph=not last)
            elif not last and "donated buffers" in str(error):
                grad = input_gradient(self._graph, self._x, seed)
                last = True
            else:
                raise
        self._engine.gradient = grad
        self._engine.backwards += 1
        self._engine.backward_samples += self._x.shape[0]
        if last:
            self._graph = None
        return grad

    def _overwritten(self) -> bool:
        """Whether another forward has overwritten the memory of this one.

        A captured model uses the same memory in every call, for its output and for its backward.
        """
        latest, output = self._engine._latest, self._output
        return latest is not output and bool(torch._C._is_alias_of(latest, output))  # type: ignore[attr-defined]

    def _record(self) -> Tensor:
        self._cudnn = self._engine._cudnn
        before = torch.is_grad_enabled()
        set_grad_enabled(True)
        try:
            with contextlib.nullcontext() if self._cudnn else _without_cudnn():
                logits = self._engine._logits(self._x)
        finally:
            set_grad_enabled(before)
        latest = self._engine._latest
        assert latest is not None  # that of this forward
        # Without its graph, which is to go with the backward: after another pass, freeing it takes
        # twice as long.
        self._output = self._engine._latest = latest.detach()
        if not logits.requires_grad:
            raise ValueError(NO_GRADIENT)
        return logits


@contextlib.contextmanager
def _without_cudnn() -> Iterator[None]:
    before = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = before


_UNBATCHED = "x must have a batch dimension, [B, ...], got {}: {}; give x[None] for one input"


def logits(model: Model, x: Tensor) -> Tensor:
    """The model's logits in eval mode, without a graph; the model's state is restored.

    Args:
        model: Maps [B, ...] to logits [B, K], or to an object with `.logits`. It must not change
            its input in place.
        x: [B, ...], floating point.

    Returns:
        [B, K], detached.

    Raises:
        TypeError, ValueError: `x` is not floating point, the output is not [B, K >= 2] logits, or
            the model changes `x` in place.

    Cost: 1 forward.

    Example:
        >>> logits(torch.nn.Linear(4, 3), torch.zeros(2, 4)).shape
        torch.Size([2, 3])
    """
    x = check_input(x)
    with Engine(model) as engine:
        return engine.forward(x)
