from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from contest import LOGITS, Logits
from torch import Tensor

from rrfast import ops, reference
from rrfast.ops import accumulate_dtype

Step = Callable[..., None]


@pytest.mark.parametrize("case", LOGITS, ids=str)
def bench_search_step(case: Logits, device: torch.device, op_contest: Callable[..., None]) -> None:
    logits = case.random(device)
    # Half of the samples flip at every call, so that every call does the same work.
    prediction = logits.argmax(dim=1)
    prediction[::2] = (prediction[::2] + 1) % logits.shape[1]

    def start() -> Tensor:
        rows = torch.tensor([0.0, torch.inf, 1.0, 0.0, 0.0, 0.01], device=device)
        rows = rows.to(accumulate_dtype(case.dtype))
        return rows[:, None].repeat(1, case.shape[0])

    def stepping(step: Step) -> Callable[[], Tensor]:
        state = start()

        def run() -> Tensor:
            step(logits, prediction, state)
            return state

        return run

    own = start()

    def specification(logits: Tensor, prediction: Tensor, state: Tensor) -> Tensor:
        reference.search_step_(logits, prediction, state)
        return state

    op_contest(
        "search_step_",
        case,
        fused=stepping(ops.search_step_),
        eager=stepping(reference.search_step_),
        reference=(specification, (logits, prediction, own)),
        reads=(logits, prediction, own),
    )
