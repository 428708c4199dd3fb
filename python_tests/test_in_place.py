"""A model that changes its input: every entry point raises a sentence and leaves x unchanged."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rrfast
from rrfast import attacks, engine, objectives, scores
from rrfast.engine import in_place
from rrfast.methods import METHODS


def by_autograd(x: Tensor) -> Tensor:
    """As torchvision's Normalize(inplace=True)."""
    return x.mul_(0.5)


def in_no_grad(x: Tensor) -> Tensor:
    with torch.no_grad():
        return x.mul_(0.5)


def in_inference_mode(x: Tensor) -> Tensor:
    with torch.inference_mode():
        x.mul_(0.5)
    return x


def by_data(x: Tensor) -> Tensor:
    x.data.mul_(0.5)
    return x


def by_numpy(x: Tensor) -> Tensor:
    array = x.detach().numpy()
    array *= 0.5
    return x


WAYS = [by_autograd, in_no_grad, in_inference_mode, by_data, by_numpy]


class Changing(nn.Module):
    def __init__(self, way: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.way = way
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(48, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.way(x))


def batch() -> tuple[Tensor, Tensor]:
    x = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return x, torch.arange(6) % 4


Door = Callable[[nn.Module, Tensor, Tensor], object]


def accepting(model: nn.Module, x: Tensor) -> object:
    classifier = rrfast.SelectiveClassifier(model, "msr")
    classifier.threshold.fill_(0)
    return classifier(x)


DOORS: dict[str, Door] = {
    **{f"radius {m}": lambda f, x, _, m=m: rrfast.radius(f, x, method=m) for m in METHODS},
    "radius at two temperatures": lambda f, x, _: rrfast.radius(f, x, temperature=[1.0, 2.0]),
    "RadiusEstimator": lambda f, x, _: rrfast.RadiusEstimator(f)(x),
    "RadiusEstimator.predict": lambda f, x, _: rrfast.RadiusEstimator(f).predict([x]),
    "logits": lambda f, x, _: engine.logits(f, x),
    "MSR": lambda f, x, _: scores.MSR()(f, x),
    "ODIN": lambda f, x, _: scores.ODIN()(f, x),
    "Preprocessed": lambda f, x, _: scores.Preprocessed(scores.Energy(), 0.01)(f, x),
    "RelU.fit": lambda f, x, y: scores.RelU().fit(f, [(x, y)]),
    "tune": lambda f, x, y: scores.tune(scores.ODIN(), f, [(x, y)]),
    "tune_apart": lambda f, x, _: scores.tune_apart(scores.ODIN(), f, [x], [x]),
    "SelectiveClassifier": lambda f, x, _: accepting(f, x),
    "SelectiveClassifier.fit": lambda f, x, y: rrfast.SelectiveClassifier(f, "msr").fit(
        [(x, y)], coverage=0.5
    ),
    "PGD": attacks.PGD(),
    "APGD": attacks.APGD(steps=3),
    "FAB": attacks.FAB(steps=3),
    "Square": attacks.Square(queries=3),
    "autoattack": attacks.autoattack(steps=3, queries=3),
    "Distal": lambda f, x, _: attacks.Distal(steps=3)(f, x),
    "sanity": attacks.sanity,
    "RAT": lambda f, x, y: rrfast.RAT().backward(f, x, y),
    "RAT, called": rrfast.RAT(),
    "RAT with PGD": lambda f, x, y: rrfast.RAT(steps=3).backward(f, x, y),
    "RAT with Mixup": lambda f, x, y: rrfast.RAT(mixup=1.0).backward(f, x, y),
    "AdversarialTraining": lambda f, x, y: objectives.AdversarialTraining().backward(f, x, y),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("door", DOORS)
def test_every_door_gives_a_sentence(door: str, way: Callable[[Tensor], Tensor]) -> None:
    (x, y), model = batch(), Changing(way)
    kept = x.clone()
    with pytest.raises(ValueError, match="model must not change its input in place"):
        DOORS[door](model, x, y)
    assert torch.equal(x, kept)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "objective",
    [
        objectives.Standard(),
        objectives.Mixup(),
        objectives.RegMixup(),
        objectives.CEDA(lambda x: x),
    ],
    ids=lambda objective: type(objective).__name__,
)
def test_what_runs_x_once_trains_on_a_copy(
    objective: objectives.Objective, way: Callable[[Tensor], Tensor]
) -> None:
    x, y = batch()
    kept, model, expected = x.clone(), Changing(way), Changing(lambda x: x * 0.5)
    torch.manual_seed(1)
    loss = objective.backward(model, x, y)
    torch.manual_seed(1)
    assert torch.equal(loss, objective.backward(expected, x, y))
    assert torch.equal(x, kept)
    for mine, other in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(mine.grad, other.grad)


def test_a_change_in_a_later_forward_is_seen_too() -> None:
    """Its points belong to the method: x is unchanged, and no number is returned."""
    model, (x, _) = Changing(lambda x: x.mul_(0.5) if bool((x > 1).any()) else x), batch()
    kept = x.clone()
    with pytest.raises(ValueError, match="model must not change its input in place"):
        rrfast.radius(model, x, method="bs")
    assert torch.equal(x, kept)


def test_a_model_that_fails_halfway_leaves_x_too() -> None:
    def failing(x: Tensor) -> Tensor:
        x.mul_(0.5)
        raise OSError("the model's own")

    x, _ = batch()
    kept = x.clone()
    with pytest.raises(OSError, match="the model's own"):
        scores.MSR()(failing, x)
    assert torch.equal(x, kept)


def test_nan_in_x_is_no_change() -> None:
    model, (x, _) = Changing(lambda x: x), batch()
    x[0, 0, 0, 0] = math.nan
    radius = rrfast.radius(model, x)
    assert radius.isnan().tolist() == [True] + [False] * 5


def test_once_for_a_model_the_numbers_are_compared(monkeypatch: Any) -> None:
    """x is copied once per call, for every kind of call."""
    seen: list[str] = []
    alike, copies = in_place._alike, in_place._copies
    monkeypatch.setattr(in_place, "_alike", lambda *a: (seen.append("compared"), alike(*a))[1])
    monkeypatch.setattr(in_place, "_copies", lambda x: (seen.append("copied"), copies(x))[1])
    model, (x, _) = Changing(lambda x: x), batch()
    rrfast.radius(model, x, method="bs")
    assert seen == ["copied", "compared"]
    rrfast.radius(model, x, method="bs")
    assert seen == ["copied", "compared", "copied"]
