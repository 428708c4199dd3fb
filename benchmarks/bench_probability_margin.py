from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from contest import LOGITS, Logits
from torch import Tensor

from rrfast import ops, reference


def eager(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    logp, label = torch.log_softmax(logits.float(), dim=1), labels[:, None]
    p = logp.exp()
    p_y, others = p.gather(1, label), p.scatter(1, label, 0.0)
    second = others.amax(dim=1, keepdim=True)
    similarity = others.norm(dim=1) / p.norm(dim=1)
    ratio = second / others.sum(dim=1, keepdim=True)
    entropy = -(p * logp).sum(dim=1)
    return (second - p_y).squeeze(1), ratio.squeeze(1), similarity, entropy


@pytest.mark.parametrize("case", LOGITS, ids=str)
def bench_probability_margin(
    case: Logits, device: torch.device, op_contest: Callable[..., None]
) -> None:
    logits = case.random(device)
    labels = torch.randint(case.shape[1], case.shape[:1], device=device)
    op_contest(
        "probability_margin",
        case,
        fused=lambda: ops.probability_margin(logits, labels),
        eager=lambda: eager(logits, labels),
        reference=(reference.probability_margin, (logits, labels)),
        reads=(logits, labels),
    )
