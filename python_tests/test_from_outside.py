"""What a user adds: a class or a function, and one line in a table of names.

A method, a score, an objective, an attack, a metric, a data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import rrfast
from rrfast.attacks import ATTACKS, Attack, Attacked
from rrfast.attacks.attack import judged
from rrfast.bench.pareto import settings_of
from rrfast.data import Split, digits
from rrfast.data.tasks import TASKS, Task
from rrfast.engine import Engine, Model
from rrfast.evaluate import TrainedModel, misd, robust
from rrfast.evaluate.robust.measurements import unpacked
from rrfast.methods import BS, METHODS, Estimate
from rrfast.metrics import METRICS, RankingAccumulator, aurc, bootstrap
from rrfast.models import digits_cnn
from rrfast.objectives import OBJECTIVES, Standard
from rrfast.scores import SCORES, LogitScore, Radius, Score
from rrfast.scores.score import Point, Scored
from rrfast.train import Training, fit, load_recipe
from rrfast.train.recipe import make_task, prepare


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


@dataclass(frozen=True, eq=False)
class Brighter(Attack):
    """All pixels, brighter."""

    eps: float = 0.1
    bounds: tuple[float, float] = (0.0, 1.0)
    scale: None = None

    def run(
        self,
        engine: Engine,
        x: Tensor,
        labels: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Attacked:
        z = (x + self.eps).clamp(*self.bounds)
        h = engine.forward(z)
        return judged(z, h, labels, nn.functional.cross_entropy(h, labels, reduction="none"))


def area_right(score: object, correct: object) -> float:
    """The area above the curve of risk and coverage."""
    return 1 - aurc(score, correct)


def eights(seed: int, n: int = 40) -> Task:
    """Digits that are 8, and those that are not."""
    train, validation, test = (
        Split(part.x[:n], (part.y[:n] == 8).long()) for part in digits(seed=seed)
    )
    return Task(train, validation, test, 2)


@pytest.fixture
def trained(weights: dict[str, Tensor]) -> TrainedModel:
    pytest.importorskip("matplotlib", reason="needs matplotlib, for the pages")
    model = digits_cnn()
    model.load_state_dict(weights)
    return TrainedModel("mine", 0, lambda: (model.eval(), TASKS["digits"](seed=0)), "digits")


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


class Plain:
    """A method need not be a dataclass, nor be asked for by its name."""

    def __call__(self, engine: Engine, x: Tensor) -> Estimate:
        return Half()(engine, x)


def test_a_class_without_fields_is_a_method(data: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = digits_cnn().eval(), data.x[:16]
    expected = rrfast.radius(model, x, method=Half())
    monkeypatch.setitem(METHODS, "plain", Plain)
    assert settings_of("plain") == [{}]  # of `rrfast bench --pareto`
    for method in ("plain", Plain()):
        assert torch.equal(rrfast.radius(model, x, method=method), expected)
        assert torch.equal(rrfast.RadiusEstimator(model, method)(x), expected)
        assert torch.equal(rrfast.predict(model, [x], method).confidence, expected)


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


def test_an_attack(trained: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, (_, _, (x, y), *_) = trained.load()
    z = (x + 0.3).clamp(0, 1)
    resisted = (model(x).argmax(dim=1) == y) & (model(z).argmax(dim=1) == y)
    found = Brighter(eps=0.3)(model, x, y)
    assert torch.equal(found.x, z)
    assert torch.equal(found.wrong, model(z).argmax(dim=1) != y)
    monkeypatch.setitem(ATTACKS, "brighter", Brighter)
    evaluated = partial(robust.evaluate, [trained], tmp_path, console=Console(quiet=True))
    runs = evaluated(attacks=("brighter",), curve=(), eps=0.3, images=len(y), draws=10)["runs"]
    row = next(run for run in runs if run["attack"] == "brighter")
    assert torch.equal(unpacked(row["stood"], len(y)), resisted)


def test_a_metric(trained: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "area_right", area_right)
    score, correct = torch.rand(50), torch.rand(50) < 0.8
    found = RankingAccumulator()
    found.update(score, correct)
    expected = 1 - aurc(score, correct)
    assert found.compute()["area_right"] == expected
    assert bootstrap("area_right", score, correct, draws=10).value == expected
    options = {"scores": ["msr"], "draws": 10, "sensitivity": False}
    (row,) = misd.evaluate([trained], tmp_path, console=Console(quiet=True), **options)["runs"]
    assert row["area_right"] == pytest.approx(1 - row["aurc"], abs=1e-6)  # as written


def test_a_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "eights", eights)
    changes = ["data={name: eights, n: 30}", "training.epochs=1"]
    recipe = load_recipe("digits_rat", changes)
    task = make_task(recipe)
    assert (len(task.train.y), task.classes, task.train.y.max()) == (30, 2, 1)
    with pytest.raises(ValueError, match=r"did you mean eights\?"):
        make_task(load_recipe("digits_rat", ["data={name: eight}"]))
