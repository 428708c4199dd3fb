"""What is committed: figures from the numbers, small files, quotes in docs/papers."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

pytest.importorskip("lightning_fabric")
pytest.importorskip("matplotlib")

from matplotlib.backends.backend_agg import FigureCanvasAgg

from rrfast.evaluate import read_result
from rrfast.evaluate.studies import REPORTED
from rrfast.evaluate.study import page

DOCS = Path(__file__).parents[1] / "docs"
BY_STEM = {study.stem: study for study in REPORTED}
RESULTS = [path for path in sorted(DOCS.glob("*/*/*.json")) if path.stem in BY_STEM]
NUMBER = re.compile(r"(?<![\d.])[−-]?\d+\.\d+")


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.parent.name)
def test_a_page_and_its_figures_are_those_that_the_numbers_have(path: Path) -> None:
    study, result = BY_STEM[path.stem], read_result(path)
    drawn = list(study.figures(result))
    assert {each.name for each in drawn} == {each.stem for each in path.parent.glob("*.png")}
    assert page(study, result, drawn) == path.with_suffix(".md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.parent.name)
def test_no_label_of_a_tick_lies_on_another(path: Path) -> None:
    """Of those that are horizontal."""
    for drawing in BY_STEM[path.stem].figures(read_result(path)):
        canvas = FigureCanvasAgg(drawing.figure)
        canvas.draw()
        for axis in (axis for ax in canvas.figure.axes for axis in (ax.xaxis, ax.yaxis)):
            labels = axis.get_ticklabels() + axis.get_ticklabels(minor=True)
            drawn = [each for each in labels if each.get_visible() and not each.get_rotation()]
            for one, other in itertools.combinations(drawn, 2):
                boxes = [each.get_window_extent(canvas.get_renderer()) for each in (one, other)]
                apart = not all(box.width for box in boxes) or not boxes[0].overlaps(boxes[1])
                assert apart, (drawing.name, one.get_text(), other.get_text())


def test_what_is_committed_is_small() -> None:
    """No result, table or picture has 300 kB: what a page needs, and the rest by a command."""
    root = DOCS.parent
    found = [
        path
        for folder in ("docs", "benchmarks", "examples", "python_tests", "rrfast")
        for ending in ("json", "csv", "png", "svg", "webp", "html", "jpg")
        for path in (root / folder).rglob(f"*.{ending}")
    ]
    assert len(found) > 100
    assert [path.name for path in found if path.stat().st_size >= 300_000] == []


@pytest.mark.parametrize("paper", ["acet", "distal", "irat", "odin", "rat"])
def test_what_a_paper_s_page_says_of_ours_is_in_the_files(paper: str) -> None:
    """Every number of a column that is "ours: ...", or of a table that is."""
    page = DOCS / "papers" / f"{paper}.md"
    text = page.read_text(encoding="utf-8")
    linked = sorted(set(re.findall(r"\((\.\./[\w./-]+/[\w-]+/[\w-]+\.md)\)", text)))
    assert linked
    there = set()
    for name in linked:
        there |= {*NUMBER.findall((page.parent / name).read_text(encoding="utf-8"))}
    quoted = []
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        head, _, *rows = (
            [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()
        )
        whole = head[0].startswith("ours: ")
        columns = [j for j, cell in enumerate(head) if whole or cell.startswith("ours: ")]
        quoted += [n for row in rows for j in columns for n in NUMBER.findall(row[j])]
    assert len(quoted) > 10
    assert set(quoted) <= there, sorted(set(quoted) - there)
