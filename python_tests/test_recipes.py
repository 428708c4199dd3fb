"""Recipes and `rrfast train`: what a file may say, what comes of it, and the sentences."""

from __future__ import annotations

import csv
import errno
import inspect
import math
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from forked import environment
from rich.console import Console

pytest.importorskip("lightning_fabric")
pytest.importorskip("sklearn")

from rrfast import _checksummed, cli
from rrfast.data import Outliers, Released, Split, tasks
from rrfast.evaluate.trained_model import _outliers
from rrfast.models import FirstClasses, load_model
from rrfast.objectives import (
    ACET,
    CCAT,
    MAIL,
    OBJECTIVES,
    RAT,
    Mixup,
    OpenMix,
    RegMixup,
    Standard,
)
from rrfast.train import (
    Augment,
    Recipe,
    Training,
    dump_recipe,
    load_recipe,
    load_trained,
    parse_options,
    recipes,
    train,
    variant,
)
from rrfast.train.recipe import make_objective, make_task
from rrfast.train.recipe_file import RECIPES
from rrfast.train.schedule import make_optimizer, make_schedule

NAMES = recipes()
QUIET = Console(quiet=True)
#: Tenths of a second.
SHORT = ["training.epochs=2", "data.train=60", "data.validation=40", "training.batch_size=20"]


def listing(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def command(*arguments: object, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = cli.main(["train", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


# ---------------------------------------------------------------------------- those that come along


@pytest.fixture
def outliers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Random images in place of those that do not come along, and where they were to be."""
    read = []

    def release(path: str, *, size: int = 32, **_: object) -> Outliers:
        read.append(path)
        return Outliers(torch.rand(5, 3, size, size))

    monkeypatch.setattr(tasks, "random_images", release)
    monkeypatch.setattr(tasks, "folder_images", release)
    return read


@pytest.mark.parametrize("name", NAMES)
def test_recipes_parse_and_their_objectives_build(name: str, outliers: list[str]) -> None:
    recipe = load_recipe(name)
    objective: Any = make_objective(recipe, Split(torch.rand(2, 1, 8, 8), torch.zeros(2).long()))
    kinds = {"rat": RAT, "mail": MAIL, "acet": ACET, "ccat": CCAT, "standard": Standard}
    kinds |= {"mixup": Mixup, "regmixup": RegMixup, "openmix": OpenMix}
    assert type(objective) is kinds[recipe.objective["name"]]
    for option, value in recipe.objective.items():
        if option not in ("name", "noise", "outliers"):
            assert getattr(objective, option) == value
    assert len(outliers) == ("outliers" in recipe.objective)
    if "epochs" in vars(objective):
        assert objective.epochs == recipe.training.epochs


@pytest.mark.parametrize("name", NAMES)
def test_recipes_written_and_read_are_the_same(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(recipe), encoding="utf-8")
    assert load_recipe(path) == recipe
    for field in msgspec.structs.fields(Training):
        assert f"  {field.name}:" in dump_recipe(recipe)


def test_a_recipe_that_extends_another(tmp_path: Path) -> None:
    """What it leaves out is the other's, in each mapping; the rest is its own."""
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "extends: cifar10_irat_resnet18  # which extends another itself\n"
        "objective: {tau: 5}\n"
        "training: {augment: {flip: false}, milestones: [3, 4]}\n"
    )
    changes = ["objective.tau=5", "training.augment.flip=false", "training.milestones=[3, 4]"]
    recipe = load_recipe(mine, ["training.epochs=9"])
    assert recipe == load_recipe("cifar10_irat_resnet18", [*changes, "training.epochs=9"])
    assert (recipe.training.weight_decay, recipe.objective["warmup"]) == (3.5e-3, 75)
    assert recipe.training.augment == Augment(padding=4, flip=False)


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("cifar100_")])
def test_what_is_other_on_cifar100(name: str) -> None:
    """The recipe differs from that of CIFAR-10 in the data, the model, and what its paper says."""
    ours, theirs = (load_recipe(n) for n in (name, name.replace("100", "10", 1)))
    assert ours.data == {**theirs.data, "name": "cifar100", "folder": "data/cifar-100-binary"}
    assert ours.model.name == theirs.model.name.replace("cifar10", "cifar100")
    other = {k: v for k, v in ours.objective.items() if theirs.objective[k] != v}
    assert other == {"cifar100_regmixup": {"alpha": 10}, "cifar100_irat_resnet18": {"tau": 3}}.get(
        name, {}
    )
    assert (ours.training == theirs.training) == (name != "cifar100_rat")


@pytest.mark.parametrize(
    ("name", "epochs", "batch", "rate", "alpha"),
    [
        ("cifar10_rat", 500, 128, 0.2, 1.0),
        ("cifar100_rat", 360, 256, 0.1, 1.0),
        ("imagenet_rat", 80, 1024, 0.5, 0.2),
    ],
)
def test_the_paper_s_numbers(name: str, epochs: int, batch: int, rate: float, alpha: float) -> None:
    """RAT B.2."""
    recipe = load_recipe(name)
    training = recipe.training
    assert (training.epochs, training.batch_size, training.learning_rate) == (epochs, batch, rate)
    assert (training.optimizer, training.momentum, training.warmup_epochs) == ("sgd", 0.9, 5)
    assert (recipe.objective["eps"], recipe.objective["mixup"]) == (0.001, alpha)
    objective = make_objective(recipe)
    assert isinstance(objective, RAT)
    assert (objective.mode, objective.steps, objective.mixup) == ("rat", 1, alpha)


#: In `path` or `folder` of a recipe's outliers.
RANDOM_IMAGES, PLACES = "data/300K_random_images.npy", "data/places365/train"


@pytest.mark.parametrize(
    ("name", "options", "places"),
    [
        ("cifar10_rat", {"alpha": 20.0}, RANDOM_IMAGES),
        ("cifar100_rat", {"alpha": 10.0}, RANDOM_IMAGES),
        ("imagenet_rat", {}, PLACES),
    ],
)
def test_what_rat_compares_with(
    name: str, options: dict[str, float], places: str, outliers: list[str]
) -> None:
    """Tables 2, B.2 and 3: each has its own paper's options, and the recipe's training."""
    recipe = load_recipe(name)
    assert variant(recipe, "regmixup", 0).objective == {"name": "regmixup", **options}
    openmix = variant(recipe, "openmix", 0)
    objective = make_objective(openmix)
    assert isinstance(objective, OpenMix)
    assert (objective.alpha, objective.weight) == (10, 1)
    assert outliers == [places]
    mixup = make_objective(variant(recipe, "mixup", 0))
    assert isinstance(mixup, Mixup)
    assert (mixup.alpha, mixup.mixup_off_epochs) == (recipe.objective["mixup"], 0)
    for one in ("standard", "mixup", "regmixup", "openmix", "rat_mixup"):
        assert variant(recipe, one, 0).training == recipe.training


@pytest.mark.parametrize(
    ("name", "batch", "rate", "decay", "alpha"),
    [
        ("cifar10_openmix", 128, 0.1, 5e-4, 10),
        ("cifar100_openmix", 128, 0.1, 5e-4, 10),
        ("imagenet_openmix", 6 * 256, 0.1 * 6, 1e-4, 10),
        ("cifar10_regmixup", 128, 0.1, 5e-4, 20),
        ("cifar100_regmixup", 128, 0.1, 5e-4, 10),
        ("imagenet_regmixup", 1024, 0.4, 1e-4, 10),
        ("cifar10_mixup", 128, 0.1, 1e-4, 1),
        ("cifar100_mixup", 128, 0.1, 1e-4, 1),
        ("imagenet_mixup", 1024, 0.4, 1e-4, 0.2),
    ],
)
def test_the_baselines_own_numbers(
    name: str, batch: int, rate: float, decay: float, alpha: float, outliers: list[str]
) -> None:
    """Of half the loss, as RegMixup is released, SGD takes twice the rate and half the decay."""
    recipe = load_recipe(name)
    training = recipe.training
    half = 0.5 if name.endswith("regmixup") else 1
    assert (training.optimizer, training.momentum, training.batch_size) == ("sgd", 0.9, batch)
    assert training.learning_rate == pytest.approx(rate * half, rel=1e-12)
    assert training.weight_decay == decay / half
    assert training.nesterov == (name in ("cifar10_regmixup", "cifar100_regmixup"))
    objective: Any = make_objective(recipe)
    assert objective.alpha == alpha
    assert getattr(objective, "weight", 1) == 1
    assert getattr(objective, "mixup_off_epochs", 0) == 0
    places = PLACES if name.startswith("imagenet") else RANDOM_IMAGES
    assert outliers == ([places] if name.endswith("openmix") else [])


@pytest.mark.parametrize(
    ("name", "rate", "decay", "tau"),
    [
        ("cifar10_irat", 0.1, 0.5e-4, 2),
        ("cifar100_irat", 0.1, 0.5e-4, 2),
        ("cifar10_irat_resnet18", 0.01, 3.5e-3, 2),
        ("cifar100_irat_resnet18", 0.01, 3.5e-3, 3),
    ],
)
def test_irat_s_numbers(name: str, rate: float, decay: float, tau: float) -> None:
    """4.1."""
    recipe = load_recipe(name)
    training, objective = recipe.training, make_objective(recipe)
    assert (training.epochs, training.batch_size, training.momentum) == (120, 128, 0.9)
    assert (training.learning_rate, training.weight_decay) == (rate, decay)
    assert isinstance(objective, MAIL)
    assert (objective.eps, objective.steps, objective.step_size) == (8 / 255, 10, 0.25)
    assert (objective.gamma, objective.beta, objective.factor) == (10, 0.5, 3)
    assert (objective.tau, objective.warmup, objective.similarity) == (tau, 75, True)
    # Appendix E; and from the first weights on.
    attack = training.validation_attack
    assert attack is not None
    assert (attack.eps, attack.steps, attack.step_size) == (8 / 255, 20, 0.25)
    assert (attack.first, attack.every) == (objective.warmup, 1)


@pytest.mark.parametrize(
    "name", [name for name in NAMES if name.endswith("_acet") and name != "digits_acet"]
)
def test_acet_s_numbers(name: str) -> None:
    """Appendix F; of half the loss SGD takes twice the rate, and all take half the decay."""
    recipe = load_recipe(name)
    options = recipe.objective
    assert options["eps"] * options["step_size"] == pytest.approx(0.0075)
    assert (options["eps"], options["steps"], options["weight"]) == (0.3, 40, 1)
    rate, half = (1e-3, 1) if recipe.training.optimizer == "adam" else (0.1, 0.5)
    for one, size in (("acet", 0.5), ("ceda", 0.5), ("standard", 1)):
        training = variant(recipe, one, 0).training
        assert (training.epochs, training.batch_size) == (100, 128)
        assert training.learning_rate == (rate if one == "standard" else rate * half)
        assert training.weight_decay == 2 * 5e-4 / size
        assert training.weight_decay_on == "weights"


@pytest.mark.parametrize("data", ["cifar10", "cifar100"])
def test_odin_s_numbers(data: str) -> None:
    """4.1."""
    for net, epochs, batch in (("densenet", 300, 64), ("wrn", 200, 128)):
        training = load_recipe(f"{data}_{net}_odin").training
        assert (training.epochs, training.batch_size) == (epochs, batch)
        assert (training.learning_rate, training.momentum, training.nesterov) == (0.1, 0.9, True)
        assert training.milestones == (epochs // 2, epochs * 3 // 4)


def test_ccat_s_numbers() -> None:
    """Of the released code, whose optimizer has no weight decay."""
    recipe = load_recipe("cifar10_ccat")
    training, objective = recipe.training, make_objective(recipe)
    assert (training.epochs, training.batch_size, training.momentum) == (200, 100, 0.9)
    assert (training.learning_rate, training.weight_decay) == (0.075, 0)
    assert isinstance(objective, CCAT)
    assert (objective.eps, objective.rho, objective.fraction) == (0.03, 10, 0.5)
    assert (objective.steps, objective.momentum, objective.backtracking) == (40, 0.9, 1.5)
    assert objective.eps * objective.step_size == pytest.approx(0.005)


def cosine(epochs: int, rate: float) -> dict[int, float]:
    """After five epochs of warm-up, and at the last epoch."""
    return {5: rate, epochs - 1: rate / 2 * (1 + math.cos(math.pi * (epochs - 6) / (epochs - 5)))}


#: Learning rates after so many epochs, of every recipe with a paper's settings.
RATES = {
    "cifar10_rat": cosine(500, 0.2),
    "cifar100_rat": cosine(360, 0.1),
    "imagenet_rat": cosine(80, 0.5),
    "cifar10_irat cifar100_irat": {
        0: 0.1,
        1: 0.1,
        74: 0.1,
        75: 0.01,
        89: 0.01,
        90: 1e-3,
        99: 1e-3,
        100: 1e-4,
        119: 1e-4,
    },
    "cifar10_irat_resnet18 cifar100_irat_resnet18": {
        0: 0.01,
        1: 0.01,
        74: 0.01,
        75: 1e-3,
        89: 1e-3,
        90: 1e-4,
        99: 1e-4,
        100: 1e-5,
        119: 1e-5,
    },
    "cifar10_acet cifar100_acet svhn_acet": {
        0: 0.05,
        1: 0.05,
        49: 0.05,
        50: 5e-3,
        74: 5e-3,
        75: 5e-4,
        89: 5e-4,
        90: 5e-5,
        99: 5e-5,
    },
    "mnist_acet fashion_acet": {
        0: 1e-3,
        49: 1e-3,
        50: 1e-4,
        75: 1e-5,
        89: 1e-5,
        90: 1e-6,
        99: 1e-6,
    },
    "cifar10_densenet_odin cifar100_densenet_odin": {
        0: 0.1,
        149: 0.1,
        150: 0.01,
        224: 0.01,
        225: 1e-3,
        299: 1e-3,
    },
    "cifar10_wrn_odin cifar100_wrn_odin": {
        0: 0.1,
        99: 0.1,
        100: 0.01,
        149: 0.01,
        150: 1e-3,
        199: 1e-3,
    },
    "cifar10_ccat": {n: 0.075 * 0.95**n for n in (0, 1, 74, 75, 90, 100, 199)},
    "cifar10_openmix cifar100_openmix": {
        0: 0.1,
        99: 0.1,
        100: 0.01,
        149: 0.01,
        150: 1e-3,
        199: 1e-3,
    },
    "cifar10_regmixup cifar100_regmixup": {
        0: 0.05,
        149: 0.05,
        150: 5e-3,
        249: 5e-3,
        250: 5e-4,
        349: 5e-4,
    },
    "cifar10_mixup cifar100_mixup": {
        0: 0.1,
        59: 0.1,
        60: 0.01,
        119: 0.01,
        120: 1e-3,
        179: 1e-3,
        180: 1e-4,
        199: 1e-4,
    },
    "imagenet_openmix": {5: 0.6, 29: 0.6, 30: 0.06, 60: 6e-3, 79: 6e-3, 80: 6e-4, 89: 6e-4},
    "imagenet_mixup": {5: 0.4, 29: 0.4, 30: 0.04, 60: 4e-3, 79: 4e-3, 80: 4e-4, 89: 4e-4},
    "imagenet_regmixup": {5: 0.2, 29: 0.2, 30: 0.02, 60: 2e-3, 79: 2e-3, 80: 2e-4, 89: 2e-4},
}
#: Small data of our own, with settings of our own.
OURS = {name for name in NAMES if name.startswith(("digits_", "synthetic_", "fashion_"))}
PAPERS = [name for name in NAMES if name not in OURS - {"fashion_acet"}]


@pytest.mark.parametrize("name", PAPERS)
def test_the_papers_learning_rates(name: str) -> None:
    [rates] = [dict(rates) for names, rates in RATES.items() if name in names.split()]
    training, steps = load_recipe(name).training, 3
    optimizer = make_optimizer(torch.nn.Linear(2, 2), training)
    schedule = make_schedule(optimizer, training, steps)
    for step in range(training.epochs * steps):
        epoch, within = divmod(step, steps)
        if within == 0 and epoch in rates:
            assert optimizer.param_groups[0]["lr"] == pytest.approx(rates.pop(epoch), rel=1e-9)
        optimizer.step()
        schedule.step()
    assert not rates


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cifar10_rat", "Momentum, weight decay and augmentation are not said"),
        ("cifar100_rat", "Momentum and weight decay are not said"),
        ("imagenet_rat", "does not say how its images are cropped; Momentum and weight decay"),
        ("cifar10_irat", "augment: {padding: 4, flip: true} # not said; the epochs that count"),
        ("cifar10_acet", "Batch size and momentum are not said; by how much is not said"),
        ("cifar100_acet", "whose learning rate the paper says for SVHN and CIFAR-10 alone"),
        ("fashion_acet", "batch size is not said; by how much is not said"),
        (
            "cifar10_ccat",
            "a weight decay of 1e-3, which its optimizer does not get; here it is crops",
        ),
        ("cifar10_densenet_odin", "Weight decay, dropout (none) and augmentation are those of the"),
        ("cifar10_mixup", "Momentum and augmentation are of that code"),
        ("imagenet_mixup", "Momentum and weight decay are not said; random crops of any size"),
        ("imagenet_regmixup", "both are ours"),
    ],
)
def test_what_a_paper_leaves_open_has_a_comment(name: str, words: str) -> None:
    file = RECIPES.joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    comments = " ".join(re.sub(r"^# ", "", file, flags=re.MULTILINE).split())
    for part in words.split("; "):
        assert part in comments


def test_digits_learn(tmp_path: Path) -> None:
    """Half of its epochs are enough for nine out of ten: chance is one."""
    fitted = train(load_recipe("digits_rat", ["training.epochs=15"]), tmp_path, console=QUIET)
    assert fitted.history[-1]["validation_accuracy"] > 0.85
    assert fitted.history[-1]["learning_rate"] == 0
    trained = load_trained(tmp_path, "best")
    assert trained.recipe.model.classes == 10
    assert not trained.model.training


def test_synthetic_runs(tmp_path: Path) -> None:
    pytest.importorskip("pytorchcv")
    changes = ["training.epochs=1", "data.train=32", "data.validation=16", "data.test=1"]
    changes += ["training.batch_size=16", "training.warmup_epochs=0"]
    fitted = train(load_recipe("synthetic_rat", changes), tmp_path, console=QUIET)
    assert math.isfinite(fitted.history[0]["loss"])


#: Recipes of data that do not come along, and the shape and classes of these.
RELEASES = {
    "cifar10": ((3, 32, 32), 10),
    "cifar100": ((3, 32, 32), 100),
    "svhn": ((3, 32, 32), 10),
    "mnist": ((1, 28, 28), 10),
    "fashion_mnist": ((1, 28, 28), 10),
}


@pytest.mark.parametrize(
    "name", [name for name in NAMES if load_recipe(name).data["name"] in RELEASES]
)
def test_a_few_steps_with_the_network_of_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, outliers: list[str]
) -> None:
    """On random images of the shape of the release, and random outliers of their shape."""
    pytest.importorskip("pytorchcv")
    data = load_recipe(name).data["name"]
    shape, classes = RELEASES[data]
    generator = torch.Generator().manual_seed(0)
    read = []

    def split(n: int) -> Split:
        x = torch.rand(n, *shape, generator=generator)
        return Split(x, torch.randint(classes, (n,), generator=generator))

    def release(folder: str | None) -> Released:
        read.append(folder)
        # Of the recipes of CIFAR-100, which are those of CIFAR-10 but for the data, one step.
        return Released(split(2 if data == "cifar100" else 4), split(4))

    monkeypatch.setitem(tasks.TASKS, data, tasks.release_task(release, classes))
    # Gigabytes for all recipes, and written as those of any network, which other tests read.
    monkeypatch.setattr(_checksummed, "write_state", lambda *_: None)
    changes = ["data.train=null", "data.validation=2", "data.folder=here", "training.epochs=1"]
    changes += ["training.batch_size=2", "training.warmup_epochs=0"]
    recipe = load_recipe(name, changes)
    known = {"steps": 1, "warmup": 0, "mixup_off_epochs": 0}
    shorter = {key: known.get(key, value) for key, value in recipe.objective.items()}
    fitted = train(msgspec.structs.replace(recipe, objective=shorter), tmp_path, console=QUIET)
    assert read == ["here"]
    assert math.isfinite(fitted.history[0]["loss"])
    assert len(outliers) == ("outliers" in recipe.objective)
    assert fitted.model(split(2).x).shape == (2, classes + len(outliers))
    if recipe.model.normalize is not None:
        assert fitted.model[0].std.tolist() == pytest.approx([0.2023, 0.1994, 0.2010])


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("imagenet_")])
def test_a_few_steps_on_folders_of_photographs(tmp_path: Path, name: str) -> None:
    """As ImageNet's, of any size and shape; with the recipe's network, if torchvision is there."""
    image = pytest.importorskip("PIL.Image")
    for folder, n in (
        ("train/a", 3),
        ("train/b", 3),
        ("val/a", 2),
        ("val/b", 2),
        ("places/x/y", 3),
    ):
        (tmp_path / folder).mkdir(parents=True)
        for i in range(n):
            size = (260 + 30 * i, 300 - 40 * i)
            image.new("RGB", size, (60 * i, 90, 120)).save(tmp_path / folder / f"{i}.JPEG")
    changes = [f"data.train={tmp_path}/train", f"data.test={tmp_path}/val", "data.validation=2"]
    changes += ["training.epochs=1", "training.batch_size=2", "training.warmup_epochs=0"]
    changes += ["training.workers=0", "model.weights=null"]
    if find_spec("torchvision") is None:
        changes.append("model.name=rrfast.models:synthetic_cnn")
    if name == "imagenet_openmix":
        changes.append(f"objective.outliers.folder={tmp_path}/places")
    if name == "imagenet_rat":
        changes.append("objective.mixup_off_epochs=0")
    fitted = train(load_recipe(name, changes), tmp_path / "out", console=QUIET)
    assert math.isfinite(fitted.history[0]["loss"])
    assert fitted.model(torch.rand(1, 3, 224, 224)).shape == (1, 2 + (name == "imagenet_openmix"))


def test_cifar_is_validated_on_a_part_of_the_test_images(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.arange(30.0).reshape(30, 1, 1, 1).expand(-1, 3, 32, 32)
    data = Released(Split(x, torch.zeros(30).long()), Split(x, torch.zeros(30).long()))
    cifar10 = tasks.release_task(lambda _folder: data, 10, released=True)
    task = cifar10("here", seed=1, validation=10)
    again = cifar10("here", seed=1, validation=10)
    assert task.validation is not None
    assert again.validation is not None
    assert task.test is not None
    parts = [split.x[:, 0, 0, 0].tolist() for split in (task.validation, task.test)]
    assert (len(parts[0]), len(parts[1])) == (10, 20)
    assert sorted(parts[0] + parts[1]) == list(range(30))
    # Where CIFAR-10-C has them; CIFAR-100's test images are others.
    assert task.released is not None
    assert task.released.tolist() == [int(place) for place in parts[1]]
    assert tasks.release_task(lambda _folder: data, 100)("here", validation=10).released is None
    assert torch.equal(task.validation.x, again.validation.x)
    assert cifar10("here", validation=0).validation is None
    with pytest.raises(ValueError, match="validation must leave some of the 30 test images"):
        cifar10("here", validation=30)


# ---------------------------------------------------------------------------------- images in files


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    image = pytest.importorskip("PIL.Image")
    for part, n in (("train", 6), ("val", 3)):
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(n):
                colour = (40 * i, 120 * label, 90)
                image.new("RGB", (12, 10), colour).save(tmp_path / part / name / f"{i}.png")
    return tmp_path


def in_folders(folders: Path, *changes: str) -> Recipe:
    recipe = folders / "recipe.yaml"
    recipe.write_text(
        "model: {name: 'rrfast.models:synthetic_cnn', normalize: imagenet}\n"
        f"data: {{name: image_folder, train: '{folders}/train', validation: '{folders}/val', "
        "size: 8}\n"
        "objective: {name: rat}\n"
        "training: {epochs: 2, batch_size: 4, workers: 2, augment: {padding: 1}, "
        "channels_last: true}\n",
        encoding="utf-8",
    )
    return load_recipe(recipe, changes)


def test_images_from_files_by_workers(folders: Path) -> None:
    fitted = train(in_folders(folders), folders / "out", console=QUIET)
    alone = train(in_folders(folders, "training.workers=0"), folders / "alone", console=QUIET)
    for mine, theirs in zip(fitted.model.parameters(), alone.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert load_trained(folders / "out").model(torch.rand(1, 3, 8, 8)).shape == (1, 2)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_is_no_image(
    folders: Path, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    in_folders(folders)
    (folders / "train" / "dog" / "3.png").write_bytes(b"no image")
    code, _, err = command(
        folders / "recipe.yaml", "--out", folders / "out", "--set", f"training.workers={workers}",
        capsys=capsys,
    )  # fmt: skip
    assert code == 2
    assert err.startswith(f"rrfast: {folders}/train/dog/3.png cannot be read as an image: ")
    assert len(err.splitlines()) == 1


def test_outliers_from_files(folders: Path) -> None:
    """Drawn by the seed of the step, whoever reads them; how many there are is written down."""
    changes = ["objective={name: openmix, outliers: {name: image_folder, size: 8}}"]
    changes += [f"objective.outliers.folder={folders}/train", "training.epochs=1"]
    recipes = [in_folders(folders, *changes, f"training.workers={n}") for n in (0, 2)]
    alone, together = (
        train(recipe, folders / f"out{i}", console=QUIET) for i, recipe in enumerate(recipes)
    )
    for mine, theirs in zip(alone.model.parameters(), together.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    model, recipe = load_trained(folders / "out0")
    assert isinstance(model, FirstClasses)
    assert recipe.objective["outliers"]["n"] == 12
    assert _outliers(recipe) == 12
    assert _outliers(recipes[0]) is None
    # Workers are free.
    faster = msgspec.structs.replace(
        recipe, training=msgspec.structs.replace(recipe.training, workers=2)
    )
    assert len(train(faster, folders / "out0", resume=True, console=QUIET).history) == 1
    (folders / "train" / "cat" / "0.png").unlink()
    sentence = "folder must have n=12 images below it, .* has 11"
    with pytest.raises(ValueError, match=sentence):
        train(recipe, folders / "out0", resume=True, console=QUIET)


def test_fewer_images_of_a_folder(folders: Path) -> None:
    """As of the other data: at random by the seed, in their order, the more holding the fewer."""
    options = {"train": str(folders / "train"), "test": str(folders / "val"), "size": 8}
    whole, *some, other = (
        tasks.image_folder_task(**options, seed=seed, train_images=n)
        for n, seed in ((None, 3), (5, 3), (8, 3), (5, 4))
    )
    files = [part.train.files for part in (whole, *some, other)]
    assert [len(names) for names in files] == [12, 5, 8, 5]
    assert set(files[1]) < set(files[2]) < set(files[0])
    assert files[1] == sorted(files[1])
    assert files[3] != files[1]
    for part in some:
        assert part.train.classes == ["cat", "dog"]
        for i, name in enumerate(part.train.files):
            x, y = part.train[i]
            assert torch.equal(x, whole.train[files[0].index(name)][0])
            assert y == int(part.train.y[i]) == ["cat", "dog"].index(name.split("/")[0])
        assert part.test.files == whole.test.files
    for n, sentence in (
        (13, "at most the 12 images there are, got 13"),
        (-1, "integer of at least 0"),
    ):
        with pytest.raises(ValueError, match=f"train_images must be .*{sentence}"):
            tasks.image_folder_task(**options, train_images=n)
    recipe = in_folders(folders, "data.train_images=6", "training.workers=0", "data.seed=-1")
    assert len(train(recipe, folders / "out", console=QUIET).history) == 2


@pytest.mark.parametrize("name", ["digits", "synthetic"])
@pytest.mark.parametrize("n", [-1, 1.5, "x", True])
def test_of_all_data_a_number_is_asked_for_alike(name: str, n: object) -> None:
    with pytest.raises(ValueError, match=f"train must be an integer of at least 0, got {n!r}"):
        tasks.TASKS[name](train=n)


def test_folders_of_other_classes(folders: Path) -> None:
    (folders / "val" / "dog").rename(folders / "val" / "cow")
    with pytest.raises(ValueError, match=r"validation must have the classes of train, 2 .* cow, d"):
        train(in_folders(folders), folders / "out", console=QUIET)
    assert not (folders / "out").exists()


# -------------------------------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[subprocess.CompletedProcess[str], Path]:
    out = tmp_path_factory.mktemp("train") / "made" / "here"
    arguments = [
        "train",
        "digits_rat",
        "--out",
        str(out),
        "--set",
        *SHORT,
        "--set",
        "objective.eps=5e-2",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "rrfast", *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    return done, out


def test_the_command(trained: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    done, out = trained
    assert done.returncode == 0, done.stderr
    names = ["best.pt", "checkpoint.pt", "last.pt", "log.csv", "recipe.yaml"]
    assert sorted(path.name for path in out.iterdir()) == names
    *epochs, written = done.stdout.splitlines()
    assert [line[:12] for line in epochs] == ["epoch 1 of 2", "epoch 2 of 2"]
    assert written.startswith(f"Written to {out}: last.pt, best.pt (epoch ")
    with (out / "log.csv").open(newline="", encoding="utf-8") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1"]


def test_the_recipe_that_is_left_is_the_one_that_ran(
    trained: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    recipe = load_recipe(trained[1] / "recipe.yaml")
    assert recipe.objective == {"name": "rat", "eps": 0.05}
    assert recipe.training == load_recipe("digits_rat", SHORT).training
    assert recipe.model.classes == 10
    again = train(recipe, trained[1], resume=True, console=QUIET)
    assert again.model(torch.rand(1, 1, 8, 8)).shape == (1, 10)


def test_begun_already_and_of_another_recipe(
    trained: tuple[subprocess.CompletedProcess[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    out = trained[1]
    before = listing(out)
    changes = ["--set", *SHORT, "objective.eps=5e-2"]
    for arguments, code, sentence in (
        (changes, 1, "holds a training already: resume it, or give another folder"),
        (
            [*changes, "objective.eps=0.1", "--resume"],
            2,
            "objective is {'name': 'rat', 'eps': 0.05}",
        ),
        ([*changes, "data.noise=0.2", "--resume"], 2, "is of another training: data is"),
        (
            [*changes, "model.name=rrfast.models:synthetic_cnn", "--resume"],
            2,
            "model is Model(name=",
        ),
        ([*changes, "training.seed=3", "--resume"], 2, "training.seed is 0 there and 3 here"),
    ):
        found, _, err = command("digits_rat", "--out", out, *arguments, capsys=capsys)
        assert found == code
        assert sentence in err
        assert len(err.splitlines()) == 1
        assert listing(out) == before


def test_without_a_recipe_the_names(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = command(capsys=capsys)
    assert (code, err) == (0, "")
    assert out.splitlines() == NAMES
    assert "digits_rat" in NAMES


DIGITS = """
model: {name: "rrfast.models:digits_cnn"}
data: {name: digits, train: 60, validation: 40}
objective: {name: rat}
training: {epochs: 1, batch_size: 20}
"""


@pytest.mark.parametrize(
    ("text", "changes", "sentence"),
    [
        ("model: [", [], "is no YAML: "),
        (
            "",
            [],
            "yaml: it must be a mapping with model, data, objective, training, variants, got None",
        ),
        (
            "- model",
            [],
            "it must be a mapping with model, data, objective, training, variants, got ['model']",
        ),
        # A recursion in Python has an end; aliases need a dozen lines for a million entries.
        ("[" * 5000, [], "mine.yaml must not be nested deeper than 50"),
        ("a: " + "[" * 60 + "]" * 60, [], "mine.yaml must not be nested deeper than 50"),
        ("data: &a {name: digits, more: *a}", [], "must not be nested deeper than 50"),
        (
            "".join(f"{'abcdefg'[i]}: &{i} [{f'*{i - 1}, ' * 10 * (i > 0)}1]\n" for i in range(7)),
            [],
            "nor have more than 100000 entries",
        ),
        ("training: {epochs: 2001-99-99}", [], "is no YAML: month must be in 1..12"),
        ("model: {name: a}\nmodel: {name: b}", [], 'found duplicate key "model"'),
        ("model: {name: a}", [], "it must have an entry data"),
        ("extends: digit_rat", [], "got 'digit_rat'; did you mean digits_rat?"),
        ("extend: digits_rat", [], "variants; did you mean extends?"),
        (DIGITS, ["training.epoch=3"], "training has no entry epoch; it has epochs, batch_size, "),
        (DIGITS, ["training.epoch=3"], ", seed; did you mean epochs?"),
        (DIGITS, ["train.epochs=3"], "it has no entry train; it has model, data, objective, train"),
        (DIGITS, ["training.epochs=three"], "training.epochs must be an integer, got 'three'"),
        (DIGITS, ["training.epochs=1.5"], "training.epochs must be an integer, got 1.5"),
        (
            DIGITS,
            ["training.epochs=0"],
            ": training.epochs must be an integer of at least 1, got 0",
        ),
        (DIGITS, ["training.seed=99999999999999999999"], "training.seed must be less than 2**63"),
        (DIGITS, ["data.seed=99999999999999999999"], "seed must be from -2**63 to 2**64 - 1, got"),
        (DIGITS, ["training.threads=9999999999999"], "training.threads must be less than 2**16"),
        (DIGITS, ["training.workers=99999"], "training.workers must be less than 2**16, got 99999"),
        (DIGITS, ["training.learning_rate=1/3"], "learning_rate must be a number, got '1/3'"),
        (
            DIGITS,
            ["training.augment=2"],
            "augment must be a mapping with padding, flip or null, got 2",
        ),
        (DIGITS, ["model={1: 2}"], "the entries of model must have names that are text"),
        (DIGITS, ["training.augment=crop"], "must be a mapping with padding, flip or null, got 'c"),
        (DIGITS, ["training.augment.padding=-1"], "training.augment.padding must be an integer of"),
        (DIGITS, ["training.augment.padding=70000"], "augment.padding must be less than 2**16, go"),
        (DIGITS, ["training.augment.flip=1"], "training.augment.flip must be true or false, got 1"),
        (
            DIGITS,
            ["training.optimizer=adan"],
            "of sgd, adam, adamw, got 'adan'; did you mean ad",
        ),
        (DIGITS, ["training.augment.paddings=3"], "it has padding, flip; did you mean padding?"),
        (DIGITS, ["training.epochs=3 # three"], "training.epochs must be an integer, got '3 # t"),
        (
            DIGITS,
            ["model.weights="],
            "a change must have a value, model.weights=null for none, got",
        ),
        (DIGITS, ["objective={eps: 0.1}"], "objective.name must be one of"),
        (DIGITS, ["training"], "a change must be like training.epochs=3, got 'training'"),
        (
            DIGITS,
            ["model.name.x=1"],
            "a change must be like training.epochs=3, got 'model.name.x=1'",
        ),
        (DIGITS, ["training.epochs=["], "is no YAML"),
        (DIGITS, ["training.precision=8-true"], "Precision '8-true' is invalid"),
        (DIGITS, ["data.name=digit"], "got 'digit'; did you mean digits?"),
        (DIGITS, ["data.names=3"], "data: digits has the options seed, noise, train, validation, "),
        (DIGITS, ["data.noise=loud"], "noise must be a number, got str 'loud'"),
        (DIGITS, ["data={name: fashion_mnist, seed: x}"], "seed must be an integer, got 'x'"),
        (DIGITS, ["data={name: image_folder, train: 5}"], "of its images, say train_images=5"),
        (DIGITS, [f"data={{name: synthetic, train: {2**63}}}"], "train must be less than 2**63, g"),
        (DIGITS, ["data.train=many"], "train must be an integer of at least 0, got 'many'"),
        (DIGITS, ["data.train=0"], "train must have at least two images"),
        (DIGITS, ["data.validation=0"], "validation must hold at least one image, got none"),
        (DIGITS, ["data={name: cifar10}"], "data: cifar10 needs folder"),
        (DIGITS, ["data={name: cifar10, folder: nowhere}"], "nowhere is no folder: folder must"),
        (DIGITS, ["objective.name=art"], "got 'art'; did you mean at?"),
        (DIGITS, ["objective=rat"], "objective must be a mapping, got 'rat'"),
        (DIGITS, ["objective.eps=much"], "eps must be a number, got str 'much'"),
        (DIGITS, ["objective.epsilon=1"], "objective: rat has the options eps, mode, "),
        (
            DIGITS,
            ["objective={name: at, mode: rat}"],
            "objective: at has the options eps, label_",
        ),
        (DIGITS, [f"objective.steps={2**63}"], f"steps must be less than 2**63, got {2**63}"),
        (DIGITS, ["objective.mixup=-1"], "mixup must be finite and greater than 0"),
        (DIGITS, ["objective={name: openmix}"], "objective: openmix needs outliers"),
        (
            DIGITS,
            ["objective={name: openmix, outliers: {name: texture}}"],
            "outliers.name must be one of random_images, image_folder, textures, got 'texture'",
        ),
        (
            DIGITS,
            ["objective.label_smoothing=2"],
            "label_smoothing must be from 0 to 1, got 2",
        ),
        (
            DIGITS,
            ["objective.label_smoothing=x"],
            "label_smoothing must be a number, got str 'x'",
        ),
        (
            DIGITS,
            ["objective.label_smoothing=-0.1"],
            "label_smoothing must be from 0 to 1, got -0.1",
        ),
        (
            DIGITS,
            ["objective.label_smoothing=.nan"],
            "label_smoothing must be from 0 to 1, got nan",
        ),
        (
            DIGITS,
            ["objective.class_weights=[1, 1, 1, 1, 1, 1, 1, 1, 1, -1]"],
            "objective.class_weights must be finite and at least 0, got [1, 1",
        ),
        (
            DIGITS,
            ["objective.class_weights=[1, 2]"],
            "must take logits [1, 10] and labels [1]: weight",
        ),
        (
            DIGITS,
            ["objective.class_weights=x"],
            "objective.class_weights must be a number for each logit, got 'x'",
        ),
        (
            DIGITS,
            ["objective={name: mail, label_smoothing: 0.1}"],
            "gamma, beta, and not label_smoothing",
        ),
        (DIGITS, ["objective={name: mail, warmup: 40}"], "warmup must be less than all"),
        (
            DIGITS,
            ["objective.criterion=x", "objective.class_weights=null"],
            "mixup_off_epochs, epochs, and not criterion",
        ),
        (
            DIGITS,
            ["data={name: image_folder, train: x, test: 5}"],
            "test must be a path, str or",
        ),
        (DIGITS, ["objective={name: acet}"], "objective: acet needs noise"),
        (DIGITS, ["model.name=resnet"], "model must be one of pytorchcv:NAME"),
        (DIGITS, ["model.name=rrfast.models:digit_cnn"], "did you mean digits_cnn"),
        (DIGITS, ["model.name=nowhere.py:build"], "model must name a file that exists, got 'now"),
        (DIGITS, ["model.weights=nowhere.pt"], "weights must be a file with a state_dict, got 'no"),
        (
            DIGITS,
            ["model.normalize=mnist"],
            "normalization must be one of cifar10, cifar100, imagenet",
        ),
        (DIGITS, ["model.normalize=cifar10"], "x must have shape [B, 3, ...]"),
        (DIGITS, ["model.classes=0"], "classes must be an integer of at least 2, got 0"),
        (DIGITS, ["model.classes=5"], "train.y must be labels of 5 classes, from 0 to 4"),
        (
            DIGITS,
            ["model.name=rrfast.models:synthetic_cnn"],
            "model must take images of shape [1, 8, 8], as train has them: ",
        ),
        (DIGITS, ["training.batch_size=25", "training.accumulate=2"], "must be a multiple of 2"),
        (DIGITS, ["training.nesterov=true", "training.momentum=0"], "Nesterov momentum requires"),
    ],
)
def test_sentences(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    text: str,
    changes: list[str],
    sentence: str,
) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(text, encoding="utf-8")
    options = ["--set", *changes] if changes else []
    code, out, err = command(recipe, "--out", tmp_path / "out", *options, capsys=capsys)
    assert code == (1 if "nowhere" in sentence or "'no" in sentence or "'now" in sentence else 2)
    assert err.startswith("rrfast: ")
    assert sentence in err
    assert "Traceback" not in err
    assert out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("#7.pt", "#7.pt"),
        ("runs/net #7.pt", "runs/net #7.pt"),
        ("runs/net#7.pt", "runs/net#7.pt"),
        ("'runs/net #7.pt'", "runs/net #7.pt"),
        ('"#7.pt"', "#7.pt"),
        ("null", None),
        ("~", None),
        ("7 # weeks", "7 # weeks"),
        ("[1, '#2'] # three", "[1, '#2'] # three"),
        ("[1, '#2']", [1, "#2"]),
        ("{a: b #c}", "{a: b #c}"),
        ("1e-3", 1e-3),
    ],
)
def test_nothing_of_a_value_is_lost(value: str, read: object) -> None:
    """YAML takes what follows a # for a comment: once, weights were random without a word."""
    assert parse_options(["digits", f"folder={value}"])["folder"] == read
    if isinstance(read, str | None):
        assert load_recipe("digits_rat", [f"model.weights={value}"]).model.weights == read


def test_files_that_are_no_recipes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    for recipe, code, sentence in (
        (
            tmp_path / "none.yaml",
            1,
            f"recipe must be a file, or one of {', '.join(NAMES)}, got",
        ),
        (tmp_path, 1, "recipe must be a file, or one of"),
        ("../recipes/digits_rat", 1, "recipe must be a file, or one of"),
        (binary, 2, "binary.yaml is no text in UTF-8"),
    ):
        found, _, err = command(recipe, "--out", tmp_path / "out", capsys=capsys)
        assert found == code
        assert sentence in err
    assert [path.name for path in tmp_path.iterdir()] == ["binary.yaml"]


def test_folders_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, file = tmp_path / "mine.yaml", tmp_path / "file"
    recipe.write_text(DIGITS, encoding="utf-8")
    file.write_text("mine", encoding="utf-8")
    code, _, err = command(recipe, "--out", file, capsys=capsys)
    assert code == 1
    assert err == f"rrfast: out must be a folder, and {file} is a file: give another\n"
    for out, why in (
        (file / "below" / "it", f"{file} is a file"),
        (tmp_path / ("a" * 300), os.strerror(errno.ENAMETOOLONG)),
    ):
        code, _, err = command(recipe, "--out", out, capsys=capsys)
        assert code == 1
        said = f"rrfast: out must be a folder that can be made, and '{out}' cannot be: {why}\n"
        assert err == said
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    if os.geteuid() == 0:  # who may write anywhere
        opened = os.open

        def refused(path: Any, flags: int, *rest: Any, **options: Any) -> int:
            if flags & os.O_CREAT and Path(path).parent == locked:
                raise PermissionError(13, "Permission denied", str(path))
            return opened(path, flags, *rest, **options)

        monkeypatch.setattr(os, "open", refused)
    code, _, err = command(recipe, "--out", locked, capsys=capsys)
    assert code == 1
    assert "Permission denied" in err
    assert str(locked) in err
    assert list(locked.iterdir()) == []
    assert file.read_text(encoding="utf-8") == "mine"


def test_a_file_left_by_another_is_no_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, out = tmp_path / "mine.yaml", tmp_path / "out"
    recipe.write_text(DIGITS, encoding="utf-8")
    out.mkdir()
    (out / "checkpoint.pt").write_bytes(b"PK\x03\x04 truncated")
    before = listing(out)
    code, _, err = command(recipe, "--out", out, "--resume", capsys=capsys)
    assert code == 2
    assert "checkpoint.pt cannot be read as a file of torch.save" in err
    assert len(err.splitlines()) == 1
    assert listing(out) == before


def test_a_loss_that_is_not_finite_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, out = tmp_path / "mine.yaml", tmp_path / "out"
    recipe.write_text(DIGITS, encoding="utf-8")
    changes = ["training.learning_rate=1e30", "training.warmup_epochs=0"]
    code, _, err = command(recipe, "--out", out, "--set", *changes, capsys=capsys)
    assert code == 1
    assert err.startswith("rrfast: the loss was ")
    assert "in epoch 0, step " in err
    assert len(err.splitlines()) == 1
    assert sorted(path.name for path in out.iterdir()) == ["nonfinite_0.pt", "recipe.yaml"]


def test_interrupted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(RAT, "backward", stopped)
    code, _, err = command("digits_rat", "--out", tmp_path / "out", capsys=capsys)
    assert (code, err) == (130, "rrfast: interrupted\n")


# -------------------------------------------------------------------------------- what they combine


def test_changes_reach_everything(tmp_path: Path) -> None:
    changes = ["training.augment={padding: 2}", "training.clip_norm=1", "data.noise=0.3"]
    recipe = load_recipe("digits_rat", [*changes, "objective.mode=at", "training.tensorboard=true"])
    assert recipe.training.augment is not None
    assert (recipe.training.augment.padding, recipe.training.clip_norm) == (2, 1.0)
    assert recipe.data["noise"] == 0.3
    assert recipe.objective["mode"] == "at"
    assert recipe.training.tensorboard is True
    path = tmp_path / "again.yaml"
    path.write_text(dump_recipe(recipe), encoding="utf-8")
    assert load_recipe(path) == recipe


def test_a_part_of_what_is_null(tmp_path: Path) -> None:
    """A recipe that a training left says `augment: null`: a change begins there."""
    path = tmp_path / "written.yaml"
    path.write_text(dump_recipe(load_recipe("digits_rat")), encoding="utf-8")
    assert "augment: null" in path.read_text(encoding="utf-8").replace(
        "augment:\n", "augment: null"
    )
    for source in (path, "digits_rat"):
        augment = load_recipe(source, ["training.augment.padding=2"]).training.augment
        assert augment == Augment(padding=2, flip=True)
    changes = ["training.augment.flip=false", "training.augment=null"]
    assert load_recipe(path, changes).training.augment is None


def test_what_is_given_comes_before_what_the_training_says() -> None:
    changes = ["training.seed=1", "data.seed=3", "objective.epochs=7", "training.epochs=9"]
    recipe = load_recipe("digits_rat", [*changes, "objective.mixup=1", "objective.name=at"])
    assert torch.equal(make_task(recipe).train.y, tasks.TASKS["digits"](3).train.y)
    assert not torch.equal(make_task(recipe).train.y, tasks.TASKS["digits"](1).train.y)
    objective = make_objective(recipe)
    assert isinstance(objective, RAT)
    assert (objective.mode, objective.epochs) == ("at", 7)


def test_options_of_the_model_reach_it(tmp_path: Path) -> None:
    changes = ["model.name=rrfast.models:preresnet20", "model.options.channels=1"]
    recipe = load_recipe("digits_rat", [*changes, "training.epochs=1", "data.train=64"])
    train(recipe, out=tmp_path)
    assert load_trained(tmp_path).model.conv.in_channels == 1


def test_numbers_and_words_are_yaml_1_2() -> None:
    recipe = load_recipe("digits_rat", ["objective.eps=1e-3", "data.x=no", "data.y=null"])
    assert recipe.objective["eps"] == 0.001
    assert recipe.data["x"] == "no"
    assert recipe.data["y"] is None


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_trains_from_a_recipe(tmp_path: Path, name: str) -> None:
    parameters = inspect.signature(OBJECTIVES[name]).parameters
    options = f"name: {name}"
    if name == "openmix":
        options += ", outliers: {name: textures, n: 20, size: 8, channels: 1}"
    if "noise" in parameters:
        options += ", noise: {name: smoothed_noise}"
    if "steps" in parameters:
        options += ", steps: 2"
    if "criterion" in parameters:
        weights = [*[1] * 9, 2, *[1] * (name == "openmix")]
        options += f", label_smoothing: 0.1, class_weights: {weights}"
    recipe = load_recipe("digits_rat", [*SHORT, f"objective={{{options}}}"])
    objective: Any = make_objective(recipe, make_task(recipe).train)
    if "criterion" in parameters:
        assert objective.criterion.label_smoothing == 0.1
    fitted = train(recipe, tmp_path, console=QUIET)
    model = load_trained(tmp_path, "best").model
    x = torch.rand(3, 1, 8, 8)
    assert model(x).shape == (3, 10)
    if name == "openmix":
        assert isinstance(objective, OpenMix)
        assert isinstance(model, FirstClasses)
        assert fitted.model(x).shape == (3, 11)
        last = load_trained(tmp_path).model
        torch.testing.assert_close(last(x), fitted.model(x)[:, :10])


def test_weights_to_begin_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = load_model("rrfast.models:digits_cnn", seed=5)
    path = tmp_path / "weights.pt"
    torch.save(model.state_dict(), path)
    changes = [*SHORT, f"model.weights={path}", "training.learning_rate=0", "training.epochs=1"]
    train(load_recipe("digits_rat", changes), tmp_path / "out", console=QUIET)
    last = torch.load(tmp_path / "out" / "last.pt")
    for name, value in model.named_parameters():
        assert torch.equal(last[name], value)
    # The trained model needs them no more.
    path.unlink()
    assert load_trained(tmp_path / "out").model(torch.rand(1, 1, 8, 8)).shape == (1, 10)

    torch.save(load_model("rrfast.models:synthetic_cnn").state_dict(), path)
    code, _, err = command(
        "digits_rat", "--out", tmp_path / "new", "--set", *changes, capsys=capsys
    )
    assert code == 2
    assert "weights must be a state_dict of 'rrfast.models:digits_cnn'" in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "new").exists()


def test_load_trained_says_what_is_missing(
    tmp_path: Path, trained: tuple[subprocess.CompletedProcess[str], Path]
) -> None:
    with pytest.raises(ValueError, match="weights must be one of last, best, got 'first'"):
        load_trained(trained[1], "first")
    with pytest.raises(FileNotFoundError, match=r"last.pt is not there: .* rrfast train --resume"):
        load_trained(tmp_path)
    (tmp_path / "last.pt").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"recipe.yaml"):
        load_trained(tmp_path)
    (tmp_path / "recipe.yaml").write_bytes((trained[1] / "recipe.yaml").read_bytes())
    with pytest.raises(ValueError, match=r"last\.pt cannot be read as a file of torch.save"):
        load_trained(tmp_path)
    torch.save(load_model("rrfast.models:synthetic_cnn").state_dict(), tmp_path / "last.pt")
    with pytest.raises(ValueError, match=r"last.pt is not of the model in .*recipe.yaml: Error"):
        load_trained(tmp_path)
