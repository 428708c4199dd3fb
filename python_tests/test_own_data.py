"""`data:` of a recipe names a function of yours: what it returns, where it goes, who may run it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

pytest.importorskip("lightning_fabric")

from rrfast import cli
from rrfast.data import Split
from rrfast.data.own_data import check_task, runs_foreign_data
from rrfast.evaluate import trained_models
from rrfast.train import Task, load_recipe, train
from rrfast.train.recipe import make_task, named_task

MINE = """
import torch
from rrfast.data import Split
from rrfast.train import Task

print("run")


class Read:
    def __init__(self, split):
        self.split, self.y = split, split.y

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.split.x[i], int(self.split.y[i])


def split(n, level, generator=None):
    y = torch.arange(n) % 3
    x = torch.rand(n, 1, 8, 8, generator=generator) * level
    x[torch.arange(n), 0, y, y] += 0.5
    return Split(x, y)


def mine(seed, level=0.5, read=False):
    g = torch.Generator().manual_seed(seed)
    parts = [split(n, level, g) for n in (24, 12, 15)]
    return Task(*map(Read, parts) if read else parts, 3)


def drawn(**options):
    return Task(split(24, options.get("level", 0.5)), None, None, 3)


def rows():
    x = torch.rand(24, 5)
    return Task(*(Split(p, (p[:, 0] > 0.5).long()) for p in (x, x + 1, x - 1)), 2)
"""
RECIPE = """
model: {{name: "rrfast.models:digits_cnn"}}
data: {{name: "{name}", level: 0.25}}
objective: {{name: rat, eps: 0.01}}
training: {{epochs: 1, batch_size: 8, warmup_epochs: 0}}
"""
QUIET = Console(quiet=True)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE, encoding="utf-8")
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(name="mine.py:mine"), encoding="utf-8")
    return tmp_path


def command(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = cli.main(list(words))
    return (code, *capsys.readouterr())


# What a data set of one's own reads cannot be compared, and is named: see `fit`.
@pytest.mark.filterwarnings("ignore:run/checkpoint.pt is resumed without knowing:RuntimeWarning")
@pytest.mark.parametrize("read", ["false", "true"])
def test_it_is_trained_on_resumed_and_evaluated(
    here: Path, capsys: pytest.CaptureFixture[str], read: str
) -> None:
    set_ = ["--set", f"data.read={read}"]
    assert command("train", "recipe.yaml", "--out", "run", *set_, capsys=capsys)[0] == 0
    assert load_recipe("run/recipe.yaml").data["name"] == "mine.py:mine"
    code, _, err = command("train", "recipe.yaml", "--out", "run", *set_, "--resume", capsys=capsys)
    assert (code, err) == (0, "")
    other = [*set_, "data.level=0.3"]
    code, _, err = command(
        "train", "recipe.yaml", "--out", "run", *other, "--resume", capsys=capsys
    )
    assert code == 2
    assert "is of another training: data is" in err
    options = ["--draws", "0", "--scores", "msr", "--out", "found"]
    code, out, _ = command("evaluate", "run", "--trust", *options, capsys=capsys)
    assert code == 0
    assert f"mine.py:mine level=0.25 read={read.title()}: 15 test images" in " ".join(out.split())


def test_nobody_s_code_is_run_without_a_word(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of `model:`: what a folder names is run with --trust, or where you name it yourself."""
    train(load_recipe("recipe.yaml"), "run", console=QUIET)
    np.save("x.npy", np.random.default_rng(0).random((2, 1, 8, 8), np.float32))
    evaluate = ["evaluate", "run", "--draws", "0", "--scores", "msr", "--out", "found"]
    score = ["score", "run", "x.npy", "--out", "s.csv", "--overwrite"]
    said = "run/recipe.yaml names the data 'mine.py:mine', which are none of rrfast's: to make them"
    capsys.readouterr()
    for words in (evaluate, [*score, "--coverage", "0.8"]):
        code, out, err = command(*words, capsys=capsys)
        assert (code, out) == (2, "")
        assert said in err
    code, out, _ = command(*score, capsys=capsys)  # needs no data
    assert code == 0
    assert "run\n" not in out.splitlines(keepends=True)
    assert command(*score, "--coverage", "0.8", "--trust", capsys=capsys)[0] == 0
    assert command(*evaluate, "--data", "mine.py:mine", capsys=capsys)[0] == 0
    # rrfast's own functions load what their options name.
    assert runs_foreign_data("rrfast.models.load:load_model")
    assert not runs_foreign_data("digits")


def test_options_stay_what_they_were_in_the_training(here: Path) -> None:
    """Any of them may say which images are trained on."""
    train(load_recipe("recipe.yaml", ["training.seed=3"]), "run", console=QUIET)
    for name in ("mine.py:mine", "./mine.py:mine", str(here / "mine.py:mine")):
        [same] = trained_models(["run"], data={"name": name, "seed": 3, "read": False})
        assert same.data == f"{name} level=0.25 seed=3 read=False"
        for option, was, value in (("level", 0.25, 0.5), ("seed", 3, 1), ("read", False, True)):
            with pytest.raises(ValueError, match=f"data must leave {option}={was} as it was"):
                trained_models(["run"], data={"name": name, option: value})
    _, task = same.load()
    assert torch.equal(task.test.y, named_task({"name": "mine.py:mine", "level": 0.25}, 3).test.y)


def test_the_seed_decides_what_it_draws(here: Path) -> None:
    data: dict[str, Any] = {"name": "mine.py:drawn", "level": 0.1, "more": [1]}
    before = torch.get_rng_state()
    one, same, other = (named_task(data, seed).train.x for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    recipe = load_recipe("recipe.yaml", ["data.seed=7"])
    assert torch.equal(make_task(recipe).train.x, named_task(recipe.data, 0).train.x)


def test_rows_of_a_table_are_data_too(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No images: what asks for some, such as textures as outliers, says so."""
    (here / "net.py").write_text("from torch import nn\ndef net(): return nn.Linear(5, 2)\n")
    changes = ["--set", "model.name=net.py:net", "data={name: 'mine.py:rows'}"]
    line = ["train", "recipe.yaml", "--out", "run", *changes, "model.classes=null"]
    code, _, err = command(*line, capsys=capsys)
    assert code == 2
    assert (
        "model 'net.py:net' must take the number of its logits, here 2, as an argument clas" in err
    )
    (here / "net.py").write_text("from torch import nn\ndef net(classes): return nn.Linear(5, 2)\n")
    assert command(*line, capsys=capsys)[0] == 0
    variants = ["--variants", "standard,openmix", "--seeds", "1"]
    code, _, err = command(*line, *variants, capsys=capsys)
    assert code == 2
    assert "openmix needs outliers" in err
    evaluate = ["evaluate", "run", "--trust", "--protocol", "ood", "--scores", "msr"]
    code, _, err = command(*evaluate, "--out", "found", capsys=capsys)
    assert code == 2
    assert "textures are images, and the model takes [5]: tune on another set, such as unif" in err


SPLIT = Split(torch.rand(6, 1, 4, 4), torch.arange(6) % 3)
TASK = Task(SPLIT, SPLIT, SPLIT, 3)


class Images:
    """A data set that is read image by image."""

    def __init__(self, item: Any, y: Any, n: int = 6) -> None:
        self.item, self.y, self.n = item, y, n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Any:
        return self.item


def test_what_fits_comes_back_as_splits_are() -> None:
    wide = Split(SPLIT.x.clone().requires_grad_(), SPLIT.y.to(torch.uint8))
    read = Images((SPLIT.x[0], 0), SPLIT.y)
    task = check_task("f.py:f", Task(wide, None, read, np.int64(3)))  # type: ignore[arg-type]
    assert (type(task.classes), task.test) == (int, read)
    assert isinstance(task.train, Split)
    assert (task.train.y.dtype, task.train.x.requires_grad) == (torch.int64, False)


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        (tuple(TASK), r"data 'f.py:f' must return an rrfast.train.Task\(train, val.* got tuple"),
        (None, "must return an rrfast.train.Task.*, got NoneType None"),
        (TASK._replace(classes=1), "classes of data 'f.py:f' must be an integer of at least 2, g"),
        (TASK._replace(classes="3"), "classes of data .* must be an integer of at least 2, got '3"),
        (TASK._replace(classes=2), r"train\.y of data .* labels of 2 classes, from 0 to 1, and ha"),
        (TASK._replace(train=None), r"train of data 'f.py:f' must be an rrfast.data.Split.x, y., "),
        (TASK._replace(test=tuple(SPLIT)), "test of data 'f.py:f' must be an rrfast.data.Split"),
        (
            TASK._replace(test=Split(SPLIT.x, SPLIT.y.float())),
            r"test\.y of data 'f.py:f' must be a tensor of integers, got a float32",
        ),
        (
            TASK._replace(validation=Split(SPLIT.x[:5], SPLIT.y)),
            "validation of data 'f.py:f' must have a label for each of its 5 images, and y has 6",
        ),
        (
            TASK._replace(train=Split(SPLIT.x.double(), SPLIT.y)),
            r"train\.x of data 'f.py:f' must be a float32 tensor, got a float64 tensor of shape",
        ),
        (
            TASK._replace(train=Split(SPLIT.x.numpy(), SPLIT.y)),  # type: ignore[arg-type]
            r"train\.x of data 'f.py:f' must be a float32 tensor, got ndarray",
        ),
        (
            TASK._replace(test=Split(SPLIT.x / torch.tensor([1.0, 1, 1, 0]), SPLIT.y)),
            r"test\.x of data 'f.py:f' must be finite, and is not in row 0",
        ),
        (
            TASK._replace(test=Split(SPLIT.x[:, :, 1:], SPLIT.y)),
            r"test of data .* must have images of the shape of train, \[1, 4, 4\], got \[1, 3, 4\]",
        ),
        (
            TASK._replace(test=Images((SPLIT.x[0, :, 1:], 0), SPLIT.y)),
            r"test of data .* must have images of the shape of train, \[1, 4, 4\], got \[1, 3, 4\]",
        ),
        (
            TASK._replace(test=Images(SPLIT.x[0], SPLIT.y)),
            r"test\[0\] of data 'f.py:f' must be an image and its label, got a float32 tensor",
        ),
        (
            TASK._replace(test=Images((SPLIT.x[0], 2), SPLIT.y)),
            r"test\[0\] of data 'f.py:f' must have the label that y has there, 0, got 2",
        ),
        (TASK._replace(test=Images((SPLIT.x[0], 0), SPLIT.y, 5)), "each of its 5 images, and y ha"),
        (
            TASK._replace(released=torch.arange(5)),
            r"released of data .* must be None, or int64 \[6",
        ),
        (
            TASK._replace(indices=torch.arange(12)),  # type: ignore[arg-type]
            r"indices of data .* must be None, or two int64 tensors \[m\] and \[n\], .* got a",
        ),
        (
            TASK._replace(indices=(torch.arange(6), torch.arange(6))),
            "indices of data 'f.py:f' must be of different images, and some are there twice",
        ),
    ],
)
def test_what_does_not_fit_is_said(task: Any, sentence: str) -> None:
    with pytest.raises((TypeError, ValueError), match=sentence):
        check_task("f.py:f", task)


@pytest.mark.parametrize(
    ("change", "code", "sentence"),
    [
        (
            "data.name=mine.py:mime",
            2,
            "data must name a function of mine.py, which has no 'mime'; d",
        ),
        ("data.name=nowhere.py:f", 1, "data must name a file that exists, got 'nowhere.py'"),
        (
            "data.name=sub.mine:f",
            1,
            "sub/mine.py is here: say sub/mine.py:f. Known forms are impor",
        ),
        (
            "data.name=..:f",
            2,
            "data must be one of importable.module:function, path/to/file.py:fun",
        ),
        ("data.name=mine", 2, "image_folder, importable.module:function, path/to/file.py:function"),
        (
            "data.levels=3",
            2,
            "data: mine.py:mine has the options seed, level, read, and not levels",
        ),
        ("data={name: 'mine.py:split'}", 2, "data: mine.py:split needs n, level"),
        ("data={name: 'mine.py:rows', n: 2}", 2, "mine.py:rows has the options none, and not n"),
    ],
)
def test_names_and_options(
    here: Path, capsys: pytest.CaptureFixture[str], change: str, code: int, sentence: str
) -> None:
    (here / "sub").mkdir()
    shutil.copy(here / "mine.py", here / "sub" / "mine.py")
    found, _, err = command("train", "recipe.yaml", "--out", "o", "--set", change, capsys=capsys)
    assert found == code
    assert sentence in err
    assert not (here / "o").exists()
