"""Data that a score is tuned on, kept apart from other data: by loader, data set and content."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from operator import length_hint
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import RandomSampler, SequentialSampler

from rrfast.scores.batches import input_of


class Noting:
    """A loader; `note` is called with the inputs x of each batch, after the batch was used."""

    def __init__(self, loader: Iterable[Any], name: str, note: Callable[[Tensor], None]) -> None:
        self._loader = loader
        self._name = name
        self._note = note

    def __iter__(self) -> Iterator[Any]:
        for batch in self._loader:
            yield batch
            self._note(input_of(self._name, batch))

    def __length_hint__(self) -> int:
        return length_hint(self._loader)


class Apart:
    """`loader` and `tune_on`, which must be other data.

    Args:
        loader: Any loader.
        tune_on: Another one, or None if there is none: then nothing is checked.
        use: What `loader` is for, as in "which is tested on".

    Attributes:
        data: The loaders by name, to read in place of those given. If there are two, they note a
            digest of the bits of each sample, at a cost of about a second per GB, and a copy of a
            batch that is not on the CPU.

    Raises:
        ValueError: They are one loader, or two DataLoaders of all of one data set.
    """

    def __init__(self, loader: Iterable[Any], tune_on: Iterable[Any] | None, use: str) -> None:
        self.data: dict[str, Iterable[Any]] = {"loader": loader}
        self._use = use
        self._tested: Counter[bytes] = Counter()
        self._tuned: Counter[bytes] = Counter()
        if tune_on is None:
            return
        if tune_on is loader or _all_of(tune_on) is _all_of(loader):
            raise ValueError(f"tune_on must be other data than loader, {use}")
        self.data = {
            "loader": Noting(loader, "loader", lambda x: self._tested.update(_digests(x))),
            "tune_on": Noting(tune_on, "tune_on", lambda x: self._tuned.update(_digests(x))),
        }

    def check(self, stacklevel: int) -> None:
        """Raise a ValueError if both had the same samples, and warn if some were in both.

        Some may be equal by chance, for instance rows of a table with few distinct values.
        """
        number = self._tested.total()
        if number and self._tested == self._tuned:
            raise ValueError(
                f"tune_on must be other data than loader, {self._use}, but both have the same "
                f"{number} samples"
            )
        again = sum(times for sample, times in self._tested.items() if sample in self._tuned)
        if again:
            warnings.warn(
                f"{again} of the {number} samples of loader, {self._use}, are in tune_on too: on "
                "samples that a score was tuned on it looks better than it is",
                stacklevel=stacklevel,
            )


def _digests(x: Tensor) -> Iterator[bytes]:
    """A digest of the bits of each sample of a batch."""
    if x.numel():
        rows = x.detach().cpu().contiguous().view(len(x), -1).view(torch.uint8).numpy()
        yield from (blake2b(row, digest_size=16).digest() for row in rows)


def _all_of(loader: object) -> object:
    """The data set of which it loads all, not what a sampler of the user's chooses, or itself."""
    whole = type(getattr(loader, "sampler", None)) in (SequentialSampler, RandomSampler)
    return getattr(loader, "dataset", loader) if whole else loader
