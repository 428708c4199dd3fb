"""Work shared by the processes that torchrun started, or done by one; errors reach all of them."""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed

from rrfast._errors import first_line

T = TypeVar("T")

#: How long one waits for another. Gloo's own half an hour is less than a share of a large input may
#: take; a process that ends is noticed at once, whatever the limit.
PATIENCE = timedelta(days=30)


class Processes:
    """This process among all. Every method must be called by every process, in the same order.

    Attributes:
        rank: Which one this is; 0 is the first, which prints and writes what there is one of.
        world: How many there are.
    """

    def __init__(self, rank: int, world: int, group: Any = None) -> None:
        self.rank = rank
        self.world = world
        self._group = group

    def everywhere(self, function: Callable[[], T]) -> T:
        """What `function` returns here, once it has returned or raised in every process.

        A process that has failed waits until the others are done with their own, which is kept.

        Raises:
            ChildProcessError: Another process is gone without a word.
            Exception: What it raised here; or else in the first process in which it raised.
        """
        if self.world == 1:
            return function()
        error: Exception | None = None
        try:
            value = function()
        except Exception as raised:  # noqa: BLE001  # raised again, when all know of it
            error = raised
        errors = self._gather(None if error is None else _portable(error))
        for raised_there in [error, *errors]:
            if raised_there is not None:
                raise raised_there
        return value

    def first(self, function: Callable[[], T]) -> T:
        """What `function` returns in the first process, in every process.

        Raises:
            As `everywhere`.
        """
        if self.world == 1:
            return function()
        mine = self.everywhere(lambda: function() if self.rank == 0 else None)
        value: T = self._gather(mine)[0]
        return value

    def _gather(self, value: object) -> list[Any]:
        values: list[Any] = [None] * self.world
        try:
            torch.distributed.all_gather_object(values, value, group=self._group)
        except RuntimeError as error:
            raise ChildProcessError(
                "another process ended without a word; what is done is kept, and the same command "
                f"goes on with it ({first_line(error)})"
            ) from error
        return values


@contextlib.contextmanager
def processes() -> Iterator[Processes]:
    """Those that torchrun started (`RANK`, `WORLD_SIZE`), or of the group that is there, or one.

    They talk through Gloo, whatever the device; a group that was made here is gone afterwards.

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
        distributed.init_process_group("gloo", timeout=PATIENCE)
        group = None
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size(), group)
    finally:
        distributed.destroy_process_group(group)


def _portable(error: Exception) -> Exception:
    """The error, or one that says the same and can be sent."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001  # an error of a library's own kind can be made of anything
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
