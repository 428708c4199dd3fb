"""Work of the processes that torchrun started: shared, or done by one; errors reach all."""

from __future__ import annotations

import contextlib
import functools
import itertools
import operator
import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch.distributed
from torch import Tensor
from torch.utils._pytree import tree_map_only

from rrfast._errors import first_line

T = TypeVar("T")
R = TypeVar("R")
T_co = TypeVar("T_co", covariant=True)

#: How long one process waits for another. Gloo's default of half an hour is less than the work on a
#: large input may take. A process that ends is noticed at once, whatever the limit.
PATIENCE = timedelta(days=30)


class _Failed(NamedTuple):
    """What a process sends in place of a value, whatever the others wait for."""

    error: Exception


class Processes:
    """This process among all. Every process must call every method, in the same order.

    After an error in one of them no more is exchanged: every process ends with it.

    Attributes:
        rank: The number of this process; process 0 prints, and writes files that exist once.
        world: The number of processes.
    """

    def __init__(self, rank: int, world: int, group: Any = None) -> None:
        self.rank = rank
        self.world = world
        self._group = group
        self._over = False  # after an error, of which all know

    def everywhere(self, function: Callable[[], T]) -> T:
        """The result of `function` here, after it has returned or raised in every process.

        A process that has failed waits until the others are done; their results are kept.

        Raises:
            ChildProcessError: Another process ended without an error message.
            Exception: The error raised here, else that of the first process that raised one.
        """
        value = self._tried(function)
        self.gather(None)
        return value

    def first(self, function: Callable[[], T]) -> T:
        """The result of `function` in the first process, for all; raises as `everywhere`."""
        mine: Any = self._tried(lambda: function() if self.rank == 0 else None)
        value: T = self.gather(mine)[0]
        return value

    def shares(self, function: Callable[[int, T], R], items: Iterable[T]) -> list[R]:
        """As `shared`, among these processes."""
        own: Iterable[T]
        if isinstance(items, Sequence):
            own = items[self.rank :: self.world]
        elif isinstance(items, Divisible):
            own = items.every(self.rank, self.world)
        else:
            own = itertools.islice(items, self.rank, None, self.world)
        rank, world = self.rank, self.world
        mine = self._tried(lambda: [function(rank + i * world, x) for i, x in enumerate(own)])
        parts = self.gather(tree_map_only(Tensor, Tensor.cpu, mine))
        return [parts[i % world][i // world] for i in range(sum(map(len, parts)))]

    def agree(self, mine: dict[str, Any]) -> None:
        """Raise a ValueError where a value differs from that of the first process."""
        first = self.first(lambda: mine)

        def check() -> None:
            name = differing(mine, first)
            if name is not None:
                raise ValueError(
                    f"all processes must be given the same, but {name} is {first.get(name)} in the "
                    f"first and {mine.get(name)} in process {self.rank + 1}. Do they see the same "
                    "files, and have the files changed in between?"
                )

        self.everywhere(check)

    def gather(self, value: T) -> list[T]:
        """The value of every process, in their order; raises as `everywhere`."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        try:
            torch.distributed.all_gather_object(values, value, group=self._group)
        except RuntimeError as error:
            self._over = True
            raise ChildProcessError(
                "another process ended without an error message; finished work is kept, and the "
                f"same command continues it ({first_line(error)})"
            ) from error
        for sent in values:
            if isinstance(sent, _Failed):
                self._over = True
                raise sent.error
        return values

    def _tried(self, function: Callable[[], T]) -> T:
        """The result of `function`; an error in it is sent to the others, and raised here."""
        try:
            return function()
        except Exception as error:
            if self.world > 1 and not self._over:
                with contextlib.suppress(Exception):  # the first that is sent, or that one is lost
                    self.gather(_Failed(_portable(error)))
            raise


@contextlib.contextmanager
def processes() -> Iterator[Processes]:
    """The processes of torchrun (`RANK`, `WORLD_SIZE`) or of the existing group, or this one alone.

    They communicate by Gloo, whatever the device; a group that was made here is destroyed at the
    end.

    Example:
        >>> with processes() as all_of_them:
        ...     all_of_them.world, all_of_them.first(lambda: "done")
        (1, 'done')
    """
    distributed = torch.distributed
    there = distributed.is_available() and distributed.is_initialized()
    if not there and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes(0, 1)
        return
    if there:
        group = distributed.new_group(backend="gloo", timeout=PATIENCE)
    else:
        from torch.distributed.distributed_c10d import PrefixStore  # not in every build

        store, rank, world = _store()
        # Each time under keys of its own: those of the last time are still there.
        own = PrefixStore(f"rrfast {next(_times)}", store)
        distributed.init_process_group(
            "gloo", store=own, rank=rank, world_size=world, timeout=PATIENCE
        )
        group = None
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size(), group)
    finally:
        distributed.destroy_process_group(group)


@runtime_checkable
class Divisible(Protocol[T_co]):
    """Items of which some can be had without making the others."""

    def every(self, first: int, step: int) -> Iterable[T_co]:
        """The items at `first`, `first + step` and so on."""


#: The processes that share the work of `shared` and `once`.
_sharing: ContextVar[Processes | None] = ContextVar("sharing", default=None)


@contextlib.contextmanager
def sharing() -> Iterator[Processes]:
    """As `processes`; inside, `shared` and `once` divide their work among them.

    Every process must make the same calls of these two, in the same order.
    """
    with processes() as group, _sharing_is(group):
        yield group


@contextlib.contextmanager
def _sharing_is(group: Processes | None) -> Iterator[None]:
    token = _sharing.set(group)
    try:
        yield
    finally:
        _sharing.reset(token)


def shared(function: Callable[[int, T], R], items: Iterable[T]) -> list[R]:
    """`function(i, item)` of every item, in their order.

    Inside `sharing`, process r of n does the items r, r + n, r + 2 n, ..., and all get all results,
    with their tensors on the CPU; elsewhere this process does all. `function` must not depend on
    earlier items: it derives its random numbers from `i`.

    Args:
        function: Its result can be pickled.
        items: Of a sequence or `Divisible` a process makes only its own items, of another iterable
            every process makes all.

    Raises:
        ChildProcessError: Another process ended without an error message.
        Exception: Whatever `function` raises, in every process.

    Example:
        >>> shared(lambda i, item: i * item, [5, 6])
        [0, 6]
    """
    group = _sharing.get()
    if group is None or group.world == 1:
        return [function(i, item) for i, item in enumerate(items)]
    return group.shares(function, items)


def once(function: Callable[[], T]) -> T:
    """`function()`; inside `sharing`, that of the first process, while the others wait.

    For what is measured, drawn or chosen: all processes then continue with the same value. Raises
    as `shared`.

    Example:
        >>> once(lambda: 1)
        1
    """
    group = _sharing.get()
    if group is None:
        return function()

    def alone() -> T:
        with _sharing_is(None):
            return function()

    return group.first(alone)


class FromFirst:
    """The items of the first process, for all processes: those of the others are not read."""

    def __init__(self, items: Iterable[Any], group: Processes) -> None:
        self._items = items
        self._group = group

    def every(self, first: int, step: int) -> Iterator[Any]:
        """A round of items at a time, of which each process keeps its own."""
        # Begun with the first round: an error of `iter` too is one of all processes.
        items = itertools.chain.from_iterable([self._items])
        while True:
            few = self._group.first(lambda: list(itertools.islice(items, step)))
            yield from few[first : first + 1]
            if len(few) < step:
                return

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __length_hint__(self) -> int:
        return operator.length_hint(self._items)


def differing(here: dict[str, Any], there: dict[str, Any]) -> str | None:
    """The first name whose values differ between two runs, or None."""
    return next((name for name in here | there if here.get(name) != there.get(name)), None)


_times = itertools.count()


@functools.cache
def _store() -> tuple[Any, int, int]:
    """The store where processes meet, this one's rank, and their number.

    Kept while the process lives: it would be opened again in one while others still use the old.
    """
    from torch.distributed.rendezvous import rendezvous

    found: tuple[Any, int, int] = next(rendezvous("env://", timeout=PATIENCE))
    return found


def _portable(error: Exception) -> Exception:
    """The error, or one with the same message that can be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001  # a library's own error class may not pickle
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
