from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from contest import LOGITS, Logits
from torch import Tensor

from rrfast import ops, reference
from rrfast.ops import accumulate_dtype

Step = Callable[..., None]


def eager(logits: Tensor, prediction: Tensor, lower: Tensor, upper: Tensor, radius: Tensor) -> None:
    flipped = logits.argmax(dim=1) != prediction
    lower.copy_(torch.where(flipped, lower, radius))
    upper.copy_(torch.where(flipped, radius, upper))
    torch.minimum((lower + upper) / 2, 2 * lower, out=radius)


@pytest.mark.parametrize("case", LOGITS, ids=str)
def bench_bisection_step(
    case: Logits, device: torch.device, op_contest: Callable[..., None]
) -> None:
    logits = case.random(device)
    # Half of the samples flip at every call, so that every call does the same work.
    prediction = logits.argmax(dim=1)
    prediction[::2] = (prediction[::2] + 1) % logits.shape[1]

    def state() -> tuple[Tensor, Tensor, Tensor]:
        lower = torch.full(case.shape[:1], 0.01, dtype=accumulate_dtype(case.dtype), device=device)
        return lower, torch.full_like(lower, torch.inf), 2 * lower

    def stepping(step: Step) -> Callable[[], tuple[Tensor, ...]]:
        bracket = state()

        def run() -> tuple[Tensor, ...]:
            step(logits, prediction, *bracket)
            return bracket

        return run

    own = state()

    def specification(logits: Tensor, prediction: Tensor, *bracket: Tensor) -> tuple[Tensor, ...]:
        reference.bisection_step_(logits, prediction, *bracket)
        return bracket

    op_contest(
        "bisection_step_",
        case,
        fused=stepping(ops.bisection_step_),
        eager=stepping(eager),
        reference=(specification, (logits, prediction, *own)),
        reads=(logits, prediction, *own),
    )
