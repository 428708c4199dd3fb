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
    direction: Tensor,
    step: Tensor,
    bounds: Tensor | None,
    scale: Tensor | None,
    out: Tensor | None = None,
) -> Tensor:
    length = step.to(x.dtype).view(-1, 1, 1, 1)
    if scale is not None:
        length = length * per_channel(scale, x)
    perturbed = torch.addcmul(x, direction, length, out=out)
    if bounds is not None:
        perturbed.clamp_(per_channel(bounds[0], x), per_channel(bounds[1], x))
    return perturbed


@pytest.mark.parametrize("reused", [False, True], ids=["fresh", "reused"])
@pytest.mark.parametrize("case", IMAGES, ids=str)
def bench_perturb(
    case: Images, reused: bool, device: torch.device, op_contest: Callable[..., None]
) -> None:
    x, step = case.random(device), case.step(device)
    # Without the op, nobody packs a direction: the rival uses the result of grad.sign() directly
    # and needs no pass to widen it.
    sign = case.random(device).sign()
    direction = sign.to(torch.int8)
    box = case.box(device)
    op_contest(
        "perturb",
        case,
        fused=lambda out=None: ops.perturb(x, direction, step, *box, out=out),
        eager=lambda out=None: eager(x, sign, step, *box, out),
        reference=(reference.perturb, (x, direction, step, *box)),
        reads=(x, direction, step, *box),
        reused=reused,
    )
