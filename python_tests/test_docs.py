"""The pages in docs say what the code does: options, passes, examples; and no link is broken."""

from __future__ import annotations

import ast
import dataclasses
import doctest
import inspect
import json
import math
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import rrfast
from rrfast.attacks import ATTACKS
from rrfast.engine import Engine
from rrfast.methods import METHODS
from rrfast.metrics import METRICS, convention
from rrfast.metrics.conventions import _SENTENCES
from rrfast.scores import DEFAULT, SCORES, score_grid
from rrfast.train import load_recipe

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "radius"
INDEX = (PAGES / "README.md").read_text(encoding="utf-8")
SCORE_PAGES, METRIC_PAGE = ROOT / "docs" / "scores", ROOT / "docs" / "metrics" / "README.md"
PAPERS = [path for path in (ROOT / "docs" / "papers").glob("*.md") if path.stem != "README"]
EXAMPLES = sorted(
    [
        *PAGES.glob("*.md"),
        *SCORE_PAGES.glob("*.md"),
        METRIC_PAGE,
        ROOT / "docs" / "attacks.md",
        ROOT / "docs" / "selective.md",
        *PAPERS,
    ]
)
#: Metrics of the table that need a number more than METRICS give them.
AT_A_POINT = {"risk_at_coverage": 0.5, "coverage_at_risk": 0.5}
TEXTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
#: What takes a method, and one by default.
DEFAULTED = (rrfast.radius, rrfast.RadiusEstimator)
FENCE = re.compile(r"```(\w*)\n(.*?)```", flags=re.DOTALL)


def page(method: str) -> str:
    return (PAGES / f"{method}.md").read_text(encoding="utf-8")


def row(method: str) -> list[str]:
    """The cells of a method in the table of all methods, whose first cell is its link."""
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


def test_the_defaults_are_what_the_table_supports() -> None:
    """The new step finds errors as the paper's does, and on photographs ranks as a search does."""
    kinds = {inspect.signature(kind).parameters["method"].default for kind in DEFAULTED}
    (method,) = kinds
    (path,) = ROOT.glob("benchmarks/results/*/radius_default.json")
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]

    def measured(task: str, score: str, metric: str) -> torch.Tensor:
        """Over the seeds, which are in the same order for all."""
        values = [row[metric] for row in rows if (row["task"], row["score"]) == (task, score)]
        return torch.tensor(values, dtype=torch.float64)

    for task in ("digits", "synthetic", "fashion"):
        less = measured(task, method, "aurc") - measured(task, "fast, alpha=0.01", "aurc")
        assert len(less) >= 3, task
        assert less.mean() <= 2 * less.std() / len(less) ** 0.5, task
    for task in ("Lite0", "Lite1"):
        assert (measured(task, method, "spearman") >= 0.85).all()
        own, grad, score = (
            measured(task, name, "clean_above").mean() for name in (method, "grad", DEFAULT)
        )
        assert own >= grad - 0.05
        assert score > own


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    prose = FENCE.sub("", path.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if not re.match(r"[a-z]+:|#", target):
            assert (path.parent / target.split("#")[0]).exists(), f"{path.name} links to {target}"


def test_every_promise_has_its_test() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and "`" in line]
    assert len(rows) > 30
    for row in rows:
        tests = re.findall(r"`([\w/]+\.py)::(\w+)`", row.split("|")[-2])
        assert tests, f"no test beside: {row}"
        for file, name in tests:
            source = (ROOT / "python_tests" / file).read_text(encoding="utf-8")
            assert re.search(rf"^ *def {name}\(", source, re.MULTILINE), f"{file} has no {name}"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(ROOT / "docs")))
def test_examples_run(path: Path) -> None:
    """One after the other, the later ones with the names of the earlier."""
    fences = FENCE.findall(path.read_text(encoding="utf-8"))
    codes = [code for language, code in fences if language == "python" and ">>>" in code]
    assert codes or path == PAGES / "README.md"
    said: list[str] = []
    names: dict[str, Any] = {}
    for code in codes:
        example = doctest.DocTestParser().get_doctest(code, {}, path.stem, str(path), 0)
        example.globs = names
        doctest.DocTestRunner().run(example, out=said.append, clear_globs=False)
    assert not said, "".join(said)


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_what_implements_a_paper_is_there(path: Path) -> None:
    """Every `rrfast.name` and its arguments, and every recipe that is trained or ablated."""
    text = path.read_text(encoding="utf-8")
    names = re.findall(r"`(rrfast(?:\.\w+)+)(?:\(([^`]*)\))?`", text)
    assert len(names) > 10
    for name, arguments in names:
        # By its package: a function's file has its name too.
        thing = pkgutil.resolve_name(":".join(name.rsplit(".", 1)))
        given = set(re.findall(r"(\w+)=", arguments))
        assert not given or given <= {*inspect.signature(thing).parameters}, name
    for recipe in re.findall(r"^rrfast (?:train|ablate) (\w+)", text, flags=re.MULTILINE):
        load_recipe(recipe)


#: What a paper has of each; a row says "Eq. 1, 2", "Fig. 9 to 12" and so on.
NUMBERED = {
    "rat": {"Eq.": 12, "Algorithm": 2, "Table": 5, "Fig.": 4},
    "irat": {"Eq.": 23, "Algorithm": 1, "Table": 8, "Fig.": 4},
    "acet": {"Eq.": 13, "Table": 2, "Fig.": 12},
    "odin": {"Eq.": 4, "Table": 3, "Fig.": 11},
}
#: Those whose numbers have a letter.
LETTERED = {"rat": ("Eq. B.1", "Table B.1", "Table B.2", "Fig. B.1", "C.2")}


def rows_of_a_paper(page: str) -> list[list[str]]:
    """The cells of every table whose first column is "in the paper"."""
    rows: list[list[str]] = []
    for table in re.findall(r"(?:^\|.*\|\n)+", page, flags=re.MULTILINE):
        head, _, *lines = [
            [cell.strip() for cell in line.strip("|\n").split(" | ")] for line in table.splitlines()
        ]
        if head[0] == "in the paper":
            assert {len(cells) for cells in lines} == {len(head)}
            rows += lines
    return rows


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_every_part_of_a_paper_has_its_row_and_no_cell_is_empty(path: Path) -> None:
    rows = rows_of_a_paper(path.read_text(encoding="utf-8"))
    assert rows
    assert all(cell for cells in rows for cell in cells)
    names = " ".join(cells[0] for cells in rows)
    for name in LETTERED.get(path.stem, ()):
        assert name in names
    for kind, count in NUMBERED.get(path.stem, {}).items():
        plural = kind.removesuffix(".") + ("s?" if kind == "Table" else "")
        listed = re.findall(rf"{plural}\.? ({NUMBERS})", names)
        found = set().union(*map(numbers_of, listed))
        assert found >= {*range(1, count + 1)}, f"{path.name} has no row for every {kind}"


#: What may cite the errata.
CITING = ("README.md", "docs/**/*.md", "rrfast/**/*.py", "rrfast/**/*.yaml", "python_tests/**/*.py")
CITING += ("csrc/**/*.h", "csrc/**/*.c*", "benchmarks/**/*.py", "examples/**/*.py", "CHANGELOG.md")
#: Numbers, alone, in a list or from one to another.
NUMBERS = r"\d+(?:(?:,? and |, | to )\d+)*"


def numbers_of(listed: str) -> set[int]:
    """What "3, 5 to 7 and 9" names."""
    ends = [[int(n) for n in one.split(" to ")] for one in re.split(r",? and |, ", listed)]
    return {n for one in ends for n in range(one[0], one[-1] + 1)}


def cited_in(path: Path) -> set[int]:
    """The rows of the errata that a file names, in whichever of the forms that are in use."""
    numbers: list[str] = []
    for paragraph in path.read_text(encoding="utf-8").split("\n\n"):
        text = " ".join(paragraph.split())
        numbers += re.findall(rf"[Ee]rrata:? ({NUMBERS})", text)
        numbers += re.findall(rf"errata\.md\), rows? ({NUMBERS})", text)
        numbers += re.findall(rf"[Rr]ows? ({NUMBERS}) (?:of|are in) \[errata", text)
        if path.name == "errata.md":
            numbers += re.findall(rf"\brows? ({NUMBERS})", text)
        # A list: the link, then a number and what it says, and so on, with semicolons between.
        for listed in re.findall(r"\[[Ee]rrata(?:\.md)?\]\([^)]*\): (.*)", text):
            numbers += re.findall(rf"(?:^|; )(?:row )?({NUMBERS}),", listed)
    return {number for listed in numbers for number in numbers_of(listed)}


def test_errata_are_numbered_without_a_gap_and_every_number_that_is_cited_is_there() -> None:
    page = (ROOT / "docs" / "errata.md").read_text(encoding="utf-8")
    rows = [int(number) for number in re.findall(r"^\| (\d+) \|", page, flags=re.MULTILINE)]
    assert sorted(rows) == [*range(1, len(rows) + 1)]
    # What stands above a table is about the rows below it.
    for part in re.split(r"^Rows? (?=\d)", page, flags=re.MULTILINE)[1:]:
        below = {int(number) for number in re.findall(r"^\| (\d+) \|", part, flags=re.MULTILINE)}
        assert below == numbers_of(re.findall(NUMBERS, part)[0]), part[:60]
    cited = {path: cited_in(path) for pattern in CITING for path in ROOT.glob(pattern)}
    assert {str(path): found - {*rows} for path, found in cited.items() if found - {*rows}} == {}
    papers = set().union(*(cited[path] for path in PAPERS))
    assert papers == {*rows}  # each is on the page of its paper


def test_the_table_of_scores() -> None:
    """Names, what is searched, and the passes on ten linear classes; DeepFool needs one step."""
    model, x = nn.Linear(4, 10).double(), torch.randn(3, 4, dtype=torch.float64)
    index = (SCORE_PAGES / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[`(\w+)`\]\(([^)]+)\) \|(.*)\|$", index, flags=re.MULTILINE)
    assert [name for name, _, _ in rows] == list(SCORES)
    for name, target, cells in rows:
        score = SCORES[name].fit(model, [(x, torch.tensor([0, 1, 2]))])
        _, _, searched, passes, of_grid, _ = (cell.strip() for cell in cells.split("|"))
        assert re.findall(r"`(\w+)`", searched) == list(score.grids), name
        once, grid = score.measure(model, x, ({},)), score_grid(score, model, x)
        for written, taken in ((passes, once), (of_grid, grid)):
            measured = f"{taken.forwards:g} F + {taken.backwards:g} B"
            assert written.removesuffix(" a step") == measured, name
        page_of_score = (SCORE_PAGES / target).read_text(encoding="utf-8")
        assert name.startswith("radius_") or f"`{name}`" in page_of_score


def test_the_table_of_attacks() -> None:
    """Names and passes, on ten linear classes that nothing within eps changes."""
    text = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| (.*) \|$", text, flags=re.MULTILINE)
    assert [name for name, _, _ in rows] == list(ATTACKS)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 10)).double()
    x = torch.rand(2, 3, 2, 2, dtype=torch.float64)
    y = model(x).argmax(1)
    for name, written, _ in rows:
        if name == "autoattack_package":
            continue
        with Engine(model, y) as engine:
            ATTACKS[name](eps=1e-9).run(engine, x, y)
        assert written == f"{engine.forwards:g} F + {engine.backwards:g} B", name


def metric_rows(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading of the page of metrics."""
    text = METRIC_PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1]
    table = re.findall(r"^\|(.*)\|$", text.split("\n## ")[0], flags=re.MULTILINE)
    return [[cell.strip() for cell in line.split("|")] for line in table[2:]]


def test_the_table_of_metrics() -> None:
    """Every metric that has conventions has a row, and is NaN where its row says so."""
    rows = {cells[0].strip("`"): cells for cells in metric_rows("All of them")}
    assert set(rows) == set(_SENTENCES) == {*METRICS, *AT_A_POINT}
    for name, (_, _, _, _, nan, _) in rows.items():
        metric: Any = getattr(rrfast.metrics, name)
        more = [AT_A_POINT[name]] if name in AT_A_POINT else []
        for answer, case in ((True, "E = 0"), (False, "C = 0")):
            value = metric([0.1, 0.2, 0.2], [answer] * 3, *more)
            assert math.isnan(value) == (case in nan), f"{name}, {case}"
        both = metric([math.inf, -math.inf, 0.0], [True, False, True], *more)
        assert math.isnan(both) == ("+inf and −inf" in nan), name


def test_the_table_of_conventions() -> None:
    rows = [
        (cells[0].strip("`"), cells[1].strip("`").strip('"'), cells[2])
        for cells in metric_rows("Conventions")
    ]
    several = {metric: names for metric, names in _SENTENCES.items() if len(names) > 1}
    listed = [(metric, name) for metric, name, _ in rows]
    assert len(set(listed)) == len(listed)
    assert set(listed) == {(metric, name) for metric, names in several.items() for name in names}
    for metric, name, positive in rows:
        said = {"errors": "errors positive", "right": "right predictions positive"}.get(positive)
        assert said is None or said in convention(metric, name)
