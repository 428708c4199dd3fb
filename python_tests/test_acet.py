"""CEDA and ACET: the loss, its gradient, the attack on noise, and noise from a recipe."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import networks
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from rrfast.attacks import PGD
from rrfast.objectives import ACET, CEDA

CLASSES = 4


network = partial(networks.dense, CLASSES)


def batch(samples: int = 8) -> tuple[Tensor, Tensor]:
    return networks.batch((samples, 6), CLASSES)


def negative(x: Tensor) -> Tensor:
    return 1 - x


def grey(x: Tensor) -> Tensor:
    """In [0.25, 0.75]."""
    return 0.75 - x / 2


def log_probabilities(h: list[float]) -> list[float]:
    total = math.log(sum(math.exp(value) for value in h))
    return [value - total for value in h]


def literal(model: nn.Module, x: Tensor, y: Tensor, z: Tensor, weight: float) -> float:
    """Eq. 1 and 3 at the noise z (errata 19)."""
    clean = [-log_probabilities(h)[k] for h, k in zip(model(x).tolist(), y.tolist(), strict=True)]
    outside = [max(log_probabilities(h)) for h in model(z).tolist()]
    return sum(clean) / len(clean) + weight * sum(outside) / len(outside)


def near(model: nn.Module, z: Tensor, **options: Any) -> Tensor:
    """The most confident of all iterates, computed from the attack alone."""
    return PGD(loss="confidence", keep="loss", origin=True, **options)(model, z).x


ATTACK: dict[str, Any] = {"eps": 0.2, "steps": 5, "step_size": 0.3, "start": "input"}
MADE: list[tuple[Callable[[], CEDA], Callable[[nn.Module, Tensor], Tensor]]] = [
    (lambda: CEDA(grey, weight=0.7), lambda _, z: z),
    (lambda: ACET(grey, weight=0.7, **ATTACK), lambda model, z: near(model, z, **ATTACK)),
    (
        lambda: ACET(grey, weight=0.7, **ATTACK, bounds=(0.25, 0.75), scale=0.5),
        lambda model, z: near(model, z, **ATTACK, bounds=(0.25, 0.75), scale=0.5),
    ),
]


@pytest.mark.parametrize(("make", "found"), MADE)
def test_loss_and_gradient_are_the_literal_ones(make: Any, found: Any) -> None:
    model, (x, y) = network(), batch()
    z = found(model, grey(x))
    objective = make()
    loss = objective.backward(model, x, y)
    # Some tens of float64 roundings.
    assert loss.item() == pytest.approx(literal(model, x, y, z, 0.7), rel=1e-13)
    for parameter in model.parameters():
        flat, gradient = parameter.detach().view(-1), parameter.grad.view(-1)
        for i in range(len(flat)):
            before, ends = flat[i].item(), []
            for sign in (1, -1):
                flat[i] = before + sign * 1e-5
                ends.append(literal(model, x, y, z, 0.7))
            flat[i] = before
            # 1e-10 of the third derivative, and 1e-16 / 1e-5 by rounding.
            assert gradient[i].item() == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-9)


def test_acet_is_above_ceda_and_goes_up_with_the_steps() -> None:
    model, (x, y) = network(), batch(32)
    ceda = CEDA(negative)(model, x, y)
    losses = [ACET(negative, eps=0.3, steps=steps)(model, x, y) for steps in (1, 4, 40)]
    assert ceda < losses[0] < losses[1] < losses[2]
    # Nothing to move: z itself, twice.
    assert ACET(negative, eps=0, steps=2)(model, x, y) == ceda


def test_restarts_are_those_of_the_attack() -> None:
    """Of several random starts the most confident point, sample by sample."""
    model, (x, y) = network(), batch(32)
    options: dict[str, Any] = {"eps": 0.3, "steps": 2, "step_size": 0.2, "start": "uniform"}

    def loss(restarts: int) -> float:
        torch.manual_seed(5)
        return ACET(negative, **options, restarts=restarts)(model, x, y).item()

    losses = [loss(restarts) for restarts in (1, 2, 8)]
    assert losses[0] < losses[1] < losses[2]
    watched = Watched()
    ACET(negative, steps=3, restarts=2).backward(watched, x, y)
    # The noise itself, twice three steps and a last point, and the training step.
    assert watched.passes == [(False, 32)] * 9 + [(True, 64)]
    with pytest.raises(ValueError, match="restarts"):
        ACET(negative, start="input", restarts=2)


def test_the_defaults_are_the_paper_s() -> None:
    attack = ACET(negative)._attack
    assert (attack.eps, attack.steps, attack.start) == (0.3, 40, "uniform_norm")
    assert attack.restarts == 1
    assert attack.step_size * attack.eps == pytest.approx(0.0075, rel=1e-15)
    assert (attack.loss, attack.keep, attack.origin) == ("confidence", "loss", True)


def test_at_the_optimum_nothing_pulls() -> None:
    """Uniform confidence on noise, where all classes tie for the maximum."""
    model, (x, y) = network(), batch()
    for parameter in model[2].parameters():
        nn.init.zeros_(parameter)
    quiet = CEDA(negative, weight=0).backward(model, x, y)
    before = model[2].weight.grad.clone()
    model.zero_grad()
    assert CEDA(negative, weight=3)(model, x, y).item() == pytest.approx(
        quiet.item() + 3 * math.log(1 / CLASSES), rel=1e-14
    )
    CEDA(negative, weight=3).backward(model, x, y)
    torch.testing.assert_close(model[2].weight.grad, before, rtol=0, atol=1e-15)


class Watched(nn.Module):
    """Notes mode and samples of every pass."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.network = nn.BatchNorm1d(6).double(), network()
        self.passes: list[tuple[bool, int]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.passes.append((self.training, len(x)))
        return self.network(self.norm(x))


def test_clean_and_noise_are_one_batch() -> None:
    model, (x, y) = Watched(), batch()
    ACET(negative, steps=3).backward(model, x, y)
    # The noise itself, three steps, the last point; then both in train mode.
    assert model.passes == [(False, 8)] * 5 + [(True, 16)]
    assert model.norm.num_batches_tracked == 1
    model.passes.clear()
    CEDA(negative).backward(model, x, y)
    assert model.passes == [(True, 16)]


def test_saturated_noise_in_half_precision() -> None:
    x, y = batch()

    def sure(x: Tensor) -> Tensor:
        h = torch.zeros(len(x), CLASSES, dtype=torch.bfloat16)
        h[:, 0] = 1000
        return h + 0 * x.sum().bfloat16()

    loss = CEDA(negative)(sure, x, torch.zeros_like(y))
    assert loss.item() == 0


def test_wrong_options() -> None:
    with pytest.raises(TypeError, match=r"noise must be a function of a batch .* got int"):
        CEDA(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="weight must be finite and at least 0, got -1"):
        ACET(negative, weight=-1)
    with pytest.raises(ValueError, match="steps must be an integer of at least 1, got 0"):
        ACET(negative, steps=0)
    with pytest.raises(ValueError, match="noise must have the shape of x"):
        CEDA(lambda x: x[:1])(network(), *batch())


# --------------------------------------------------------------------------------- from a recipe

DIGITS = ["training.epochs=1", "data.train=40", "data.validation=20", "objective.steps=2"]


def test_a_recipe_names_noise_of_its_images(tmp_path: Path) -> None:
    pytest.importorskip("lightning_fabric")
    pytest.importorskip("sklearn")
    from rrfast.data import SmoothedNoise
    from rrfast.train import load_recipe, train
    from rrfast.train.recipe import make_objective, make_task

    recipe = load_recipe("digits_acet", DIGITS)
    task = make_task(recipe)
    objective = make_objective(recipe, task.train)
    assert isinstance(objective, ACET)
    assert isinstance(objective.noise, SmoothedNoise)
    assert torch.equal(torch.as_tensor(objective.noise.images), task.train.x)
    losses = [
        train(recipe, tmp_path / name, console=Console(quiet=True)).history[0]["loss"]
        for name in ("one", "two")
    ]
    assert losses[0] == losses[1]
    with pytest.raises(ValueError, match=r"objective\.noise is made from training images in mem"):
        make_objective(recipe)
    wrong = load_recipe("digits_acet", [*DIGITS, "objective.noise={name: smooth_noise}"])
    with pytest.raises(ValueError, match="must be one of smoothed_noise, got 'smooth_noise'; did"):
        make_objective(wrong, task.train)


def test_images_in_files_have_no_noise(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("lightning_fabric")
    from rrfast.train import load_recipe, train

    for name in ("cat", "dog"):
        (tmp_path / "train" / name).mkdir(parents=True)
        image.new("RGB", (8, 8)).save(tmp_path / "train" / name / "0.png")
    changes = [f"data={{name: image_folder, train: '{tmp_path}/train', size: 8}}"]
    with pytest.raises(ValueError, match=r"data 'image_folder' has none there"):
        train(load_recipe("digits_acet", changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()
