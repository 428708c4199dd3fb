"""Every command of docs/papers is one that rrfast takes, and every network there can be built.

Nothing is trained or evaluated: a command runs as far as its options are checked, without its data
and without the folders that it names.
"""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lightning_fabric")
pytest.importorskip("sklearn")

import rrfast.evaluate
import rrfast.train
from rrfast import bench, cli
from rrfast.data import Outliers, Split, tasks
from rrfast.data.tasks import TASKS
from rrfast.evaluate.trained_model import TrainedModel
from rrfast.models import load_model
from rrfast.objectives.variant_names import VARIANTS, check_variant
from rrfast.scores import Radius
from rrfast.scores.registry import score_named
from rrfast.train import Recipe, load_recipe, recipes, variant
from rrfast.train.recipe import make_objective, options_of
from rrfast.train.variants import TEXTURED, _check_taken, check_changes

FOLDER = Path(__file__).parents[1] / "docs" / "papers"
PAGES = sorted(path for path in FOLDER.glob("*.md") if path.stem != "README")
IMAGES = Split(torch.rand(2, 1, 8, 8), torch.zeros(2).long())


#: In the text and in tables: a command with what it is to be done to, and not the name of one.
INLINE = r"`(rrfast (?:(?:train|ablate|evaluate) [^-`]|bench --model )[^`]*)`"


def commands(page: Path) -> list[list[str]]:
    """The words of each, from `rrfast` on: first of code blocks, whatever launches it there."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    shown = "".join(block for language, block in blocks if language != "python")
    lines = shown.replace("\\\n", "").splitlines()
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines += [" ".join(line.split()) for line in re.findall(INLINE, prose)]
    found = [shlex.split(line, comments=True) for line in lines]
    return [words[words.index("rrfast") :] for words in found if "rrfast" in words]


class Checked:
    """What stands in the place of the work: the options of a recipe are looked at."""

    def __init__(self) -> None:
        self.folders: list[Path] = []

    def train(self, recipe: Recipe, out: Path, **_: object) -> rrfast.train.Fitted:
        self.folders.append(out)
        fits(recipe)
        return rrfast.train.Fitted(torch.nn.Identity(), [], None)

    def train_variants(
        self,
        recipe: Recipe,
        out: Path,
        names: Iterable[str],
        seeds: Iterable[int],
        changes: Sequence[str],
    ) -> Iterable[Any]:
        self.folders.append(out)
        names = list(names)
        assert len(set(names)) == len(names)
        assert len(list(seeds)) > 0
        for name in names:
            check_variant(name)
        _check_taken(recipe, names)
        check_changes(recipe, changes, names)
        textures = {"name": "textures"} if recipe.data["name"] in TEXTURED else None
        for name in names:
            fits(variant(recipe, name, 0, outliers=textures))
        return []

    def ablate(self, recipe: Recipe, out: Path, *, score: str, **_: object) -> None:
        if not isinstance(score_named(score), Radius):
            raise ValueError(f"{score} is no radius")
        self.folders.append(out)
        for name in ("standard", "at", "reverse_at", "rat", "rat_mixup"):
            fits(variant(recipe, name, 0))

    def trained_models(self, models: list[str], **given: Any) -> list[TrainedModel]:
        """Those of trainings are where a command before has put them."""
        for model in models:
            where = Path(model)
            if ":" not in model and not {where, *where.parents} & {*self.folders}:
                raise ValueError(f"no command above trains into {model}")
        if given["data"] is not None:
            has_options(given["data"])
        both = dict.fromkeys(("last", "best"), never)
        return [TrainedModel(name, 0, never, checkpoints=both) for name in ("Standard", "MAIL")]


def never() -> Any:
    raise AssertionError("nothing is to be loaded")


def has_options(given: dict[str, Any]) -> None:
    unknown = given.keys() - {"name"} - options_of(TASKS[given["name"]]).keys()
    if unknown:
        raise ValueError(f"{given['name']} has no {', '.join(unknown)}")


def fits(recipe: Recipe) -> None:
    """Its objective and its data take the options that they are given."""
    has_options(recipe.data)
    make_objective(recipe, IMAGES)


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Checked:
    instead = Checked()
    for name in ("train", "train_variants"):
        monkeypatch.setattr(rrfast.train, name, getattr(instead, name))
    for name in ("ablate", "trained_models"):
        monkeypatch.setattr(rrfast.evaluate, name, getattr(instead, name))
    for protocol in ("misd", "ood", "robust", "distal"):
        module = importlib.import_module(f"rrfast.evaluate.{protocol}.protocol")
        monkeypatch.setattr(module, "run_study", lambda *_, **__: {})
    monkeypatch.setattr(
        bench, "run", lambda settings, _: instead.trained_models([settings.model], data=None)
    )
    some = Outliers(torch.rand(3, 1, 8, 8))
    for name in ("random_images", "folder_images"):
        monkeypatch.setattr(tasks, name, lambda *_, **__: some)
    monkeypatch.chdir(tmp_path)
    return instead


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page(
    page: Path, checked: Checked, capsys: pytest.CaptureFixture[str]
) -> None:
    found = commands(page)
    assert found
    for words in found:
        for folder in re.findall(r"\b(?:crop|resize):([\w./-]+)", " ".join(words)):
            Path(folder).mkdir(parents=True, exist_ok=True)
        assert cli.main(words[1:]) == 0, (words, capsys.readouterr().err)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_change_that_a_page_speaks_of(page: Path, checked: Checked) -> None:
    """`--set` in the text is of one of the recipes that the page names."""
    text = page.read_text(encoding="utf-8")
    named = [name for name in recipes() if re.search(rf"\b{name}\b", text)]
    assert named
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for code in re.findall(r"`--set\s+([^`]+)`", prose):
        refused = []
        for name in named:
            try:
                changed = load_recipe(name, shlex.split(code))
                fits(changed)
                for part in {change.split(".")[0] for change in shlex.split(code)} & {*VARIANTS}:
                    fits(variant(changed, part, 0))
            except ValueError as error:
                refused.append(str(error))
        assert len(refused) < len(named), (code, refused)


@pytest.mark.parametrize(
    "line",
    [
        "rrfast train cifar10_rat --variants standard,mixup,cutmix",
        "rrfast train cifar10_rat --variants mixup --set mixup.alhpa=1",
        "rrfast train cifar10_rat --set objective.epsilon=1",
        "rrfast train cifar10_rat --set mixup.alpha=1",
        "rrfast train cifar10_irat --variants mail,wmmr --set objective.tau=3",
        "rrfast train cifar10_rat --set data.foldr=there",
        "rrfast train cifar11_rat",
        "rrfast train cifar10_acet --variants openmix",
        "rrfast evaluate nowhere",
        "rrfast evaluate a.py:net --data cifar10 foldr=there",
        "rrfast evaluate a.py:net --scores msr,mrs",
        "rrfast evaluate a.py:net --protocol ood --against noise,nosie",
        "rrfast evaluate a.py:net --protocol ood --attacks pgd",
        "rrfast evaluate a.py:net --protocol robust --attacks pdg",
        "rrfast evaluate a.py:net --protocol misd --severity 6",
        "rrfast bench --model nowhere --tuning rat",
        "rrfast ablate cifar10_rat --score msr",
    ],
)
def test_what_is_no_command_is_seen(line: str, checked: Checked) -> None:
    try:
        code: object = cli.main(shlex.split(line)[1:])
    except SystemExit as refused:
        code = refused.code
    assert code in (1, 2)


def networks() -> list[list[str]]:
    text = (FOLDER / "README.md").read_text(encoding="utf-8").split("\n## Networks\n")[1]
    rows = re.findall(r"^\|(.*)\|$", text.split("\n## ")[0], flags=re.MULTILINE)[2:]
    return [[cell.strip() for cell in row.split("|")] for row in rows]


@pytest.mark.parametrize("row", networks(), ids=lambda row: row[0])
def test_every_network_of_a_paper_can_be_built(row: list[str]) -> None:
    """And has as many parameters as one of that name has, in millions."""
    _, _, model, millions, how = row
    spec = model.strip("`")
    zoo = spec.split(":")[0]
    if not zoo.startswith("rrfast"):
        pytest.importorskip(zoo)
    classes = 10 if "cifar" in spec or zoo == "rrfast.models" else 1000
    built = load_model(spec, classes=classes)
    assert f"{sum(p.numel() for p in built.parameters()) / 1e6:.2f}" == millions
    # A recipe that has it, or one that gets it by name.
    for name in re.findall(r"\[(\w+)\]", how):
        assert ("with" in how) != (load_recipe(name).model.name == spec)
