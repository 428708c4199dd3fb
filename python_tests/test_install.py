"""Installing where something is missing, and asking for what cannot be: in a copy of the tree."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1]
pytest.importorskip("setuptools", minversion="77")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("rrfast")
    built = shutil.ignore_patterns("*.so", "_build.json", "_build_note.txt", "__pycache__")
    for folder in ("csrc", "rrfast"):
        shutil.copytree(SOURCE / folder, tree / folder, ignore=built)
    for file in SOURCE.iterdir():
        if file.is_file():
            shutil.copy(file, tree)
    return tree


def wheel(tree: Path, **knobs: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RRFAST_")}
    command = [sys.executable, "-m", "pip", "wheel", "-v", "-w", "dist", "--no-deps"]
    return subprocess.run(
        [*command, "--no-build-isolation", "."],
        cwd=tree,
        env=clean | knobs,
        capture_output=True,
        text=True,
        check=False,
    )


def built(tree: Path) -> tuple[str, list[str]]:
    file = max((tree / "dist").glob("*.whl"), key=lambda file: file.stat().st_mtime)
    return file.name, zipfile.ZipFile(file).namelist()


@pytest.mark.parametrize(
    ("knob", "value", "sentence"),
    [
        ("RRFAST_BUILD", "maybe", "RRFAST_BUILD is 'maybe'; expected one of: auto, off, required."),
        ("RRFAST_CUDA", "12", "RRFAST_CUDA is '12'; expected one of: auto, off, on."),
        ("RRFAST_CUDA_ARCHITECTURES", "9.0", "is '9.0'; expected a list such as"),
        ("MAX_JOBS", "all", "MAX_JOBS is 'all'; expected a positive number"),
    ],
)
def test_a_wrong_knob_is_a_sentence(tree: Path, knob: str, value: str, sentence: str):
    done = wheel(tree, **{knob: value})
    assert done.returncode != 0
    assert sentence in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_off_gives_a_pure_wheel(tree: Path):
    done = wheel(tree, RRFAST_BUILD="off")
    assert done.returncode == 0, done.stdout
    name, files = built(tree)
    assert name.endswith("py3-none-any.whl")
    assert "rrfast/py.typed" in files
    assert "rrfast/_build.json" not in files
    assert not [file for file in files if file.endswith(".so")]


def test_without_a_compiler_the_install_is_pure_python_and_says_so(tree: Path):
    done = wheel(tree, CXX="/nonexistent/c++")
    assert done.returncode == 0, done.stdout
    assert "rrfast: pure Python, the same results but slower: " in done.stdout + done.stderr
    _, files = built(tree)
    assert "rrfast/_build_note.txt" in files
    assert not [file for file in files if file.endswith(".so")]


@pytest.mark.parametrize("insist", [{"RRFAST_BUILD": "required"}, {"RRFAST_CUDA": "on"}])
def test_who_insists_on_a_build_gets_an_error(tree: Path, insist: dict[str, str]):
    done = wheel(tree, CXX="/nonexistent/c++", **insist)
    assert done.returncode != 0
    assert "insists on a build: " in done.stdout + done.stderr


def test_fabric_is_imported_by_a_training_alone() -> None:
    """With all that it looks at it takes seconds, and evaluating and scoring need none of it."""
    pytest.importorskip("lightning_fabric")
    pytest.importorskip("sklearn")
    code = (
        "import sys, rrfast.cli, rrfast.evaluate, rrfast.train;"
        "assert 'lightning_fabric' not in sys.modules;"
        "assert rrfast.train.AutocastPrecision.__module__ == 'rrfast.train.precision';"
        "assert 'lightning_fabric' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
