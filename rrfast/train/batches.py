"""The images of each training step, decided only by seed, epoch and step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rrfast._seeds import Stream, derive_seed
from rrfast.data import Split, augment
from rrfast.data.loader import Data, check_labels_there, read
from rrfast.train.settings import Training


class Share(NamedTuple):
    """The images of one process in one step, as batches for gradient accumulation."""

    epoch: int
    step: int
    indices: tuple[Tensor, ...]  #: indices of the images in the data


class Plan:
    """Which process gets which images in which step.

    Each epoch shuffles all images. A step's images are divided among the processes in equal
    contiguous shares. An incomplete last batch is cut to a multiple of the number of shares; shares
    of a single image are left out, because BatchNorm cannot be trained on them.
    """

    def __init__(self, images: int, training: Training, *, world: int = 1, rank: int = 0) -> None:
        self._images = images
        self._seed = training.seed
        self._batch = training.batch_size
        self._shares = world * training.accumulate
        self._world, self._rank, self._accumulate = world, rank, training.accumulate
        if self._batch % self._shares:
            raise ValueError(
                f"batch_size must be a multiple of {self._shares}, which are {world} processes "
                f"times accumulate={training.accumulate}, got {self._batch}"
            )
        self.steps = sum(1 for size in self._sizes())
        if self.steps == 0:
            raise ValueError(
                f"train must have at least two images for each of the {self._shares} shares "
                f"of a step, or a whole batch of {self._batch}, got {images}"
            )

    def _sizes(self) -> Iterator[int]:
        for start in range(0, self._images, self._batch):
            size = min(self._batch, self._images - start)
            share = size // self._shares
            if share > 1 or (share == 1 and size == self._batch):
                yield share * self._shares

    def epoch(self, epoch: int, first: int = 0) -> list[Share]:
        """The steps of an epoch, from `first` on."""
        generator = torch.Generator().manual_seed(derive_seed(self._seed, Stream.ORDER, epoch))
        order = torch.randperm(self._images, generator=generator)
        shares = []
        for step, size in enumerate(self._sizes()):
            batch = order[step * self._batch :][:size]
            share = batch.chunk(self._world)[self._rank]
            shares.append(Share(epoch, step, share.chunk(self._accumulate)))
        return shares[first:]


class Loader:
    """Loads the images of shares to a device, and augments them.

    A share always gives the same images, whatever was read before. The shares of one call must be
    from one epoch.
    """

    def __init__(self, data: Data, training: Training, device: torch.device, rank: int) -> None:
        check_labels_there(data)
        self._data = data
        self._training = training
        self._device = device
        self._rank = rank
        if isinstance(data, Split) and device.type != "cpu":
            self._data = Split(data.x.to(device), data.y.to(device))

    def __call__(self, shares: Sequence[Share]) -> Iterator[list[tuple[Tensor, Tensor]]]:
        """The batches of (x, y) of each share."""
        epoch = shares[0].epoch if shares else 0
        batches = read(
            self._data,
            [indices for share in shares for indices in share.indices],
            workers=self._training.workers,
            seed=self._training.seed,
            epoch=epoch,
            pin_memory=self._device.type == "cuda",
        )
        for share in shares:
            generator = torch.Generator(self._device)
            key = share.epoch, share.step, self._rank
            generator.manual_seed(derive_seed(self._training.seed, Stream.AUGMENT, *key))
            yield [self._prepare(*next(batches), generator) for _ in share.indices]

    def _prepare(self, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x = x.to(self._device, non_blocking=True)
        y = y.to(self._device, non_blocking=True)
        if self._training.augment is not None:
            settings = self._training.augment
            x = augment(x, generator, padding=settings.padding, flip=settings.flip)
        if self._training.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        return x, y
