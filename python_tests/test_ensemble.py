"""Ensembles: the worst case of their parts, on what is left only, and FAB as one of the parts."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from waiting import Calls

import rrfast
from rrfast.attacks import (
    APGD,
    ATTACKS,
    FAB,
    LOSSES,
    PGD,
    Attack,
    Attacked,
    AutoAttackPackage,
    Ensemble,
    Square,
    autoattack,
)
from rrfast.engine import Engine

EPS = 0.1


@pytest.fixture
def labels(trained: nn.Module, images: Tensor) -> Tensor:
    """The predictions, except every tenth, which is wrong at x."""
    y = trained(images).argmax(1)
    return torch.where(torch.arange(len(y)) % 10 == 0, (y + 1) % 10, y)


@dataclass(frozen=True, eq=False)
class Scripted(Attack):
    """Misclassifies the images that a first pixel marks, and says so."""

    breaks: tuple[int, ...]
    eps: float = EPS
    bounds: Any = None
    scale: Any = None

    def run(
        self,
        engine: Engine,
        x: Tensor,
        labels: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Attacked:
        assert labels is not None
        wrong = torch.isin(x[:, 0].long(), torch.tensor(self.breaks))
        z = x.clone()
        z[:, 1] = wrong.to(x.dtype)
        return Attacked(z, torch.zeros(len(x)), wrong)


def marked(z: Tensor) -> Tensor:
    """Right, by label 0, until the second element is set."""
    return torch.stack([0.5 - z[:, 1], z[:, 2]], dim=1)


def test_worst_case_is_the_or_of_the_parts_on_what_is_left() -> None:
    x = torch.zeros(6, 3)
    x[:, 0] = torch.arange(6)
    x[5, 2] = 1.0  # wrong as it is
    seen = []
    attacks = [Scripted((0, 2)), Scripted(()), Scripted((2, 3, 5))]
    with Engine(marked) as engine:
        found = Ensemble(attacks).run(
            engine,
            x,
            torch.zeros(6, dtype=torch.int64),
            each=lambda attack, wrong: seen.append((attack, wrong.tolist())),
        )
        # All once, then what each attack left it with.
        assert (engine.forwards, engine.forward_samples) == (4, 6 + 5 + 3 + 3)
    assert found.wrong.tolist() == [True, False, True, True, False, True]
    assert found.x[:, 1].tolist() == [1, 0, 1, 1, 0, 0]
    assert torch.equal(found.x[:, 0], x[:, 0])
    assert torch.equal(found.loss, LOSSES["cw"](marked(found.x), torch.zeros(6).long()))
    assert [attack for attack, _ in seen] == [None, *attacks]
    assert [sum(wrong) for _, wrong in seen] == [1, 3, 3, 4]


def test_an_error_found_is_never_lost(trained: nn.Module, images: Tensor, labels: Tensor) -> None:
    parts = [PGD(EPS, steps=3), APGD(EPS, 6, start="input"), FAB(EPS, 3, targets=2)]
    alone = [part(trained, images, labels) for part in parts]
    together = Ensemble(parts)(trained, images, labels)
    at_x = trained(images).argmax(1) != labels
    assert at_x.sum() == 10
    # Batches of other sizes may round otherwise: what is found by a margin is found.
    sure = torch.stack([found.wrong & (found.loss.abs() > 1e-3) for found in alone]).any(0)
    assert bool(together.wrong[sure | at_x].all())
    assert int(together.wrong.sum()) >= max(int(found.wrong.sum()) for found in alone)
    assert bool(((together.x - images).abs() <= EPS).all())
    assert torch.equal(together.wrong, trained(together.x).argmax(1) != labels)


def test_what_stays_right_has_the_largest_margin_seen(trained: nn.Module, images: Tensor) -> None:
    """An attack that walks away from every error leaves the samples where they were."""
    y = trained(images).argmax(1)

    def backwards(h: Tensor, y: Tensor | None) -> Tensor:
        return -LOSSES["cw"](h, y)

    away = PGD(EPS, loss=backwards)
    assert bool((away(trained, images, y).x != images).flatten(1).any(1).all())
    assert torch.equal(Ensemble([away])(trained, images, y).x, images)


def test_only_the_count_of_what_is_left_waits(
    trained: nn.Module, images: Tensor, labels: Tensor
) -> None:
    with Engine(trained) as engine, Calls() as calls:
        autoattack(EPS, steps=3, targets=2, queries=3).run(engine, images[:8], labels[:8])
    assert calls.waiting == {"nonzero"}


def test_attacks_end_where_nothing_is_left(trained: nn.Module, images: Tensor) -> None:
    wrong = (trained(images).argmax(1) + 1) % 10
    with Engine(trained) as engine:
        found = Ensemble([Square(EPS)]).run(engine, images, wrong)
        assert engine.forwards == 1
    assert bool(found.wrong.all())
    assert torch.equal(found.x, images)


def test_empty_single_and_unlabelled(trained: nn.Module, images: Tensor, labels: Tensor) -> None:
    attack = autoattack(EPS, steps=2, targets=1, queries=2)
    empty = attack(trained, images[:0], labels[:0])
    assert (len(empty.x), empty.loss.shape, empty.wrong.dtype) == (0, (0,), torch.bool)
    assert attack(trained, images[:1], labels[:1]).x.shape == images[:1].shape
    with pytest.raises(ValueError, match="labels must be given"):
        attack(trained, images)


def test_mistakes_get_a_sentence() -> None:
    for attacks, words in (
        ([], "attacks must hold at least one attack, got none"),
        ([PGD(0.1), PGD(0.2)], r"attacks must have one eps, got \[0.1, 0.2\]"),
        ([PGD(0.1, loss="confidence")], "attacks must use labels, got PGD"),
    ):
        with pytest.raises(ValueError, match=words):
            Ensemble(attacks)
    for attacks, got in (
        ("pgd", "str 'pgd'"),
        (["pgd"], r"list \['pgd'\]"),
        (PGD(), r"PGD PGD\("),
        ([PGD(), PGD], r"list \[PGD\("),
        (3, "int 3"),
    ):
        with pytest.raises(TypeError, match=f"attacks must be a list of attacks.*, got {got}"):
            Ensemble(attacks)  # type: ignore[arg-type]


def test_a_model_of_one_batch_size_gets_a_sentence() -> None:
    torch.manual_seed(0)
    model, x = nn.Linear(8, 4), torch.rand(6, 8)
    exported = torch.export.export(model, (x,)).module()
    labels = model(x).argmax(dim=1)
    labels[0] = (labels[0] + 1) % 4  # wrong at x, and left out
    with pytest.raises(
        ValueError, match=r"take parts of a batch.*took 6 samples but not 5, like a"
    ):
        Ensemble([PGD(1e-6)])(exported, x, labels)


# ------------------------------------------------------------------------------------- AutoAttack


def test_autoattack_costs_what_it_says(trained: nn.Module, images: Tensor, labels: Tensor) -> None:
    """By a sample that nothing moves, and a tenth of all steps: T = 9, S = 10, Q = 500."""
    x, y = images[1:2], labels[1:2]
    attack = autoattack(1e-6, steps=10, queries=500)
    with Engine(trained) as engine:
        assert not bool(attack.run(engine, x, y).wrong)
        ce, towards, fab, square = 10 + 1, 1 + 9 * (10 + 1), 2 * 10 * 9 + 4, 500
        assert engine.forwards == 1 + ce + towards + fab + square + 4
        assert engine.backwards == 10 + 9 * 10 + 9 * 10
    # The docstring's, at the defaults.
    ce, towards, fab, square = 100 + 1, 1 + 9 * (100 + 1), 2 * 100 * 9 + 4, 5000
    assert 1 + ce + towards + fab + square + 4 == 7820


def test_the_ball_of_an_ensemble_is_one() -> None:
    ends, units = torch.tensor([[0.0, 0.0], [1.0, 1.0]]), torch.tensor([1.0, 2.0])
    for one, other, words in (
        ({"bounds": (0, 1)}, {"bounds": None}, r"attacks must have one bounds, got \(0, 1\) and N"),
        ({"bounds": (0, 1)}, {"bounds": (-1, 1)}, "attacks must have one bounds"),
        ({"bounds": ends}, {"bounds": ends - 1}, "attacks must have one bounds"),
        ({"scale": None}, {"scale": 2.0}, "attacks must have one scale, got None and 2.0"),
        ({"scale": units}, {"scale": 2 * units}, "attacks must have one scale"),
    ):
        with pytest.raises(ValueError, match=words):
            Ensemble([PGD(EPS, **one), APGD(EPS, **other)])
        assert Ensemble([PGD(EPS, **one), APGD(EPS, **one)]).eps == EPS
    Ensemble([PGD(EPS, bounds=(0, 1.0)), APGD(EPS, bounds=(torch.tensor(0.0), 1))])
    Ensemble([PGD(EPS, bounds=tuple(ends)), APGD(EPS, bounds=ends)])


def test_registry_makes_attacks() -> None:
    for name, make in ATTACKS.items():
        assert isinstance(make(eps=0.3), Attack), name
        assert make(eps=0.3).eps == 0.3
    assert isinstance(ATTACKS["autoattack_package"](), AutoAttackPackage)


# --------------------------------------------------------------------------------------------- FAB


def test_fab_is_wrong_where_the_radius_is_within_eps(trained: nn.Module, images: Tensor) -> None:
    y = trained(images).argmax(1)
    radius = rrfast.radius(trained, images, method="fab", steps=10, targets=3, bounds=(0, 1))
    for eps in (0.02, 0.05, 0.1):
        found = FAB(eps, 10, targets=3)(trained, images, y)
        # One float32 rounding of x + eps may be the difference.
        clear = (radius - eps).abs() > 1e-6
        assert torch.equal(
            found.wrong[clear & (radius < eps)],
            torch.ones(1).bool().expand(int((clear & (radius < eps)).sum())),
        )
        assert bool(((found.x - images).abs() <= eps).all())
        assert torch.equal(found.wrong, trained(found.x).argmax(1) != y)
    assert 0 < int((radius < 0.1).sum()) < len(radius)


def test_fab_leaves_errors_where_they_are(
    trained: nn.Module, images: Tensor, labels: Tensor
) -> None:
    found = FAB(EPS, 5, targets=2)(trained, images, labels)
    at_x = trained(images).argmax(1) != labels
    assert bool(found.wrong[at_x].all())
    assert torch.equal(found.x[at_x], images[at_x])


def test_fab_passes_and_waits_for_nothing(
    trained: nn.Module, images: Tensor, labels: Tensor
) -> None:
    with Engine(trained) as engine, Calls() as calls:
        FAB(EPS, 5, targets=2).run(engine, images[:4], labels[:4])
        assert (engine.forwards, engine.backwards) == (2 * 5 * 2 + 4, 5 * 2)
    assert calls.waiting == set()


def test_fab_says_what_is_expected() -> None:
    with pytest.raises(ValueError, match="steps must be an integer of at least 1"):
        FAB(steps=0)
    with pytest.raises(ValueError, match="targets must be an integer of at least 1"):
        FAB(targets=0)


# -------------------------------------------------------------------------------------- the package


def stand_in(z: Tensor) -> ModuleType:
    """A package whose attack runs the model forwards and backwards, draws, and gives z."""
    package = ModuleType("autoattack")

    class AutoAttack:
        def __init__(self, model: Any, **options: Any) -> None:
            self.model, self.options = model, options
            package.options = options  # type: ignore[attr-defined]

        def run_standard_evaluation(self, x: Tensor, y: Tensor, bs: int) -> Tensor:
            torch.manual_seed(self.options["seed"])
            torch.rand(3)
            probe = x.clone().requires_grad_()
            torch.autograd.grad(self.model(probe).sum(), probe)
            assert bs == len(x)
            return z

    package.AutoAttack = AutoAttack  # type: ignore[attr-defined]
    return package


def test_the_package_is_an_attack_like_the_others(
    trained: nn.Module, images: Tensor, labels: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    z = (images + 0.05).clamp(max=1)
    package = stand_in(z)
    monkeypatch.setitem(sys.modules, "autoattack", package)
    state = torch.random.get_rng_state()
    with Engine(trained) as engine:
        found = AutoAttackPackage(EPS, seed=3).run(engine, images, labels)
        assert (engine.forwards, engine.backwards) == (2, 1)
        assert (engine.forward_samples, engine.backward_samples) == (200, 100)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(found.x, z)
    assert torch.equal(found.wrong, trained(z).argmax(1) != labels)
    options = package.options
    assert (options["norm"], options["eps"], options["version"]) == ("Linf", EPS, "standard")
    AutoAttackPackage(EPS, version=("apgd-ce",))(trained, images, labels)
    assert package.options["version"] == "custom"
    assert package.options["attacks_to_run"] == ["apgd-ce"]
    assert len(AutoAttackPackage(EPS)(trained, images[:0], labels[:0]).x) == 0
    with pytest.raises(ValueError, match=r"x must be images \[B, C, H, W\]"):
        AutoAttackPackage(EPS)(trained, images.flatten(1), labels)
    with pytest.raises(ValueError, match="labels must be labels of 10 classes"):
        AutoAttackPackage(EPS)(trained, images, labels + 10)


@pytest.mark.parametrize(
    "version", ["Standard", "custom", (), ("apgd-ce", "pgd"), ("standard",), 5, (["apgd-ce"],)]
)
def test_a_version_that_the_package_has_not(version: str | tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"version.* must .* got"):
        AutoAttackPackage(EPS, version=version)


def test_without_the_package_the_remedy_is_named(
    trained: nn.Module, images: Tensor, labels: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "autoattack", None)
    with pytest.raises(ImportError, match=r"pip install git\+https://github.com/fra31/auto-attack"):
        AutoAttackPackage(EPS)(trained, images, labels)
