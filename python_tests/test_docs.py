"""The pages in docs say what the code does: options, passes, examples; and no link is broken."""

from __future__ import annotations

import ast
import dataclasses
import doctest
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import rrfast
from rrfast.radius import METHODS

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "radius"
INDEX = (PAGES / "README.md").read_text(encoding="utf-8")
TEXTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"```(\w*)\n(.*?)```", flags=re.DOTALL)


def page(method: str) -> str:
    return (PAGES / f"{method}.md").read_text(encoding="utf-8")


def row(method: str) -> list[str]:
    """The cells of a method in the table of all methods, whose first holds its link alone."""
    rows = re.findall(rf"^\| \[{method}\]\({method}\.md\) \|(.*)\|$", INDEX, flags=re.MULTILINE)
    assert len(rows) == 1, f"the index should have one row for {method}, it has {len(rows)}"
    return [cell.strip() for cell in rows[0].split("|")]


def test_every_method_has_a_page_and_no_page_is_left_over() -> None:
    assert {path.stem for path in PAGES.glob("*.md")} == {*METHODS, "README"}


@pytest.mark.parametrize("method", METHODS)
def test_the_options_are_the_fields_with_their_defaults(method: str) -> None:
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", page(method), flags=re.MULTILINE)
    written = {name: ast.literal_eval(default) for name, default in rows}
    assert len(written) == len(rows)
    fields: Any = dataclasses.fields(METHODS[method])
    assert written == {field.name: field.default for field in fields}


@pytest.mark.parametrize("method", METHODS)
def test_the_passes_are_those_that_are_taken(method: str) -> None:
    """On ten linear classes, where DeepFool needs one step."""
    model, x = nn.Linear(4, 10).double(), torch.randn(3, 4, dtype=torch.float64)
    result = rrfast.radius(model, x, method=method, full_output=True)
    passes = f"{result.forwards:g} F + {result.backwards:g} B"
    assert row(method)[0].removesuffix(" a step") == passes
    assert passes in page(method).replace("\n", " ")


@pytest.mark.parametrize("method", METHODS)
def test_the_index_knows_temperatures_brackets_and_graphs(method: str) -> None:
    _, _, upper, bracket, temperature, waits, graph = row(method)
    estimator: Any = METHODS[method]()
    assert (temperature == "yes") == hasattr(estimator, "temperature")
    assert (graph != "no") == getattr(estimator, "capturable", False)
    assert graph == "no" or waits in ("no", "with `tol`")
    result = rrfast.radius(nn.Linear(4, 3), torch.randn(9, 4), method=method, full_output=True)
    assert (upper != "no") == (bracket != "no") == bool(result.upper.isfinite().all())
    assert bracket.startswith("both") == bool((result.lower > 0).any())
    assert (upper == "the radius itself") == torch.equal(result.radius, result.upper)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    prose = FENCE.sub("", path.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if not re.match(r"[a-z]+:|#", target):
            assert (path.parent / target.split("#")[0]).exists(), f"{path.name} links to {target}"


@pytest.mark.parametrize("path", sorted(PAGES.glob("*.md")), ids=lambda path: path.stem)
def test_examples_run(path: Path) -> None:
    fences = FENCE.findall(path.read_text(encoding="utf-8"))
    codes = [code for language, code in fences if language == "python" and ">>>" in code]
    assert codes or path.stem == "README"
    said: list[str] = []
    for code in codes:
        example = doctest.DocTestParser().get_doctest(code, {}, path.stem, str(path), 0)
        doctest.DocTestRunner().run(example, out=said.append)
    assert not said, "".join(said)
