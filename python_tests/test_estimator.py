"""`RadiusEstimator`: the numbers of `radius`, from many batches, temperatures and threads."""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import pickle
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from test_radius import FEWER, LEAST, assert_same, convolutional, images, mixed_model, snapshot
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import rrfast
from rrfast import RadiusEstimator
from rrfast import estimator as module
from rrfast.methods import METHODS

pytestmark = pytest.mark.usefixtures("deterministic")

TEMPERATURES = [0.2 * (i + 1) for i in range(15)]


@pytest.fixture(params=sorted(METHODS))
def method(request: pytest.FixtureRequest) -> str:
    return request.param


def test_same_numbers_as_radius(method: str, device: torch.device) -> None:
    model, x = mixed_model().to(device), images(8).to(device)
    before = snapshot(model)
    options = {"bounds": (0.0, 1.0), "scale": 2.0, **FEWER.get(method, {})}
    estimator = RadiusEstimator(model, method, **options)
    expected = rrfast.radius(model, x, method=method, full_output=True, **options)
    for _ in range(4):  # on CUDA the third is captured
        torch.testing.assert_close(estimator(x, full_output=True), expected, rtol=0, atol=0)
        assert torch.equal(estimator(x), expected.radius)
    assert_same(before, snapshot(model))


@pytest.mark.parametrize(
    "context",
    [
        torch.no_grad,
        torch.inference_mode,
        torch.enable_grad,
        functools.partial(torch.autocast, "cpu", dtype=torch.bfloat16),
    ],
)
def test_in_any_context(method: str, context: Callable[[], Any]) -> None:
    model, x = mixed_model(), images(4)
    with context():
        radius = RadiusEstimator(model, method)(x)
        assert torch.equal(radius, rrfast.radius(model, x, method=method))
    assert not radius.requires_grad


def test_empty_batch(method: str) -> None:
    assert RadiusEstimator(convolutional(), method)(images(0)).shape == (0,)


# ------------------------------------------------------------------------------------- temperatures


@pytest.mark.parametrize("name", ["fast", "bs"])
def test_temperatures_give_what_each_alone_gives(name: str) -> None:
    model, x = convolutional(), images(6)
    few = TEMPERATURES[::7]
    result = rrfast.radius(model, x, method=name, temperature=few, full_output=True)
    for i, temperature in enumerate(few):
        alone = rrfast.radius(model, x, method=name, temperature=temperature, full_output=True)
        assert torch.equal(result.prediction, alone.prediction)
        for field in ("radius", "lower", "upper", "rival", "found"):
            assert torch.equal(getattr(result, field)[i], getattr(alone, field)), field
    estimator = RadiusEstimator(model, name, temperature=few)
    assert_same(estimator(x, full_output=True)._asdict(), result._asdict())


def test_temperatures_share_the_forward() -> None:
    calls = 0

    class Counting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            return model(x)

    model = convolutional().eval()
    result = RadiusEstimator(Counting(), temperature=TEMPERATURES)(images(4), full_output=True)
    assert (result.forwards, result.backwards) == (16, 15)
    assert calls == 16


@pytest.mark.parametrize(
    "few", [(1.0, 2.0), [1, 2], range(1, 3), torch.tensor([1.0, 2.0]), np.array([1.0, 2.0])]
)
def test_any_sequence_of_temperatures(few: Any) -> None:
    model, x = convolutional(), images(4)
    expected = rrfast.radius(model, x, temperature=[1.0, 2.0])
    assert torch.equal(rrfast.radius(model, x, temperature=few), expected)


def test_one_temperature_in_a_list_keeps_its_dimension() -> None:
    model, x = convolutional(), images(4)
    radius = rrfast.radius(model, x, temperature=[1.0])
    assert torch.equal(radius, rrfast.radius(model, x)[None])
    empty = rrfast.radius(model, x[:0], temperature=[1.0, 2.0], full_output=True)
    assert empty.radius.shape == empty.lower.shape == empty.rival.shape == (2, 0)
    assert empty.rival.dtype == torch.int64
    assert empty.prediction.shape == (0,)


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"temperature": []}, ValueError, r"temperature must be a number or at least one of them"),
        ({"temperature": [1.0, -1.0]}, ValueError, "temperature must be finite and at least 0"),
        ({"temperature": ["warm"]}, TypeError, "temperature must be a number, got str 'warm'"),
        ({"temperature": "warm"}, TypeError, "temperature must be a number, got str 'warm'"),
        ({"temperature": torch.tensor(1.0)}, TypeError, "temperature must be a number, got a"),
        ({"temperature": torch.ones(2, 2)}, TypeError, "temperature must be a number, got a"),
        ({"method": "grad", "temperature": [1.0]}, TypeError, "has no option 'temperature'"),
    ],
)
def test_mistakes_in_temperatures(
    options: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        RadiusEstimator(convolutional(), **options)
    with pytest.raises(error, match=sentence):
        rrfast.radius(convolutional(), images(2), **options)


# ------------------------------------------------------------------------------------------ loaders


@pytest.mark.parametrize("labels", [True, False])
def test_score_is_the_radius_of_all_batches_in_order(
    method: str, labels: bool, device: torch.device
) -> None:
    model, x = convolutional().to(device), images(22)
    tensors = (x, torch.arange(22)) if labels else (x,)
    loader = DataLoader(TensorDataset(*tensors), batch_size=8)  # the last has 6
    options = FEWER.get(method, {})
    estimator = RadiusEstimator(model, method, **options)
    expected = [
        rrfast.radius(model, part.to(device), method=method, **options) for part in x.split(8)
    ]
    assert torch.equal(estimator.predict(loader), torch.cat(expected).cpu())
    assert torch.equal(estimator.predict(x.split(8)), torch.cat(expected).cpu())
    assert torch.equal(estimator.predict(part for part in x.split(8)), torch.cat(expected).cpu())


def test_score_with_all_that_is_known() -> None:
    model, x = convolutional(), images(10)
    estimator = RadiusEstimator(model, "bs", temperature=[0.5, 1.0], budget=6)
    result = estimator.predict(x.split(4), full_output=True)
    expected = [estimator(part, full_output=True) for part in x.split(4)]
    for field in ("radius", "lower", "upper", "rival", "found", "prediction"):
        parts = [getattr(part, field) for part in expected]
        assert torch.equal(getattr(result, field), torch.cat(parts, dim=-1)), field
    assert (result.forwards, result.backwards) == (11, 2)


def test_score_of_empty_batches_among_others() -> None:
    estimator, x = RadiusEstimator(convolutional()), images(6)
    result = estimator.predict([x[:0], x[:4], x[4:]], full_output=True)
    assert result.radius.shape == (6,)
    assert (result.forwards, result.backwards) == (2, 1)
    assert estimator.predict([x[:0]]).shape == (0,)


def test_a_batch_is_waited_for_when_the_next_is_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    received = module._OnItsWay.received

    def logged(self: Any) -> Any:
        log.append("received")
        return received(self)

    monkeypatch.setattr(module._OnItsWay, "received", logged)
    estimator = RadiusEstimator(convolutional(), "grad")
    estimator.register_forward_hook(lambda *_: log.append("launched"))
    estimator.predict(images(9).split(3))
    assert log == ["launched", "launched", "received", "launched", "received", "received"]


def test_score_keeps_no_batch() -> None:
    alive: list[weakref.ref[Tensor]] = []

    def batches() -> Iterator[Tensor]:
        for _ in range(6):
            assert sum(ref() is not None for ref in alive) <= 2
            x = images(4)
            alive.append(weakref.ref(x))
            yield x

    RadiusEstimator(convolutional()).predict(batches())


@pytest.mark.parametrize(
    ("loader", "error", "sentence"),
    [
        (images(4), TypeError, r"a tensor yields its rows; give x.split\(256\)"),
        ([], ValueError, "loader must yield at least one sample, but yielded none"),
        ([{"x": images(2)}], TypeError, r"begin with one, got dict.*give \(batch\['image'\]"),
        ([()], TypeError, r"begin with one, got tuple \(\)"),
        ([("cat.png", images(2))], TypeError, "begin with one, got tuple"),
        ([torch.zeros(2, 3, 10, 10, dtype=torch.uint8)], TypeError, "x must be a floating-point"),
    ],
)
def test_mistakes_in_loaders(loader: Any, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        RadiusEstimator(convolutional()).predict(loader)


def test_mistakes_in_flags() -> None:
    model, x = convolutional(), images(2)
    for flag in ("fold_batchnorm", "compile"):
        with pytest.raises(TypeError, match=f"{flag} must be a bool, got str 'no'"):
            RadiusEstimator(model, **{flag: "no"})
    for call in (
        RadiusEstimator(model),
        lambda x, **flags: RadiusEstimator(model).predict([x], **flags),
    ):
        with pytest.raises(TypeError, match="full_output must be a bool, got int 1"):
            call(x, full_output=1)


@pytest.mark.parametrize("sized", [True, False])
def test_a_bar_where_there_is_a_terminal(monkeypatch: pytest.MonkeyPatch, sized: bool) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    estimator, parts = RadiusEstimator(convolutional(), "grad"), images(6).split(2)
    for terminal, progress, seen in (
        (True, True, True),
        (True, False, False),
        (False, True, False),
    ):
        monkeypatch.setattr(screen, "isatty", lambda terminal=terminal: terminal)
        screen.truncate(0)
        estimator.predict(parts if sized else (part for part in parts), progress=progress)
        assert ("images/s" in screen.getvalue()) == seen
        assert ("/3" in screen.getvalue()) == (seen and sized)


# ----------------------------------------------------------------------------------------- a module


def test_the_model_is_a_submodule() -> None:
    model = convolutional()
    estimator = RadiusEstimator(model, "bs", budget=5)
    assert {f"model.{name}" for name in model.state_dict()} == set(estimator.state_dict())
    assert estimator.double().model is model
    assert estimator(images(4).double()).dtype == torch.float64
    assert "method='bs', budget=5" in repr(estimator)
    assert "(model): Sequential" in repr(estimator)
    estimator.train()
    before = {name: part.training for name, part in model.named_modules()}
    estimator(images(4).double())
    assert before == {name: part.training for name, part in model.named_modules()}


def test_a_function_is_no_submodule() -> None:
    inner = convolutional().eval()
    estimator = RadiusEstimator(lambda x: 1 * inner(x))
    assert torch.equal(estimator(images(4)), rrfast.radius(inner, images(4)))
    assert torch.equal(estimator.predict([images(4)]), estimator(images(4)))
    assert not estimator.state_dict()
    assert "model=<function" in repr(estimator)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_copies(method: str, copied: Callable[[Any], Any], device: torch.device) -> None:
    model, x = mixed_model().to(device), images(4).to(device)
    estimator = RadiusEstimator(model, method, **FEWER.get(method, {}))
    for _ in range(4):
        expected = estimator(x)
    twin = copied(estimator)
    assert twin.model is not estimator.model
    assert torch.equal(twin(x), expected)


def test_no_model() -> None:
    with pytest.raises(TypeError, match="model must be callable, got NoneType"):
        RadiusEstimator(None)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------ threads


def together(*jobs: Callable[[], None]) -> None:
    """Runs all at once and raises what one raised."""
    errors: list[BaseException] = []
    start = threading.Barrier(len(jobs))

    def run(job: Callable[[], None]) -> None:
        start.wait()
        try:
            job()
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("shared", [True, False], ids=["one estimator", "two estimators"])
def test_threads(method: str, shared: bool, device: torch.device) -> None:
    """In training mode BatchNorm would mix the batch and move its statistics."""
    options = LEAST.get(method, {})
    model = convolutional().train().to(device)
    before = snapshot(model)
    x = [images(4).to(device), 1 - images(6).to(device)]
    estimators = [RadiusEstimator(model, method, **options)] * 2
    if not shared:
        estimators = [RadiusEstimator(model, method, **options) for _ in range(2)]
    expected = [rrfast.radius(model, part, method=method, **options) for part in x]

    def job(i: int) -> None:
        for _ in range(40):
            assert torch.equal(estimators[i](x[i]), expected[i])

    together(*(functools.partial(job, i) for i in (0, 1)))
    assert_same(before, snapshot(model))


def test_a_forward_beside_an_estimator(device: torch.device) -> None:
    model, x = convolutional().eval().to(device), images(4).to(device)
    estimator, logits = RadiusEstimator(model), model(x).detach()
    expected = estimator(x)

    def forward() -> None:
        with torch.no_grad():
            for _ in range(100):
                assert torch.equal(model(x), logits)

    def estimate() -> None:
        for _ in range(50):
            assert torch.equal(estimator(x), expected)

    together(forward, estimate)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_thread_that_fails_leaves_the_other_alone() -> None:
    model, x = convolutional().train(), images(4)
    before, expected = snapshot(model), rrfast.radius(model, x)

    def fail() -> None:
        for _ in range(40):
            with contextlib.suppress(RuntimeError):
                RadiusEstimator(model)(x[:, :2])  # two channels: the convolution refuses

    def estimate() -> None:
        for _ in range(40):
            assert torch.equal(rrfast.radius(model, x), expected)

    together(fail, estimate)
    assert_same(before, snapshot(model))
