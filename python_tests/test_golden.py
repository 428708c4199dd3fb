"""Every committed page of results comes out of its committed numbers, letter by letter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rrfast.bench import tables as bench
from rrfast.evaluate import read_result
from rrfast.evaluate.studies import REPORTED
from rrfast.evaluate.study import page

ROOT = Path(__file__).parents[1]
PAGES: dict[str, Callable[[dict[str, Any]], str]] = {
    study.stem: lambda result, study=study: page(study, result, list(study.figures(result)))
    for study in (*REPORTED, bench.STUDY)
}
FILES = [
    path
    for folder in (ROOT / "docs", ROOT / "benchmarks")
    for stem in PAGES
    for path in sorted(folder.rglob(f"{stem}.json"))
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_the_page_is_that_of_the_numbers(path: Path) -> None:
    """Where it is not meant to change: `rrfast report FOLDER --pages` writes it again."""
    result = read_result(path)
    written = path.with_suffix(".md").read_text(encoding="utf-8")
    assert PAGES[path.stem](result) == written


def test_no_kind_of_page_is_left_out() -> None:
    assert {path.stem for path in FILES} == PAGES.keys()
