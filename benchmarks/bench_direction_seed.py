from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from contest import LOGITS, Logits
from torch import Tensor

from rrfast import ops, reference
from rrfast.ops import coarse_eps


def eager(logits: Tensor) -> tuple[Tensor, ...]:
    h = logits.float()
    first, prediction = h.max(dim=1, keepdim=True)
    others = h.scatter(1, prediction, -torch.inf)
    second, runner_up = others.max(dim=1)
    seed = torch.softmax(others, dim=1).scatter_(1, prediction, -1.0)
    margin = first.squeeze(1) - second
    clear = torch.maximum(margin, first.squeeze(1).abs() * 32 * coarse_eps(logits.dtype))
    return prediction.squeeze(1), margin, seed.to(logits.dtype), runner_up, clear


@pytest.mark.parametrize("case", LOGITS, ids=str)
def bench_direction_seed(
    case: Logits, device: torch.device, op_contest: Callable[..., None]
) -> None:
    logits = case.random(device)
    op_contest(
        "direction_seed",
        case,
        fused=lambda: ops.direction_seed(logits, 1.0),
        eager=lambda: eager(logits),
        reference=(reference.direction_seed, (logits, 1.0)),
        reads=(logits,),
    )
