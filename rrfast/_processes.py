"""Work of the processes that torchrun started: shared, or done by one; errors reach all."""

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

#: How long one process waits for another. Gloo's default of half an hour is less than the work on a
#: large input may take. A process that ends is noticed at once, whatever the limit.
PATIENCE = timedelta(days=30)


class Processes:
    """This process among all. Every process must call every method, in the same order.

    Attributes:
        rank: The number of this process; process 0 prints, and writes files that exist once.
        world: The number of processes.
    """

    def __init__(self, rank: int, world: int, group: Any = None) -> None:
        self.rank = rank
        self.world = world
        self._group = group

    def everywhere(self, function: Callable[[], T]) -> T:
        """The result of `function` here, after it has returned or raised in every process.

        A process that has failed waits until the others are done; their results are kept.

        Raises:
            ChildProcessError: Another process ended without an error message.
            Exception: The error raised here, else that of the first process that raised one.
        """
        if self.world == 1:
            return function()
        error: Exception | None = None
        try:
            value = function()
        except Exception as raised:  # noqa: BLE001  # raised again after all processes know of it
            error = raised
        errors = self._gather(None if error is None else _portable(error))
        for raised_there in [error, *errors]:
            if raised_there is not None:
                raise raised_there
        return value

    def first(self, function: Callable[[], T]) -> T:
        """Run `function` in the first process, and return its result in every process.

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
        distributed.init_process_group("gloo", timeout=PATIENCE)
        group = None
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size(), group)
    finally:
        distributed.destroy_process_group(group)


def _portable(error: Exception) -> Exception:
    """The error, or one with the same message that can be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001  # a library's own error class may not pickle
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
