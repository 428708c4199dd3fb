"""Batches of a data set, in memory or read image by image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from rrfast._seeds import Stream, derive_seed, globally_seeded
from rrfast.data.split import Split


class Images(Protocol):
    """A data set that is read image by image, such as `rrfast.data.ImageFolder`."""

    y: Tensor  #: [n] int64, all labels, without reading images

    def __len__(self) -> int:
        """Number of images."""

    def __getitem__(self, index: int, /) -> tuple[Tensor, int]:
        """An image and its label."""


Data = Split | Images


def length(data: Data) -> int:
    """Number of images."""
    return len(data.y)


def check_labels_there(data: Data) -> None:
    """Raise a ValueError unless every image in memory has a label."""
    if isinstance(data, Split) and len(data.x) != len(data.y):
        raise ValueError(
            f"data must have a label per image, and has {len(data.x)} images and "
            f"{len(data.y)} labels"
        )


def read(
    data: Data,
    batches: Sequence[Tensor],
    *,
    workers: int = 0,
    seed: int = 0,
    epoch: int = 0,
    pin_memory: bool = False,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The (x, y) of each of `batches`, indices [b]; data in memory stay on their device.

    Other data are read by `workers` processes, and may draw at random while they are read: `seed`,
    `epoch` and the index of the image decide these draws.

    Raises:
        OSError, ValueError: An image cannot be read.
    """
    check_labels_there(data)
    if isinstance(data, Split):
        for indices in batches:
            here = indices.to(data.y.device)
            yield data.x[here], data.y[here].long()
        return
    loader: DataLoader[tuple[Tensor, int] | Exception] = DataLoader(
        _Reads(data, seed, epoch),
        collate_fn=_collate,
        batch_sampler=[indices.tolist() for indices in batches],
        num_workers=workers,
        pin_memory=pin_memory,
    )
    for batch in loader:
        if isinstance(batch, Exception):
            raise batch
        yield batch


@dataclass(eq=False)
class _Reads(Dataset[tuple[Tensor, int] | Exception]):
    """Images, or errors as values: an error raised in a worker would get its traceback added.

    A data set's random draws for an image depend only on the epoch and the image, whichever worker
    reads it and in whatever order.
    """

    data: Images
    seed: int
    epoch: int

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, int] | Exception:
        with globally_seeded(derive_seed(self.seed, Stream.READ, self.epoch, index)):
            try:
                return self.data[index]
            except (OSError, ValueError) as error:
                return error


def _collate(items: list[tuple[Tensor, int] | Exception]) -> Any:
    """A batch, or the first of its errors."""
    error = next((item for item in items if isinstance(item, Exception)), None)
    return default_collate(items) if error is None else error
