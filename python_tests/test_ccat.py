"""CCAT: targets that fade with the distance, halves of a batch, and the attack on other classes."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import networks
import pytest
import torch
from torch import Tensor, nn

from rrfast.attacks import PGD
from rrfast.objectives import CCAT, Standard

CLASSES = 4
ATTACK: dict[str, Any] = {"eps": 0.2, "steps": 6, "step_size": 0.3}


network = partial(networks.dense, CLASSES)


def batch(samples: int = 9) -> tuple[Tensor, Tensor]:
    return networks.batch((samples, 6), CLASSES)


def attacked(model: nn.Module, x: Tensor, y: Tensor, clean: int, **options: Any) -> Tensor:
    """The training batch, computed from the attack alone."""
    attack = PGD(loss="other", keep="loss", momentum=0.9, backtracking=1.5, **ATTACK | options)
    return torch.cat([x[:clean], attack(model, x[clean:], y[clean:]).x])


def literal(
    model: nn.Module, x: Tensor, y: Tensor, moved: Tensor, rho: float, eps: float, scale: float = 1
) -> float:
    """Alg. 1, sample by sample."""
    losses = []
    rows = zip(x.tolist(), moved.tolist(), model(moved).tolist(), y.tolist(), strict=True)
    for before, after, h, label in rows:
        distance = max(abs(a - b) / scale for a, b in zip(after, before, strict=True))
        g = 1 - (1 - min(1.0, distance / eps)) ** rho
        total = math.log(sum(math.exp(value) for value in h))
        target = [(1 - g) * (k == label) + g / len(h) for k in range(len(h))]
        losses.append(sum(t * (total - value) for t, value in zip(target, h, strict=True)))
    return sum(losses) / len(losses)


CASES = [
    ({}, 4, {}),
    ({"fraction": 1.0}, 0, {}),
    ({"fraction": 0.3, "rho": 3.0}, 6, {}),
    ({"bounds": None, "scale": 0.5}, 4, {"bounds": None, "scale": 0.5}),
]


@pytest.mark.parametrize(("options", "clean", "attack"), CASES)
def test_loss_and_gradient_are_the_literal_ones(
    options: dict[str, Any], clean: int, attack: dict[str, Any]
) -> None:
    model, (x, y) = network(), batch()
    moved = attacked(model, x, y, clean, **attack)
    rho, scale = options.get("rho", 10.0), options.get("scale", 1.0)

    def value() -> float:
        return literal(model, x, y, moved, rho, 0.2, scale)

    loss = CCAT(**ATTACK, **options, starts=["input"]).backward(model, x, y)
    # Some tens of float64 roundings, of distances that rho magnifies.
    assert loss.item() == pytest.approx(value(), rel=1e-12)
    for parameter in model.parameters():
        flat, gradient = parameter.detach().view(-1), parameter.grad.view(-1)
        for i in range(len(flat)):
            before, ends = flat[i].item(), []
            for sign in (1, -1):
                flat[i] = before + sign * 1e-5
                ends.append(value())
            flat[i] = before
            # 1e-10 of the third derivative, and 1e-16 / 1e-5 by rounding.
            assert gradient[i].item() == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-9)


def test_shares_count_as_they_are() -> None:
    """(1 - f) clean + f adversarial, of the parts' means; the released code swaps the shares."""
    model, (x, y) = network(), batch(8)
    moved = attacked(model, x, y, 6)
    clean, adversarial = (
        literal(model, x[part], y[part], moved[part], 10, 0.2)
        for part in (slice(0, 6), slice(6, 8))
    )
    loss = CCAT(**ATTACK, fraction=0.25, starts=["input"])(model, x, y)
    assert loss.item() == pytest.approx(0.75 * clean + 0.25 * adversarial, rel=1e-12)
    assert abs(clean - adversarial) > 0.01


def test_the_target_fades_from_the_label_to_nothing() -> None:
    """At d = 0 that of the label, from eps on uniform, and never rising between."""
    model, (x, y) = network(), batch(1)
    h = model(x).detach().expand(1, -1)
    label = nn.functional.cross_entropy(h, y).item()
    uniform = -h.log_softmax(1).mean().item()
    shares = []
    for length in (0.0, 1e-3, 0.02, 0.1, 0.2, 0.3):

        class Shifted(CCAT):
            def _share(self, x: Tensor, moved: Tensor, length: float = length) -> Tensor:
                return super()._share(x, x + length)

        objective = Shifted(**ATTACK, fraction=0.4)  # of one sample none is adversarial
        loss = objective(model, x, y).item()
        shares.append((loss - label) / (uniform - label))
    assert shares[0] == pytest.approx(0, abs=1e-14)
    assert shares[1:4] == pytest.approx([1 - (1 - d / 0.2) ** 10 for d in (1e-3, 0.02, 0.1)])
    assert shares[4:] == pytest.approx([1, 1])


def test_without_an_adversarial_part_it_is_standard_training() -> None:
    model, (x, y) = network(), batch(1)
    loss = CCAT(fraction=0.4)(model, x, y)
    assert loss.item() == pytest.approx(Standard()(model, x, y).item(), rel=1e-14)


def test_one_sample_is_adversarial_at_one_half() -> None:
    """The nearest whole number, and the larger of two as near."""
    model, (x, y) = network(), batch(1)
    loss = CCAT(**ATTACK, starts=["input"])(model, x, y)
    moved = attacked(model, x, y, 0)
    assert loss.item() == pytest.approx(literal(model, x, y, moved, 10, 0.2), rel=1e-12)


def test_a_class_that_cannot_be() -> None:
    """A logit of -inf has a share of no target at d = 0, and one of every other."""

    def without_last(z: Tensor) -> Tensor:
        return torch.cat([model(z)[:, :-1], torch.full((len(z), 1), -math.inf).double()], dim=1)

    model, (x, y) = network(), batch(6)
    y = y % (CLASSES - 1)
    loss = CCAT(**ATTACK, fraction=0.05).backward(without_last, x, y)
    assert loss.item() == pytest.approx(Standard()(without_last, x, y).item(), rel=1e-14)
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
    assert CCAT(**ATTACK, fraction=1.0)(without_last, x, y).item() == math.inf


def test_a_start_is_drawn_for_each_batch() -> None:
    """Seeded alike is alike; all three are drawn, and the image itself gives one loss."""
    model, (x, y) = network(), batch(8)
    objective, still = CCAT(eps=0.2, steps=1), CCAT(eps=0.2, steps=1, starts=["input"])
    at_image = still(model, x, y).item()
    losses = []
    for seed in range(12):
        pair = []
        for _ in range(2):
            torch.manual_seed(seed)
            pair.append(objective(model, x, y).item())
        assert pair[0] == pair[1]
        losses.append(pair[0])
    # Of 12 draws of three, all are of one or two kinds with probability 3 (2/3)^12 = 0.02; the
    # seeds are fixed.
    exact = [loss for loss in losses if loss == at_image]
    # "gaussian" begins within some 0.004 of the image, "uniform_norm" anywhere in the ball.
    assert 0 < len(exact) < 12
    assert len(set(losses)) == 12 - len(exact) + 1


class Watched(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = network()
        self.passes: list[tuple[bool, int]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.passes.append((self.training, len(x)))
        return self.network(x)


def test_the_adversarial_part_alone_is_attacked_in_eval_mode() -> None:
    model = Watched()
    CCAT(steps=5, fraction=0.25).backward(model, *batch(8))
    assert model.passes == [(False, 2)] * 6 + [(True, 8)]


def test_wrong_options() -> None:
    for options, sentence in (
        ({"eps": 0}, "eps must be finite and greater than 0, got 0"),
        ({"rho": 0}, "rho must be finite and greater than 0, got 0"),
        ({"fraction": 1.5}, "fraction must be greater than 0 and at most 1, got 1.5"),
        ({"starts": "input"}, "starts must be a list of at least one name, got 'input'"),
        ({"starts": 5}, "starts must be a list of at least one name, got 5"),
        ({"starts": []}, r"starts must be a list of at least one name, got \[\]"),
        ({"starts": ["here"]}, "start must be one of input, uniform"),
        ({"backtracking": 1}, "backtracking must be finite and greater than 1"),
    ):
        with pytest.raises(ValueError, match=sentence):
            CCAT(**options)  # type: ignore[arg-type]
