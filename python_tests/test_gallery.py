"""`rrfast score --gallery`: the content of the page and its order."""

from __future__ import annotations

import base64
import io
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

pytest.importorskip("lightning_fabric")
pytest.importorskip("PIL")

from PIL import Image

from rrfast import cli
from rrfast.inference import Scoring, gallery, score
from rrfast.inference.inputs import FolderImages
from rrfast.inference.parts import Parts, Row

#: The brighter of two halves of the range is class 1; the farther from the middle, the surer. White
#: has no score.
MODEL = """
import torch
from torch import nn

class Net(nn.Module):
    def forward(self, x):
        m = x.mean(dim=(1, 2, 3))
        h = 10 * (m - 0.5)[:, None] * torch.tensor([-1.0, 1.0])
        return h.masked_fill(m[:, None] == 1, float("nan"))

class Sure(nn.Module):
    def forward(self, x):
        return 0 * x.flatten(1)[:, :2] + torch.tensor([0.0, 1.0])
"""
VOID = ("meta", "img", "br")


class Page(HTMLParser):
    """What a browser would see: elements with their text, section by section."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[tuple[str, str | None]] = []
        #: Of each section its title, its text, and its items as (text, source of the picture, alt).
        self.titles: list[str] = []
        self.text = ""
        self.items: list[list[dict[str, str]]] = []
        self.feed(file.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append((tag, given.get("class")))
        if tag == "section":
            self.items.append([])
        if tag == "li" and self.items:
            self.items[-1].append({"class": given.get("class") or "", "text": "", "name": ""})
        if tag == "img":
            self.items[-1][-1] |= {key: value or "" for key, value in attrs if key != "class"}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag
        if tag == "li" and self.items:
            self.items[-1][-1]["text"] = " ".join(self.items[-1][-1]["text"].split())

    def handle_data(self, data: str) -> None:
        self.text += data
        tags = [tag for tag, _ in self.open]
        if "h2" in tags:
            self.titles.append(data)
        if "li" in tags and self.items:
            self.items[-1][-1]["text"] += f"{data.strip()} "
            if ("p", "name") in self.open and "bdi" in tags:
                self.items[-1][-1]["name"] += data

    def names(self) -> list[list[str]]:
        return [[item["name"] for item in section] for section in self.items]


@pytest.fixture
def net(tmp_path: Path) -> str:
    (tmp_path / "net.py").write_text(MODEL, encoding="utf-8")
    return f"{tmp_path / 'net.py'}:Net"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def grey(root: Path, name: str, level: int, side: int = 8) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), (level,) * 3).save(root / name)


def quiet(net: str, root: Path, **options: Any) -> tuple[Page, Scoring]:
    """By the margin, which is 20 times the distance of the mean from the middle."""
    options = {"score": "margin", "gallery": root.parent / "page.html", "overwrite": True} | options
    done = score(net, root, root.parent / "s.csv", console=Console(quiet=True), **options)
    return Page(options["gallery"]), done


def picture(item: dict[str, str]) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(item["src"].partition(",")[2])))


# ---------------------------------------------------------------------------- what is shown, where


def test_least_trusted_first_accepted_and_rejected_apart(net: str, root: Path) -> None:
    levels = {"a": 250, "b": 120, "c": 10, "d": 140, "e": 200, "f": 60, "g": 127}
    for name, level in levels.items():
        grey(root, f"{name}.png", level)
    order = sorted(levels, key=lambda name: abs(levels[name] - 127.5))
    page, done = quiet(net, root, threshold=5.5)
    assert done.accepted == 3
    assert page.titles == ["Rejected: 4", "Accepted: 3"]
    assert page.names() == [[f"{n}.png" for n in order[:4]], [f"{n}.png" for n in order[4:]]]
    items = [item for section in page.items for item in section]
    assert [item["text"].split()[0] for item in items] == [str(i + 1) for i in range(7)]
    for item, name in zip(items, order, strict=True):
        assert item["text"].split()[1:4] == [f"{name}.png", "prediction", str(levels[name] // 128)]
        assert item["alt"] == f"{name}.png"
        assert float(item["text"].split("margin")[1]) == pytest.approx(
            20 * abs(levels[name] / 255 - 0.5), rel=1e-3
        )
    assert "Accepted if at least 5.5 (as given)" in page.text
    page, _ = quiet(net, root)
    assert page.titles == ["All images: 7"]
    assert page.names() == [[f"{n}.png" for n in order]]


def test_of_many_the_ends_are_shown_and_only_these_are_read_again(
    net: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for level in range(0, 120, 2):
        grey(root, f"{level:03}.png", level)
    for i in range(9):
        (root / f"x{i}.png").write_text("no image")
    reads: list[int] = []
    read = FolderImages.read
    monkeypatch.setattr(FolderImages, "read", lambda self, i: (reads.append(i), read(self, i))[1])
    page, _ = quiet(net, root, threshold=8, part=7, gallery_images=4)
    # All once, the first once more for its shape, and 5 + 5 + 4 for the page.
    assert len(reads) == 69 + 1 + 14
    assert page.titles == ["Rejected: 47", "Accepted: 13", "Without a score: 9"]
    gap = "{} images between these are not shown"
    for section, first, last, left_out in ((0, 118, 26, 42), (1, 24, 0, 8)):
        shown = [f"{first - 2 * i:03}.png" for i in range(4)]
        assert page.names()[section] == [*shown, "", f"{last:03}.png"]
        assert page.items[section][4]["text"] == gap.format(left_out)
    assert page.items[1][-1]["text"].startswith("60 000.png")
    assert page.names()[2] == ["x0.png", "x1.png", "x2.png", "x3.png", ""]
    assert page.items[2][-1]["text"] == "5 more are not shown: see the column error of the table"


@given(st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 1e-9, 2.0, np.inf])), st.integers(1, 25))
def test_the_ends_are_those_of_the_sorted_table(confidences: list[float], shown: int) -> None:
    group = gallery._Group("", shown)
    for place, confidence in enumerate(confidences):
        group.add(place, Row(str(place), 0, 1, confidence, None, None), confidence, None)
    ranked = sorted(range(len(confidences)), key=lambda place: confidences[place])
    most = min(max(1, shown // 10), max(0, len(ranked) - shown))
    assert [place for place, _ in group.least] == ranked[:shown]
    assert [place for place, _ in group.most] == ranked[len(ranked) - most :]


def test_what_has_no_score_says_why(net: str, root: Path) -> None:
    grey(root, "a.png", 30)
    grey(root, "b.png", 255)
    grey(root, "c.png", 30, side=9)
    (root / "d.png").write_text("no image")
    page, _ = quiet(net, root, threshold=-1)
    assert page.titles == ["Rejected: 0", "Accepted: 1", "Without a score: 3"]
    white, large, broken = page.items[2]
    assert "the model's score is NaN" in white["text"]
    assert picture(white).size == (8, 8)
    assert "must have the shape of the first image, [3, 8, 8], got [3, 9, 9]" in large["text"]
    assert picture(large).size == (9, 9)
    assert "d.png cannot be read as an image" in broken["text"]
    assert "no picture" in broken["text"]
    assert "src" not in broken
    for item in page.items[2]:
        assert "prediction" not in item["text"]


def test_where_nothing_can_be_read(net: str, root: Path) -> None:
    (root / "a.png").write_text("no image")
    page, _ = quiet(net, root, class_names=["x", "y"])
    assert page.titles == ["All images: 0", "Without a score: 1"]


@pytest.mark.filterwarnings("ignore:the radius of every sample is infinite because every gradient")
def test_an_infinite_confidence_is_shown_as_such(net: str, root: Path) -> None:
    grey(root, "a.png", 30)
    page, _ = quiet(net.replace("Net", "Sure"), root, score="radius_fast")
    assert "radius_fast ∞" in page.items[0][0]["text"]


def test_the_rival_is_shown_where_the_score_has_one(net: str, root: Path) -> None:
    for i, level in enumerate((30, 200)):
        grey(root, f"{i}.png", level)
    page, _ = quiet(net, root, score="radius_fast", class_names=["dark", "bright"])
    said = [item["text"].split("radius_fast")[0] for item in page.items[0]]
    assert said == [
        "1 1.png prediction bright rival dark ",
        "2 0.png prediction dark rival bright ",
    ]
    page, _ = quiet(net, root, score="margin")
    assert [item["text"].split("margin")[0] for item in page.items[0]] == [
        "1 1.png prediction 1 rival 0 ",
        "2 0.png prediction 0 rival 1 ",
    ]


# ------------------------------------------------------------------------------------- pictures


def test_small_images_keep_every_pixel_and_large_ones_are_scaled(net: str, root: Path) -> None:
    x = np.random.default_rng(0).integers(0, 255, (28, 64, 3), dtype=np.uint8)
    Image.fromarray(x).save(root / "a.png")
    page, _ = quiet(net, root)
    assert np.array_equal(np.asarray(picture(page.items[0][0])), x)
    grey(root, "a.png", 90, side=1000)
    page, _ = quiet(net, root)
    thumbnail = picture(page.items[0][0])
    assert (thumbnail.format, thumbnail.size) == ("JPEG", (320, 320))
    assert abs(int(np.asarray(thumbnail)[9, 9, 0]) - 90) <= 2
    # What the model sees: scaled, and the centre of it.
    page, _ = quiet(net, root, size=32)
    assert picture(page.items[0][0]).size == (32, 32)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_rows_of_an_array(net: str, root: Path, channels: int) -> None:
    x = np.random.default_rng(0).random((3, channels, 8, 8), dtype=np.float32)
    np.save(root / "x.npy", x)
    page, _ = quiet(net, root / "x.npy", gallery=root / "page.html")
    assert sorted(page.names()[0]) == ["0", "1", "2"]
    for item in page.items[0]:
        if channels == 2:
            assert "no picture" in item["text"]
            assert "there is no picture of 2 channels" in item["text"]
            continue
        expected = (x[int(item["name"])] * 255).round().transpose(1, 2, 0)
        assert np.array_equal(np.atleast_3d(np.asarray(picture(item))), expected)


# --------------------------------------------------------------------------- what is not ours in it


def test_names_are_text_and_nothing_in_the_page_runs_or_is_from_elsewhere(
    net: str, root: Path
) -> None:
    names = [
        "<script>alert(1)<&script>",
        'x" onerror="alert(1)',
        "' onload='alert(1)",
        "{{ 7 * 7 }}",
        "\u202egnp",
        "a\nb",
        "&lt;b&gt;",
    ]
    for i, name in enumerate(names):
        grey(root, f"{name}.png", 10 * i)
    grey(root, "<b>dark/1.png", 3)
    (root / os.fsdecode(b"<li><img src=x>\xff.png")).write_text("no image")
    classes = ["<b>dark", "<script>bright</script>"]
    grey(root, "z.png", 250)
    page, _ = quiet(net, root, class_names=classes, command="rrfast score '<script>' \udcff")
    assert {item["name"] for item in page.items[0]} == {
        *(f"{name}.png" for name in names),
        "<b>dark/1.png",
        "z.png",
    }
    assert "<script>bright</script>" in page.text
    assert "<li><img src=x>\\xff.png cannot be read" in page.text
    assert page.items[0][-1]["text"].count("<b>dark") >= 1
    assert not {"script", "b", "iframe", "link", "object", "form"} & set(page.tags)
    for name, value in page.attributes:
        assert not name.startswith("on")
        assert name not in ("src", "href") or str(value).startswith(("data:image/", "#"))
    assert any("default-src 'none'" in str(value) for _, value in page.attributes)
    text = (root.parent / "page.html").read_text(encoding="utf-8")
    assert "url(" not in text
    assert "49" not in re.findall(r"<bdi>(.*?)</bdi>", text)


# ---------------------------------------------------------------------------------- classes, labels


def test_a_folder_with_the_name_of_a_class_is_the_label(net: str, root: Path) -> None:
    for i, level in enumerate((10, 20, 240)):
        grey(root, f"dark/{i}.png", level)
    grey(root, "bright/deep/3.png", 140)
    grey(root, "other/4.png", 150)
    grey(root, "dark.png", 230)
    (root.parent / "names.txt").write_text("\ufeffdark\r\nbright\r\n", encoding="utf-8")
    page, _ = quiet(net, root, class_names=root.parent / "names.txt", threshold=3)
    said = {item["name"]: item["text"].split("prediction")[1] for s in page.items for item in s}
    assert {name: text.partition("label")[2].strip() for name, text in said.items()} == {
        "dark/0.png": "dark: right",
        "dark/1.png": "dark: right",
        "dark/2.png": "dark: wrong",
        "bright/deep/3.png": "bright: right",
        "other/4.png": "",
        "dark.png": "",
    }
    assert said["dark/2.png"].split()[0] == "bright"
    marked = [item["name"] for section in page.items for item in section if item["class"]]
    assert marked == ["dark/2.png"]
    assert "1 of 3 with a label are wrong, 33.3 %" in page.text
    assert "0 of 1 with a label are wrong, 0 %" in page.text
    assert "An image in a folder with the name of a class" in page.text
    # Without names classes are numbers, and a folder says nothing.
    page, _ = quiet(net, root)
    assert "label" not in page.text


def test_a_training_on_a_folder_of_images_has_names(root: Path, tmp_path: Path) -> None:
    from rrfast.train import load_recipe, train

    for i in range(8):
        grey(root, f"{'dark' if i % 2 else 'bright'}/{i}.png", 30 + 180 * (1 - i % 2) + i)
    (tmp_path / "recipe.yaml").write_text(
        "model: {name: 'rrfast.models:synthetic_cnn'}\n"
        f"data: {{name: image_folder, train: '{root}', size: 8}}\n"
        "objective: {name: standard}\ntraining: {epochs: 1, batch_size: 4, threads: 1}\n",
        encoding="utf-8",
    )
    train(load_recipe(tmp_path / "recipe.yaml"), tmp_path / "run", console=Console(quiet=True))
    page, _ = quiet(str(tmp_path / "run"), root)
    assert len(re.findall(r"label\s*(dark|bright): (right|wrong)", page.text)) == 8
    # Where the folder is gone, numbers do.
    root.rename(tmp_path / "moved")
    page, _ = quiet(str(tmp_path / "run"), tmp_path / "moved")
    assert re.findall(r"prediction\s*(\w+)", page.text)[0] in ("0", "1")
    assert "label" not in page.text


# ---------------------------------------------------------------------------------------- the file


def test_a_page_that_cannot_be_written_costs_no_score(
    net: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run continues with its parts, and an existing file is unchanged."""
    grey(root, "a.png", 30)
    page = root.parent / "page.html"
    page.write_text("of before")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(gallery, "thumbnail", full)
        with pytest.raises(OSError, match=r"page\.html cannot be written: No space left"):
            quiet(net, root)
    assert page.read_text() == "of before"
    assert not list(root.parent.glob("*.partial"))
    assert json.loads((root.parent / "s.csv.parts" / "000000.json").read_text())
    monkeypatch.setattr(Parts, "write", lambda *_: pytest.fail("scored again"))
    assert quiet(net, root, overwrite=False)[0].names() == [["a.png"]]


def test_a_page_that_is_there_is_not_replaced_unasked(net: str, root: Path) -> None:
    grey(root, "a.png", 30)
    page = root.parent / "page.html"
    page.write_text("mine")
    with pytest.raises(FileExistsError, match=r"page\.html is there already: give another file"):
        quiet(net, root, overwrite=False)
    assert page.read_text() == "mine"
    assert not (root.parent / "s.csv").exists()


@pytest.mark.parametrize(
    ("change", "kind", "match"),
    [
        ({"gallery": "page.pdf"}, ValueError, r"gallery must end in \.html, got page\.pdf"),
        ({"gallery_images": 0}, ValueError, "gallery_images must be an integer of at least 1"),
        ({"gallery": None, "class_names": ["a", "b"]}, ValueError, "class_names needs a gallery"),
        ({"class_names": ["a"]}, ValueError, "as many as the model has logits, 2, got 1$"),
        ({"class_names": "three.txt"}, ValueError, r"logits, 2, got 3 in .*three\.txt"),
        ({"class_names": "none.txt"}, FileNotFoundError, "must be a file with a name per line"),
        ({"class_names": "bytes.txt"}, ValueError, r"class_names must be text in UTF-8, .*bytes"),
    ],
)
def test_sentences_before_the_work(
    net: str, root: Path, change: dict[str, Any], kind: type[Exception], match: str
) -> None:
    grey(root, "a.png", 30)
    (root.parent / "three.txt").write_text("a\nb\nc\n")
    (root.parent / "bytes.txt").write_bytes(b"\xff\xfe\n")
    if isinstance(change.get("class_names"), str):
        change = {"class_names": root.parent / change["class_names"]}
    with pytest.raises(kind, match=match):
        quiet(net, root, **change)
    assert not (root.parent / "s.csv.parts").exists()


def test_the_command(net: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grey(root, "a.png", 30)
    (root.parent / "names.txt").write_text("dark\nbright\n")
    page = root.parent / "new" / "page.html"
    argv = ["score", net, str(root), "--out", str(root.parent / "s.csv"), "--score", "margin"]
    options = ["--gallery", str(page), "--class-names", str(root.parent / "names.txt")]
    assert cli.main([*argv, *options, "--gallery-images", "5"]) == 0
    assert f"s.csv.json, {page}" in capsys.readouterr().out.replace("\n", "")
    assert "prediction dark" in Page(page).items[0][0]["text"]
    assert "Made by rrfast score" in Page(page).text
