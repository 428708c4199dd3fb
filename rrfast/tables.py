"""Tables that are read on a terminal and in Markdown: the same cells, written once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

#: The metrics of RAT's Tables 2 and 3, which every table shows; `METRICS` has more.
SHOWN = ("auroc", "fpr_at_tpr", "aurc", "accuracy")

#: Metric: as printed, factor, digits.
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


class Block(NamedTuple):
    """One table: what both forms of it are made from."""

    title: str
    head: list[str]
    rows: list[list[str]]
    words: int  #: columns at the left that hold words
    best: frozenset[tuple[int, int]] = frozenset()  #: row and column of cells to stand out


def terminal(blocks: Iterable[Block]) -> Group:
    """All of them for a terminal."""
    drawn: list[RenderableType] = []
    for block in blocks:
        # Not the table's own title, which wraps where the table is narrow.
        drawn.append(Text(f"\n{block.title}\n", style="italic"))
        table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
        for i, name in enumerate(block.head):
            table.add_column(name, justify="left" if i < block.words else "right", no_wrap=True)
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
    """All of them for a page, each under its title."""
    parts = []
    for block in blocks:
        # A bar would end its cell.
        head = [name.replace("|", "\\|") for name in block.head]
        rows = [[cell.replace("|", "\\|") for cell in row] for row in block.rows]
        lines = [
            [" ".join(name.split()) for name in head],
            ["---" if i < block.words else "--:" for i in range(len(block.head))],
            *(
                [f"**{cell}**" if (i, j) in block.best else cell for j, cell in enumerate(row)]
                for i, row in enumerate(rows)
            ),
        ]
        parts += [f"## {block.title}", "\n".join(f"| {' | '.join(line)} |" for line in lines)]
    return "\n\n".join(parts)


def number(value: float | None, factor: float, digits: int, sign: str = "") -> str:
    """`factor * value` with so many digits, 0 without a minus; a dash for None.

    Example:
        >>> number(-0.00004, 100, 2), number(-0.5, 1, 1), number(None, 1, 1)
        ('0.00', '−0.5', '–')
    """
    if value is None:
        return "–"
    return f"{round(factor * value, digits) + 0.0:{sign}.{digits}f}".replace("-", "−")
