"""The boxes and scales that the elementwise ops are tested with."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from rrfast.ops import Bounds, Scale


def box_and_scale(x: Tensor) -> Iterator[tuple[str, tuple[Bounds | None, Scale | None]]]:
    """Numbers and values per channel, alone and together."""
    channels = x.shape[1] if x.dim() > 1 else 1
    per_channel = torch.linspace(0.5, 2.0, channels)
    yield "bounds", ((0.2, 0.8), None)
    yield "scale", (None, 0.3)
    yield "channel scale", (None, per_channel)
    yield "channel bounds", ((0.1 * per_channel, 1.0), None)
    yield "channel bounds, scale", ((0.1 * per_channel, 0.3 * per_channel), 2.0)
    yield "bounds, channel scale", ((0, 1), per_channel)
    yield "a bound of NaN", (torch.stack((per_channel * torch.nan, per_channel)), None)
    yield "infinite bounds", ((-torch.inf, torch.inf), per_channel)
    yield (
        "channel bounds, channel scale",
        (torch.stack((0.1 * per_channel, 0.4 * per_channel)), per_channel),
    )
