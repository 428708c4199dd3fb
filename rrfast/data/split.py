"""Images in memory, with their labels."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class Split(NamedTuple):
    """Images and their labels."""

    x: Tensor  #: [n, channels, height, width] float32 in [0, 1]
    y: Tensor  #: [n] int64, from 0


def split_of_bytes(images: npt.NDArray[np.uint8], labels: npt.NDArray[Any]) -> Split:
    """Images [n, channels, height, width] of bytes, which are divided by 255, and their labels."""
    x = torch.empty(images.shape, device="cpu", dtype=torch.float32)
    np.divide(images, np.float32(255), out=x.numpy())
    return Split(x, torch.from_numpy(labels.astype(np.int64)))


def check_file(
    where: str,
    labels: npt.NDArray[Any],
    least: int,
    most: int,
    *,
    first: int = 0,
    kind: str = "labels",
) -> None:
    """Raise a ValueError for a label of a file out of range; the rows count from `first`."""
    wrong = np.flatnonzero(~np.isin(labels, np.arange(least, most + 1)))
    if len(wrong):
        raise ValueError(
            f"{where} must have {kind} from {least} to {most}, and has {labels.flat[wrong[0]]} in "
            f"row {first + wrong[0]}"
        )
