"""Subsets of a data set, and the ways to divide a task into a tuning part and a tested part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from rrfast._checks import check_one_of
from rrfast._seeds import Stream, derive_seed
from rrfast.data.loader import Data, length, read
from rrfast.data.tasks import Task

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on

#: Share of the test set for tuning with `tuning="rat"`, and its number of random divisions.
SHARE, SPLITS = 0.2, 3
#: The seed of these divisions, independent of a training's, so that all models have the same
#: images.
DRAWN = 0
TUNINGS = {
    "heldout": "tuned on the validation split, tested on the whole test split",
    "rat": f"tuned on {SHARE:.0%} of the whole test set, tested on the rest, {SPLITS} random "
    "divisions, the same for all models",
}


class Part(NamedTuple):
    """Some images of a data set, in some order."""

    data: Data
    indices: Tensor  #: [n] int64, indices in `data`

    @classmethod
    def whole(cls, data: Data) -> Self:
        """All images, in their order."""
        return cls(data, torch.arange(length(data)))

    def batches(self, size: int, device: torch.device, workers: int = 0) -> Batches:
        """(x, y) on a device, without augmentation or empty batches; can be iterated repeatedly."""
        # For no indices, `split` returns one empty part.
        parts = self.indices.split(size) if len(self.indices) else ()
        return Batches(self.data, parts, device, workers)


@dataclass(frozen=True)
class Batches:
    """The batches of a `Part`, read while they are iterated over."""

    data: Data
    parts: Sequence[Tensor]  #: the indices of each batch
    device: torch.device
    workers: int

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """(x, y) on the device."""
        pin = self.device.type == "cuda"
        for x, y in read(self.data, self.parts, workers=self.workers, pin_memory=pin):
            yield x.to(self.device, non_blocking=True), y.to(self.device, non_blocking=True)

    def every(self, first: int, step: int) -> Batches:
        """The batches at `first`, `first + step` and so on; no other is read."""
        return replace(self, parts=self.parts[first::step])


class Division(NamedTuple):
    """A tuning part and a tested part without a common image."""

    validation: Part
    test: Part

    def halves(self, seed: int) -> tuple[Part, Part]:
        """The tuning part in two halves: to fit RelU on, and to tune it on (RAT B.1)."""
        data, indices = self.validation
        fit, tune = _shuffled(indices, seed, Stream.HALVE).tensor_split(2)
        return Part(data, fit), Part(data, tune)


def divide(task: Task, tuning: str | None, seed: int = 0) -> list[Division]:
    """Divide a task into tuning and tested parts.

    Args:
        task: A task with a test split; for "heldout" also with a validation split.
        tuning: "heldout": tune on the validation split, test on the whole test split. "rat": tune
            on a random fifth of the test set, test on the rest, three times (RAT §5.1). This uses
            the whole test set, including images that a training held out for validation: for
            CIFAR's 10,000 images 2,000 and 8,000. None: no tuning, test on the whole test split.
        seed: Seed of the random divisions. With the same seed, models are tested on the same
            images, whatever the seeds of their trainings.

    Returns:
        One division, or three.

    Raises:
        ValueError: An unknown tuning, or a split is missing or too small.

    Source: RAT §5.1, B.1; errata 12.

    Example:
        >>> from rrfast.train import TASKS
        >>> task = TASKS["digits"](seed=0)
        >>> [(len(d.validation.indices), len(d.test.indices)) for d in divide(task, "rat", seed=0)]
        [(239, 958), (239, 958), (239, 958)]
        >>> [(len(d.validation.indices), len(d.test.indices)) for d in divide(task, "heldout", 0)]
        [(200, 1197)]
    """
    if tuning is not None:
        check_one_of("tuning", tuning, TUNINGS)
    if task.test is None:
        raise ValueError("data must have a test split, and has none")
    if tuning is None:
        whole = Part.whole(task.test)
        return [Division(whole._replace(indices=whole.indices[:0]), whole)]
    if tuning == "heldout":
        if task.validation is None:
            raise ValueError("data must have a validation split to tune on, and has none")
        return [_checked(Division(Part.whole(task.validation), Part.whole(task.test)))]
    test = task.undivided().test
    assert test is not None  # of a task with a test split
    every = torch.arange(length(test))
    size = round(SHARE * len(every))
    orders = [_shuffled(every, seed, Stream.DIVIDE, split) for split in range(SPLITS)]
    return [
        _checked(Division(Part(test, order[:size]), Part(test, order[size:].sort()[0])))
        for order in orders
    ]


def tested_on(task: Task, checkpoint: str) -> tuple[Data, int]:
    """The test images on which nothing of a model was chosen, and how many are left out.

    "best" weights were chosen on the validation split, which is left out if it is a part of the
    test set; last weights were not chosen on anything; for a model named by hand this is unknown.

    Raises:
        ValueError: There is no test split.
    """
    if task.test is None:
        raise ValueError("data must have a test split, and has none")
    whole = task.undivided().test
    assert whole is not None  # of a task with a test split
    if checkpoint == "best":
        return task.test, length(whole) - length(task.test)
    return whole, 0


def chosen(data: Data, images: int | None) -> Part:
    """This many of the images, the same for every model, in their order; all with None.

    A larger number contains the images of a smaller one.
    """
    indices = torch.arange(length(data))
    if images is None or images >= len(indices):
        return Part(data, indices)
    return Part(data, _shuffled(indices, 0, Stream.CHOOSE)[:images].sort().values)


def _checked(division: Division) -> Division:
    for name, part in zip(division._fields, division, strict=True):
        if len(part.indices) < 2:
            raise ValueError(
                f"the {name} part must hold at least two images, got {len(part.indices)}"
            )
    return division


def _shuffled(indices: Tensor, seed: int, use: Stream, *key: int) -> Tensor:
    generator = torch.Generator().manual_seed(derive_seed(seed, use, *key))
    return indices[torch.randperm(len(indices), generator=generator)]
