"""Which images of a release are tuned and tested on: the same for a training and for any model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

pytest.importorskip("lightning_fabric")
pytest.importorskip("matplotlib")
pytest.importorskip("PIL")

from PIL import Image

from rrfast.data import Released, Split, tasks
from rrfast.data.splits import Part, divide
from rrfast.evaluate import TrainedModel, misd, ood, robust, trained_models
from rrfast.evaluate.misd.protocol import _released
from rrfast.evaluate.ood.measurements import ModelWithSets, tuned
from rrfast.evaluate.options import MisdOptions
from rrfast.train import dump_recipe, load_recipe, train
from rrfast.train.recipe import make_task

CPU = torch.device("cpu")
QUIET = Console(quiet=True)
#: As of CIFAR: images of the test split, held out of it by default, tuned on by RAT §5.1.
TEST, HELD, TUNED = 10_000, 2_000, 2_000


def release(n: int) -> Released:
    """A release of small images; the first two values of a test image say its place."""
    places = torch.arange(n)
    x = torch.rand(n, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    x[:, 0, 0, 0], x[:, 0, 0, 1] = places.div(256, rounding_mode="floor") / 255, places % 256 / 255
    return Released(Split(x[:60], places[:60] % 10), Split(x, places % 10))


def places_of(part: Part) -> Tensor:
    """[n] places in the release."""
    [(x, y)] = part.batches(TEST, CPU)
    places = (x[:, 0, 0] * 255).round().long() @ torch.tensor([256, 1])
    assert torch.equal(places % 10, y)
    return places


@pytest.fixture
def cifar10(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    reads_it = tasks.release_task(lambda _folder: release(TEST), 10, released=True)
    monkeypatch.setitem(tasks.TASKS, "cifar10", reads_it)
    return {"name": "cifar10", "folder": "here"}


@pytest.fixture
def trained(cifar10: dict[str, Any], tmp_path: Path) -> Path:
    """Two seeds of a training, the parts of whose data differ, in tmp_path/runs."""
    net = tmp_path / "net.py"
    net.write_text(
        "from torch import nn\n"
        "def build(classes): return nn.Sequential(nn.Flatten(), nn.Linear(12, classes))\n",
        encoding="utf-8",
    )
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model: {{name: '{net}:build'}}\ndata: {{name: cifar10, folder: here}}\n"
        "objective: {name: standard}\ntraining: {epochs: 1, batch_size: 20}\n",
        encoding="utf-8",
    )
    for seed in (0, 1):
        changed = load_recipe(recipe, [f"training.seed={seed}"])
        train(changed, tmp_path / "runs" / f"standard_{seed}", console=QUIET)
    return tmp_path / "runs"


def by_hand(trained: Path, data: dict[str, Any]) -> list[TrainedModel]:
    """The model of seed 1 as any other model is named."""
    weights = trained / "standard_1" / "last.pt"
    return trained_models(
        [f"{trained.parent / 'net.py'}:build"], data=data, weights=weights, classes=10
    )


# --------------------------------------------------------------------------------------- the parts


def test_rat_divides_all_of_the_release_alike_for_all(cifar10: dict[str, Any]) -> None:
    """2,000 and 8,000, whatever images a training used for validation."""
    found = []
    for seed, held in ((0, HELD), (1, HELD), (1, 0), (-3, 5)):
        task = tasks.TASKS["cifar10"]("here", seed, validation=held)
        assert len(task.test.y) == TEST - held
        divisions = divide(task, "rat")
        assert [[len(part.indices) for part in d] for d in divisions] == 3 * [[TUNED, TEST - TUNED]]
        found.append([[places_of(part) for part in division] for division in divisions])
        for tune, test in found[-1]:
            assert torch.equal(torch.cat([tune, test]).sort().values, torch.arange(TEST))
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            assert all(map(torch.equal, one, two))
    assert not torch.equal(found[0][0][0], found[0][1][0])


def test_cifar10c_follows_the_whole(cifar10: dict[str, Any], monkeypatch: Any) -> None:
    module = vars(misd.protocol)
    monkeypatch.setitem(module, "cifar10c", lambda *_: release(TEST).test)
    asked = MisdOptions(corruptions=Path("c"))
    task = tasks.TASKS["cifar10"]("here", 1)
    for whole, protocol in ((task.undivided(), "rat"), (task, "heldout")):
        division = divide(whole, protocol)[0]
        corrupted = _released("fog", division, whole, asked)
        assert corrupted is not None
        assert torch.equal(places_of(corrupted), places_of(division.test))
    assert task._replace(released=None).undivided().released is None


def test_what_is_no_part_of_one_test_set_stays_as_it_is(cifar10: dict[str, Any]) -> None:
    task = tasks.TASKS["cifar10"]("here", 1)
    whole = task.undivided()
    assert whole is not task
    assert whole.undivided() is whole
    fewer = Split(task.test.x[:50], task.test.y[:50])
    for other in (
        task._replace(test=fewer),
        task._replace(validation=None),
        task._replace(indices=None),
        task._replace(test=None),
    ):
        assert other.undivided() is other
    digits = tasks.TASKS["digits"](0)
    assert digits.undivided() is digits
    assert divide(task._replace(test=fewer, released=None), "rat")[0].test.data is fewer


def test_a_folder_gives_images_to_validate_on(tmp_path: Path) -> None:
    """As a release does: ImageNet's validation images are what is tested on."""
    for i in range(20):
        for root in ("train", "val"):
            file = tmp_path / root / "ab"[i % 2] / f"{i:02}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (10 * i, 0, 0)).save(file)
    folders = {"train": str(tmp_path / "train"), "test": str(tmp_path / "val"), "size": 8}
    task = tasks.image_folder_task(**folders, validation=4, seed=3)
    files = [task.validation.files, task.test.files]
    assert [len(each) for each in files] == [4, 16]
    whole = task.undivided()
    assert whole.validation is None
    assert whole.test.files == sorted(files[0] + files[1])
    assert [int(y) for _, y in (whole.test[i] for i in range(20))] == 10 * [0] + 10 * [1]
    one, other = (divide(tasks.image_folder_task(**folders, validation=n), "rat") for n in (4, 0))
    for mine, theirs in zip(one, other, strict=True):
        for part, its in zip(mine, theirs, strict=True):
            assert torch.equal(part.indices, its.indices)
            assert part.data.files == its.data.files
    assert [len(part.indices) for part in one[0]] == [4, 16]
    with pytest.raises(ValueError, match="validation must leave some of the 20 test images"):
        tasks.image_folder_task(**folders, validation=20)
    with pytest.raises(ValueError, match=r"validation must be a folder, got 4: .* not given"):
        tasks.image_folder_task(folders["train"], 4)


def test_imagenet_rat_has_images_to_test_on(tmp_path: Path) -> None:
    """The paper's test set is the release's validation folder: RAT Table 3."""
    data = load_recipe("imagenet_rat").data
    assert (data["test"], data["validation"]) == ("data/imagenet/val", 10_000)
    for i in range(10):
        for root in ("train", "val"):
            file = tmp_path / root / "ab"[i % 2] / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (10 * i, 0, 0)).save(file)
    here = [
        f"data.{name}={tmp_path / folder}"
        for name, folder in zip(("train", "test"), ("train", "val"), strict=True)
    ]
    small = load_recipe("imagenet_rat", [*here, "data.validation=4", "data.size=8"])
    task = make_task(small)
    assert [len(p.indices) for p in divide(task, "heldout")[0]] == [4, 6]
    assert [[len(p.indices) for p in d] for d in divide(task, "rat")] == 3 * [[2, 8]]
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "recipe.yaml").write_text(dump_recipe(small), encoding="utf-8")
    # Whatever else is tested on, what the training held out is held out.
    trained_models([folder], data={"name": "image_folder", "size": 9})
    with pytest.raises(ValueError, match="data must leave validation=4 as it was in the training"):
        trained_models([folder], data={"name": "image_folder", "validation": 2})
    with pytest.raises(ValueError, match="data must leave seed=0 as it was in the training"):
        trained_models([folder], data={"name": "image_folder", "seed": 7})


# ------------------------------------------------------------------------------------- the reports


def test_a_training_and_a_model_by_hand_are_tuned_and_tested_on_the_same(
    trained: Path, cifar10: dict[str, Any], tmp_path: Path
) -> None:
    found = trained_models([trained], trust=True) + by_hand(trained, cifar10)
    asked: dict[str, Any] = {"scores": ("msr",), "sensitivity": False, "draws": 0}
    asked["console"] = QUIET
    result = misd.evaluate(found, tmp_path / "rat", tuning="rat", every_run=True, **asked)
    assert {row["images"] for row in result["runs"]} == {TEST - TUNED}
    network, hand = (
        [row for row in result["runs"] if (row["training"], row["seed"]) == who]
        for who in (("Standard", 1), (found[-1].training, 0))
    )
    same = ("split", "score", "hyperparameters", "validation_aurc", "aurc", "auroc", "risk")
    assert [[row[k] for k in same] for row in network] == [[row[k] for k in same] for row in hand]
    assert len(network) == 3
    page = (tmp_path / "rat" / "evaluation.md").read_text()
    assert f"{TEST - TUNED} test images" in page
    assert "tuned on 20% of the whole test set" in page
    assert "were chosen on" not in page
    best = [found[0].at("best")]
    misd.evaluate(best, tmp_path / "best", tuning="rat", **asked)
    page = (tmp_path / "best" / "evaluation.md").read_text()
    assert f"best weights of Standard were chosen on {HELD} images of this test set" in page
    misd.evaluate(best, tmp_path / "heldout", **asked)
    assert "were chosen on" not in (tmp_path / "heldout" / "evaluation.md").read_text()


@pytest.mark.parametrize("images", [None, 500])
def test_attacks_are_on_the_whole_but_for_what_best_weights_were_chosen_on(
    trained: Path, cifar10: dict[str, Any], tmp_path: Path, images: int | None
) -> None:
    asked: dict[str, Any] = {"attacks": ("fgsm",), "images": images, "draws": 0, "console": QUIET}
    folders = trained_models([trained], trust=True)
    result = robust.evaluate(folders, tmp_path, checkpoints=("last", "best"), **asked)
    counted = {(row["checkpoint"], row["images"]) for row in result["runs"]}
    assert counted == {("last", images or TEST), ("best", images or TEST - HELD)}
    said = f"Not among the test images of the best checkpoint: {HELD} of the test set"
    assert said in (tmp_path / "robust.md").read_text()
    hand = robust.evaluate(by_hand(trained, cifar10), tmp_path / "hand", **asked)
    network = [r for r in result["runs"] if (r["seed"], r["checkpoint"]) == (1, "last")]
    assert [row["stood"] for row in network] == [row["stood"] for row in hand["runs"]]
    assert said not in (tmp_path / "hand" / "robust.md").read_text()


def test_all_images_are_inside_but_for_what_best_weights_were_chosen_on(
    trained: Path, cifar10: dict[str, Any], tmp_path: Path
) -> None:
    """And the page says which of them T was chosen on, and whether the weights were."""
    last, _ = trained_models([trained], trust=True)
    [hand] = by_hand(trained, cifar10)
    asked: dict[str, Any] = {"against": ("uniform",), "draws": 0}
    asked |= {"diagnostics": False, "console": QUIET}
    pages = []
    for subject, images, scores in (
        (last, TEST, ("msr", "entropy")),
        (last.at("best"), TEST - HELD, ("msr",)),
        (hand, TEST, ("msr",)),
    ):
        out = tmp_path / subject.checkpoint
        result = ood.evaluate([subject], out, scores=scores, **asked)
        inside = [row["images"] for row in result["runs"] if row["kind"] == "inside"]
        assert inside == [images] * len(scores)
        pages.append(" ".join((out / "ood.md").read_text().split()))
    both = f"{HELD} of them are also the validation split, on which"
    assert f"{both} entropy was tuned; " in pages[0]
    assert f"{both} none of these scores was tuned; " in pages[2]
    assert f"Not among the test images of best weights: {HELD} of the test set" in pages[1]
    assert ["Not among" in page for page in pages] == [False, True, False]
    assert ["Last weights were not chosen on any" in page for page in pages] == [True, False, False]
    assert ["It is unknown on which images" in page for page in pages] == [False, False, True]
    # With a number of images those that are tuned on are not among them.
    ood.evaluate([last], tmp_path / "few", scores=("entropy",), images=500, **asked)
    assert "also the validation split" not in (tmp_path / "few" / "ood.md").read_text()


def test_what_is_tuned_on_is_the_same_for_few_test_images(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All of a folder, as ODIN has iSUN's 8,925 images; not as many as are tested on."""
    for i in range(90):
        Image.new("RGB", (4, 4), (i, 255 - i, 3)).save(tmp_path / f"{i}.png")
    task = tasks.release_task(lambda _folder: release(200), 10)("here", validation=40)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 10)).eval()
    few, whole = (ModelWithSets(model, task, 0, images, 50, CPU) for images in (30, None))
    folder = f"resize:{tmp_path}"
    assert (few.images, whole.images) == (30, 200)
    assert len(few.to_tune(folder)) == len(whole.to_tune(folder)) == 90
    assert len(few.to_test(folder)) == 30
    assert len(few.to_tune("uniform")) == len(whole.to_tune("uniform")) == 40
    chosen = tuned("entropy", folder, few)
    assert chosen == tuned("entropy", folder, whole)
    # Another release is nothing that was trained on: none of it is held out.
    other = tasks.release_task(lambda _folder: release(150), 10)
    monkeypatch.setitem(tasks.TASKS, "svhn", other)
    assert len(whole.to_test("task:svhn folder=there validation=20")) == 150
