"""How an op is timed against its rivals: the shapes, a round of a contest, what is kept of it.

pytest-benchmark times one function after another. On a machine whose speed drifts by tens of per
cent within a minute the ratio of two such times says little. So here every round runs all
contenders, and ratios are taken within a round.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from rrfast.ops import accumulate_dtype

Run = Callable[[], Any]

#: Loose enough for rivals that round in between, tight enough to catch one that is something else.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 4e-2}


@dataclass(frozen=True)
class Images:
    """A batch of images, with a step per sample."""

    shape: tuple[int, int, int, int]
    dtype: torch.dtype = torch.float32
    #: Channels-last, with a box and a scale per channel: what a model on normalised pixels has.
    normalised: bool = False

    def __str__(self) -> str:
        return _label(self.shape, self.dtype) + ("-normalised" if self.normalised else "")

    def random(self, device: torch.device) -> Tensor:
        values = torch.randn(self.shape, device=device).to(self.dtype)
        return values.to(memory_format=torch.channels_last) if self.normalised else values

    def step(self, device: torch.device) -> Tensor:
        return torch.rand(self.shape[0], device=device).to(accumulate_dtype(self.dtype))

    def box(self, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
        """Bounds and scale in the form that ops and reference take."""
        if not self.normalised:
            return None, None
        std = torch.tensor([0.229, 0.224, 0.225], device=device)
        mean = torch.tensor([0.485, 0.456, 0.406], device=device)
        return torch.stack((-mean / std, (1 - mean) / std)), 1 / std


@dataclass(frozen=True)
class Logits:
    """Rows of logits."""

    shape: tuple[int, int]
    dtype: torch.dtype = torch.float32

    def __str__(self) -> str:
        return _label(self.shape, self.dtype)

    def random(self, device: torch.device) -> Tensor:
        return torch.randn(self.shape, device=device).mul_(4).to(self.dtype)


def _label(shape: tuple[int, ...], dtype: torch.dtype) -> str:
    return f"{'x'.join(map(str, shape))}-{str(dtype).removeprefix('torch.')}"


#: Most important first, since a run may be cut short: what the targets are set on, the shapes of
#: the papers, what lies between and beyond.
IMAGES = (
    Images((256, 3, 224, 224)),
    Images((256, 3, 224, 224), torch.bfloat16),
    Images((128, 3, 32, 32)),
    Images((128, 3, 32, 32), torch.bfloat16),
    Images((256, 3, 224, 224), normalised=True),
    Images((64, 3, 224, 224)),
    Images((64, 3, 224, 224), normalised=True),
    Images((128, 3, 96, 96)),
)
#: For what is compared with a sort in float64: of 256 large images it takes six gigabytes.
FEWER_IMAGES = tuple(replace(i, shape=(min(i.shape[0], 128), *i.shape[1:])) for i in IMAGES)
LOGITS = (
    Logits((16_384, 1000)),
    Logits((16_384, 1000), torch.bfloat16),
    Logits((128, 10)),
    Logits((128, 100)),
    Logits((128, 1000)),
    Logits((1024, 1000)),
    Logits((1024, 1000), torch.bfloat16),
    Logits((1024, 21_841)),
    Logits((32_768, 10)),
    Logits((32_768, 100)),
    Logits((32_768, 100), torch.bfloat16),
    Logits((8192, 2048)),
    Logits((4096, 5000)),
    Logits((4096, 5000), torch.bfloat16),
    Logits((2048, 10_450)),
    Logits((1024, 10)),
    Logits((1024, 100)),
    Logits((256, 100_000)),
    Logits((256, 100_000), torch.bfloat16),
    Logits((4096, 100)),
)
#: Ops, the most important first: those of a step of training, of the radius, of scores.
OPS = (
    *("rat_perturb", "fgsm_step", "direction_seed", "linear_radius", "probe_step"),
    *("search_step_", "bisection_step_", "perturb", "probability_margin", "plane_distance"),
    *("plane_seed", "redirect_", "loss_seed"),
)
#: On a GPU, a case that moves fewer bytes is timed as so many calls in one CUDA graph: events
#: around a single one cannot resolve its two or three microseconds.
SMALL_BYTES, CALLS = 16e6, 100
#: Of a tensor that is copied, or added up, as a yardstick on a GPU: no cache holds a part of it
#: that counts.
YARDSTICK_BYTES = 2 * 2**30


def yardsticks(device: torch.device) -> dict[str, tuple[int, Run]]:
    """What a GPU's memory gives to who asks for all of it: bytes that are moved, and the call."""
    source = torch.ones(YARDSTICK_BYTES // 4, device=device)
    target = torch.empty_like(source)
    size = tensor_bytes(source)
    return {"copy": (2 * size, lambda: target.copy_(source)), "sum": (size, source.sum)}


class Repeated:
    """So many calls as one CUDA graph."""

    def __init__(self, run: Run) -> None:
        self._graph = torch.cuda.CUDAGraph()
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            run()  # what it sets up once is no part of the graph
        torch.cuda.current_stream().wait_stream(aside)
        with torch.cuda.graph(self._graph):
            for _ in range(CALLS):
                run()

    def __call__(self) -> None:
        self._graph.replay()


def repeated(contenders: Mapping[str, Run]) -> tuple[dict[str, Run], list[str]]:
    """All that a graph can hold, and the names of the others: a rival may wait for the device."""
    captured: dict[str, Run] = {}
    for name, run in contenders.items():
        try:
            captured[name] = Repeated(run)
        except RuntimeError:
            if not captured:  # the subject must
                raise
    return captured, [name for name in contenders if name not in captured]


class Stopwatch:
    """Seconds that a call takes on a device, with the allocation and the release of its results."""

    #: Written and read before every timed call on a GPU: this empties the second-level cache, and
    #: gives the host time to enqueue the call, so that the device's work is measured and not the
    #: launch.
    FLUSH_BYTES = 256 * 2**20

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        if self._cuda:
            self._flush = torch.empty(self.FLUSH_BYTES, dtype=torch.int8, device=device)
            self._begin = torch.cuda.Event(enable_timing=True)
            self._end = torch.cuda.Event(enable_timing=True)

    def __call__(self, run: Run) -> float:
        if not self._cuda:
            start = time.perf_counter()
            run()
            return time.perf_counter() - start
        self._flush.zero_()
        self._flush.view(torch.int64).amax()  # or what was written last is still to be written back
        self._begin.record()
        run()
        self._end.record()
        self._end.synchronize()
        return self._begin.elapsed_time(self._end) * 1e-3


class Contest:
    """Contenders in turns, in a new random order every round.

    What ran before leaves its caches to the next: always after the same one, a contender would be
    as fast as that one's memory is of use to it. The first is the subject, and its place in a round
    is random as well. A contender may make its call several times, each time as often as the
    others.
    """

    def __init__(self, contenders: Mapping[str, Run], stopwatch: Stopwatch, calls: int = 1) -> None:
        self._contenders, self.subject = dict(contenders), next(iter(contenders))
        self._stopwatch, self._calls = stopwatch, calls
        self._order, self._behind = random.Random(0), list[str]()  # the round's rest
        self.seconds: dict[str, list[float]] = {name: [] for name in contenders}

    def until_subject(self) -> None:
        """All that is left of the last round, and of a new one all before the subject."""
        self.rest()
        order = self._order.sample(list(self._contenders), len(self._contenders))
        place = order.index(self.subject)
        for name in order[:place]:
            self._turn(name)
        self._behind = order[place + 1 :]

    def subjects_turn(self) -> None:
        self._turn(self.subject)

    def rest(self) -> None:
        """What is left of the last round."""
        for name in self._behind:
            self._turn(name)
        self._behind = []

    def _turn(self, name: str) -> None:
        self.seconds[name].append(self._stopwatch(self._contenders[name]) / self._calls)

    def warm_up(self, rounds: int) -> float:
        """Compiles, fills caches and pools; seconds that the last round took."""
        for _ in range(rounds):
            start = time.perf_counter()
            self.until_subject()
            self.subjects_turn()
            self.rest()
            elapsed = time.perf_counter() - start
        for values in self.seconds.values():
            values.clear()
        return elapsed

    def summary(self) -> dict[str, dict[str, Any]]:
        """Milliseconds, and how many times the subject's time each rival takes.

        The latter is the median over the rounds of the ratio within a round.
        """
        own = self.seconds[self.subject]
        return {
            "ms": {name: 1e3 * statistics.median(s) for name, s in self.seconds.items()},
            "quartiles_ms": {
                name: [1e3 * q for q in _quartiles(s)] for name, s in self.seconds.items()
            },
            "times": {
                name: statistics.median(rival / mine for rival, mine in zip(s, own, strict=True))
                for name, s in self.seconds.items()
                if name != self.subject
            },
        }


def _quartiles(seconds: list[float]) -> tuple[float, float]:
    lower, _, upper = statistics.quantiles(seconds, n=4, method="inclusive")
    return lower, upper


def check_agreement(contenders: Mapping[str, Run], dtype: torch.dtype) -> Any:
    """See that all give the same numbers, or they are no rivals. Returns those of the first.

    Classes are not compared in 16 bits: of quotients that are equal but for their rounding, each
    may call another one the least.
    """
    results = {name: run() for name, run in contenders.items()}
    subject, first = next(iter(results.items()))
    tolerance = TOLERANCE[dtype]

    def compared(result: Any) -> list[Tensor]:
        tensors = [result] if isinstance(result, Tensor) else list(result)
        return [t for t in tensors if dtype.itemsize > 2 or t.dtype != torch.int64]

    for name, result in results.items():
        torch.testing.assert_close(
            compared(result),
            compared(first),
            rtol=tolerance,
            atol=tolerance,
            check_dtype=False,  # a direction is int8 here and a float there
            msg=f"{name} does not compute what {subject} does: {{}}".format,
        )
    return first


def tensor_bytes(*values: object) -> int:
    """Bytes of all tensors among the values, and in tuples of them."""
    total = 0
    for value in values:
        if isinstance(value, Tensor):
            total += value.numel() * value.element_size()
        elif isinstance(value, tuple):
            total += tensor_bytes(*value)
    return total
