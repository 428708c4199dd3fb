from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from contest import FEWER_IMAGES, Images
from torch import Tensor

from rrfast import ops, reference
from rrfast.ops import per_channel

FINEST, LONGEST = 6e-5, 0.01


def eager(
    x: Tensor, normal: Tensor, gap: Tensor, bounds: Tensor | None, scale: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Without the box, which a user would leave out."""
    weight = normal.float().abs()
    weight = weight if scale is None else weight * per_channel(scale, x)
    largest = x.abs().amax(dim=(1, 2, 3)).float()
    largest = largest if scale is None else largest / scale.amin()
    step = gap / weight.sum(dim=(1, 2, 3))
    step = torch.where(step.isfinite(), step, LONGEST)
    return torch.maximum(step, FINEST * largest).clamp(max=LONGEST), largest


@pytest.mark.parametrize("case", FEWER_IMAGES, ids=str)
def bench_probe_step(case: Images, device: torch.device, op_contest: Callable[..., None]) -> None:
    _, scale = case.box(device)
    x, normal = case.random(device), case.random(device)
    gap = 0.005 * normal.float().abs().sum(dim=(1, 2, 3))
    op_contest(
        "probe_step",
        case,
        fused=lambda: ops.probe_step(x, normal, gap, FINEST, LONGEST, None, scale),
        eager=lambda: eager(x, normal, gap, None, scale),
        reference=(reference.probe_step, (x, normal, gap, FINEST, LONGEST, None, scale)),
        reads=(x, normal, gap, scale),
    )
