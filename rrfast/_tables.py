"""Tables for the terminal and for Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

#: The metrics of RAT's Tables 2 and 3, which every table shows; `METRICS` has more.
SHOWN = ("auroc", "fpr_at_tpr", "aurc", "accuracy")

#: Metric: printed name, factor, digits.
COLUMNS = {
    "auroc": ("AUROC\n%", 100.0, 2),
    "fpr_at_tpr": ("FPR95\n%", 100.0, 1),
    "aurc": ("AURC\n×1000", 1000.0, 2),
    "augrc": ("AUGRC\n×1000", 1000.0, 2),
    "accuracy": ("accuracy\n%", 100.0, 2),
}

CONVENTION = (
    "AUROC, FPR95 and AURC find errors: errors are the positive class; FPR95 at the first "
    "threshold with TPR ≥ 95 %; AURC is the exact sum over all coverages, ties averaged."
)
#: Which way is better, and in what units.
BETTER = (
    "AUROC and accuracy: higher is better, in per cent. AURC and AUGRC: lower is better, × 1000. "
    "FPR95: lower is better, in per cent."
)


class Block(NamedTuple):
    """One table, for the terminal and for Markdown."""

    title: str
    head: list[str]
    rows: list[list[str]]
    words: int  #: number of columns at the left that hold words
    best: frozenset[tuple[int, int]] = frozenset()  #: row and column of cells to highlight


def terminal(blocks: Iterable[Block]) -> Group:
    """All tables for a terminal."""
    drawn: list[RenderableType] = []
    for block in blocks:
        # Not as the title of the table, which wraps if the table is narrow.
        drawn.append(Text(f"\n{block.title}\n", style="italic"))
        table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
        for i, name in enumerate(block.head):
            # Where the terminal is narrow, words wrap, so that no number loses its digits.
            if i < block.words:
                table.add_column(name, overflow="fold")
            else:
                table.add_column(name, justify="right", no_wrap=True)
        for i, row in enumerate(block.rows):
            cells = map(escape, row)
            table.add_row(
                *(
                    f"[bold]{cell}[/]" if (i, j) in block.best else cell
                    for j, cell in enumerate(cells)
                )
            )
        drawn.append(table)
    return Group(*drawn)


def markdown(blocks: Iterable[Block]) -> str:
    """All tables for a page, each under its title."""
    parts = (f"## {escaped(block.title)}\n\n{markdown_table(block)}" for block in blocks)
    return "\n\n".join(parts)


def markdown_table(block: Block) -> str:
    """One table for a page, without its title."""
    # A bar would end the cell.
    head = [escaped(name).replace("|", "\\|") for name in block.head]
    rows = [[escaped(cell).replace("|", "\\|") for cell in row] for row in block.rows]
    lines = [
        head,
        ["---" if i < block.words else "--:" for i in range(len(block.head))],
        *(
            [f"**{cell}**" if (i, j) in block.best else cell for j, cell in enumerate(row)]
            for i, row in enumerate(rows)
        ),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def listed(lines: Iterable[str]) -> str:
    """Lines as a Markdown list, with their text escaped.

    Example:
        >>> print(listed(["a < b", "c"]))
        - a &lt; b
        - c
    """
    return "\n".join(f"- {escaped(line)}" for line in lines)


def escaped(text: str) -> str:
    r"""Escape text for Markdown, on one line: no HTML, no link and no picture.

    A page contains names of folders and trainings, which somebody other than its reader chose.

    Example:
        >>> print(escaped("rat_0 <script>x</script> & [here](https://example.com)"))
        rat_0 &lt;script>x&lt;/script> &amp; [here]\(https://example.com)
    """
    for mark, harmless in (("&", "&amp;"), ("<", "&lt;"), ("](", "]\\("), ("`", "\\`")):
        text = text.replace(mark, harmless)
    return " ".join(text.split())


def code(text: str) -> str:
    """Text as Markdown code, on one line.

    Example:
        >>> print(code("rrfast report a"), code("rrfast report 'a`b'"))
        `rrfast report a` `` rrfast report 'a`b' ``
    """
    fence = "`" * (1 + _backticks(text))
    space = " " * (len(fence) > 1)
    return f"{fence}{space}{' '.join(text.split())}{space}{fence}"


def preformatted(lines: Iterable[str]) -> str:
    """Lines as a Markdown code block, unchanged.

    Example:
        >>> print(preformatted(["a", "  b"]))
        ```text
        a
          b
        ```
    """
    text = "\n".join(lines)
    fence = "`" * max(3, 1 + _backticks(text))
    return f"{fence}text\n{text}\n{fence}"


def _backticks(text: str) -> int:
    """The length of the longest run of backticks."""
    return max(map(len, re.findall("`+", text)), default=0)


def number(value: float | None, factor: float, digits: int, sign: str = "") -> str:
    """`factor * value` with this many digits, 0 without a minus sign; a dash for None and NaN.

    Example:
        >>> number(-0.00004, 100, 2), number(-0.5, 1, 1), number(None, 1, 1)
        ('0.00', '−0.5', '–')
    """
    if value is None or math.isnan(value):
        return "–"
    return f"{round(factor * value, digits) + 0.0:{sign}.{digits}f}".replace("-", "−")


def settings(point: Mapping[str, float | None]) -> str:
    """Hyper-parameters as the text of a cell.

    Example:
        >>> settings({"temperature": 0.2, "eps": 5e-05}), settings({"p": None})
        ('temperature=0.2 eps=5e-05', 'p=None')
    """
    said = {name: "None" if value is None else f"{value:g}" for name, value in point.items()}
    return " ".join(f"{name}={value}" for name, value in said.items())
