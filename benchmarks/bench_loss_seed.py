from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from contest import LOGITS, Logits
from torch import Tensor

from rrfast import ops, reference
from rrfast.ops import LOSS_KINDS


def eager(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The log-odds against the label, without care for what is not finite."""
    h, column = logits.float(), labels[:, None]
    others = h.scatter(1, column, -torch.inf)
    seed = torch.softmax(others, dim=1).scatter_(1, column, -1.0)
    loss = torch.logsumexp(others, dim=1) - h.gather(1, column).squeeze(1)
    return loss, seed.to(logits.dtype)


@pytest.mark.parametrize("case", LOGITS, ids=str)
def bench_loss_seed(case: Logits, device: torch.device, op_contest: Callable[..., None]) -> None:
    logits = case.random(device)
    labels = logits.argmax(dim=1)
    op_contest(
        "loss_seed",
        case,
        fused=lambda: ops.loss_seed(logits, labels, "ce"),
        eager=lambda: eager(logits, labels),
        reference=(reference.loss_seed, (logits, labels, None, LOSS_KINDS.index("ce"))),
        reads=(logits, labels),
    )
