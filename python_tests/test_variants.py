"""Many trainings from one recipe."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

pytest.importorskip("lightning_fabric")
pytest.importorskip("sklearn")

from rrfast import cli
from rrfast.data import Split
from rrfast.evaluate.trained_model import _objective
from rrfast.objectives import (
    ACET,
    CCAT,
    CEDA,
    EWAT,
    GAIRAT,
    MAIL,
    RAT,
    WMMR,
    AdversarialTraining,
    Mixup,
    OpenMix,
    RegMixup,
    Standard,
)
from rrfast.objectives.adversarial import Adversarial
from rrfast.train import VARIANTS, load_recipe, load_trained, train_variants, variant
from rrfast.train.recipe import make_objective
from rrfast.train.variants import check_changes

QUIET = Console(quiet=True)
TEXTURES = {"name": "textures", "n": 10, "size": 8, "channels": 1}


def test_every_variant_is_its_objective() -> None:
    recipe = load_recipe("digits_rat", ["objective.label_smoothing=0.1", "objective.steps=3"])
    kinds = {
        "standard": Standard,
        "mixup": Mixup,
        "regmixup": RegMixup,
        "openmix": OpenMix,
        "pgd_at": AdversarialTraining,
        "gairat": GAIRAT,
        "mail": MAIL,
        "mail_margin": MAIL,
        "wmmr": WMMR,
        "wmmr_margin": WMMR,
        "ewat": EWAT,
        "ceda": CEDA,
        "acet": ACET,
        "ccat": CCAT,
    }
    images = Split(torch.rand(2, 1, 8, 8), torch.zeros(2).long())
    for name in VARIANTS:
        made = variant(recipe, name, 2, mixup=0.5, outliers=TEXTURES)
        objective = make_objective(made, images)
        assert _objective(made) == VARIANTS[name]
        assert type(objective) is kinds.get(name, RAT), name
        if hasattr(objective, "criterion"):
            assert objective.criterion.label_smoothing == 0.1
        if isinstance(objective, Adversarial):
            assert (objective.eps, objective.steps) == (0.1, 3)
        if isinstance(objective, (MAIL, WMMR)):
            assert objective.tau == (2 if name.endswith("_margin") else None)
        if isinstance(objective, RAT):
            assert (objective.eps, objective.steps) == (0.1, 3)
            assert objective.mode == name.removesuffix("_mixup")
            assert objective.mixup == (0.5 if name.endswith("_mixup") else None)
        if isinstance(objective, Mixup):
            assert objective.alpha == 0.5


def test_alpha_is_of_its_objective() -> None:
    """The recipe's Mixup applies to every variant with Mixup, and to no other mixing."""
    rat = load_recipe("digits_rat", ["objective.mixup=0.2"])
    mixup = load_recipe("digits_rat", ["objective={name: mixup, alpha: 0.3}"])
    alphas = {
        (source.objective["name"], name): getattr(made, "alpha", getattr(made, "mixup", None))
        for source in (rat, mixup)
        for name in ("mixup", "at_mixup", "rat", "regmixup", "openmix")
        if (made := make_objective(variant(source, name, 0, outliers=TEXTURES)))
    }
    own = {"rat": None, "regmixup": 20.0, "openmix": 10.0}
    assert alphas == {
        (source, name): alpha
        for source, mixed in (("rat", 0.2), ("mixup", 0.3))
        for name, alpha in {"mixup": mixed, "at_mixup": mixed, **own}.items()
    } | {("mixup", "rat"): None}
    assert make_objective(variant(rat, "mixup", 0, mixup=0.5)).alpha == 0.5
    kept = load_recipe("digits_rat", ["objective={name: regmixup, alpha: 10.0}"])
    assert make_objective(variant(kept, "regmixup", 0)).alpha == 10.0
    assert make_objective(variant(kept, "mixup", 0)).alpha == 1.0


def test_tau_is_of_the_margin_variants() -> None:
    recipe = load_recipe("digits_irat", ["objective.tau=3", "objective.gamma=5"])
    assert "tau" not in variant(recipe, "mail", 0).objective
    assert variant(recipe, "wmmr_margin", 0).objective["tau"] == 3
    options = variant(recipe, "mail_margin", 0).objective
    assert options == recipe.objective
    assert variant(recipe, "pgd_at", 0).objective == {"name": "pgd_at", "eps": 0.1}
    without = load_recipe("digits_irat", ["objective={name: wmmr, alpha: 3}"])
    assert variant(without, "wmmr_margin", 0).objective == {"name": "wmmr", "tau": 2}
    assert variant(without, "wmmr", 0).objective == {"name": "wmmr", "alpha": 3}
    assert variant(without, "mail_margin", 0).objective == {"name": "mail", "tau": 2}


def test_the_attack_on_noise_is_acet_s_alone() -> None:
    noise = {"name": "smoothed_noise"}
    acet = load_recipe("digits_acet", ["objective.steps=5"])
    assert variant(acet, "acet", 0).objective == acet.objective
    assert variant(acet, "ceda", 0).objective == {"name": "ceda", "noise": noise}
    assert variant(acet, "mail", 0).objective == {"name": "mail"}
    rat = load_recipe("digits_rat")
    assert variant(rat, "acet", 0).objective == {"name": "acet", "noise": noise}


def test_the_attack_of_ccat_is_its_own_but_for_eps() -> None:
    ccat = load_recipe("digits_rat", ["objective={name: ccat, eps: 0.1, steps: 7, step_size: 0.5}"])
    assert variant(ccat, "ccat", 0).objective == ccat.objective
    for name in ("rat", "mail", "pgd_at"):
        assert variant(ccat, name, 0).objective == {"name": name, "eps": 0.1}
    rat = load_recipe("digits_rat", ["objective.steps=3", "objective.step_size=0.5"])
    assert variant(rat, "ccat", 0).objective == {"name": "ccat", "eps": 0.1}
    assert variant(rat, "mail", 0).objective == rat.objective | {"name": "mail"}


def test_weight_is_of_its_objective() -> None:
    """That of the noise in CEDA and ACET, which is one number, and nowhere else."""
    ceda = load_recipe("digits_acet", ["objective={name: ceda, weight: 0.5}"])
    assert variant(ceda, "acet", 0).objective["weight"] == 0.5
    regmixup = load_recipe("digits_rat", ["objective={name: regmixup, weight: 0.5}"])
    assert variant(regmixup, "regmixup", 0).objective["weight"] == 0.5
    for recipe, names in ((ceda, ("regmixup", "openmix")), (regmixup, ("openmix", "ceda", "acet"))):
        for name in names:
            assert "weight" not in variant(recipe, name, 0, outliers=TEXTURES).objective


def test_what_a_variant_has_of_its_own() -> None:
    changes = ["regmixup.alpha=10", "standard.training.learning_rate=0.1", "rat.eps=0.2"]
    recipe = load_recipe("digits_rat", changes)
    assert variant(recipe, "regmixup", 0).objective == {"name": "regmixup", "alpha": 10}
    assert variant(recipe, "rat", 0).objective["eps"] == 0.2
    assert variant(recipe, "at", 0).objective["eps"] == recipe.objective["eps"] == 0.1
    assert variant(recipe, "standard", 0).training.learning_rate == 0.1
    assert variant(recipe, "rat", 0).training.learning_rate == recipe.training.learning_rate
    assert variant(recipe, "rat", 0).variants == {}


def test_mixup_has_no_end_without_mixup() -> None:
    recipe = load_recipe("digits_rat", ["objective.mixup=1.0", "objective.mixup_off_epochs=10"])
    assert variant(recipe, "rat_mixup", 0).objective["mixup_off_epochs"] == 10
    assert "mixup_off_epochs" not in variant(recipe, "mixup", 0).objective
    told = load_recipe("digits_rat", ["mixup.mixup_off_epochs=3"])
    assert variant(told, "mixup", 0).objective["mixup_off_epochs"] == 3


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["objective.alpha=10"], "that of mixup is its own: say mixup.alpha=10"),
        (["objective.alpah=10"], "neither rat nor what is compared has the option alpah"),
        (["mixup.alhpa=10"], "mixup has the options alpha, .* and not alhpa; did you mean alpha?"),
        (["mixup.training.epoch=3"], "variants.mixup.training: it has no entry epoch; .* epochs"),
        (["mixup.training=3"], "variants.mixup.training must be a mapping, got 3"),
        (
            ["mixup.training.seed=-1"],
            "variants.mixup.training: seed must be an integer of at least 0",
        ),
    ],
)
def test_an_option_that_none_takes(changes: list[str], sentence: str, tmp_path: Path) -> None:
    recipe = load_recipe("digits_rat", changes)
    with pytest.raises(ValueError, match=sentence):
        next(train_variants(recipe, tmp_path, ["standard", "mixup"], [0], console=QUIET))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("source", "change", "names", "sentence"),
    [
        ("digits_rat", "objective.steps=7", "standard,mixup", "the option steps is of none of sta"),
        ("digits_rat", "objective.mixup=0.4", "rat,standard", "the option mixup is of none of rat"),
        ("digits_irat", "objective.tau=3", "mail,wmmr", "the option tau is of none of mail, wmmr"),
        ("digits_irat", "objective.printed=true", "pgd_at", "printed is of none of pgd_at"),
        ("digits_acet", "objective.eps=0.1", "standard,ceda", "eps is of none of standard, ceda"),
        ("digits_rat", "regmixup.alpha=10", "rat,mixup", "of the variant regmixup, and would be l"),
    ],
)
def test_a_change_that_would_be_lost(
    source: str, change: str, names: str, sentence: str, tmp_path: Path
) -> None:
    """It once trained as if nothing had been asked for."""
    recipe, asked = load_recipe(source, [change]), names.split(",")
    with pytest.raises(ValueError, match=f"{change.partition('=')[0]} .*{sentence}"):
        next(train_variants(recipe, tmp_path, asked, [0], changes=[change], console=QUIET))
    assert not list(tmp_path.iterdir())


def test_a_change_that_one_of_several_takes_is_not_lost() -> None:
    for source, change, names in (
        ("digits_rat", "objective.mixup=1.0", ("standard", "mixup")),
        ("digits_rat", "objective.eps=0.2", ("standard", "at")),
        ("digits_rat", "objective.label_smoothing=0.1", ("standard",)),
        ("digits_rat", "regmixup.alpha=10", ("standard", "regmixup")),
        ("digits_rat", "objective={name: rat, eps: 0.2}", ("standard",)),
        ("digits_irat", "objective.tau=3", ("mail", "mail_margin")),
        ("digits_acet", "objective.noise.name=smoothed_noise", ("standard", "ceda")),
        ("cifar10_openmix", "objective.outliers.path=there.npy", ("standard", "openmix")),
        ("cifar10_mixup", "objective.alpha=0.3", ("rat_mixup",)),
        ("digits_rat", "training.epochs=3", ("standard",)),
    ):
        check_changes(load_recipe(source, [change]), [change], names)
    check_changes(load_recipe("digits_rat", ["objective.eps=0.2"]), ["objective.eps=0.2"], ())
    with pytest.raises(ValueError, match="would be lost in a training without variants"):
        check_changes(load_recipe("digits_rat", ["rat.eps=1"]), ["variants.rat.eps=1"], ())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            "variants.foo.alpha=1",
            r"recipe digits_rat: variant must be one of standard, .* got 'foo'",
        ),
        ("regmixp.alpha=1", "has no entry regmixp; it has model, .*; did you mean regmixup?"),
        ("mixup=null", "an entry of variants must be a mapping, got"),
        ("variants.mixup=3", "an entry of variants must be a mapping, got"),
    ],
)
def test_what_is_no_variant(change: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        load_recipe("digits_rat", [change])


def test_settings_are_printed_before_the_trainings(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    changes = ["training.epochs=1", "data.train=64", "mixup.training.learning_rate=0.01"]
    recipe = load_recipe("digits_rat", changes)
    next(train_variants(recipe, tmp_path, ["rat", "mixup"], [0], console=console))
    assert console.file.getvalue().splitlines()[:2] == [
        "rat: eps 0.1",
        "mixup: alpha 1.0; in training learning_rate 0.01",
    ]


def test_openmix_is_told_its_outliers_on_cifar() -> None:
    with pytest.raises(ValueError, match=r"say which, such as openmix\.outliers="):
        variant(load_recipe("cifar10_acet"), "openmix", 0)
    recipe = load_recipe("cifar10_rat", ["openmix.outliers.path=here.npy"])
    named = {"name": "random_images", "path": "here.npy"}
    assert variant(recipe, "openmix", 0).objective == {"name": "openmix", "outliers": named}


def test_bad_input() -> None:
    recipe = load_recipe("digits_rat")
    with pytest.raises(ValueError, match=r"variant must be one of standard, .*, got 'cutmix'"):
        variant(recipe, "cutmix", 0)
    with pytest.raises(ValueError, match="openmix needs outliers, and the recipe has none"):
        variant(recipe, "openmix", 0)
    with pytest.raises(ValueError, match="variants must name each once, and rat is there twice"):
        next(train_variants(recipe, "nowhere", ["rat", "rat"], [0]))
    with pytest.raises(ValueError, match="variant must be one of"):
        next(train_variants(recipe, "nowhere", ["rat", "cutmix"], [0]))
    assert not Path("nowhere").exists()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """OpenMix has outliers of the shape of the digits, and its last logit is dropped again."""
    changes = ["--set", "training.epochs=1", "data.train=64", "data.validation=20"]
    command = ["train", "digits_rat", "--out", str(tmp_path), *changes]
    assert cli.main([*command, "--variants", "standard,openmix", "--seeds", "2"]) == 0
    folders = sorted(path.name for path in tmp_path.iterdir())
    assert folders == ["openmix_0", "openmix_1", "standard_0", "standard_1"]
    lines = capsys.readouterr().out.splitlines()
    # What each is; then, on no terminal, a line per training and one per epoch.
    assert lines[0] == "standard: no options"
    assert lines[1].startswith("openmix: outliers {'name': 'textures', 'size': 8, 'channels': 1}")
    for name in folders:
        begin = lines.index(f"{name}:")
        assert lines[begin + 1].startswith("epoch 1 of 1: loss ")
        assert lines[begin + 2] == f"Written: {tmp_path / name}"
    assert len(lines) == 2 + 3 * len(folders)
    model, recipe = load_trained(tmp_path / "openmix_1")
    assert recipe.objective["outliers"] == {"name": "textures", "size": 8, "channels": 1}
    assert recipe.training.seed == 1
    before = (tmp_path / "openmix_1" / "checkpoint.pt").stat().st_mtime_ns
    [again] = train_variants(
        load_recipe("digits_rat", changes[1:]), tmp_path, ["openmix"], [1], console=Console()
    )
    assert model(again.task.test.x).shape == (len(again.task.test.y), 10)
    assert (tmp_path / "openmix_1" / "checkpoint.pt").stat().st_mtime_ns == before

    assert cli.main([*command, "--seeds", "2"]) == 2
    assert "--seeds needs --variants" in capsys.readouterr().err
