"""Interleaved timing: each contestant is timed right after the bare forward it is compared with.

The speed of a machine drifts by tens of per cent within a minute, so the ratio of two times
measured minutes apart says little. So the contestants run in turn. A turn is one run of the floor
(the bare forward of MSR) and one run of a contestant; ratios are taken within a turn.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from rrfast._errors import first_line

#: Least number of turns of each contestant that is fast enough.
LEAST = 3
#: A first run longer than this many times the time for each contestant is not repeated.
PATIENCE = 10


@dataclass
class Timed:
    """The times of one contestant."""

    first: Any = None  #: what its first run returned
    error: str | None = None  #: why it has no times
    floor: list[float] = field(default_factory=list)  #: seconds of the floor, turn by turn
    own: list[float] = field(default_factory=list)  #: seconds of the contestant
    memory: int | None = None  #: bytes allocated at the peak of its first run; CUDA only

    def seconds(self) -> float:
        """Median of its runs."""
        return statistics.median(self.own)

    def ratio(self) -> float:
        """Median over the turns of its time divided by the floor's."""
        return statistics.median(o / f for o, f in zip(self.own, self.floor, strict=True))


class Turns:
    """A contest, `Turns(...).take()`, of runs by name, which are all compared with the floor.

    `seconds` are spent on each; the host waits for the device after each run. Before each turn,
    `progress` is called with a name and the fraction done, in [0, 1].
    """

    def __init__(
        self,
        floor: Callable[[], Any],
        contestants: Mapping[str, Callable[[], Any]],
        *,
        seconds: float,
        device: torch.device,
        progress: Callable[[str, float], object] = lambda *_: None,
    ) -> None:
        self._floor = floor
        self._contestants = contestants
        self._seconds = seconds
        self._device = device
        self._progress = progress
        self._timed = {name: Timed() for name in contestants}
        self._least = dict.fromkeys(contestants, LEAST)

    def take(self) -> dict[str, Timed]:
        """Time all contestants.

        The first run of each is a warm-up and does not count, unless it takes longer than ten times
        `seconds`: then it is the only run. After that each has turns until `seconds` are spent on
        it, and at least three turns if its first run took less than `seconds`.

        Returns:
            The times by name, in the same order. A contestant that raised a RuntimeError, for
            example because memory ran out, has the message as `error`, and no times.
        """
        self._clocked(self._floor)
        for name in self._timed:
            self._warm_up(name)
        while waiting := [name for name in self._timed if self._share_done(name) < 1]:
            for name in waiting:
                self._turn(name)
        self._progress("", 1.0)
        return self._timed

    def _warm_up(self, name: str) -> None:
        each, cuda = self._timed[name], self._device.type == "cuda"
        if cuda:
            torch.cuda.reset_peak_memory_stats(self._device)
        try:
            self._turn(name)
        except RuntimeError as error:
            each.error = in_a_line(error)
            return
        if cuda:
            each.memory = torch.cuda.max_memory_allocated(self._device)
        if each.own[0] > self._seconds:
            self._least[name] = 1
        if each.own[0] <= PATIENCE * self._seconds:
            each.own.clear()
            each.floor.clear()

    def _turn(self, name: str) -> None:
        each = self._timed[name]
        self._progress(name, sum(map(self._share_done, self._timed)) / len(self._timed))
        floor, _ = self._clocked(self._floor)
        own, result = self._clocked(self._contestants[name])
        each.first = result if each.first is None else each.first
        each.floor.append(floor)
        each.own.append(own)

    def _share_done(self, name: str) -> float:
        each = self._timed[name]
        if each.error:
            return 1.0
        return min(1.0, sum(each.own) / self._seconds, len(each.own) / self._least[name])

    def _clocked(self, run: Callable[[], Any]) -> tuple[float, Any]:
        self._wait()
        start = time.perf_counter()
        result = run()
        self._wait()
        return time.perf_counter() - start, result

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def in_a_line(error: Exception) -> str:
    """The class and first line of an error; the rest of torch's messages is a trace."""
    return f"{type(error).__name__}: {first_line(error)}"
