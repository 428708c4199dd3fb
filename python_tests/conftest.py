"""Fixtures of all tests: devices, dtypes, seeds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from rrfast.data import digits
from rrfast.models import digits_cnn

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
DEVICES = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


@pytest.fixture(params=DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _no_tf32() -> None:
    """float32 is what a CPU takes for it: cuDNN's convolutions have ten bits of it otherwise."""
    torch.backends.cudnn.allow_tf32 = False


@pytest.fixture
def defaults_of_another_kind() -> Iterator[None]:
    """What is made without a dtype or a device is float64 on the device that holds no numbers."""
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.fixture
def deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuDNN's backward may add in any order otherwise: for tests that compare bits."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


@pytest.fixture(scope="session")
def weights() -> dict[str, Tensor]:
    """A small CNN after eight epochs on the digits: two seconds, 94 per cent right."""
    model, train = digits_cnn(), digits().train
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(8):
        for batch in torch.randperm(len(train.y), generator=generator).split(50):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(train.x[batch]), train.y[batch]).backward()
            optimiser.step()
    return model.state_dict()


@pytest.fixture
def trained(weights: dict[str, Tensor]) -> nn.Module:
    model = digits_cnn()
    model.load_state_dict(weights)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def images() -> Tensor:
    return digits().test.x[:100]
