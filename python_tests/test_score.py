"""`rrfast score`: its rows, images that cannot be scored, and a killed run that continues."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import pickle
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from forked import Done, run
from rich.console import Console
from torch import Tensor

import rrfast
from rrfast._lock import alone
from rrfast.models import load_model
from rrfast.scores import SCORES, DoctorAlpha, Preprocessed, RelU

pytest.importorskip("lightning_fabric")
pytest.importorskip("PIL")

from PIL import Image

from rrfast import cli
from rrfast._processes import _portable
from rrfast.inference import Scoring, inputs, score, score_parts
from rrfast.inference.parts import Parts, Row
from rrfast.inference.table_file import write_rows

#: NaN logits for what is nearly white; an error or a kill at the pass and in the process told.
MODEL = """
import os, signal
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(channels, 4, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
            nn.Linear(16, classes),
        )
        self.passes = 0

    def forward(self, x):
        self.passes += 1
        rank = os.environ.get("RANK", "")
        if os.environ.get("ONLY_IN", rank) == rank:
            if self.passes == int(os.environ.get("RAISE_AT", 0)):
                raise ValueError("the net was told to fail")
            if self.passes == int(os.environ.get("KILL_AT", 0)):
                os.kill(os.getpid(), signal.SIGKILL)
        white = x.mean(dim=(1, 2, 3)) > 0.95
        return self.net(x).masked_fill(white[:, None], float("nan"))

def rgb(classes=5):
    return Net(3, classes)

def gray(classes=5):
    return Net(1, classes)

def apart(classes=5):
    net = Net(3, classes)
    net.net[0].bias.data += float(os.environ.get("RANK", 0))
    return net
"""


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("nets") / "nets.py"
    path.write_text(MODEL, encoding="utf-8")
    return str(path)


def pixels(n: int, *shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


NAMES = ["a/1.png", "a/10.PNG", "a/b/c/2.jpeg", "b/3.jpg", "z.png", "é.png"]


def draw(root: Path, names: list[str] | None = None) -> Path:
    """RGB images of 12 x 10."""
    for i, name in enumerate(NAMES if names is None else names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(1, 12, 10, 3, seed=i)[0]).save(root / name)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return draw(tmp_path / "in")


def quiet(*arguments: Any, **options: Any) -> Scoring:
    return score(*arguments, **{"console": Console(quiet=True), **options})


def rows(out: Path) -> list[dict[str, str]]:
    with out.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read(root: Path, names: list[str], mode: str = "RGB") -> Tensor:
    arrays = []
    for name in names:
        with Image.open(root / name) as image:
            array = np.asarray(image.convert(mode))
        arrays.append(array[None] if mode == "L" else array.transpose(2, 0, 1))
    return torch.tensor(np.stack(arrays)).contiguous() / 255


def assert_rows(found: list[dict[str, str]], model: Any, batches: list[Tensor], t: float) -> None:
    """To the bit what `rrfast.radius` gives for the same batches."""
    results = [rrfast.radius(model, x, full_output=True) for x in batches]
    radius = torch.cat([result.radius for result in results]).tolist()
    assert [float(row["radius_fast"]) for row in found] == radius
    assert [int(row["prediction"]) for row in found] == [
        y for result in results for y in result.prediction.tolist()
    ]
    assert [int(row["rival"]) for row in found] == [
        y for result in results for y in result.rival.tolist()
    ]
    assert [row["accept"] for row in found] == [str(r >= t).lower() for r in radius]
    assert {row["error"] for row in found} == {""}


# ----------------------------------------------------------------------------------------- the rows


def test_a_folder_to_its_depth(nets: str, root: Path, tmp_path: Path) -> None:
    (root / "a" / "notes.txt").write_text("no image")
    (root / "a" / "._1.png").write_text("no image")
    (root / ".cache").mkdir()
    (root / ".cache" / "1.png").write_text("no image")
    (root / "a" / "loop").symlink_to(root)
    out = tmp_path / "new" / "scores.csv"
    done = quiet(f"{nets}:rgb", root, out, score="radius_fast", threshold=0.01, batch=3, part=4)
    found = rows(out)
    assert [row["image"] for row in found] == NAMES
    assert list(found[0]) == ["image", "prediction", "rival", "radius_fast", "accept", "error"]
    x = read(root, NAMES)
    # A part of four and one of two, in batches of three.
    assert_rows(found, load_model(f"{nets}:rgb"), [x[:3], x[3:4], x[4:]], 0.01)
    accepted = sum(row["accept"] == "true" for row in found)
    assert done == Scoring(6, 0, {}, accepted, 0.01, "as given")
    assert sorted(path.name for path in out.parent.iterdir()) == ["scores.csv", "scores.csv.json"]


def test_grey_where_the_model_takes_one_channel(nets: str, root: Path, tmp_path: Path) -> None:
    Image.fromarray(pixels(1, 12, 10)[0]).save(root / "a" / "1.png")
    for name, mode in (("gray", "L"), ("rgb", "RGB")):
        out = tmp_path / f"{name}.csv"
        quiet(f"{nets}:{name}", root, out, score="radius_fast", threshold=math.inf)
        model = load_model(f"{nets}:{name}")
        assert_rows(rows(out), model, [read(root, NAMES, mode)], math.inf)


def test_size_has_the_geometry_of_image_folder(nets: str, root: Path, tmp_path: Path) -> None:
    for i, shape in enumerate([(40, 30), (8, 9)]):
        Image.fromarray(pixels(1, *shape, 3)[0]).save(root / "a" / f"{i}.png")
    for name in ("b/3.jpg", "z.png", "é.png"):
        (root / name).unlink()
    (root / "b").rmdir()
    quiet(f"{nets}:rgb", root, tmp_path / "s.csv", score="radius_fast", size=16, threshold=0.0)
    data = rrfast.data.image_folder(root, size=16)
    found = rows(tmp_path / "s.csv")
    # c/2.jpeg is in a sub-folder of the class, which image_folder does not look into.
    assert [row["image"] for row in found[:-1]] == data.files
    x = torch.stack([data[i][0] for i in range(len(data))])
    deep = inputs.open_images(root, size=16).read(len(data))
    assert_rows(found, load_model(f"{nets}:rgb"), [torch.cat([x, deep[None]])], 0.0)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64", "float16", ">f4"])
@pytest.mark.parametrize("shape", [(7, 1, 9, 8), (7, 9, 8), (7, 3, 9, 8)])
def test_npy(nets: str, tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    array = pixels(*shape)
    if dtype != "uint8":
        array = np.asfortranarray((array / np.float32(255)).astype(dtype))
    np.save(tmp_path / "x.npy", array)
    channels = shape[1] if len(shape) == 4 else 1
    name = f"{nets}:{'rgb' if channels == 3 else 'gray'}"
    quiet(name, tmp_path / "x.npy", tmp_path / "s.csv", score="radius_fast", threshold=0.02)
    x = torch.tensor(array.astype(np.float32).reshape(7, channels, 9, 8).copy())
    found = rows(tmp_path / "s.csv")
    assert [row["image"] for row in found] == [str(i) for i in range(7)]
    assert_rows(found, load_model(name), [x / 255 if dtype == "uint8" else x], 0.02)


def test_without_a_threshold_nothing_is_accepted_or_rejected(
    nets: str, root: Path, tmp_path: Path
) -> None:
    done = quiet(f"{nets}:rgb", root, tmp_path / "s.csv")  # MSR, the default
    assert done[3:] == (None, None, "none was asked for")
    found = rows(tmp_path / "s.csv")
    expected = SCORES["msr"](load_model(f"{nets}:rgb"), read(root, NAMES))
    assert [float(row["msr"]) for row in found] == expected.tolist()
    assert {row["accept"] for row in found} == {""}
    told = json.loads((tmp_path / "s.csv.json").read_text(encoding="utf-8"))
    assert (told["column"], told["images"], told["accepted"]) == ("msr", 6, None)
    assert told["threshold"]["threshold"] is None
    assert told["versions"]["torch"] == torch.__version__


def test_a_score_that_is_given_as_an_object(nets: str, root: Path, tmp_path: Path) -> None:
    given = Preprocessed(DoctorAlpha(temperature=2.0), eps=0.01)
    quiet(f"{nets}:rgb", root, tmp_path / "s.csv", score=given)
    expected = given(load_model(f"{nets}:rgb"), read(root, NAMES))
    assert [float(row["doctor_alpha+eps"]) for row in rows(tmp_path / "s.csv")] == expected.tolist()


@pytest.mark.filterwarnings("ignore:the radius of every sample is infinite because every gradient")
def test_an_infinite_radius_is_accepted_and_written_as_inf(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def forward(self, x):\n"
        "        h = 0 * x.flatten(1)[:, :2]\n"
        "        h[:, 0] += 1\n"
        "        return h\n",
        encoding="utf-8",
    )
    np.save(tmp_path / "x.npy", pixels(2, 3, 3))
    arguments = (f"{tmp_path / 'net.py'}:Net", tmp_path / "x.npy", tmp_path / "s.csv")
    done = quiet(*arguments, score="radius_fast", threshold=math.inf)
    assert [
        (row["radius_fast"], row["accept"], row["rival"]) for row in rows(tmp_path / "s.csv")
    ] == [("inf", "true", "")] * 2
    assert (done.accepted, done.threshold) == (2, math.inf)
    told = json.loads((tmp_path / "s.csv.json").read_text(encoding="utf-8"))
    assert told["threshold"]["threshold"] == "inf"


@pytest.mark.parametrize("workers", [0, 1])
def test_what_cannot_be_scored_is_a_row(
    nets: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    (root / "a" / "0.png").write_text("no image")  # the first: the shape is not its own
    cut = (root / "b" / "3.jpg").read_bytes()
    (root / "b" / "3.jpg").write_bytes(cut[:-300])
    Image.fromarray(pixels(1, 8, 8, 3)[0]).save(root / "b" / "4.png")
    Image.new("RGB", (10, 12), "white").save(root / "b" / "5.png")
    (root / "b" / "6.png").symlink_to(root / "nowhere.png")
    (root / os.fsdecode(b"b/7\xff.png")).write_text("no image")
    out = tmp_path / "s.csv"
    argv = ["score", f"{nets}:rgb", str(root), "--out", str(out), "--threshold", "-1"]
    argv += ["--score", "radius_fast"]
    state = torch.get_rng_state()
    code = cli.main([*argv, "--batch", "2", "--part", "5", "--workers", str(workers)])
    assert code == 1
    assert torch.equal(state, torch.get_rng_state())
    printed = capsys.readouterr()
    assert f"Written to {out}: 11 images, 5 accepted" in printed.out.replace("\n", "")
    assert "rrfast: 6 of 11 images could not be scored: a/0.png (cannot be read" in printed.err
    assert str(root) not in printed.err
    found = {row["image"]: row for row in rows(out)}
    errors = {name: row["error"] for name, row in found.items() if row["error"]}
    assert list(errors) == [
        *("a/0.png", "b/3.jpg", "b/4.png", "b/5.png", "b/6.png", "b/7\\xff.png"),
    ]
    for name in ("a/0.png", "b/3.jpg", "b/6.png", "b/7\\xff.png"):
        assert errors[name].startswith(f"{name} cannot be read as an image: ")
    assert errors["b/4.png"] == (
        "b/4.png must have the shape of the first image, [3, 12, 10], got [3, 8, 8]"
    )
    assert errors["b/5.png"] == (
        "the model's score is NaN: a logit or a gradient is NaN or has overflowed"
    )
    for name, row in found.items():
        assert (row["accept"] == "true") == (name not in errors)
        assert (row["prediction"] == "") == (name in errors)
        assert (row["radius_fast"] == "") == (name in errors)
    good = [name for name in found if name not in errors]
    model = load_model(f"{nets}:rgb")
    # Which images are in a batch may change a last bit; a batch has here two at most.
    expected = rrfast.radius(model, read(root, good)).tolist()
    got = [float(found[name]["radius_fast"]) for name in good]
    assert got == pytest.approx(expected, rel=1e-5)


def test_whatever_a_decoder_raises_is_a_row(
    nets: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow's AVIF raises RuntimeError, its DDS NotImplementedError, on bytes that are wrong."""
    convert = Image.Image.convert

    def broken(self: Any, mode: str) -> Any:
        if self.filename.endswith("z.png"):
            raise RuntimeError("Failed to decode frame 0")
        return convert(self, mode)

    monkeypatch.setattr(Image.Image, "convert", broken)
    done = quiet(f"{nets}:rgb", root, tmp_path / "s.csv")
    assert done.errors == {"z.png": "z.png cannot be read as an image: Failed to decode frame 0"}


def test_all_images_are_corrupt(nets: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(13):
        (tmp_path / "in" / f"{i:02}.png").write_text("no image")
    done = quiet(f"{nets}:rgb", tmp_path / "in", tmp_path / "s.csv", coverage=None, part=5)
    assert (done.images, done.failed, len(done.errors)) == (13, 13, 10)
    assert {row["msr"] for row in rows(tmp_path / "s.csv")} == {""}


def test_floats_outside_of_the_unit_interval(nets: str, tmp_path: Path) -> None:
    x = np.full((3, 1, 8, 8), 0.5, dtype=np.float32)
    x[0, 0, 0, 0], x[2, 0, 1, 1] = -1, np.nan
    np.save(tmp_path / "x.npy", x)
    done = quiet(f"{nets}:gray", tmp_path / "x.npy", tmp_path / "s.csv")
    assert done.errors == {
        "0": "row 0 must be in [0, 1], got pixels from -1 to 0.5",
        "2": "row 2 must be in [0, 1], got pixels from nan to nan",
    }


def test_parquet_is_the_csv(nets: str, root: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    (root / "a" / "0.png").write_text("no image")
    Image.new("RGB", (10, 12), "white").save(root / "b" / "5.png")
    for threshold in (None, 0.01):
        for name in ("s.csv", "s.parquet"):
            quiet(f"{nets}:rgb", root, tmp_path / name, threshold=threshold, part=3, overwrite=True)
        table = parquet.read_table(tmp_path / "s.parquet")
        told = rows(tmp_path / "s.csv")
        assert table.column_names == list(told[0])
        text = [
            {
                k: ""
                if v is None
                else str(v).lower()
                if v in (True, False) and k == "accept"
                else str(v)
                for k, v in row.items()
            }
            for row in table.to_pylist()
        ]
        assert text == told


def test_what_has_no_score_is_no_number(nets: str, tmp_path: Path) -> None:
    """Databases rank NaN above all: images that could not be scored would be the most confident."""
    parquet = pytest.importorskip("pyarrow.parquet")
    x = pixels(4, 3, 12, 10).astype(np.float32) / 255
    x[1] = 1.0
    np.save(tmp_path / "x.npy", x)
    for name in ("s.csv", "s.parquet"):
        quiet(f"{nets}:rgb", tmp_path / "x.npy", tmp_path / name, score="msr", threshold=-1e9)
    table = parquet.read_table(tmp_path / "s.parquet")
    assert [value is None for value in table["msr"].to_pylist()] == [False, True, False, False]
    assert [row["msr"] == "" for row in rows(tmp_path / "s.csv")] == [False, True, False, False]
    # The runner-up, but for the one without a score.
    assert [value is None for value in table["rival"].to_pylist()] == [False, True, False, False]
    assert table["accept"].to_pylist() == [True, False, True, True]
    assert table["error"].to_pylist()[1].startswith("the model's score is NaN: ")


def test_a_table_of_every_kind_of_row(tmp_path: Path) -> None:
    """Quotes and line ends in names, and numbers to the bit."""
    kinds = [
        Row('a,"b"\n.png', 3, 2, 0.1 + 0.2, True, None),
        Row("a\rb.png", 3, None, 2.0, True, "of a\r\n"),
        Row("b", None, None, None, None, "a sentence, with a comma"),
        Row("c", 1, 0, -math.inf, False, None),
    ]
    write_rows(tmp_path / "t.csv", "energy", [kinds[:1], [], kinds[1:]])
    text = (tmp_path / "t.csv").read_bytes().decode()
    assert list(csv.reader(io.StringIO(text, newline="")))[1:] == [
        ['a,"b"\n.png', "3", "2", "0.30000000000000004", "true", ""],
        ["a\rb.png", "3", "", "2.0", "true", "of a\r\n"],
        ["b", "", "", "", "", "a sentence, with a comma"],
        ["c", "1", "0", "-inf", "false", ""],
    ]
    assert text.startswith("image,prediction,rival,energy,accept,error\n")


def test_no_name_is_a_formula_in_a_spreadsheet(nets: str, tmp_path: Path) -> None:
    """Nor in an error; a program can take the names back, and Parquet has them as they are."""
    names = ["=HYPERLINK(1)", "+1", "-1", "@SUM(1)", "\tx", "\rx", "\uff1dx", "'=x", "'x", "a=b"]
    folder = draw(tmp_path / "in", [f"{name}.png" for name in names])
    (folder / "=2.png").write_text("no image")
    done = quiet(f"{nets}:rgb", folder, tmp_path / "s.csv", score="msr")
    assert list(done.errors) == ["=2.png"]
    found = rows(tmp_path / "s.csv")
    for row in found:
        assert row["image"][0] not in "=+-@\t\r\uff1d"
        assert row["error"][:1] in ("", "'")
    marked = re.compile("'('*[=+@\t\r\uff1d-])")
    read_back = {marked.sub(r"\1", row["image"], count=1) for row in found}
    assert read_back == {"=2.png", *(f"{name}.png" for name in names)}
    assert "'=2.png cannot be read" in (tmp_path / "s.csv").read_text(encoding="utf-8")
    parquet = pytest.importorskip("pyarrow.parquet")
    quiet(f"{nets}:rgb", folder, tmp_path / "s.parquet", score="msr")
    assert set(parquet.read_table(tmp_path / "s.parquet")["image"].to_pylist()) == read_back


def test_names_that_hold_the_name_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("train/in/1.png", "in/q\"u'o\nte.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text("no image")
    monkeypatch.chdir(tmp_path)
    told = []
    for root in ("in", tmp_path / "in"):
        images = inputs.open_images(root)
        for place in range(2):
            with pytest.raises(ValueError, match="cannot be read") as caught:
                images.read(place)
            told.append(str(caught.value))
            assert told[-1].startswith(f"{images.name(place)} cannot be read as an image: ")
    assert told[:2] == told[2:]
    assert str(tmp_path) not in told[2]


def test_a_link_to_itself_is_an_image_that_fails(nets: str, root: Path, tmp_path: Path) -> None:
    (root / "a" / "0.png").symlink_to("0.png")
    (root / "a" / "self").symlink_to("self")
    done = quiet(f"{nets}:rgb", root, tmp_path / "s.csv")
    assert (done.images, list(done.errors)) == (len(NAMES) + 1, ["a/0.png"])


# ------------------------------------------------------------------------------------ the threshold


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("sklearn")
    from rrfast.train import load_recipe, train

    folder = tmp_path_factory.mktemp("trained")
    recipe = load_recipe("digits_rat", ["training.epochs=3", "training.threads=1"])
    train(recipe, folder / "run", console=Console(quiet=True))
    np.save(folder / "x.npy", rrfast.data.digits().test.x[:50].numpy())
    return folder


@pytest.mark.parametrize(
    "aim",
    [
        {"coverage": 0.7},
        {"reject_errors": 0.5},
        {"target_risk": 0.2},
        {"target_risk": 0.5, "confidence": 0.9},
    ],
)
def test_an_aim_is_met_on_the_validation_split(
    trained: Path, tmp_path: Path, aim: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    from rrfast.train import load_trained
    from rrfast.train.recipe import make_task

    options = [text for name, v in aim.items() for text in (f"--{name.replace('_', '-')}", str(v))]
    argv = ["score", str(trained / "run"), str(trained / "x.npy"), "--score", "margin", *options]
    assert cli.main([*argv, "--out", str(tmp_path / "s.csv")]) == 0
    model, recipe = load_trained(trained / "run")
    split = make_task(recipe).validation
    expected = rrfast.SelectiveClassifier(model, "margin").fit([tuple(split)], **aim)
    told = json.loads((tmp_path / "s.csv.json").read_text(encoding="utf-8"))
    assert float(told["threshold"]["threshold"]) == pytest.approx(float(expected.threshold), 1e-5)
    assert told["threshold"]["provenance"]["aim"] == aim
    assert told["command"].startswith(f"rrfast score {trained}")
    printed = capsys.readouterr().out.replace("\n", " ")
    assert f"on the {len(split.y)} images of the validation split" in printed
    accepted = [row["accept"] == "true" for row in rows(tmp_path / "s.csv")]
    assert 0 < sum(accepted) < 50 or "confidence" in aim
    assert f"{sum(accepted)} accepted" in printed


def test_best_weights_keep_no_confidence(trained: Path, tmp_path: Path) -> None:
    arguments = (trained / "run", trained / "x.npy", tmp_path / "s.csv")
    done = quiet(*arguments, weights="best", target_risk=0.5, confidence=0.9)
    assert done.how.endswith(". best.pt was chosen on these images too, so no confidence holds")


@pytest.fixture(scope="module")
def on_a_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training on images of 40 x 30 scaled to 8, whose model is in a file of its own."""
    from rrfast.train import load_recipe, train

    folder = tmp_path_factory.mktemp("on a folder")
    (folder / "net.py").write_text(
        "from pathlib import Path\n"
        "from rrfast.models import synthetic_cnn\n"
        "def build(classes, seed):\n"
        "    Path(__file__).with_name('ran').touch()\n"
        "    return synthetic_cnn(classes=classes, seed=seed)\n",
        encoding="utf-8",
    )
    for part in ("train", "held"):
        for i in range(24):
            (folder / part / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
            grey = pixels(1, 40, 30, 3, seed=i)[0] // 2 + 120 * (i % 2)
            Image.fromarray(grey.astype(np.uint8)).save(folder / part / "ab"[i % 2] / f"{i}.png")
    (folder / "recipe.yaml").write_text(
        f"model: {{name: '{folder}/net.py:build'}}\n"
        f"data: {{name: image_folder, train: '{folder}/train', validation: '{folder}/held', "
        "size: 8}\n"
        "objective: {name: standard}\n"
        "training: {epochs: 4, batch_size: 6, threads: 1}\n",
        encoding="utf-8",
    )
    train(load_recipe(folder / "recipe.yaml"), folder / "run", console=Console(quiet=True))
    return folder


@pytest.mark.parametrize("out", ["s.csv", "again.csv"])
def test_images_are_scaled_as_in_the_training(on_a_folder: Path, tmp_path: Path, out: str) -> None:
    """Without --size too; otherwise a threshold would be applied to images of another shape."""
    given = {"trust": True, "score": "msr", "coverage": 0.5}
    size = {} if out == "s.csv" else {"size": 8}
    done = quiet(on_a_folder / "run", on_a_folder / "held", tmp_path / out, **given, **size)
    assert done.accepted in (12, 13)
    told = json.loads((tmp_path / f"{out}.json").read_text(encoding="utf-8"))["pinned"]
    assert (told["size"], told["shape"]) == (8, [3, 8, 8])


def test_a_threshold_holds_for_its_own_shape(on_a_folder: Path, tmp_path: Path) -> None:
    from rrfast.train import load_trained

    run, out = on_a_folder / "run", tmp_path / "s.csv"
    np.save(tmp_path / "x.npy", np.zeros((2, 3, 16, 16), dtype=np.uint8))
    match = r"was chosen on images of shape \[3, 8, 8\], and the images to score have \[3, 16, 16\]"
    for source, size in ((on_a_folder / "held", {"size": 16}), (tmp_path / "x.npy", {})):
        for aim in ({"coverage": 0.5}, {"reject_errors": 0.5}, {"target_risk": 0.5}):
            with pytest.raises(ValueError, match=f"the threshold for {next(iter(aim))} {match}"):
                quiet(run, source, out, trust=True, **aim, **size)
    model, _ = load_trained(run, trust=True)
    x = torch.rand(8, 3, 8, 8)
    saved = rrfast.SelectiveClassifier(model, "msr").fit([(x, model(x).argmax(1))], coverage=0.5)
    saved.save(tmp_path / "c.pt")
    with pytest.raises(ValueError, match=f"the threshold of .*c.pt {match}"):
        quiet(run, tmp_path / "x.npy", out, trust=True, classifier=tmp_path / "c.pt")
    assert not list(tmp_path.glob("s.csv*"))
    # Without a promise any shape is the user's own word.
    quiet(run, on_a_folder / "held", out, trust=True, size=16, threshold=0.5)
    assert quiet(run, tmp_path / "x.npy", out, trust=True, overwrite=True).images == 2


def test_a_folder_runs_no_code_unasked(
    on_a_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By any door; a file that is named by hand runs."""
    from rrfast.evaluate import trained_models
    from rrfast.train import load_trained

    run, held, ran = on_a_folder / "run", on_a_folder / "held", on_a_folder / "ran"
    ran.unlink(missing_ok=True)
    score_it = ["score", str(run), str(held), "--out", str(tmp_path / "s.csv")]
    evaluate = ["evaluate", str(run), "--data", "image_folder", f"test={held}"]
    evaluate += ["--scores", "msr", "--draws", "0", "--out", str(tmp_path / "out")]
    all_of_them = [evaluate[0], str(on_a_folder), *evaluate[2:]]
    for argv in (score_it, evaluate, all_of_them):
        assert cli.main(argv) == 2
        told = capsys.readouterr().err
        assert "recipe.yaml names the model " in told
        assert "net.py:build', which is neither of rrfast nor of pytorchcv, torchvision" in told
        assert "to build it is to run that code. If you know it, " in told
        assert "--trust" in told
    for door in (load_trained, lambda folder: trained_models([folder])):
        with pytest.raises(ValueError, match=r"say so with --trust \(in Python trust=True\)"):
            door(run)
    assert not ran.exists()
    assert cli.main([*score_it, "--trust"]) == 0
    assert ran.exists()
    ran.unlink()
    assert cli.main([*evaluate, "--trust"]) == 0
    assert ran.exists()
    [one] = trained_models([f"{on_a_folder}/net.py:build"], data={"name": "digits"}, classes=10)
    assert one.training.endswith("net.py:build")


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_a_saved_classifier(trained: Path, tmp_path: Path, ending: str) -> None:
    from rrfast.train import load_trained

    model, _ = load_trained(trained / "run", "best")
    split = rrfast.data.digits().validation
    saved = rrfast.SelectiveClassifier(model, "radius_grad").fit([tuple(split)], coverage=0.6)
    file = tmp_path / f"c.{ending}"
    if ending == "pt":
        torch.save(saved.state_dict(), file)
    else:
        pytest.importorskip("safetensors.torch").save_file(saved.state_dict(), file)
    # The last weights of the training make way for those of the file.
    done = quiet(
        trained / "run", trained / "x.npy", tmp_path / "s.csv", score="radius_grad", classifier=file
    )
    x = torch.from_numpy(np.load(trained / "x.npy"))
    prediction, confidence, accept = saved(x)
    found = rows(tmp_path / "s.csv")
    assert [float(row["radius_grad"]) for row in found] == confidence.tolist()
    assert [int(row["prediction"]) for row in found] == prediction.tolist()
    assert [row["accept"] == "true" for row in found] == accept.tolist()
    assert done.threshold == float(saved.threshold)


def test_a_classifier_keeps_its_score(nets: str, root: Path, tmp_path: Path) -> None:
    """A score that is given in addition must be of the same kind; anything else is an error."""
    model, x = load_model(f"{nets}:rgb"), read(root, NAMES)
    y = torch.arange(len(x)) % 2  # some right and some wrong, for RelU
    y = torch.where(y == 0, model(x).argmax(dim=1), (model(x).argmax(dim=1) + 1) % 5)
    saved = rrfast.SelectiveClassifier(model, RelU().fit(model, [(x, y)]))
    saved.fit([(x, y)], coverage=0.5).save(tmp_path / "c.pt")
    arguments = (f"{nets}:rgb", root, tmp_path / "s.csv")
    for name in ("msr", "radius_fast", "trust"):
        with pytest.raises(ValueError, match=rf"score must be that of .*, relu in .*, got {name}:"):
            quiet(*arguments, score=name, classifier=tmp_path / "c.pt")
    done = quiet(*arguments, score="relu", classifier=tmp_path / "c.pt")
    assert done.how == f"of {tmp_path / 'c.pt'}"
    assert [float(row["relu"]) for row in rows(tmp_path / "s.csv")] == saved(x).confidence.tolist()
    with torch.no_grad():
        model.net[4].bias += 0.1
    saved.save(tmp_path / "c.pt")
    done = quiet(*arguments, classifier=tmp_path / "c.pt", overwrite=True)
    assert done.how.endswith("c.pt, which was chosen for other weights than it holds")


# ------------------------------------------------------------------------------ killed, and resumed


class Runs(NamedTuple):
    """An uninterrupted run, and killed runs that continued."""

    whole: bytes
    folder: Path
    killed: list[tuple[Path, Path, Done, Done]]  #: resumed, as killed, how both ended
    several: list[Done]  #: finish, go on, meet an error, go on, lose one, go on, differ, torchrun


MANY = 23
OPTIONS = ["--batch", "2", "--part", "4", "--device", "cpu", "--score", "radius_fast"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, nets: str) -> Runs:
    folder = tmp_path_factory.mktemp("killed")
    (folder / "in").mkdir()
    draw(folder / "in", [f"{i // 10}/{i:02}.png" for i in range(MANY)])
    (folder / "in" / "1" / "13.png").write_text("no image")
    common = ["score", f"{nets}:rgb", str(folder / "in"), *OPTIONS, "--threshold", "0.02", "--out"]
    jobs: list[dict[str, Any]] = [
        {"argv": [*common, str(folder / "whole" / "s.csv")], "count_fsync": str(folder / "count")}
    ]
    # In the manifest, in the second part, in its folder, in the table, after it.
    kinds: list[dict[str, Any]] = [{"kill_at_fsync": at} for at in (1, 5, 6, 15, 16)]
    kinds += [{"env": {"KILL_AT": "25"}}, {"kill_at_fsync": 17}]  # 17 is in s.csv.json
    folders = [(folder / f"{i}", folder / f"{i} as killed") for i in range(len(kinds))]
    for kind, (out, as_killed) in zip(kinds, folders, strict=True):
        jobs += [
            {"argv": [*common, str(out / "s.csv")], **kind},
            {"copy": [str(out), str(as_killed)]},
            {"argv": [*common, str(out / "s.csv")]},
        ]

    def several(name: str, world: int = 2, **env: str) -> dict[str, Any]:
        more = {"world": world} if world > 1 else {}
        return {"argv": [*common, str(folder / name / "s.csv")], "env": env, **more}

    jobs += [
        several("new"),
        {"copy": [str(folders[5][1]), str(folder / "begun")]},
        several("begun", world=3),
        several("failed", ONLY_IN="1", RAISE_AT="8"),
        {"copy": [str(folder / "failed"), str(folder / "failed as it was")]},
        several("failed", world=1),
        several("lost", ONLY_IN="1", KILL_AT="8"),
        several("lost"),
        {**several("apart"), "argv": [text.replace(":rgb", ":apart") for text in common]},
        {"argv": [*common, str(folder / "torchrun" / "s.csv")], "torchrun": 2},
    ]
    jobs[-2]["argv"].append(str(folder / "apart" / "s.csv"))
    first, *done = run(folder, jobs)
    assert first.code == 1, first.err
    ends = [(*folders[i], done[3 * i], done[3 * i + 2]) for i in range(len(kinds))]
    whole = (folder / "whole" / "s.csv").read_bytes()
    return Runs(whole, folder, ends, [done[i] for i in (-10, -8, -7, -5, -4, -3, -2, -1)])


def test_killed_and_started_again_is_the_same_to_the_byte(runs: Runs) -> None:
    assert int((runs.folder / "count").read_text()) == 18
    left = []
    for folder, as_killed, first, again in runs.killed:
        assert first.code == -9
        assert again.code == 1  # for the image that is none
        assert again.err.startswith(f"rrfast: 1 of {MANY} images could not be scored: 1/13.png (")
        assert (folder / "s.csv").read_bytes() == runs.whole
        assert sorted(path.name for path in folder.iterdir()) == ["s.csv", "s.csv.json"]
        names = sorted(path.name for path in (as_killed / "s.csv.parts").iterdir())
        left.append([re.sub(r"\.[0-9a-f]{16}(\.partial)$", r"\1", name) for name in names])
    numbers = [f"{i:06}.json" for i in range(6)]
    assert left[0] == ["manifest.json.partial"]
    assert left[1] == ["000000.json", "000001.json.partial", "manifest.json"]
    assert left[2] == ["000000.json", "000001.json", "manifest.json"]
    assert left[3] == left[4] == [*numbers, "manifest.json"]
    assert 1 < len(left[5]) < 7
    assert not (runs.killed[3][1] / "s.csv").exists()
    assert (runs.killed[4][1] / "s.csv").read_bytes() == runs.whole


def test_only_what_is_missing_is_done(
    nets: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = Parts.write, []

    def watched(self: Parts, part: int, rows: Any) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(part)
        write(self, part, rows)

    monkeypatch.setattr(Parts, "write", watched)
    arguments = (f"{nets}:rgb", root, tmp_path / "s.csv")
    with pytest.raises(KeyboardInterrupt):
        quiet(*arguments, part=1, batch=7, threshold=0.0)
    (tmp_path / "s.csv.parts" / "000000.json").unlink()
    again: list[int] = []

    def counted(self: Parts, part: int, rows: Any) -> None:
        again.append(part)
        write(self, part, rows)

    monkeypatch.setattr(Parts, "write", counted)
    quiet(*arguments, part=1, batch=7, threshold=0.0)
    assert (written, again) == ([0, 1], [0, 2, 3, 4, 5])
    assert [row["image"] for row in rows(tmp_path / "s.csv")] == NAMES


def interrupted(monkeypatch: pytest.MonkeyPatch, *arguments: Any, **options: Any) -> None:
    with monkeypatch.context() as patch:

        def stop(*_: Any) -> Iterator[Row]:
            raise KeyboardInterrupt

        patch.setattr("rrfast.inference.score_parts._rows", stop)
        with pytest.raises(KeyboardInterrupt):
            quiet(*arguments, **options)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("images", {}),
        ("weights", {"classes": 7}),
        ("model", {"normalize": "cifar10"}),
        ("score", {"score": "energy"}),
        ("threshold", {"threshold": 0.25}),
        ("shape", {"size": 8}),
        ("batch", {"batch": 3}),
        ("part", {"part": 2}),
    ],
)
def test_another_run_is_refused(
    nets: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, change: Any
) -> None:
    arguments = (f"{nets}:rgb", root, tmp_path / "s.csv")
    interrupted(monkeypatch, *arguments, threshold=0.5)
    if name == "images":
        draw(root, ["z.png"])
        os.utime(root / "z.png", ns=(1, 1))
    match = f"s.csv.parts is of another run: {'model' if name == 'weights' else name} is .* there"
    with pytest.raises(ValueError, match=match):
        quiet(*arguments, **{"threshold": 0.5, **change})


def test_a_run_that_goes_on_keeps_its_threshold(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (trained / "run", trained / "x.npy", tmp_path / "s.csv")
    interrupted(monkeypatch, *arguments, coverage=0.5)
    manifest = json.loads((tmp_path / "s.csv.parts" / "manifest.json").read_text(encoding="utf-8"))

    def fit(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(rrfast.SelectiveClassifier, "fit", fit)
    done = quiet(*arguments, coverage=0.5)
    assert repr(done.threshold) == manifest["content"]["chosen"]["threshold"]


def test_what_is_complete_is_refused_or_overwritten(nets: str, root: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.csv"
    quiet(f"{nets}:rgb", root, out)
    with pytest.raises(FileExistsError, match=r"s\.csv is there already, and complete: give anot"):
        quiet(f"{nets}:rgb", root, out)
    quiet(f"{nets}:rgb", root, out, score="energy", overwrite=True)
    assert "energy" in rows(out)[0]


def test_what_is_not_ours_in_the_folder_of_parts_stays(
    nets: str, root: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "s.csv.parts"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / "000000.json").write_text("of nobody")
    (folder / "000000.json.0123456789abcdef.partial").write_text("half")
    (folder / "000000.json.bak").write_text("mine")
    done = quiet(f"{nets}:rgb", root, tmp_path / "s.csv")
    assert (done.images, done.failed) == (6, 0)
    assert sorted(path.name for path in folder.iterdir()) == ["000000.json.bak", "notes.txt"]
    assert (folder / "notes.txt").read_text() == "mine"


def test_two_runs_into_one_table(nets: str, root: Path, tmp_path: Path) -> None:
    out, arguments = tmp_path / "s.csv", (f"{nets}:rgb", root, tmp_path / "s.csv")
    with alone(tmp_path / "s.csv.lock", out):
        with pytest.raises(BlockingIOError, match=rf"{re.escape(str(out))} is being written by an"):
            quiet(*arguments)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "s.csv.lock"]
    (tmp_path / "s.csv.0123456789abcdef.partial").write_text("of a killed run")
    quiet(*arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "s.csv", "s.csv.json"]
    # Complete since this one has looked, and before it has the lock.
    with (
        pytest.raises(FileExistsError, match=r"s\.csv is there already, and complete"),
        Parts(out, 6, 1000).alone(overwrite=False),
    ):
        raise AssertionError


@pytest.mark.parametrize("name", ["manifest", "000001"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    parts = Parts(tmp_path / "s.csv", 4, 2)
    parts.begin({}, dict)
    for part in range(2):
        parts.write(part, [Row("a", 1, 0, 0.1, None, None)] * 2)
    file = parts.folder / f"{name}.json"
    changed = file.read_text(encoding="utf-8").replace("0.1", "0.7").replace("{}, ", '{"a": 1}, ')
    for bad in ("[[", "[]", '{"content": []}', changed):
        assert file.read_text(encoding="utf-8") != bad
        file.write_text(bad, encoding="utf-8")
        match = rf"{name}\.json is damaged .*: delete {name}\.json and"
        with pytest.raises(ValueError, match=match):
            list(parts.rows()) if name == "000001" else parts.begin({}, dict)


def test_what_a_link_leads_to_is_not_removed(tmp_path: Path) -> None:
    """Somebody may have put it there."""
    theirs = tmp_path / "labels" / "000001.json"
    theirs.parent.mkdir()
    theirs.write_text("{}", encoding="utf-8")
    parts = Parts(tmp_path / "s.csv", 4, 2)
    parts.folder.symlink_to(theirs.parent)
    with pytest.raises(NotADirectoryError, match=r"s.csv.parts must be a folder or not be there"):
        parts.begin({}, dict)
    assert theirs.is_file()


def test_a_part_of_another_length_is_refused(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "s.csv", 4, 2)
    parts.begin({}, dict)
    for part, n in ((0, 2), (1, 1)):
        parts.write(part, [Row("a", 1, 0, 0.1, None, None)] * n)
    with pytest.raises(ValueError, match=r"000001.json must have 2 rows, and has 1: delete it"):
        list(parts.rows())


# ------------------------------------------------------------------------------------ two processes


def test_two_processes_and_three_give_the_same_bytes(runs: Runs) -> None:
    folder, done = runs.folder, runs.several
    for name, ended in (("new", done[0]), ("begun", done[1])):
        assert ended.code == 1
        assert ended.err.count("rrfast: ") == 1, ended.err
        assert f"rrfast: 1 of {MANY} images could not be scored: 1/13.png (" in ended.err
        assert (folder / name / "s.csv").read_bytes() == runs.whole
        names = sorted(path.name for path in (folder / name).iterdir())
        assert names == ["s.csv", "s.csv.json"]
    told = json.loads((folder / "new" / "s.csv.json").read_text(encoding="utf-8"))
    assert told["processes"] == 2


def test_an_error_in_one_process_ends_both_with_its_sentence(runs: Runs) -> None:
    folder, done = runs.folder, runs.several
    assert done[2].code == 2
    assert done[2].err == "rrfast: the net was told to fail\n" * 2
    parts = {path.name for path in (folder / "failed as it was" / "s.csv.parts").iterdir()}
    # What the other had to do is done, and kept.
    assert {"manifest.json", "000000.json", "000002.json", "000004.json"} <= parts
    assert "000005.json" not in parts
    assert done[3].code == 1
    assert (folder / "failed" / "s.csv").read_bytes() == runs.whole


def test_a_process_that_is_killed_leaves_the_other_with_a_sentence(runs: Runs) -> None:
    folder, done = runs.folder, runs.several
    assert done[4].code == -9
    assert (
        "rrfast: another process ended without an error message; finished work is kept"
        in done[4].err
    )
    assert "Traceback" not in done[4].err
    assert done[5].code == 1
    assert (folder / "lost" / "s.csv").read_bytes() == runs.whole


def test_processes_that_do_not_see_the_same_do_nothing(runs: Runs) -> None:
    ended = runs.several[6]
    assert ended.code == 2
    told = r"rrfast: all processes must be given the same, but weights is \w+ in the first and"
    assert len(re.findall(told, ended.err)) == 2, ended.err
    assert not (runs.folder / "apart").exists()


def test_torchrun(runs: Runs) -> None:
    ended = runs.several[7]
    assert ended.code == 1, ended.err
    assert ended.err.count(f"rrfast: 1 of {MANY} images could not be scored: ") == 1
    assert (runs.folder / "torchrun" / "s.csv").read_bytes() == runs.whole
    told = json.loads((runs.folder / "torchrun" / "s.csv.json").read_text(encoding="utf-8"))
    assert told["processes"] == 2


def test_an_error_that_cannot_be_sent_is_sent_in_words() -> None:
    class LocalError(Exception):
        pass

    sent = pickle.loads(pickle.dumps(_portable(LocalError("why"))))
    assert (type(sent), str(sent)) == (RuntimeError, "LocalError: why")
    error = FileNotFoundError(2, "gone")
    assert _portable(error) is error


# ------------------------------------------------------------------------------------ the sentences


@pytest.mark.parametrize(
    ("change", "kind", "match"),
    [
        ({"out": "s.txt"}, ValueError, r"out must end in \.csv or \.parquet, got .*s\.txt"),
        (
            {"source": "nowhere"},
            FileNotFoundError,
            "input must be a folder of images or of shards, a shard or a .npy fi",
        ),
        ({"source": "empty"}, FileNotFoundError, r"input has no image: no \.png, .* below .*empty"),
        ({"source": "none.npy"}, FileNotFoundError, "input has no image: .*none.npy has no row"),
        ({"source": "int.npy"}, ValueError, r"or \[N, H, W\], got int64 of shape \[2, 3, 8, 8\]"),
        ({"source": "flat.npy"}, ValueError, r"or \[N, H, W\], got float64 of shape \[2, 3\]"),
        ({"source": "thin.npy"}, ValueError, r"got float64 of shape \[2, 3, 0, 8\]"),
        ({"source": "pickle.npy"}, ValueError, r"whole .npy file of numbers .*[^.]\. Is the downl"),
        ({"source": "cut.npy"}, ValueError, "must be a whole .npy file of numbers and cannot be"),
        ({"source": "x.npy", "size": 8}, ValueError, "size must not be given for a .npy file, whi"),
        ({"source": "x.npy", "channels": 1}, ValueError, "channels must not be given for a .npy"),
        ({"channels": 2}, ValueError, "channels must be 1 or 3 for encoded images, got 2"),
        (
            {"channels": 1},
            ValueError,
            r"must take images of shape \[1, 12, 10\], like the first image",
        ),
        (
            {"model": "nonsense"},
            ValueError,
            "'nonsense' is neither a folder nor a model: give the folder of a training, or",
        ),
        ({"score": "trust"}, ValueError, "score must be one of msr, .*, got 'trust'"),
        ({"score": "relu"}, ValueError, "score relu must be fitted to labelled data first: fit it"),
        ({"score": RelU()}, ValueError, "score relu must be fitted to labelled data first: fit it"),
        ({"score": "relu+eps"}, ValueError, r"score relu\+eps must be fitted to labelled data"),
        ({"score": "msr+eps"}, ValueError, r"score msr\+eps must be tuned on labelled data first"),
        ({"batch": 0}, ValueError, "batch must be an integer of at least 1, got 0"),
        ({"part": 0}, ValueError, "part must be an integer of at least 1, got 0"),
        ({"size": 0}, ValueError, "size must be an integer of at least 1, got 0"),
        ({"workers": -1}, ValueError, "workers must be an integer of at least 0, got -1"),
        ({"device": "gpu"}, ValueError, "device must be like cpu, cuda or cuda:1, got 'gpu'"),
        ({"device": "cuda:99"}, ValueError, "device must be one that is here, got cuda:99, and t"),
        ({"threshold": math.nan}, ValueError, "threshold must be a number, got NaN"),
        ({"threshold": "1"}, TypeError, "threshold must be a number, got str '1'"),
        (
            {"threshold": 1, "reject_errors": 0.5},
            ValueError,
            "at most one of threshold, .* is possible, got",
        ),
        ({"confidence": 0.9}, ValueError, "confidence needs target_risk"),
        ({"coverage": 0.9}, ValueError, "coverage needs the validation split of a training: the"),
        ({"classifier": "nowhere.pt"}, FileNotFoundError, "classifier must be a file that Sele"),
        (
            {"classifier": "other.pt"},
            ValueError,
            "classifier must be of this model, .*other.pt",
        ),
        ({"classifier": "text.pt"}, ValueError, "text.pt cannot be read as a .*: it is damaged"),
        (
            {"classifier": "text.safetensors"},
            ValueError,
            "text.safetensors cannot be read as a",
        ),
        ({"classifier": "raw.pt"}, ValueError, "classifier .*raw.pt has no threshold: fit it bef"),
    ],
)
def test_sentences(
    nets: str,
    root: Path,
    tmp_path: Path,
    change: dict[str, Any],
    kind: type[Exception],
    match: str,
) -> None:
    if "safetensors" in str(change.get("classifier")):
        pytest.importorskip("safetensors")
    (tmp_path / "empty").mkdir()
    arrays = {
        "none": np.zeros((0, 3, 8, 8), dtype=np.uint8),
        "int": np.zeros((2, 3, 8, 8), dtype=np.int64),
        "flat": np.zeros((2, 3)),
        "thin": np.zeros((2, 3, 0, 8)),
        "x": np.zeros((2, 3, 8, 8)),
    }
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    np.save(tmp_path / "pickle.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-1])
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "other.pt")
    for ending in ("pt", "safetensors"):
        (tmp_path / f"text.{ending}").write_text("no state")
    classifier = rrfast.SelectiveClassifier(load_model(f"{nets}:rgb"))
    torch.save(classifier.state_dict(), tmp_path / "raw.pt")
    given = {"model": f"{nets}:rgb", "source": root, "out": tmp_path / "s.csv", **change}
    for name in ("source", "out", "classifier"):
        if name in given:
            given[name] = tmp_path / given[name]
    with pytest.raises(kind, match=match):
        quiet(given.pop("model"), given.pop("source"), given.pop("out"), **given)
    assert not (tmp_path / "s.csv").exists()
    assert not (tmp_path / "s.csv.parts").exists()


@pytest.mark.parametrize("module", ["pyarrow.parquet", "PIL.Image"])
def test_what_is_missing_is_said_before_the_work(
    nets: str,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, module.partition(".")[0], None)
    argv = ["score", f"{nets}:rgb", str(root), "--out", str(tmp_path / "s.parquet")]
    assert cli.main(argv) == 1
    told = capsys.readouterr().err
    assert told.startswith("rrfast: ")
    assert f"pip install {'pyarrow' if 'pyarrow' in module else 'pillow'}" in told
    assert not (tmp_path / "s.parquet.parts").exists()


def test_no_validation_split(nets: str, tmp_path: Path) -> None:
    from rrfast.inference import given_threshold
    from rrfast.train import load_recipe
    from rrfast.train.recipe import make_task

    recipe = load_recipe("digits_rat")
    task = make_task(recipe)._replace(validation=None)
    given = given_threshold.GivenThreshold(coverage=0.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rrfast.train.recipe.make_task", lambda _: task)
        classifier = rrfast.SelectiveClassifier(load_model(f"{nets}:gray"))
        with pytest.raises(ValueError, match="coverage needs a validation split, and the data of"):
            given.choose(classifier, recipe, "last", None)


def test_the_speed_and_what_bounds_it_are_said(
    nets: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_parts, "BRIEF", 0.0)
    console = Console(record=True, file=io.StringIO(), width=200)
    score(f"{nets}:rgb", root, tmp_path / "scores.csv", console=console)
    said = re.search(
        r"images in \d+ s: \S+ images/s, (\d+) % of the time waiting for images to be read",
        console.export_text(),
    )
    assert said is not None
    assert 0 <= int(said[1]) <= 100


def test_who_reads_is_chosen_by_images_and_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, images, processes, readers in (
        (2, 10**6, 1, 0),
        (64, 1999, 1, 0),
        (64, 2000, 1, 8),
        (8, 2000, 1, 4),
        (8, 2000, 4, 1),
        (8, 2000, 8, 0),
    ):
        monkeypatch.setattr(
            os, "sched_getaffinity", lambda _, n=cores: set(range(n)), raising=False
        )
        assert score_parts._readers(images, processes) == readers
