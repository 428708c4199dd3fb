"""Scripted, traced and frozen modules: the numbers of the module they were made of."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rrfast
from rrfast import engine
from rrfast.engine import frozen
from rrfast.methods import METHODS
from rrfast.objectives import AdversarialTraining

FEWER: dict[str, dict[str, Any]] = {
    "fab": {"steps": 10},
    "fmn": {"steps": 10},
    "pgd": {"steps": 4},
}


def eager() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 3)
    model = nn.Sequential(*layers).double()
    for _ in range(3):
        model(torch.randn(32, 8, dtype=torch.float64))
    return model


def traced(model: nn.Module) -> nn.Module:
    """Recorded in eval mode, and in training mode afterwards, as a trace may be."""
    trace = torch.jit.trace(copy.deepcopy(model).eval(), torch.rand(4, 8, dtype=torch.float64))
    return trace.train()


def inside(model: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten(), torch.jit.script(model))


MAKES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "scripted": torch.jit.script,
    "traced": traced,
    "frozen": lambda model: torch.jit.freeze(torch.jit.script(copy.deepcopy(model).eval())),
    "inside": inside,
}


@pytest.fixture(params=MAKES)
def make(request: pytest.FixtureRequest) -> Callable[[nn.Module], nn.Module]:
    return MAKES[request.param]


def batch() -> tuple[Tensor, Tensor]:
    return torch.rand(12, 8, dtype=torch.float64), torch.arange(12) % 3


def state(model: nn.Module) -> list[Any]:
    return [
        [getattr(module, "training", None) for module in model.modules()],
        [parameter.requires_grad for parameter in model.parameters()],
        [value.tolist() for value in model.state_dict().values()],
        len(frozen._held),
    ]


@pytest.mark.parametrize("method", METHODS)
def test_radii(make: Callable[[nn.Module], nn.Module], method: str) -> None:
    (x, _), options = batch(), FEWER.get(method, {})
    expected = rrfast.radius(eager(), x, method=method, **options)
    model = make(eager())
    before = state(model)
    estimator = rrfast.RadiusEstimator(model, method, **options)
    for radius in (
        rrfast.radius(model, x, method=method, **options),
        rrfast.radius(model.forward, x, method=method, **options),
        estimator(x),
    ):
        torch.testing.assert_close(radius, expected)
        assert state(model) == before


def test_scores_attacks_and_selection(make: Callable[[nn.Module], nn.Module]) -> None:
    (x, y), plain = batch(), eager()
    model = make(eager())
    before = state(model)
    for name, score in rrfast.scores.SCORES.items():
        if score.fitted:
            torch.testing.assert_close(score(model, x), score(plain, x), msg=name)
    for name in ("pgd", "apgd_dlr", "fab_t"):
        attack, found = rrfast.attacks.ATTACKS[name](eps=0.05, steps=5), []
        for net in (model, plain):
            torch.manual_seed(0)
            found.append(attack(net, x, y).x)
        torch.testing.assert_close(*found, msg=name)
    chosen = [
        rrfast.SelectiveClassifier(net, "radius_grad").fit([(x, y)], coverage=0.5)
        for net in (model, plain)
    ]
    torch.testing.assert_close(chosen[0].threshold, chosen[1].threshold)
    assert torch.equal(chosen[0](x).accept, chosen[1](x).accept)
    assert state(model) == before


@pytest.mark.parametrize("how", ["scripted", "inside"])
@pytest.mark.parametrize("batch_norm", ["clean", "all"])
def test_objectives_give_the_same_gradients_and_statistics(how: str, batch_norm: str) -> None:
    (x, y), plain = batch(), eager()
    without = [nn.Identity() if isinstance(layer, nn.Dropout) else layer for layer in plain]
    plain = nn.Sequential(*without)
    model = MAKES[how](copy.deepcopy(plain))
    rat: Any = rrfast.RAT(eps=0.01, batch_norm="clean") if batch_norm == "clean" else rrfast.RAT()
    for objective in (rat, AdversarialTraining(eps=0.05, steps=2)):
        for net in (plain, model):
            net.zero_grad()
            torch.manual_seed(0)
            objective.backward(net, x, y)
        for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad)
        for ours, theirs in zip(model.buffers(), plain.buffers(), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_who_holds_it_still_when_another_leaves_has_it_in_eval_mode(
    make: Callable[[nn.Module], nn.Module],
) -> None:
    """As two threads do: TorchScript's flags lie in C++, where nobody else remembers them."""
    model = make(eager())
    before = state(model)
    first, second = engine.Engine(model), engine.Engine(model)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not any(getattr(module, "training", False) for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    second.__exit__(None, None, None)
    assert state(model) == before


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_trace_in_training_mode_gets_a_sentence() -> None:
    x, _ = batch()
    for model in (eager(), nn.Sequential(nn.Linear(8, 3), nn.Dropout()).double()):
        trace = torch.jit.trace(model.train(), x, check_trace=False)
        before = state(trace)
        with pytest.raises(ValueError, match="recorded in eval mode"):
            rrfast.radius(trace, x)
        assert state(trace) == before
