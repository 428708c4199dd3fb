"""docs/papers has a row for all that a paper numbers; what prose quotes is in a table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "papers"
#: Tables that prose quotes.
QUOTED = ("evaluate/*/*.md", "ablate/*/*.md", "demo/demo.md")
#: What each paper numbers, by kind: "1-3" is 1, 2, 3.
NUMBERED = {
    "rat": {
        "Eq.": "1-12 B.1",
        "Algorithm": "1-2",
        "Table": "1-5 B.1 B.2",
        "Fig.": "1-4 B.1 C.2",
    },
    "irat": {
        "Eq.": "1-23",
        "Algorithm": "1",
        "Table": "1-8",
        "Fig.": "1-4",
        "Definition": "1-2",
        "Lemma": "1",
        "Proposition": "1",
    },
    "acet": {
        "Eq.": "1-13",
        "Table": "1-2",
        "Fig.": "1-12",
        "Definition": "2.1",
        "Lemma": "3.1",
        "Theorem": "3.1 3.2",
    },
    "odin": {"Eq.": "1-4", "Table": "1-3", "Fig.": "1-11", "Proposition": "1"},
    "distal": {"Eq.": "1", "Listing": "1-2"},
}
#: Panels, measures and appendices of ODIN.
PARTS = {
    *("Fig. 5 (a), (c)", "Fig. 5 (b)", "Fig. 5 (d), (e)", "Fig. 5 (f), (g)"),
    *(f"§4.3 ({i})" for i in range(1, 5)),
    *(f"App. {letter}" for letter in "ABCDEF"),
}
ONE = r"(?:[A-E]\.)?\d+(?:\.\d)?"


def tables(page: str) -> list[list[list[str]]]:
    """The cells of each table, its head first, up to the figures of both sides."""
    text = (FOLDER / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"(?:^\|.*\n)+", text.split("## Figures, side by side")[0], re.MULTILINE)
    lines = [[line for line in block.splitlines() if set(line) - set("|:- ")] for block in blocks]
    return [
        [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in block]
        for block in lines
    ]


def spread(numbers: str) -> set[str]:
    """ "1-3 B.1" and "1 to 3, B.1" are four numbers."""
    found = set()
    for first, last in re.findall(rf"({ONE})(?:(?:-| to )(\d+))?", numbers):
        found |= {str(i) for i in range(int(first), int(last) + 1)} if last else {first}
    return found


@pytest.mark.parametrize("page", NUMBERED)
def test_all_that_a_paper_numbers_has_a_row(page: str) -> None:
    said = "\n".join(row[0] for table in tables(page) for row in table[1:])
    for kind, numbers in NUMBERED[page].items():
        several = (
            rf"\b{re.escape(kind).replace('Table', 'Tables?')} ({ONE}(?:(?:, | to | ?= ?){ONE})*)"
        )
        there: set[str] = set().union(*map(spread, re.findall(several, said)))
        assert spread(numbers) - there == set(), kind


@pytest.mark.parametrize("page", NUMBERED)
def test_no_cell_is_empty(page: str) -> None:
    found = tables(page)
    assert any("what differs" in head[-1] for head, *_ in found)
    for head, *rows in found:
        assert rows
        assert all(len(row) == len(head) and all(row) for row in rows), head


def test_the_parts_of_odin() -> None:
    said = "; ".join(row[0] for table in tables("odin") for row in table[1:])
    assert {part for part in PARTS if part not in said} == set()


def with_errors(text: str) -> list[tuple[str, str]]:
    """Every "2.21 ± 0.21", without signs and units."""
    return re.findall(r"(\d+(?:\.\d+)?)(?: %| × 10⁻³)?\s±\s(\d+(?:\.\d+)?)", text)


def is_rounded(quoted: str, number: str) -> bool:
    """Whether it is the number, with fewer digits or not in thousandths."""
    half = 0.5 * 10.0 ** -len(quoted.partition(".")[2]) + 1e-9
    return any(abs(float(number) / unit - float(quoted)) <= half for unit in (1, 1000))


@pytest.fixture(scope="module")
def measured() -> set[tuple[str, str]]:
    paths = [path for glob in QUOTED for path in (ROOT / "docs").glob(glob)]
    assert len(paths) > 20
    return {pair for path in paths for pair in with_errors(path.read_text(encoding="utf-8"))}


@pytest.mark.parametrize(
    ("page", "begin", "end"),
    [
        ("README.md", "<!-- /fashion -->", "## Install"),
        # The claims of acet.md have differences of accuracy, which are in no table.
        *((f"docs/papers/{page}.md", "## The claims", "") for page in NUMBERED if page != "acet"),
    ],
)
def test_what_prose_quotes_is_in_a_table(
    page: str, begin: str, end: str, measured: set[tuple[str, str]]
) -> None:
    text = (ROOT / page).read_text(encoding="utf-8").partition(begin)[2]
    quoted = with_errors(text.partition(end)[0] if end else text)
    assert len(quoted) >= 4
    for pair in quoted:
        assert any(
            all(is_rounded(ours, theirs) for ours, theirs in zip(pair, row, strict=True))
            for row in measured
        ), pair
