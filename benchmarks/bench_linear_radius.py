from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from contest import LOGITS, Logits
from torch import Tensor

from rrfast import ops, reference

ALPHA = 0.01


def eager(h0: Tensor, h1: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor]:
    h0, h1, top = h0.float(), h1.float(), prediction[:, None]
    gap0, gap1 = h0.gather(1, top) - h0, h1.gather(1, top) - h1
    q = torch.where(gap1 < gap0, ALPHA * (gap0 / (gap0 - gap1)), torch.inf)
    radius, rival = q.scatter_(1, top, torch.inf).min(dim=1)
    return radius, torch.where(radius < torch.inf, rival, -1)


@pytest.mark.parametrize("case", LOGITS, ids=str)
def bench_linear_radius(
    case: Logits, device: torch.device, op_contest: Callable[..., None]
) -> None:
    h0, h1 = case.random(device), case.random(device)
    prediction = h0.argmax(dim=1)
    op_contest(
        "linear_radius",
        case,
        fused=lambda: ops.linear_radius(h0, h1, prediction, ALPHA),
        eager=lambda: eager(h0, h1, prediction),
        reference=(reference.linear_radius, (h0, h1, prediction, ALPHA)),
        reads=(h0, h1, prediction),
    )
