"""Images in memory, with their labels."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Split(NamedTuple):
    """Images and their labels."""

    x: Tensor  #: [n, channels, height, width] float32 in [0, 1]
    y: Tensor  #: [n] int64, from 0
