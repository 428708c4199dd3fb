"""A method, a score and an objective of a user's own: a class, and one line in a table of names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

import rrfast
from rrfast.data import Split, digits
from rrfast.engine import Engine, Model
from rrfast.methods import BS, METHODS, Estimate
from rrfast.models import digits_cnn
from rrfast.objectives import OBJECTIVES, Standard
from rrfast.scores import SCORES, LogitScore, Radius, Score
from rrfast.scores.score import Point, Scored
from rrfast.train import Training, fit, load_recipe
from rrfast.train.recipe import prepare


@dataclass(frozen=True, eq=False)
class Half:
    """Half of the radius `grad`."""

    share: float = 0.5

    def __call__(self, engine: Engine, x: Tensor) -> Estimate:
        found = METHODS["grad"]()(engine, x)
        return found._replace(radius=self.share * found.radius)


@dataclass(frozen=True, eq=False)
class Second(LogitScore):
    """Minus the second largest logit."""

    def confidence(self, h: Tensor) -> Tensor:
        return -h.topk(2, dim=1).values[:, 1]

    def ascent(self, h: Tensor) -> Tensor:
        return torch.zeros_like(h).scatter(1, h.topk(2, dim=1).indices[:, 1:], -1.0)


@dataclass(frozen=True, eq=False)
class Twice(Score):
    """A score that runs the model by itself."""

    def measure(self, model: Model, x: Tensor, points: Sequence[Point]) -> Scored:
        with Engine(model) as engine:
            h = engine.forward(x)
        values = 2 * h.amax(dim=1).expand(len(points), -1)
        return Scored(values, h.argmax(dim=1), 1.0, 0.0, h.shape[1])


@dataclass(frozen=True, eq=False)
class Doubled(Standard):
    """Twice the loss."""

    def __call__(self, model: Model, x: Tensor, y: Tensor, *, epoch: int | None = None) -> Tensor:
        return 2 * super().__call__(model, x, y, epoch=epoch)


@pytest.fixture(scope="module")
def data() -> Split:
    return digits().test


def test_a_method(data: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = digits_cnn().eval(), data.x[:16]
    expected = 0.5 * rrfast.radius(model, x, method="grad")
    assert torch.equal(rrfast.radius(model, x, method=Half()), expected)
    assert torch.equal(rrfast.radius(model, x, method=Half(), share=0.25), expected / 2)
    assert torch.equal(rrfast.RadiusEstimator(model, Half())(x), expected)
    assert torch.equal(rrfast.predict(model, [x], Half()).confidence, expected)
    monkeypatch.setitem(METHODS, "half", Half)
    assert torch.equal(rrfast.radius(model, x, method="half", share=0.5), expected)
    with pytest.raises(TypeError, match="method 'half' has no option 'alpha'; its options are sh"):
        rrfast.radius(model, x, method="half", alpha=0.1)
    shares = iter([0.5, 0.25])
    monkeypatch.setitem(METHODS, "half", lambda: Half(next(shares)))
    assert torch.equal(rrfast.radius(model, x, method="half"), expected)
    assert torch.equal(rrfast.radius(model, x, method="half"), expected / 2)


def plain(engine: Engine, x: Tensor) -> Estimate:
    """A method need not be a dataclass."""
    return Half()(engine, x)


def test_a_function_is_a_method(data: Split) -> None:
    model, x = digits_cnn().eval(), data.x[:16]
    expected = rrfast.radius(model, x, method=Half())
    assert torch.equal(rrfast.radius(model, x, method=plain), expected)
    assert torch.equal(rrfast.RadiusEstimator(model, plain)(x), expected)
    assert torch.equal(rrfast.predict(model, [x], plain).confidence, expected)
    assert Radius(plain).grids == {}
    with pytest.raises(TypeError, match="has no option 'share'; its options are none"):
        rrfast.radius(model, x, method=plain, share=0.5)


def test_a_method_as_a_score_has_its_changed_options() -> None:
    given = Radius(BS(budget=10, r_min=float("1e-6"), temperature=2.0))
    assert (given.method, given.temperature, given.options) == ("bs", 2.0, {"budget": 10})
    assert repr(Radius(BS())) == repr(SCORES["radius_bs"])


def test_a_score(data: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    model = digits_cnn().eval()
    batches = [(data.x[:64], data.y[:64]), (data.x[64:100], data.y[64:100])]
    for score in (Second(), Twice()):
        found = rrfast.predict(model, batches, score, progress=False)
        assert torch.equal(found.confidence, score(model, data.x[:100]))
        assert torch.equal(found.correct, model(data.x[:100]).argmax(dim=1) == data.y[:100])
    with monkeypatch.context() as patch:
        patch.setitem(SCORES, "second", Second())
        classifier = rrfast.SelectiveClassifier(model, "second").fit(batches, coverage=0.5)
        assert 0.5 <= classifier(data.x[:100]).accept.double().mean() < 0.6
    with pytest.raises(ValueError, match=r"score must be one of .*, got 'second'"):
        rrfast.SelectiveClassifier(model, "second")


def test_an_objective(data: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    once, twice = nn.Linear(64, 10), nn.Linear(64, 10)
    twice.load_state_dict(once.state_dict())
    x, y = data.x[:32].flatten(1), data.y[:32]
    loss = Standard().backward(once, x, y)
    assert torch.equal(Doubled().backward(twice, x, y), 2 * loss)
    fitted = fit(twice, Split(x, y), training=Training(epochs=1), objective=Doubled())
    assert len(fitted.history) == 1
    monkeypatch.setitem(OBJECTIVES, "doubled", Doubled)
    recipe = load_recipe("digits_rat", ["objective={name: doubled}", "training.epochs=1"])
    _, _, objective = prepare(recipe, rrfast.data.tasks.TASKS["digits"]())
    assert isinstance(objective, Doubled)
