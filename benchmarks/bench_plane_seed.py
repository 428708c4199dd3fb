from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from contest import LOGITS, Logits
from torch import Tensor

from rrfast import ops, reference


def eager(logits: Tensor, prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Without care for ties and for what is not finite."""
    top, other = prediction[:, None], target[:, None]
    size = logits.abs().amax(dim=1, keepdim=True).float()
    unit = torch.ldexp(torch.ones_like(size), -size.frexp().exponent)
    one = unit.to(logits.dtype)
    seed = torch.zeros_like(logits).scatter_(1, other, one).scatter_(1, top, -one)
    gap = logits.gather(1, top).float() - logits.gather(1, other).float()
    return seed, (gap * unit).squeeze(1)


@pytest.mark.parametrize("case", LOGITS, ids=str)
def bench_plane_seed(case: Logits, device: torch.device, op_contest: Callable[..., None]) -> None:
    logits = case.random(device)
    prediction, target = logits.topk(2, dim=1).indices.T.contiguous()
    op_contest(
        "plane_seed",
        case,
        fused=lambda: ops.plane_seed(logits, prediction, target),
        eager=lambda: eager(logits, prediction, target),
        reference=(reference.plane_seed, (logits, prediction, target)),
        reads=(logits, prediction, target),
    )
