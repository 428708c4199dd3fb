"""A network in training mode inside something else, and what its own `train` keeps."""

from __future__ import annotations

import functools
import types
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_radius import assert_same, snapshot
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

import rrfast
from rrfast.engine.modules_inside import device_of, modules_of
from rrfast.methods.cuda_graphs import _addresses
from rrfast.objectives import AdversarialTraining


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Linear(10, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 3)
    return nn.Sequential(*layers)


#: As a script has it.
net = network()
helpers = types.ModuleType("helpers")
helpers.known = net  # type: ignore[attr-defined]


class Holds:
    def __init__(self, held: object) -> None:
        self.held = held

    def __call__(self, x: Tensor) -> Tensor:
        return self.predict(x)

    def predict(self, x: Tensor) -> Tensor:
        held: Any = self.held
        return (held["net"][0] if isinstance(held, dict) else held)(x)


class Slots:
    __slots__ = ("held", "unset")

    def __init__(self, held: nn.Module) -> None:
        self.held = held

    def __call__(self, x: Tensor) -> Tensor:
        return self.held(x)


class Named:
    def __call__(self, x: Tensor) -> Tensor:
        return self.through(x)

    def through(self, x: Tensor) -> Tensor:
        return net(x)


class OfClass:
    held = net

    def __call__(self, x: Tensor) -> Tensor:
        return type(self).held(x)


def closure(inner: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def call(x: Tensor) -> Tensor:
        return inner(x)

    return call


def decorated(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    @functools.wraps(function)
    def call(*given: Any) -> Tensor:
        return function(*given)

    return call


def by_name(x: Tensor) -> Tensor:
    return net(x)


def by_another_name(x: Tensor) -> Tensor:
    return by_name(x)


def by_default(x: Tensor, model: nn.Module = net) -> Tensor:
    return model(x)


INSIDE: dict[str, Callable[[], Any]] = {
    "a method": lambda: net.forward,
    "a global": lambda: by_name,
    "a function that calls one": lambda: by_another_name,
    "a lambda within": lambda: lambda z: next(net(part) for part in [z]),
    "a global of a module": lambda: lambda z: helpers.known(z),  # noqa: PLW0108
    "a closure": lambda: closure(net),
    "closures": lambda: closure(closure(net.forward)),
    "a default": lambda: by_default,
    "a decorator": lambda: decorated(net.forward),
    "autocast": lambda: torch.autocast("cpu", enabled=False)(net.forward),
    "no_grad and back": lambda: torch.enable_grad()(net.forward),
    "compiled": lambda: torch.compile(net.forward, backend="eager"),
    "compiled function": lambda: torch.compile(by_name, backend="eager"),
    "an object": lambda: Holds(net),
    "containers in an object": lambda: Holds({"net": [net]}),
    "a method of an object": lambda: Holds(net).predict,
    "slots": lambda: Slots(net),
    "an object that names it": Named,
    "a class": OfClass,
    "objects": lambda: Holds(Holds(closure(net))),
    "a partial": lambda: functools.partial(lambda m, z: m(z), net),
    "a partial by keyword": lambda: functools.partial(lambda z, m: m(z), m=net),
    "a partial of an object": lambda: functools.partial(Holds(net)),
}


@pytest.mark.parametrize("how", INSIDE)
def test_a_network_inside_something_is_put_into_eval_mode(how: str) -> None:
    """In training mode dropout is random, and BatchNorm's statistics move."""
    torch._dynamo.reset()
    x = torch.rand(16, 10)
    net.eval()
    expected = rrfast.radius(net, x)
    net.train()
    net[3].eval()
    net[4].bias.requires_grad_(False)
    before = snapshot(net)
    for method in ("fast", "bs"):
        radius = rrfast.radius(INSIDE[how](), x, method=method)
        assert_same(before, snapshot(net))
        if method == "fast":
            torch.testing.assert_close(radius, expected)
    score = rrfast.scores.SCORES["msr"](INSIDE[how](), x)
    assert_same(before, snapshot(net))
    assert torch.equal(score, rrfast.scores.SCORES["msr"](net, x))


def test_all_that_are_found_are_put_into_eval_mode() -> None:
    nets = [network() for _ in range(3)]

    def ensemble(z: Tensor) -> Tensor:
        return torch.stack([n(z) for n in nets]).mean(0)

    assert {id(n) for n in modules_of(ensemble)} == {id(n) for n in nets}
    x = torch.rand(8, 10)
    radius = rrfast.radius(ensemble, x)
    assert all(n.training for n in nets)
    for n in nets:
        n.eval()
    assert torch.equal(radius, rrfast.radius(ensemble, x))


def test_a_closure_that_changes_is_looked_at_again() -> None:
    current = network()

    def call(x: Tensor) -> Tensor:
        return current(x)

    first = current
    assert modules_of(call) == [first]
    current = network()
    assert modules_of(call) == [current]
    assert device_of(call) is None  # x stays where it is: which of several modules runs is unknown


def test_the_search_ends() -> None:
    tangled: dict[str, Any] = {"data": list(range(10**6))}
    tangled["self"] = tangled
    tangled["many"] = [Holds(Holds(n)) for n in range(10**4)]
    assert modules_of(Holds([tangled, net])) == [net]


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize(
    "make", [network, lambda: nn.Sequential(nn.Linear(10, 3), Dropped())], ids=["norm", "dropout"]
)
def test_what_was_recorded_in_training_mode_gets_a_sentence(
    make: Callable[[], nn.Module], wrapped: bool
) -> None:
    x = torch.rand(8, 10)
    shapes = ({0: torch.export.Dim("batch", min=2)},)
    for model, right in ((make().train(), False), (make().eval(), True)):
        exported = torch.export.export(model, (x,), dynamic_shapes=shapes).module()
        traced = torch.fx.symbolic_trace(model)
        for recorded in (exported, traced):
            before = {name: value.clone() for name, value in recorded.state_dict().items()}
            given = (lambda z, held=recorded: held(z)) if wrapped else recorded
            if right or (recorded is traced and make is network):  # its layers are modules still
                expected = rrfast.radius(model, x)
                torch.testing.assert_close(rrfast.radius(given, x), expected)
            else:
                with pytest.raises(ValueError, match="must have been recorded in eval mode"):
                    rrfast.radius(given, x)
            assert_same(before, dict(recorded.state_dict()))


class Dropped(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.5, self.training)


def test_batch_norm_without_statistics_is_named_once() -> None:
    model = nn.Sequential(nn.Linear(10, 8), nn.BatchNorm1d(8, track_running_stats=False))
    with pytest.warns(RuntimeWarning, match="depend on the others of its batch"):
        rrfast.radius(model, torch.rand(4, 10))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rrfast.radius(model, torch.rand(4, 10))
        rrfast.radius(network(), torch.rand(4, 10))


# ---------------------------------------------------------------------------- a train of its own


class Cached(nn.Linear):
    """Drops what it keeps in `train(True)`, and makes it anew when it is used."""

    kept: Tensor | None = None

    def train(self, mode: bool = True) -> Cached:
        if mode:
            self.kept = None
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return super().forward(x)
        if self.kept is None:
            self.kept = self.weight.detach().clone()
        return nn.functional.linear(x, self.kept, self.bias)


class Merged(Cached):
    """Makes what it keeps in `train(False)`, if that is a change."""

    def train(self, mode: bool = True) -> Merged:
        if self.training and not mode:
            self.kept = self.weight.detach().clone()
        if not self.training and mode:
            self.kept = None
        nn.Module.train(self, mode)
        return self


class ByEval(Merged):
    """As `Merged`, in an `eval` of its own."""

    train = nn.Linear.train  # type: ignore[assignment]

    def eval(self) -> ByEval:
        self.kept = self.weight.detach().clone()
        return nn.Linear.eval(self)


@pytest.mark.parametrize("kind", [Cached, Merged, ByEval])
@pytest.mark.parametrize("nested", [False, True])
def test_a_cache_is_never_stale(kind: type[Cached], nested: bool) -> None:
    torch.manual_seed(0)
    first = kind(10, 32)
    model = nn.Sequential(nn.Sequential(first) if nested else first, nn.ReLU(), nn.Linear(32, 3))
    x, y = torch.rand(16, 10), torch.arange(16) % 3
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    for _ in range(3):
        right = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 3))
        right.load_state_dict(
            dict(zip(right.state_dict(), model.state_dict().values(), strict=True))
        )
        given: Any
        for given in (model, lambda z: model(z + 0)):
            assert torch.equal(rrfast.radius(given, x), rrfast.radius(right, x))
        assert all(module.training for module in model.modules())
        optimizer.zero_grad()
        AdversarialTraining(eps=0.05, steps=2).backward(model, x, y)
        assert all(parameter.grad is not None for parameter in model.parameters())
        optimizer.step()


def test_what_a_train_of_its_own_keeps_is_in_no_cuda_graph() -> None:
    """A replay runs no Python, so that it would read what was kept at the capture."""
    assert _addresses(network()) is not None
    assert _addresses(nn.Sequential(network(), Cached(3, 3))) is None


def test_a_train_that_keeps_batch_norm_in_eval_mode_leaves_all_as_it_was() -> None:
    class KeepsNorm(nn.Sequential):
        def train(self, mode: bool = True) -> KeepsNorm:
            super().train(mode)
            self[1].eval()
            self[0].requires_grad_(False)
            return self

    model = KeepsNorm(*network()).train()
    model[3].eval()  # a mixed mode that no train() makes
    model[0].bias.requires_grad_(True)
    x = torch.rand(8, 10)
    before = snapshot(model)
    expected = rrfast.radius(nn.Sequential(*model), x)
    assert torch.equal(rrfast.radius(model, x), expected)
    assert_same(before, snapshot(model))


def test_parametrize_cached_keeps_nothing_frozen() -> None:
    x, y = torch.rand(16, 10), torch.arange(16) % 3

    def grads(cached: bool) -> list[Tensor | None]:
        torch.manual_seed(0)
        model = parametrizations.weight_norm(nn.Linear(10, 3))
        if not cached:
            AdversarialTraining(eps=0.1, steps=3).backward(model, x, y)
        else:
            with parametrize.cached():
                rrfast.radius(model, x)
                AdversarialTraining(eps=0.1, steps=3).backward(model, x, y)
        return [parameter.grad for parameter in model.parameters()]

    for ours, right in zip(grads(True), grads(False), strict=True):
        assert ours is not None
        assert right is not None
        torch.testing.assert_close(ours, right)


def test_what_is_in_eval_mode_within_a_train_of_its_own_is_told_last() -> None:
    """On leaving, the outer one's `train(True)` reaches the inner one, which was in eval mode."""

    class Outer(nn.Sequential):
        def train(self, mode: bool = True) -> Outer:
            super().train(mode)
            return self

    class Inner(nn.Linear):
        told: bool | None = None

        def train(self, mode: bool = True) -> Inner:
            self.told = mode
            return super().train(mode)

    inner = Inner(10, 3)
    model = Outer(inner, nn.Identity()).train()
    inner.eval()
    rrfast.radius(model, torch.rand(4, 10))
    assert model.training
    assert (inner.training, inner.told) == (False, False)
