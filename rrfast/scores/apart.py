"""Data that a score is tuned on, kept apart from other data: by loader, data set and content."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from hashlib import blake2b
from operator import length_hint
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import RandomSampler, SequentialSampler

from rrfast.scores.batches import check_loader, input_of


class Noting:
    """A loader; `note` is called with the inputs x of each batch, after the batch was yielded."""

    def __init__(self, loader: Iterable[Any], note: Callable[[Tensor], None]) -> None:
        self._loader = loader
        self._note = note

    def __iter__(self) -> Iterator[Any]:
        for batch in self._loader:
            yield batch
            # Who reads it says better what is wrong with a batch, but with `share` reads it later.
            with suppress(TypeError):
                self._note(input_of("loader", batch))

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
            digest of the bits of each sample. Cost: about a second per GB, half a microsecond and
            0.1 KB per sample, and a copy of the batch.
    """

    def __init__(self, loader: Iterable[Any], tune_on: Iterable[Any] | None, use: str) -> None:
        self._loader = loader
        self._tune_on = tune_on
        self._use = use
        self._tested: Counter[bytes] = Counter()
        self._tuned: Counter[bytes] = Counter()
        self.data: dict[str, Any] = {"loader": loader, "tune_on": tune_on}
        if tune_on is not None:
            self.data = {
                "loader": Noting(loader, lambda x: self._tested.update(_digests(x))),
                "tune_on": Noting(tune_on, lambda x: self._tuned.update(_digests(x))),
            }

    def two(self) -> bool:
        """Whether there are two.

        Raises:
            TypeError: One is no loader.
            ValueError: They are one loader, or two DataLoaders of all of one data set.
        """
        check_loader("loader", self._loader)
        if self._tune_on is None:
            return False
        if self._tune_on is self._loader or _all_of(self._tune_on) is _all_of(self._loader):
            raise ValueError(f"tune_on must be other data than loader, {self._use}")
        check_loader("tune_on", self._tune_on)
        return True

    def check(self) -> None:
        """Raise a ValueError if both had the same samples."""
        if self._tested and self._tested == self._tuned:
            raise ValueError(
                f"tune_on must be other data than loader, {self._use}, but both have the same "
                f"{self._tested.total()} samples"
            )

    def warn(self, stacklevel: int = 3) -> None:
        """Warn, at the caller's caller, if some samples were in both.

        Some may be equal by chance, for instance rows of a table with few distinct values.
        """
        again = sum(times for sample, times in self._tested.items() if sample in self._tuned)
        if again:
            warnings.warn(
                f"{again} of the {self._tested.total()} samples of loader, {self._use}, are in "
                "tune_on too, and there a score looks better than it is: leave them out of one of "
                "the two, unless they are other samples that are equal by chance",
                stacklevel=stacklevel,
            )


def _digests(x: Tensor) -> Iterator[bytes]:
    """A digest of the bits of each sample of a batch."""
    if x.numel():
        # A copy: only its strides are sure to be those by which bytes can be viewed.
        copy = x.detach().cpu().to_dense().clone(memory_format=torch.contiguous_format)
        rows = copy.view(len(x), -1).view(torch.uint8).numpy()
        yield from (blake2b(row, digest_size=16).digest() for row in rows)


def _all_of(loader: object) -> object:
    """The data set of which it loads all, not what a sampler of the user's chooses, or itself."""
    whole = type(getattr(loader, "sampler", None)) in (SequentialSampler, RandomSampler)
    return getattr(loader, "dataset", loader) if whole else loader
