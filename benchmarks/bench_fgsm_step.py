from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from contest import IMAGES, Images
from torch import Tensor

from rrfast import ops, reference
from rrfast.ops import per_channel


def eager(
    x: Tensor,
    grad: Tensor,
    step: Tensor,
    bounds: Tensor | None,
    scale: Tensor | None,
    out: tuple[Tensor | None, Tensor | None] = (None, None),
) -> tuple[Tensor, Tensor]:
    length = step.to(x.dtype).view(-1, 1, 1, 1)
    if scale is not None:
        length = length * per_channel(scale, x)
    direction = torch.sign(grad, out=out[1])
    perturbed = torch.addcmul(x, direction, length, out=out[0])
    if bounds is not None:
        perturbed.clamp_(per_channel(bounds[0], x), per_channel(bounds[1], x))
    return perturbed, direction


@pytest.mark.parametrize("reused", [False, True], ids=["fresh", "reused"])
@pytest.mark.parametrize("case", IMAGES, ids=str)
def bench_fgsm_step(
    case: Images, reused: bool, device: torch.device, op_contest: Callable[..., None]
) -> None:
    x, grad, step = case.random(device), case.random(device), case.step(device)
    box = case.box(device)
    op_contest(
        "fgsm_step",
        case,
        fused=lambda out=None: ops.fgsm_step(x, grad, step, *box, out=out),
        eager=lambda out=(None, None): eager(x, grad, step, *box, out),
        reference=(reference.fgsm_step, (x, grad, step, *box)),
        reads=(x, grad, step, *box),
        reused=reused,
    )
