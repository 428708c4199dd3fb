"""CUDA graphs of whole estimates."""

from __future__ import annotations

import contextlib
import sys
import threading
import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rrfast._errors import first_line
from rrfast.engine import Model
from rrfast.engine.modules_inside import modules_of, owner_of
from rrfast.engine.special import own_train
from rrfast.methods.measure import Measure, Measured

#: Capture where possible and worth it ("auto"), always, or never; see `Graphs`.
CudaGraph = Literal["auto"] | bool

#: Graphs that one estimator keeps; the least recently used is dropped first.
LIMIT = 8
#: Which call with inputs of one kind "auto" captures: an odd last batch comes only once per epoch.
PATIENCE = 3
#: Warm-up runs before a capture, in which libraries load, tune and allocate.
WARM_UPS = 3

#: torch captures one graph at a time in a process.
_capturing = threading.RLock()


class Graphs:
    """Calls of one estimator, each captured once per kind of input and replayed from then on.

    Inputs are of one kind if shape, strides, dtype, device and the autocast state around the call
    are the same. A replay reads the model's weights at the addresses of the capture, so it sees
    changes in place, such as an optimizer's. Parameters, buffers, modules or hooks that were added
    or replaced, as by `.to()` or `load_state_dict(assign=True)`, are noticed by their addresses, at
    about a microsecond per tensor and call, and everything is captured again. Other Python code of
    the model, its hooks, and settings of torch such as TF32 keep the state of the capture. So does
    what a plain function closes over; hence "auto" captures only modules.

    The graphs share a memory pool, as large as the peak of the largest graph. Replays from
    different threads or streams wait for one another.

    Args:
        when: True: capture at the first call. "auto": at the third call of its kind, if x is on
            CUDA, the model is a module and the estimator can be captured; a capture that fails
            gives a warning, and none is tried again. Each graph that is dropped doubles the number
            three. False: never.

    Raises a RuntimeError if `when` is True and a call cannot be captured.
    """

    def __init__(self, when: CudaGraph) -> None:
        if when != "auto" and not isinstance(when, bool):
            raise ValueError(f"cuda_graph must be 'auto', True or False, got {when!r}")
        self.when = when
        self._lock = threading.Lock()
        self._replays: OrderedDict[tuple[Any, ...], Replay] = OrderedDict()
        self._calls: Counter[tuple[Any, ...]] = Counter()
        self._addresses: list[object] = []
        self._pool: Pool | None = None
        self._patience = PATIENCE
        self._gave_up = False

    def __reduce__(self) -> tuple[type[Graphs], tuple[CudaGraph]]:
        return Graphs, (self.when,)  # a copy makes its own captures

    def __call__(self, measure: Measure, model: Model, x: Tensor) -> Measured:
        """`measure(model, x)`, replayed if it can be."""
        if self.when is False or x.shape[0] == 0 or _is_being_captured(x):
            return measure(model, x)
        obstacle = _obstacle(measure, x)
        if obstacle and self.when == "auto":
            return measure(model, x)
        addresses = None if obstacle or self._gave_up else _addresses(model)
        if not obstacle and addresses is None:
            obstacle = (
                "needs weights that are plain tensors, neither sharded nor of a class of their "
                "own, and no module with a train() of its own, which a replay would not call"
            )
        if self.when is True and obstacle:
            told = obstacle.format(method=type(measure.methods[0]).__name__, device=x.device)
            raise RuntimeError(f"cuda_graph=True {told}; give cuda_graph='auto'")
        if addresses is None or (self.when == "auto" and owner_of(model) is None):
            return measure(model, x)
        with self._lock:
            replay = self._replay_for(measure, model, x, addresses)
            if replay is not None:
                return replay(x)
        return measure(model, x)

    def _replay_for(
        self, measure: Measure, model: Model, x: Tensor, addresses: list[object]
    ) -> Replay | None:
        if [x.device, *addresses] != self._addresses:
            self._forget()
            self._addresses = [x.device, *addresses]
        kind = x.device.type
        autocast = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
        key = (x.shape, x.stride(), x.dtype, *autocast)
        if key in self._replays:
            self._replays.move_to_end(key)
            return self._replays[key]
        if len(self._calls) > 1000:
            self._calls.clear()
        self._calls[key] += 1
        if self.when == "auto" and self._calls[key] < self._patience:
            return None
        if self._pool is None:
            self._pool = Pool(x.device)
        with torch.inference_mode(False):
            ready = measure.on(x)
        try:
            replay = self._pool.capture(lambda x: ready(model, x), x)
        except CaptureError as error:
            if self.when is True:
                raise
            self._gave_up = True
            warnings.warn(f"{error}; rrfast goes on without", RuntimeWarning, stacklevel=6)
            return None
        self._replays[key] = replay
        if len(self._replays) > LIMIT:
            evicted, _ = self._replays.popitem(last=False)
            self._calls[evicted] = 0
            self._patience *= 2  # if shapes keep changing, capture ever fewer
        return replay

    def _forget(self) -> None:
        self._replays.clear()
        self._calls.clear()
        self._pool, self._patience = None, PATIENCE


class CaptureError(RuntimeError):
    """The model does something that a CUDA graph cannot hold."""


class Pool:
    """The memory and stream of the graphs of one device.

    Attributes:
        done: The last replay; graphs that share memory may not overlap.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.done = torch.cuda.Event()
        self._stream = torch.cuda.Stream(device)
        self._handle = torch.cuda.graph_pool_handle()

    def capture(self, run: Callable[[Tensor], Measured], x: Tensor) -> Replay:
        """Capture `run` as a graph for inputs like `x`.

        Raises:
            CaptureError: Something in `run` cannot be captured.
        """
        caching = torch.is_autocast_cache_enabled()
        # Each replay would read a cast weight from the cache, long after autocast freed it.
        torch.set_autocast_cache_enabled(False)
        try:
            with _capturing, torch.inference_mode(False), torch.cuda.device(self.device):
                return self._capture(run, x.clone())
        finally:
            torch.set_autocast_cache_enabled(caching)

    def _capture(self, run: Callable[[Tensor], Measured], x: Tensor) -> Replay:
        outside = torch.cuda.current_stream()
        graph = torch.cuda.CUDAGraph()
        # A DataLoader's pinning thread may allocate meanwhile: only this thread is watched.
        capturing = torch.cuda.graph(
            graph, pool=self._handle, stream=self._stream, capture_error_mode="thread_local"
        )
        try:
            self._stream.wait_stream(outside)
            with torch.cuda.stream(self._stream):
                for _ in range(WARM_UPS):
                    run(x)
            outside.wait_stream(self._stream)
            with capturing:
                output = run(x)
        except RuntimeError as error:
            raise CaptureError(
                "the model could not be captured in a CUDA graph, as one that copies from or to "
                f"the host or decides by values cannot: {first_line(error)}"
            ) from error
        finally:
            torch.cuda.set_stream(outside)  # torch stays on its own stream when a capture fails
        return Replay(self, graph, run, x, output)


class Replay:
    """A captured graph, with the input it reads and the output it writes."""

    def __init__(
        self,
        pool: Pool,
        graph: torch.cuda.CUDAGraph,
        run: Callable[[Tensor], Measured],
        x: Tensor,
        output: Measured,
    ) -> None:
        self._pool, self._graph, self._x, self._output = pool, graph, x, output
        self._run = run  # holds the bounds and the scale that the graph reads

    def __del__(self) -> None:
        # Memory that a running graph reads must not be reused.
        with contextlib.suppress(RuntimeError):  # for example if CUDA is gone already at exit
            if not torch.cuda.is_current_stream_capturing():
                self._pool.done.synchronize()

    def __call__(self, x: Tensor) -> Measured:
        """The output for `x`, in memory of its own."""
        with torch.inference_mode(False), torch.no_grad():
            stream = torch.cuda.current_stream(self._pool.device)
            stream.wait_event(self._pool.done)
            self._x.copy_(x)
            self._graph.replay()
            output = self._output.clone()
            self._pool.done.record(stream)
        return output


def _obstacle(measure: Measure, x: Tensor) -> str:
    """Why a call with `x` cannot be captured, for `str.format`; empty if it can."""
    if not measure.capturable:
        return "needs a method that never waits for the device, which {method} as given does"
    if not x.is_cuda:
        return "needs x on a CUDA device, got x on {device}"
    return ""


def _is_being_captured(x: Tensor) -> bool:
    return x.is_cuda and torch.cuda.is_current_stream_capturing()


def _addresses(model: Model) -> list[object] | None:
    """The model's modules, their numbers of hooks, and the addresses of parameters and buffers.

    None if these cannot be known.
    """
    addresses: list[object] = []
    fsdp = sys.modules.get("torch.distributed.fsdp")  # not imported: nothing is sharded by it
    sharded = (fsdp.FSDPModule, fsdp.FullyShardedDataParallel) if fsdp else ()
    modules: list[nn.Module | None] = list(modules_of(model))
    while modules:  # by hand: model.parameters() takes five times as long
        module = modules.pop()
        if module is None:
            continue
        if isinstance(module, sharded) or own_train(type(module)):
            return None
        addresses += (id(module), len(module._forward_hooks), len(module._forward_pre_hooks))
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is None:
                continue
            if type(tensor) not in (nn.Parameter, Tensor):
                return None
            addresses += (tensor.data_ptr(), tensor.dtype)
        modules.extend(module._modules.values())
    return addresses
