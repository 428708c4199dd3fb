"""`aurc` against the three lines of NumPy that are written for it, which know no ties."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from rrfast.metrics import aurc


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=lambda t: str(t)[6:])
@pytest.mark.parametrize("n", [1_000, 10_000, 1_000_000, 10_000_000])
def bench_aurc(n: int, dtype: torch.dtype, device: torch.device, hold: Callable[..., None]) -> None:
    if device.type != "cpu":
        pytest.skip("NumPy has no GPU")
    score, correct = torch.rand(n, dtype=dtype), torch.rand(n) > 0.1
    values, errors = score.numpy(), ~correct.numpy()

    def by_hand() -> float:
        ordered = errors[np.argsort(-values)]
        return float((ordered.cumsum() / np.arange(1, n + 1)).mean())

    assert abs(by_hand() - aurc(score, correct)) < 1e-6
    hold(
        {"aurc": lambda: aurc(score, correct), "NumPy": by_hand},
        model="aurc",
        case=f"{n:,} scores, {str(dtype)[6:]}, a tenth of them wrong",
        floor="NumPy",
    )
