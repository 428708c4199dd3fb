"""Noise as out-of-distribution data: its distribution, its seed, bad input."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rrfast.data import gaussian_noise, uniform_noise


def test_gaussian_noise_is_the_papers() -> None:
    """N(1/2, 1) clipped: the share at either end, and the mean square of what is between."""
    x = gaussian_noise(200, (3, 16, 16)).double()
    n = x.numel()
    end = 0.5 * math.erfc(0.5 / math.sqrt(2))  # P(N(0, 1) > 1/2)
    for value in (0.0, 1.0):
        share = float((x == value).double().mean())
        assert abs(share - end) < 5 * math.sqrt(end * (1 - end) / n)
    inside = x[(x > 0) & (x < 1)] - 0.5
    # Of N(0, 1) within (-1/2, 1/2): 1 - 2 (1/2) phi(1/2) / P(|N| < 1/2).
    density = math.exp(-1 / 8) / math.sqrt(2 * math.pi)
    variance = 1 - density / (1 - 2 * end)
    assert abs(float(inside.square().mean()) - variance) < 5 * 0.1 / math.sqrt(len(inside))
    assert abs(float(inside.mean())) < 5 * 0.3 / math.sqrt(len(inside))


def test_uniform_noise_is_uniform() -> None:
    x = uniform_noise(200, (3, 16, 16)).double()
    assert float(x.min()) >= 0
    assert float(x.max()) < 1
    counts = torch.histc(x, 10, 0, 1)
    expected = x.numel() / 10
    assert float(((counts - expected) ** 2 / expected).sum()) < 40  # chi2 with 9 d.o.f.: p < 1e-5


@pytest.mark.parametrize("noise", [gaussian_noise, uniform_noise])
def test_the_seed_decides(noise: Callable[..., Tensor]) -> None:
    before = torch.get_rng_state()
    first, again, other = (noise(3, (1, 8, 9), seed=seed) for seed in (1, 1, 2))
    assert first.shape == (3, 1, 8, 9)
    assert first.dtype == torch.float32
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("noise", [gaussian_noise, uniform_noise])
def test_bad_input(noise: Callable[..., Tensor]) -> None:
    with pytest.raises(ValueError, match="n must be an integer of at least 1, got 0"):
        noise(0, (1, 8, 8))
    with pytest.raises(ValueError, match=r"shape must be \[C, H, W\], got \[8, 8\]"):
        noise(1, (8, 8))
    with pytest.raises(ValueError, match="height in shape must be an integer of at least 1"):
        noise(1, (1, 0, 8))
    with pytest.raises(TypeError, match=r"shape must be \[C, H, W\], got int 5"):
        noise(1, 5)
    with pytest.raises(TypeError, match="seed must be an integer"):
        noise(1, (1, 8, 8), seed=0.5)
