"""`RadiusEstimator`: the robust radius as a module, configured once for many batches."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

import torch
from torch import Tensor, nn

from rrfast._checks import check_bool, check_model, describe
from rrfast._progress import batches_bar
from rrfast._turns import Turns
from rrfast.engine import Model, check_input
from rrfast.engine.following import Following
from rrfast.engine.modules_inside import device_of
from rrfast.engine.prepared import prepared
from rrfast.methods import Method, RadiusResult
from rrfast.methods.cuda_graphs import CudaGraph, Graphs
from rrfast.methods.registry import configured
from rrfast.ops import Spare
from rrfast.scores.batches import check_loader, input_of, no_samples

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on

__all__ = ["RadiusEstimator"]

#: Options that keep float32, by name; `speed="auto"` chooses among these and the last two together.
FLOAT32: dict[str, dict[str, Any]] = {
    "eager": {},
    "channels_last": {"memory_format": torch.channels_last},
    "fold_batchnorm": {"fold_batchnorm": True},
}
#: Seconds that `speed="auto"` spends on each, and by what share of its time one must be faster than
#: the model as it is.
SECONDS, GAIN = 0.5, 0.03


class RadiusEstimator(nn.Module):
    """`rrfast.radius` with its settings kept: the same numbers, faster for many batches.

    If the model is a module, it is a submodule: `state_dict`, `to` and the like apply to it. Like
    `rrfast.radius`, calls restore the model's state. Threads may share an estimator, and estimators
    a model; another forward of the model at the same time runs in eval mode. On a CPU the memory
    into which a call writes the points that it probes, 5 to 10 bytes per element of x in float32,
    is kept for the next call, so a hook that keeps the model's input must copy it. `to` and the
    like free it. Copies and pickles contain neither this memory nor the captured graphs.

    Args:
        model: Maps [B, ...] to logits [B, K >= 2], or to an object with such `.logits`.
        method: As for `rrfast.radius`.
        cuda_graph: Capture whole calls in CUDA graphs: if the model's kernels are short, most of
            the time goes into launching them. The numbers are the same. "auto": the third call with
            inputs of the same shape and layout is captured, if x is on CUDA, the model is a module
            and the method can be captured; a model that cannot be captured gives one warning and
            runs without graphs. True: the first call is captured, or raises a RuntimeError. False:
            never. A capture costs the time of four calls, and keeps the memory of one call. The
            model's Python code, such as hooks, runs only at the capture. See
            `rrfast.methods.cuda_graphs.Graphs`.
        dtype: `torch.bfloat16` or `torch.float16` runs the model under autocast, and the rest in
            float32. Logits keep 8 or 11 bits, and radii move by as much as their differences do:
            `rrfast bench --speed` says what that does to the ranking on your model. float16 is
            finer, but may lose small gradients to underflow, and with them signs of the direction.
            Weights are cast in every pass. For GPUs: on a CPU float16 is many times slower than
            float32, which warns, and bfloat16 often is slower, too. There `fold_batchnorm` with
            `memory_format` gains most; `compile` adds little to it.
        memory_format: `torch.channels_last` converts x [B, C, H, W], and runs a copy of the model
            with weights in that layout, which is fast for convolutions on tensor cores. Sums are
            taken in another order, so the last digits change.
        fold_batchnorm: Runs a copy of the model in which each BatchNorm is merged into the layer
            before it. torch.fx must be able to trace the model without losing anything, such as
            hooks. The last digits change.
        compile: Runs the model through `torch.compile(dynamic=False)`: up to half a minute at the
            first call of each shape. The last digits change.
        speed: "auto" measures on the first batch, for two seconds or so, which of `memory_format`
            and `fold_batchnorm`, both or none is fastest, and takes it from then on; what the model
            does not support is left out. The attribute `speed` has the choice: "eager",
            "channels_last", "fold_batchnorm" or "channels_last + fold_batchnorm". The last digits
            of the radii depend on it, and so on the machine and its load. While it measures, there
            are four copies of the weights. Later changes of `model` count, whatever was chosen,
            unless they are made through `.data`. None: the options as given.
        **options: As for `rrfast.radius`. With `temperature` [T] the results are [T, B], and all
            share the forward at x.

    `memory_format` and `fold_batchnorm` copy the model when the estimator is made, which costs the
    memory of the weights once more. Later changes of `model` do not reach that copy: for new
    weights make a new estimator, or give speed="auto".

    Raises:
        TypeError, ValueError: As `rrfast.radius`; or a speed option that the model or torch does
            not support, such as `dtype` with a model that is not a module.

    Example:
        >>> estimator = RadiusEstimator(nn.Linear(4, 3), "bs", budget=10)
        >>> estimator
        RadiusEstimator(
          method='bs', budget=10, cuda_graph='auto'
          (model): Linear(in_features=4, out_features=3, bias=True)
        )
        >>> estimator(torch.rand(8, 4)).shape
        torch.Size([8])
        >>> estimator.predict(torch.rand(20, 4).split(8)).shape
        torch.Size([20])
    """

    def __init__(
        self,
        model: Model,
        method: str | Method = "fast",
        *,
        cuda_graph: CudaGraph = "auto",
        dtype: torch.dtype | None = None,
        memory_format: torch.memory_format | None = None,
        fold_batchnorm: bool = False,
        compile: bool = False,  # noqa: A002 - torch's own word
        speed: Literal["auto"] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        check_model(model)
        self.method, self.options = method, options
        self._measure = dataclasses.replace(configured(method, options), spare=Spare())
        self._graphs = Graphs(cuda_graph)
        self._memory_format = memory_format
        faster: dict[str, Any] = {
            "dtype": dtype,
            "memory_format": memory_format,
            "fold_batchnorm": fold_batchnorm,
            "compile": compile,
        }
        _check_speed(speed, faster)
        self.speed: str | None = speed
        self.model = prepared(model, **faster)
        self._following = Following()  # of `model`: what `speed="auto"` chose
        shown = {"cuda_graph": cuda_graph, **faster}
        self._options = {name: value for name, value in shown.items() if value}

    @overload
    def forward(self, x: Tensor, *, full_output: Literal[False] = ...) -> Tensor: ...
    @overload
    def forward(self, x: Tensor, *, full_output: Literal[True]) -> RadiusResult: ...
    @overload
    def forward(self, x: Tensor, *, full_output: bool) -> Tensor | RadiusResult: ...
    def forward(self, x: Tensor, *, full_output: bool = False) -> Tensor | RadiusResult:
        """The radius of each sample, as `rrfast.radius` gives it.

        Args:
            x: Inputs [B, ...], floating point.
            full_output: Return a `RadiusResult` in place of the radius alone.

        Returns:
            [B], or [T, B] with several temperatures; detached.

        Raises:
            TypeError, ValueError: As `rrfast.radius`, and where `memory_format` does not fit x.
            RuntimeError: With cuda_graph=True, the call cannot be captured.
        """
        check_bool("full_output", full_output)
        x = check_input(x)
        if self.speed == "auto" and len(x) > 0:
            self._choose(x)
        if self._memory_format is not None:
            if x.dim() != 4:
                raise ValueError(
                    "x must be [B, C, H, W] with memory_format=torch.channels_last, got "
                    f"{describe(x)}"
                )
            with torch.inference_mode(False):  # as in `check_input`
                x = x.contiguous(memory_format=self._memory_format)
        measured = self._graphs(self._measure, self._following.of(self.model), x)
        return measured.result() if full_output else measured.estimate.radius

    if TYPE_CHECKING:
        __call__ = forward  # `nn.Module` declares that a call gives Any

    @overload
    def predict(
        self, loader: Iterable[Any], *, full_output: Literal[False] = ..., progress: bool = ...
    ) -> Tensor: ...
    @overload
    def predict(
        self, loader: Iterable[Any], *, full_output: Literal[True], progress: bool = ...
    ) -> RadiusResult: ...
    @overload
    def predict(
        self, loader: Iterable[Any], *, full_output: bool, progress: bool = ...
    ) -> Tensor | RadiusResult: ...
    def predict(
        self, loader: Iterable[Any], *, full_output: bool = False, progress: bool = True
    ) -> Tensor | RadiusResult:
        """The radii of all batches of a loader, in order, on the CPU.

        The host runs one batch ahead of the device: it waits for the results of batch i after it
        has launched batch i + 1. At most two batches are on the device. With a loader that has
        pin_memory=True, copies to the device do not wait.

        Args:
            loader: Yields x [B, ...], or tuples or lists that begin with it, as a `DataLoader`
                with labels does. Batches may differ in size. They are moved to the model's device;
                a plain function gets them unchanged.
            full_output: Return a `RadiusResult` in place of the radii alone.
            progress: Show batches and images per second on stderr, where that is a terminal.

        Returns:
            [N], or [T, N] with several temperatures; the passes of a `RadiusResult` are means over
            samples.

        Raises:
            TypeError: `loader` is no iterable of batches, or yields anything else.
            ValueError: `loader` yields nothing, as a generator does the second time.

        Example:
            >>> data = torch.utils.data.TensorDataset(torch.rand(10, 4), torch.arange(10))
            >>> loader = torch.utils.data.DataLoader(data, batch_size=4)
            >>> RadiusEstimator(nn.Linear(4, 3), "grad").predict(loader).shape
            torch.Size([10])
        """
        check_bool("full_output", full_output)
        check_loader("loader", loader)
        device = device_of(self.model)
        arrived: list[RadiusResult] = []
        pending: deque[_OnItsWay] = deque()
        with batches_bar(loader, progress) as advance:
            for batch in loader:
                x = input_of("loader", batch)
                x = x if device is None else x.to(device, non_blocking=True)
                pending.append(_sent(self(x, full_output=True)))
                if len(pending) > 1:
                    arrived.append(pending.popleft().received())
                    advance(arrived[-1].prediction.shape[0], 1)
            arrived += [last.received() for last in pending]
        if not arrived:
            raise no_samples("loader")
        result = _joined(arrived)
        return result if full_output else result.radius

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Free what is of no use elsewhere, or in another dtype: the last call's memory, a copy."""
        self._following.forget()
        if self._measure.spare is not None:
            self._measure.spare.take()
        return super()._apply(fn, recurse)  # type: ignore[no-any-return, no-untyped-call]

    def _choose(self, x: Tensor) -> None:
        """Measure which options are fastest for this batch, and take them."""
        plain = RadiusEstimator(self.model, self.method, cuda_graph=False, **self.options)
        plain(x)  # raises what is wrong with x
        made, options = {"eager": plain}, dict(FLOAT32)
        layouts = [name for name, faster in FLOAT32.items() if faster]
        for names in ([layouts[0]], [layouts[1]], layouts):
            faster = {key: value for name in names for key, value in FLOAT32[name].items()}
            with contextlib.suppress(TypeError, ValueError, RuntimeError):
                other = RadiusEstimator(
                    self.model, self.method, cuda_graph=False, **faster, **self.options
                )
                other(x)
                made[" + ".join(names)], options[" + ".join(names)] = other, faster
        best = "eager"
        if len(made) > 1:
            runs = {name: partial(estimator, x) for name, estimator in made.items()}
            timed = Turns(runs["eager"], runs, seconds=SECONDS, device=x.device).take()
            ratios = {name: time.ratio() for name, time in timed.items() if not time.error}
            ratios["eager"] = 1 - GAIN
            best = min(ratios, key=ratios.__getitem__)
        self._following = Following(**options[best])
        self._memory_format = options[best].get("memory_format")
        self.speed = best

    def extra_repr(self) -> str:  # noqa: D102
        shown = {"method": self.method, **self.options, **self._options}
        if self.speed is not None:
            shown["speed"] = self.speed
        if not isinstance(self.model, nn.Module):
            shown = {"model": self.model, **shown}
        return ", ".join(f"{name}={value!r}" for name, value in shown.items())


def _check_speed(speed: object, options: dict[str, Any]) -> None:
    """Raise a ValueError unless `speed` is None, or "auto" without the options it chooses."""
    if speed not in (None, "auto"):
        raise ValueError(f"speed must be None or 'auto', got {describe(speed)}")
    given = [name for name, value in options.items() if value]
    if speed == "auto" and given:
        raise ValueError(
            "speed must be None where the options of speed are given, because 'auto' chooses them; "
            f"got 'auto' and {', '.join(given)}"
        )


class _OnItsWay(NamedTuple):
    """A batch's results on their way to the host."""

    result: RadiusResult
    done: torch.cuda.Event | None

    def received(self) -> RadiusResult:
        """Wait for these results only, not for later work."""
        if self.done is None:
            return self.result
        self.done.synchronize()
        # Copy out of pinned memory, which later batches use again.
        return _mapped(Tensor.clone, self.result)


def _sent(result: RadiusResult) -> _OnItsWay:
    if result.radius.device.type != "cuda":
        return _OnItsWay(_mapped(Tensor.cpu, result), None)
    pinned = _mapped(_pinned, result)
    done = torch.cuda.Event()
    done.record(torch.cuda.current_stream(result.radius.device))
    return _OnItsWay(pinned, done)


def _pinned(tensor: Tensor) -> Tensor:
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)


def _mapped(change: Callable[[Tensor], Tensor], result: RadiusResult) -> RadiusResult:
    """Apply a function to the tensors of a result."""
    return RadiusResult._make(
        change(value) if isinstance(value, Tensor) else value for value in result
    )


def _joined(results: list[RadiusResult]) -> RadiusResult:
    """Join the results of batches into one."""
    sizes = [result.prediction.shape[0] for result in results]
    samples = max(sum(sizes), 1)

    def joined(values: tuple[Any, ...]) -> Any:
        if isinstance(values[0], Tensor):
            return torch.cat(values, dim=-1)
        return sum(value * size for value, size in zip(values, sizes, strict=True)) / samples

    return RadiusResult._make(joined(values) for values in zip(*results, strict=True))
