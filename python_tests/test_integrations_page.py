"""Every example of docs/integrations.md runs where its library is, and a missing one is named."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "integrations.md").read_text(encoding="utf-8")
START, *SECTIONS = re.split(r"^## ", PAGE, flags=re.MULTILINE)
#: The libraries of each file of rrfast/integrations.
NEEDS = {
    "lightning": ("lightning",),
    "transformers": ("transformers", "accelerate"),
    "torchmetrics": ("torchmetrics",),
    "sklearn": ("sklearn",),
    "pytorch_ood": ("pytorch_ood",),
}
# What these libraries say about torch, and about a machine without a GPU.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def file_of(section: str) -> str:
    return re.findall(r"from rrfast\.integrations\.(\w+) import", section)[0]


def codes(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


def test_every_file_has_its_section_and_no_section_is_left_over() -> None:
    files = {path.stem for path in (ROOT / "rrfast" / "integrations").glob("[a-z]*.py")}
    assert sorted(map(file_of, SECTIONS)) == sorted(files) == sorted(NEEDS)


@pytest.mark.parametrize("section", SECTIONS, ids=file_of)
def test_examples_run(section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in NEEDS[file_of(section)]:
        pytest.importorskip(library, reason=f"needs {library}", exc_type=ImportError)
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    names: dict[str, Any] = {}
    for code in [*codes(START), *codes(section)]:
        example = doctest.DocTestParser().get_doctest(code, {}, "page", "integrations.md", 0)
        example.globs = names
        doctest.DocTestRunner().run(example, out=said.append, clear_globs=False)
    assert not said, "".join(said)


WITHOUT = """
import importlib, importlib.abc, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {*sys.argv[1:]}:
            raise ImportError(f"No module named {name!r}")
sys.meta_path.insert(0, Absent())
import rrfast.integrations
for file in sys.argv[1:]:
    try:
        importlib.import_module(f"rrfast.integrations.{file}")
    except ImportError as error:
        print(error)
"""


def test_a_missing_library_is_named() -> None:
    """In a sentence; and rrfast.integrations itself needs none."""
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT, *NEEDS], capture_output=True, text=True, check=True
    )
    for file, said in zip(NEEDS, run.stdout.splitlines(), strict=True):
        package = {"sklearn": "scikit-learn"}.get(file, file).replace("_", "-")
        assert said.startswith(f"rrfast.integrations.{file} needs {package}, which does not import")
        assert said.endswith(f"Install it with: pip install {package}")


def test_every_library_has_its_extra() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    named = re.findall(r"pip install 'rrfast\[([\w-]+)\]'", START)
    assert len(named) == len(NEEDS)
    for extra in named:
        assert re.search(rf"^{extra} = \[", project, flags=re.MULTILINE), extra
