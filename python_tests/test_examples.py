"""Every example runs, says the same twice, leaves nothing behind, and is a few lines from standard.

In an example the lines of RAT end in `# RAT`; `# RAT, in place of: CODE` holds what one replaces.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import rrfast

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
NEEDS = {
    "rat_pytorch": ("sklearn",),
    "rat_lightning": ("sklearn", "lightning"),
    "rat_huggingface": ("sklearn", "transformers", "accelerate"),
}
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


def said(script: Path, folder: Path) -> str:
    """The three lines a script ends with, run in an empty folder that it must leave empty."""
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        # The rrfast under test, also where another one is installed; one thread, as in CI.
        env=os.environ
        | {"PYTHONPATH": str(Path(rrfast.__file__).parents[1]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert not list(folder.iterdir())
    match = SAID.search(done.stdout)
    assert match, done.stdout[-3000:]
    assert done.stdout.endswith(match[0])
    return match[0]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory):
    """What an example says in its first run."""

    @cache
    def run(name: str) -> str:
        for module in NEEDS[name]:
            pytest.importorskip(module)
        return said(EXAMPLES / f"{name}.py", tmp_path_factory.mktemp(name) / "first")

    return run


def test_every_example_is_tested_and_in_the_index() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(NEEDS)
    assert set(re.findall(r"\]\((\w+)\.py\)", INDEX)) == set(NEEDS)


@each_example
def test_it_runs_and_prints_the_numbers(name: str, first) -> None:
    auroc = [float(value) for value in re.findall(r"AUROC (\S+)", first(name))]
    assert min(auroc) > 70


@each_example
def test_a_second_run_says_the_same(name: str, first, tmp_path: Path) -> None:
    assert first(name) == said(EXAMPLES / f"{name}.py", tmp_path / "second")


@each_example
def test_the_change_is_ten_lines_or_fewer(name: str) -> None:
    """Added and replaced lines and `import rrfast`; what is replaced is not counted again."""
    assert 2 <= len(of_rat(name)) + 1 <= 10
    assert code(name).count("# RAT, in place of: ") == 1
    assert code(name).count("\nimport rrfast\n") == 1


@each_example
def test_without_the_change_it_is_standard_training(name: str, first, tmp_path: Path) -> None:
    script = tmp_path / f"{name}.py"
    script.write_text(standard(name), encoding="utf-8")
    assert "rrfast.RAT" not in standard(name)
    assert said(script, tmp_path / "standard") != first(name)


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
