"""Labels that are no class: a sentence at every door, before anything is counted or computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from networks import images, linear
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from waiting import Calls

import rrfast
from rrfast import _reading, attacks, scores
from rrfast import objectives as training
from rrfast.scores.score import Point, Scored

CLASSES = 5


network = partial(linear, CLASSES)


@dataclass(frozen=True, eq=False)
class Foreign(scores.Score):
    """A score that does not say how many classes there are."""

    def measure(self, model: Any, x: Tensor, points: Sequence[Point]) -> Scored:
        logits = rrfast.engine.logits(model, x)
        value = logits.amax(dim=1).double()
        return Scored(value.expand(len(points), -1), logits.argmax(dim=1), 1.0, 0.0)


def _fit(score: Any) -> Callable[[nn.Module, Tensor, Tensor], object]:
    return lambda model, x, y: rrfast.SelectiveClassifier(model, score).fit([(x, y)], coverage=0.9)


def _tune(score: scores.Score) -> Callable[[nn.Module, Tensor, Tensor], object]:
    return lambda model, x, y: scores.tune(score, model, [(x, y)])


def _attack(attack: attacks.Attack) -> Callable[[nn.Module, Tensor, Tensor], object]:
    return attack


def _objective(objective: training.Objective) -> Callable[[nn.Module, Tensor, Tensor], object]:
    return objective.backward


LOADERS: dict[str, Callable[[nn.Module, Tensor, Tensor], object]] = {
    **{f"fit {score}": _fit(score) for score in ("msr", "odin", "radius_grad", "radius_fast")},
    "fit foreign": _fit(Foreign()),
    "tune": _tune(scores.DoctorAlpha()),
    "tune radius": _tune(scores.Radius()),
    "tune odin": _tune(scores.ODIN()),
    "tune foreign": _tune(Foreign()),
    "relu": lambda model, x, y: scores.RelU().fit(model, [(x, y)]),
}
ATTACKS: dict[str, Callable[[nn.Module, Tensor, Tensor], object]] = {
    **{
        name: _attack(make(eps=0.1))
        for name, make in attacks.ATTACKS.items()
        if name not in ("autoattack", "autoattack_package", "square", "fab_t", "apgd_t")
    },
    "square": _attack(attacks.Square(queries=3)),
    "apgd_t": _attack(attacks.APGD(loss="dlr", targets=2, steps=2)),
    "fab_t": _attack(attacks.FAB(steps=2, targets=2)),
    "autoattack": _attack(attacks.autoattack(steps=2, queries=3)),
    "sanity": attacks.sanity,
}
FAST = {"eps": 0.05, "steps": 2}
ADVERSARIAL: dict[str, training.Objective] = {
    "pgd_at": training.AdversarialTraining(**FAST),
    "gairat": training.GAIRAT(**FAST),
    "mail": training.MAIL(**FAST),
    "wmmr": training.WMMR(**FAST),
    "ewat": training.EWAT(**FAST),
    "ccat": training.CCAT(**FAST),
}
#: Those with a criterion that may leave labels out.
OF_LOSS: dict[str, Callable[..., training.Objective]] = {
    "standard": training.Standard,
    "rat": training.RAT,
    "rat pgd": partial(training.RAT, steps=3),
    "rat mixup": partial(training.RAT, mixup=1.0),
    "mixup": training.Mixup,
    "regmixup": training.RegMixup,
    "ceda": partial(training.CEDA, torch.rand_like),
    "acet": partial(training.ACET, torch.rand_like, steps=2),
}
OBJECTIVES = {
    **{name: _objective(objective) for name, objective in ADVERSARIAL.items()},
    **{name: _objective(make()) for name, make in OF_LOSS.items()},
}
DOORS = {**LOADERS, **ATTACKS, **OBJECTIVES}


@pytest.mark.parametrize("wrong", [255, CLASSES, -1, -100])
@pytest.mark.parametrize("name", DOORS)
def test_a_label_that_is_no_class_is_named(name: str, wrong: int) -> None:
    x, y = images(), torch.arange(8) % CLASSES
    y[3] = wrong
    argument = "labels" if name in ATTACKS else "y"
    with pytest.raises(ValueError, match=rf"{argument} must be labels .* and has {wrong} in row 3"):
        DOORS[name](network(), x, y)


def test_the_class_of_outliers_is_no_label() -> None:
    x, y = images(), torch.arange(8) % CLASSES
    objective = training.OpenMix(torch.rand_like)
    with pytest.raises(ValueError, match=r"y must be labels of 4 classes, .* and has 4 in row 4"):
        objective.backward(network(), x, y)
    assert objective.backward(network(), x, y % 4).isfinite()


@pytest.mark.parametrize("name", OF_LOSS)
def test_a_criterion_may_leave_labels_out(name: str) -> None:
    x, y = images(), torch.arange(8) % CLASSES
    y[3] = -100
    for criterion in (nn.CrossEntropyLoss(), partial(cross_entropy, ignore_index=-100)):
        assert OF_LOSS[name](criterion=criterion).backward(network(), x, y).isfinite()
    with pytest.raises(ValueError, match="has -100 in row 3"):
        OF_LOSS[name](criterion=nn.CrossEntropyLoss(ignore_index=255)).backward(network(), x, y)
    y[5] = CLASSES  # its row is that of the batch, with those that are left out
    with pytest.raises(ValueError, match=f"has {CLASSES} in row 5"):
        OF_LOSS[name](criterion=nn.CrossEntropyLoss()).backward(network(), x, y)


@pytest.mark.parametrize("name", [*ATTACKS, *OBJECTIVES])
def test_a_device_is_waited_for_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that counts as a device: looked at in the first call with a model alone."""
    monkeypatch.setattr(_reading, "is_on_host", lambda _: False)
    x, y = images(), torch.arange(8) % CLASSES
    with pytest.raises(ValueError, match="must be labels"):
        DOORS[name](network(), x, y + 1)
    model, looks = network(), []
    monkeypatch.setattr(rrfast.engine.engine, "check_labels", lambda *_: looks.append("attack"))
    monkeypatch.setattr(training.objective, "check_labels", lambda *_: looks.append("objective"))
    for _ in range(3):
        DOORS[name](model, x, y)
    assert len(looks) == 1


def test_labels_that_are_right_cost_no_pass() -> None:
    """Of a foreign score one, where no prediction is as high as a label."""
    x, y = images(), torch.zeros(8, dtype=torch.int64)
    model = network()
    passes = []
    model.register_forward_hook(lambda *_: passes.append(1))
    _fit("msr")(model, x, y)
    assert len(passes) == 1
    _fit(Foreign())(model, x, y)
    assert len(passes) == 2
    with Calls() as calls:
        _fit(Foreign())(model, x, y.bool())
    assert "addmm" in calls.names
