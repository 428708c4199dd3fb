"""Captured CUDA graphs: a replay equals the call bit for bit, whatever else runs."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_estimator import together
from test_radius import convolutional, images, mixed_model, snapshot
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import rrfast
from rrfast import RadiusEstimator
from rrfast.methods import METHODS
from rrfast.methods.cuda_graphs import LIMIT, PATIENCE, CaptureError

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.usefixtures("deterministic"),
]


def cuda_model() -> nn.Module:
    return mixed_model().cuda()


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize(
    "options",
    [{}, {"bounds": (0.0, 1.0), "scale": 2.0}, {"bounds": (torch.zeros(3), torch.ones(3))}],
    ids=str,
)
def test_a_replay_is_the_call_bit_for_bit(method: str, options: dict[str, Any]) -> None:
    model = cuda_model()
    eager = RadiusEstimator(model, method, cuda_graph=False, **options)
    if not eager._measure.capturable:
        pytest.skip(f"{method} is not captured")
    captured = RadiusEstimator(model, method, cuda_graph=True, **options)
    before = snapshot(model)
    for size in (4, 1, 7, 4, 64, 1):
        for x in (images(size).cuda(), 1 - images(size).cuda()):
            expected, result = eager(x, full_output=True), captured(x, full_output=True)
            torch.testing.assert_close(result, expected, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(before, snapshot(model), rtol=0, atol=0)


def test_results_of_replays_are_not_overwritten() -> None:
    estimator = RadiusEstimator(cuda_model(), "bs", cuda_graph=True)
    parts = [images(32).cuda()[4 * i : 4 * i + 4] for i in range(8)]
    results = [estimator(part) for part in parts]
    fresh = [RadiusEstimator(estimator.model, "bs", cuda_graph=False)(part) for part in parts]
    assert torch.equal(torch.stack(results), torch.stack(fresh))


def test_temperatures_in_one_graph() -> None:
    model, x, few = cuda_model(), images(8).cuda(), [0.2, 1.0, 3.0]
    result = RadiusEstimator(model, cuda_graph=True, temperature=few)(x, full_output=True)
    assert torch.equal(result.radius, rrfast.radius(model, x, temperature=few))
    assert (result.forwards, result.backwards) == (4, 3)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_captured_in_one_context_and_replayed_in_another(context: Callable[[], Any]) -> None:
    model, x = cuda_model(), images(8).cuda()
    estimator, expected = RadiusEstimator(model, cuda_graph=True), rrfast.radius(model, x)
    with context():
        assert torch.equal(estimator(images(8).cuda()), expected)
    for other in (torch.no_grad, torch.inference_mode, contextlib.nullcontext):
        with other():
            assert torch.equal(estimator(images(8).cuda()), expected)


def test_autocast_is_captured_as_it_is() -> None:
    model, x = convolutional().eval().cuda(), images(8).cuda()
    captured = RadiusEstimator(lambda t: 1 * model(t), cuda_graph=True)  # weights unfrozen
    eager = RadiusEstimator(captured.model, cuda_graph=False)
    for _ in range(3):
        with torch.autocast("cuda", dtype=torch.bfloat16):
            model(x)  # fills autocast's cache of weights
            assert torch.equal(captured(x), eager(x))
        assert torch.equal(captured(x), eager(x))


def test_weights_changed_in_place_are_seen() -> None:
    model, x = cuda_model(), images(8).cuda()
    estimator = RadiusEstimator(model, cuda_graph=True)
    estimator(x)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    assert torch.equal(estimator(x), rrfast.radius(model, x))
    model.double().float()  # elsewhere
    assert torch.equal(estimator(x), rrfast.radius(model, x))


def test_replays_on_two_streams() -> None:
    model = cuda_model()
    estimator, parts = RadiusEstimator(model, cuda_graph=True), images(64).cuda().split(8)
    expected = [rrfast.radius(model, part) for part in parts]
    streams = [torch.cuda.Stream(), torch.cuda.Stream()]
    torch.cuda.synchronize()
    results = []
    for i in range(64):
        with torch.cuda.stream(streams[i % 2]):
            results.append(estimator(parts[i % 8]))
    torch.cuda.synchronize()
    assert all(torch.equal(r, expected[i % 8]) for i, r in enumerate(results))


def test_an_estimator_may_go_while_its_graph_runs() -> None:
    model, x = cuda_model(), images(64).cuda()
    expected = rrfast.radius(model, x, method="bs")
    side = torch.cuda.Stream()
    torch.cuda.synchronize()
    for _ in range(10):
        estimator = RadiusEstimator(model, "bs", cuda_graph=True)
        estimator(x)
        with torch.cuda.stream(side):
            side.wait_stream(torch.cuda.default_stream())
            radius = estimator(x)
            del estimator
        for _ in range(4):  # takes what was let go
            x.clone().fill_(0)
        side.synchronize()
        assert torch.equal(radius, expected)


def test_captures_in_two_threads() -> None:
    model, x = convolutional().train().cuda(), images(8).cuda()
    expected = rrfast.radius(model, x)

    def job(i: int) -> None:
        with torch.cuda.stream(torch.cuda.Stream()):
            for _ in range(5):
                estimator = RadiusEstimator(model, cuda_graph=True)
                for _ in range(10):
                    assert torch.equal(estimator(x), expected)
            torch.cuda.current_stream().synchronize()

    torch.cuda.synchronize()
    together(*(functools.partial(job, i) for i in range(2)))


def test_capture_while_a_loader_pins_memory() -> None:
    model, x = cuda_model(), images(200)
    loader = DataLoader(TensorDataset(x, torch.arange(200)), batch_size=16, pin_memory=True)
    radius = RadiusEstimator(model).predict(loader)  # captures at the third batch
    expected = [rrfast.radius(model, part.cuda()) for part in x.split(16)]
    assert torch.equal(radius, torch.cat(expected).cpu())


class Asking(nn.Module):
    """Copies a value to the host, which no capture allows."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = convolutional()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) if x.sum().item() < 1e9 else self.inner(-x)


def test_a_model_that_asks_for_a_value_is_run_as_it_is() -> None:
    model, x = Asking().cuda(), images(8).cuda()
    stream = torch.cuda.current_stream()
    estimator = RadiusEstimator(model)
    for _ in range(PATIENCE - 1):
        estimator(x)
    with pytest.warns(RuntimeWarning, match="could not be captured in a CUDA graph"):
        radius = estimator(x)
    assert torch.cuda.current_stream() == stream
    assert torch.equal(radius, rrfast.radius(model, x))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(estimator(x), radius)
    with pytest.raises(CaptureError, match="could not be captured"):
        RadiusEstimator(model, cuda_graph=True)(x)
    # and afterwards captures work
    sound = cuda_model()
    expected = rrfast.radius(sound, x)
    assert torch.equal(RadiusEstimator(sound, cuda_graph=True)(x), expected)


def test_memory_does_not_grow_with_captures() -> None:
    estimator = RadiusEstimator(cuda_model(), cuda_graph=True)
    sizes = range(1, 4 * LIMIT)

    def reserved() -> int:
        for size in sizes:
            estimator(images(size).cuda())
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        return torch.cuda.memory_reserved()

    once = reserved()
    assert reserved() <= 2 * once


@pytest.mark.parametrize("options", [{"dtype": torch.bfloat16}, {"fold_batchnorm": True}], ids=str)
def test_prepared_models_are_captured(options: dict[str, Any]) -> None:
    model, x = cuda_model(), images(8).cuda()
    captured = RadiusEstimator(model, cuda_graph=True, **options)
    assert torch.equal(captured(x), RadiusEstimator(model, cuda_graph=False, **options)(x))
