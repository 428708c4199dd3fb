from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from contest import FEWER_IMAGES, Images
from torch import Tensor

from rrfast import ops, reference
from rrfast.ops import per_channel

#: Distance of the plane as a share of the box's width: Newton's method then takes three passes.
SHARE = 0.1


def eager(x: Tensor, normal: Tensor, gap: Tensor, bounds: Tensor, scale: Tensor | None) -> Tensor:
    """Sort by distance to the box, accumulate, find the segment: as attack libraries do."""
    x, normal = x.float(), normal.float()
    weight = normal.abs() if scale is None else normal.abs() * per_channel(scale, x)
    rising = (normal > 0) == (gap > 0).view(-1, 1, 1, 1)
    room = torch.where(rising, per_channel(bounds[1], x) - x, x - per_channel(bounds[0], x))
    if scale is not None:
        room = room / per_channel(scale, x)
    room, order = room.flatten(1).sort(dim=1)
    weight = weight.flatten(1).gather(1, order)
    met = weight.cumsum(dim=1)
    spent = (weight * room).cumsum(dim=1)
    reached = spent + room * (met[:, -1:] - met)
    wanted = gap.abs()[:, None]
    piece = torch.searchsorted(reached, wanted).clamp_(max=room.shape[1] - 1)
    before = (piece - 1).clamp_(min=0)
    moving = met[:, -1:] - torch.where(piece > 0, met.gather(1, before), 0.0)
    closed = torch.where(piece > 0, spent.gather(1, before), 0.0)
    distance = ((wanted - closed) / moving).squeeze(1)
    return torch.where(reached[:, -1] < gap.abs(), torch.inf, distance)


@pytest.mark.parametrize("case", FEWER_IMAGES, ids=str)
def bench_plane_distance(
    case: Images, device: torch.device, op_contest: Callable[..., None]
) -> None:
    bounds, scale = case.box(device)
    if bounds is None:
        bounds = torch.tensor([[-2.0], [2.0]], device=device)
    lower, upper = bounds
    normal = case.random(device)
    x = torch.empty_like(normal).copy_(normal.float().roll(1).sigmoid())
    x = (per_channel(lower, x) + x * per_channel(upper - lower, x)).to(normal)
    weight = normal.float().abs() * per_channel(upper - lower, x)
    gap = SHARE * weight.sum(dim=(1, 2, 3))
    op_contest(
        "plane_distance",
        case,
        fused=lambda: ops.plane_distance(x, normal, gap, bounds, scale),
        eager=lambda: eager(x, normal, gap, bounds, scale),
        reference=(reference.plane_distance, (x, normal, gap, bounds, scale)),
        reads=(x, normal, gap, bounds, scale),
    )
