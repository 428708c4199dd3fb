from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from contest import IMAGES, Images
from torch import Tensor

from rrfast import ops, reference
from rrfast.ops import per_channel

EPS = 1e-3
CLASSES = 10


def eager(
    x: Tensor,
    grad: Tensor,
    logits: Tensor,
    labels: Tensor,
    bounds: Tensor | None,
    scale: Tensor | None,
) -> tuple[Tensor, Tensor]:
    correct = logits.argmax(dim=1) == labels
    length = torch.where(correct, EPS, -EPS).to(x.dtype).view(-1, 1, 1, 1)
    if scale is not None:
        length = length * per_channel(scale, x)
    perturbed = torch.addcmul(x, grad.sign(), length)
    if bounds is not None:
        perturbed.clamp_(per_channel(bounds[0], x), per_channel(bounds[1], x))
    return perturbed, correct


@pytest.mark.parametrize("case", IMAGES, ids=str)
def bench_rat_perturb(case: Images, device: torch.device, op_contest: Callable[..., None]) -> None:
    x, grad = case.random(device), case.random(device)
    logits = torch.randn(len(x), CLASSES, device=device)
    labels = torch.where(torch.rand(len(x), device=device) < 0.5, logits.argmax(dim=1), 0)
    bounds, scale = case.box(device)
    op_contest(
        "rat_perturb",
        case,
        fused=lambda: ops.rat_perturb(x, grad, logits, labels, EPS, "rat", bounds, scale),
        eager=lambda: eager(x, grad, logits, labels, bounds, scale),
        reference=(reference.rat_perturb, (x, grad, logits, labels, EPS, -EPS, bounds, scale)),
        reads=(x, grad, logits, labels, bounds, scale),
    )
