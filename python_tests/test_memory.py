"""Loops write their steps into memory that they use again, and hand none of it on."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import rrfast
from rrfast.attacks import ATTACKS, Ball
from rrfast.engine import Engine
from rrfast.methods import METHODS
from rrfast.ops import Memory

#: Options that make a loop short.
SHORT = {
    "bs": {"budget": 6},
    "pgd": {"steps": 3, "step_size": 0.5, "radii": 4},
    "fab": {"steps": 3},
    "fmn": {"steps": 3},
    "deepfool": {"steps": 3},
}
#: How many different tensors a model may be given: x, and those that are written into.
POINTS = {"bs": 2, "search": 2, "refined": 2, "pgd": 2}


@pytest.fixture
def x() -> Tensor:
    torch.manual_seed(0)
    return torch.rand(4, 3, 8, 8)


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.ReLU(), nn.Linear(16, 5)).eval()


def tensors(result: object) -> list[Tensor]:
    return [value for value in result if isinstance(value, Tensor)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", METHODS)
def test_no_result_of_a_method_is_in_memory_that_is_used_again(
    name: str, model: nn.Module, x: Tensor
) -> None:
    method = METHODS[name](**SHORT.get(name, {}))
    with Engine(model) as engine:
        first = tensors(method(engine, x))
        kept = [value.clone() for value in first]
        method(engine, x.flip(0))
        for value, before in zip(first, kept, strict=True):
            torch.testing.assert_close(value, before, rtol=0, atol=0, equal_nan=True)
        for value in first:
            for memory in engine.memory._kept.values():
                assert not torch._C._is_alias_of(value, memory)


@pytest.mark.parametrize("name", [name for name in ATTACKS if name != "autoattack_package"])
def test_an_attack_changes_neither_its_input_nor_an_earlier_result(
    name: str, model: nn.Module, x: Tensor
) -> None:
    short = {"square": {"queries": 5}, "autoattack": {}}.get(name, {"steps": 3})
    attack = ATTACKS[name](eps=0.1, **({} if name == "fgsm" else short))
    before, labels = x.clone(), torch.zeros(4, dtype=torch.int64)
    first = attack(model, x, labels)
    kept = [value.clone() for value in first]
    attack(model, x.flip(0), labels)
    assert torch.equal(x, before)
    assert all(map(torch.equal, first, kept))


@pytest.mark.parametrize("name", POINTS)
def test_a_model_is_given_the_same_memory_at_every_step(
    name: str, model: nn.Module, x: Tensor
) -> None:
    given: list[Tensor] = []  # alive, so that no address comes twice by chance
    model.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].detach()))
    with Engine(model) as engine:
        METHODS[name](**SHORT.get(name, {}))(engine, x)
        assert len(given) == engine.forwards > 2
    assert len({point.data_ptr() for point in given}) == POINTS[name]


@pytest.mark.parametrize("name", ["fast", "bs", "search", "refined", "pgd", "fab"])
def test_an_estimator_uses_the_memory_of_its_last_call_again(
    name: str, model: nn.Module, x: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rrfast.methods.fast.LARGE", 1)
    estimator = rrfast.RadiusEstimator(model, name, **SHORT.get(name, {}))
    first = estimator(x, full_output=True)
    (memory,) = estimator._measure.spare._idle
    places = {kept.data_ptr() for kept in memory._kept.values()}
    kept = [value.clone() for value in tensors(first)]
    other = estimator(x.flip(0), full_output=True)
    assert estimator._measure.spare.take() is memory
    assert places == {kept.data_ptr() for kept in memory._kept.values()} != set()
    # As its docstring has it.
    assert sum(kept.nbytes for kept in memory._kept.values()) / x.numel() in (5, 9, 10)
    fresh = rrfast.radius(model, x.flip(0), method=name, full_output=True, **SHORT.get(name, {}))
    for value, before in zip(tensors(first), kept, strict=True):
        torch.testing.assert_close(value, before, rtol=0, atol=0, equal_nan=True)
        assert not any(torch._C._is_alias_of(value, m) for m in memory._kept.values())
    for value, at_once in zip(tensors(other), tensors(fresh), strict=True):
        torch.testing.assert_close(value, at_once, rtol=0, atol=0, equal_nan=True)


def test_an_estimator_that_is_moved_frees_the_memory(model: nn.Module, x: Tensor) -> None:
    estimator = rrfast.RadiusEstimator(model, "bs")
    estimator(x)
    (memory,) = map(weakref.ref, estimator._measure.spare._idle)
    nn.Sequential(estimator).double()
    assert memory() is None
    assert estimator(x.double()).dtype == torch.float64


def test_a_call_with_fake_tensors_leaves_no_memory(model: nn.Module, x: Tensor) -> None:
    estimator = rrfast.RadiusEstimator(model, "bs")
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        estimator(mode.from_tensor(x))
    assert torch.equal(estimator(x), rrfast.radius(model, x, method="bs"))


def test_a_ball_may_step_in_inference_mode_first(x: Tensor) -> None:
    ball = Ball(x, 0.1)
    length = ball.lengths(0.05)
    with torch.inference_mode():
        inside = ball.step(x, x - 0.5, length)
    assert torch.equal(ball.step(x, x - 0.5, length), inside)


def test_inputs_that_require_a_gradient(model: nn.Module, x: Tensor) -> None:
    """As a method or an attack is given them that is called with an engine of one's own."""
    labels, leaf = torch.zeros(4, dtype=torch.int64), x.clone().requires_grad_()
    with Engine(model) as engine:
        method, attack = METHODS["pgd"](**SHORT["pgd"]), ATTACKS["pgd"](eps=0.1, steps=3)
        assert torch.equal(method(engine, leaf).radius, method(engine, x).radius)
        assert torch.equal(attack.run(engine, leaf, labels).x, attack.run(engine, x, labels).x)


def test_a_loss_that_is_a_view_of_the_logits_is_copied(model: nn.Module, x: Tensor) -> None:
    buffer = torch.empty(4, 5)

    def same_memory(z: Tensor) -> Tensor:
        logits = model(z)
        return logits if torch.is_grad_enabled() else buffer.copy_(logits)

    attack = ATTACKS["pgd"](eps=0.1, steps=2, keep="last", loss=lambda h, _: h[:, 1])
    loss = attack(same_memory, x, torch.zeros(4, dtype=torch.int64)).loss
    assert not torch._C._is_alias_of(loss, buffer)


def test_two_calls_at_once_do_not_share_memory(model: nn.Module, x: Tensor) -> None:
    estimator = rrfast.RadiusEstimator(model, "bs")
    inner: list[Tensor] = []

    def again(*_: object) -> None:
        handle.remove()
        inner.append(estimator(x.flip(0)))  # in the middle of the outer call

    estimator(x)
    handle = model.register_forward_hook(again)
    assert torch.equal(estimator(x), rrfast.radius(model, x, method="bs"))
    assert torch.equal(inner[0], rrfast.radius(model, x.flip(0), method="bs"))


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x[:2],
        lambda x: x.double(),
        lambda x: x.contiguous(memory_format=torch.channels_last),
        lambda x: x.to("meta"),
    ],
    ids=["shape", "dtype", "layout", "device"],
)
def test_memory_that_does_not_fit_is_replaced(
    change: Callable[[Tensor], Tensor], x: Tensor
) -> None:
    memory = Memory()
    first, other = memory("probe", x), change(x)
    assert memory("probe", x) is first
    second = memory("probe", other)
    assert second is not first
    assert (second.shape, second.dtype, second.device) == (other.shape, other.dtype, other.device)
    assert second.stride() == other.stride()


@pytest.mark.parametrize("name", ["bs", "search", "refined", "pgd", "fab"])
def test_inputs_with_gaps_between_their_elements(name: str, model: nn.Module, x: Tensor) -> None:
    """They are neither contiguous nor channels-last, but what is computed of them may be either."""
    wide = torch.stack((x, x), dim=-1).to(memory_format=torch.channels_last_3d)[..., 0]
    assert not wide.is_contiguous()
    assert not wide.is_contiguous(memory_format=torch.channels_last)
    method = METHODS[name](**SHORT.get(name, {}))
    with Engine(model) as engine:
        expected, found = method(engine, x), method(engine, wide)
    assert torch.equal(found.radius, expected.radius)
