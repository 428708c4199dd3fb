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
    out: tuple[Tensor | None, Tensor | None] = (None, None),
) -> tuple[Tensor, Tensor]:
    correct = torch.eq(logits.argmax(dim=1), labels, out=out[1])
    length = torch.where(correct, EPS, -EPS).to(x.dtype).view(-1, 1, 1, 1)
    if scale is not None:
        length = length * per_channel(scale, x)
    # Nor does its sign need new memory.
    perturbed = torch.sign(grad, out=out[0])
    perturbed = torch.addcmul(x, perturbed, length, out=out[0])
    if bounds is not None:
        perturbed.clamp_(per_channel(bounds[0], x), per_channel(bounds[1], x))
    return perturbed, correct


@pytest.mark.parametrize("reused", [False, True], ids=["fresh", "reused"])
@pytest.mark.parametrize("case", IMAGES, ids=str)
def bench_rat_perturb(
    case: Images, reused: bool, device: torch.device, op_contest: Callable[..., None]
) -> None:
    x, grad = case.random(device), case.random(device)
    logits = torch.randn(len(x), CLASSES, device=device)
    labels = torch.where(torch.rand(len(x), device=device) < 0.5, logits.argmax(dim=1), 0)
    bounds, scale = case.box(device)
    op_contest(
        "rat_perturb",
        case,
        fused=lambda out=None: ops.rat_perturb(
            x, grad, logits, labels, EPS, "rat", bounds, scale, out=out
        ),
        eager=lambda out=(None, None): eager(x, grad, logits, labels, bounds, scale, out),
        reference=(reference.rat_perturb, (x, grad, logits, labels, EPS, -EPS, bounds, scale)),
        reads=(x, grad, logits, labels, bounds, scale),
        reused=reused,
    )
