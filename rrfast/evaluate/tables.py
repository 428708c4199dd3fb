"""Tables of results as declarations: their rows, and the number and format of each column."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rrfast._tables import COLUMNS, Block, number
from rrfast.evaluate.observations import Paired, Row, Spread, Value, at, grouped, of, spread

#: A number of a row: its name, its path, or a function that finds it.
What = str | tuple[str | int, ...] | Value


class Column(NamedTuple):
    """A number over the runs of each line: mean ± standard deviation.

    For a single run, the interval of the number, which a row holds under `intervals`.
    """

    heading: str
    what: What
    factor: float = 100.0
    digits: int = 2
    higher: bool | None = None  #: whether higher is better, to mark the best; None: mark none
    where: Mapping[str, Any] = {}  #: further values that the rows of the column must have
    mean: bool = False  #: print the mean only
    interval_digits: int | None = None  #: digits with an interval; default `digits`

    @property
    def title(self) -> str:
        """The heading on one line."""
        return " ".join(self.heading.split())

    def spread(self, rows: Sequence[Row]) -> Spread:
        """The number over the runs of a line."""
        value = self.what if callable(self.what) else at(*_path(self.what))
        found = spread(of(rows, **self.where), value)
        return found._replace(std=math.nan, runs=0) if self.mean else found

    def cell(self, rows: Sequence[Row]) -> str:
        """As it is printed."""
        own = of(rows, **self.where)
        *where, name = _path(self.what) or ("",)
        interval: Any = at(*where, "intervals", name)(own[0]) if len(own) == 1 else None
        digits = self.interval_digits if interval and self.interval_digits else self.digits
        return cell(self.spread(own), self.factor, digits, interval)


class Words(NamedTuple):
    """A column of words, made from the rows of each line."""

    heading: str
    said: Callable[[Sequence[Row]], str]

    def cell(self, rows: Sequence[Row]) -> str:
        """As it is printed."""
        return self.said(rows)


class Table(NamedTuple):
    """A line for each group of rows, and its columns."""

    title: str
    keys: Mapping[str, str]  #: keys that distinguish the lines, with their headings
    columns: Sequence[Column | Words]
    within: int = 0  #: the best is marked among lines that agree in this many first keys
    words: int = 0  #: number of columns of words at the left, besides the keys

    def block(self, rows: Iterable[Row]) -> Block:
        """The table of these rows, in the order of `grouped`."""
        return self.of_lines(grouped(rows, *self.keys))

    def of_lines(self, lines: Mapping[tuple[Any, ...], Sequence[Row]]) -> Block:
        """The table with these lines, by the values of their keys."""
        cells = [
            [*map(str, key), *(c.cell(own) for c in self.columns)] for key, own in lines.items()
        ]
        best = set()
        for j, column in enumerate(self.columns, len(self.keys)):
            if isinstance(column, Column) and column.higher is not None:
                groups: dict[tuple[Any, ...], list[tuple[int, float]]] = {}
                for i, (key, own) in enumerate(lines.items()):
                    groups.setdefault(key[: self.within], []).append((i, column.spread(own).mean))
                for group in groups.values():
                    means = [mean for _, mean in group]
                    best |= {(group[k][0], j) for k in leading(means, lowest=not column.higher)}
        head = [*self.keys.values(), *(column.heading for column in self.columns)]
        return Block(self.title, head, cells, len(self.keys) + self.words, frozenset(best))


def metric(name: str) -> Column:
    """The column of a metric of `rrfast.metrics`, with its usual name and format."""
    heading, factor, digits = COLUMNS[name]
    return Column(heading, name, factor, digits)


def broken(name: str) -> str:
    """The name of a training as a heading: on two lines."""
    return name.replace(" ", "\n", 1)


def cell(
    found: Spread, factor: float = 100.0, digits: int = 2, interval: Sequence[float] | None = None
) -> str:
    """Mean ± standard deviation; for a single run, its interval if there is one.

    Example:
        >>> cell(Spread(0.15, 0.0707, 2)), cell(Spread(0.1, math.nan, 1), interval=(0.05, 0.15))
        ('15.00 ± 7.07', '10.00 [5.00, 15.00]')
    """
    mean = number(found.mean, factor, digits)
    if not math.isnan(found.std):
        return f"{mean} ± {number(found.std, factor, digits)}"
    if found.runs == 1 and interval:
        low, high = (number(end, factor, digits) for end in interval)
        return f"{mean} [{low}, {high}]"
    return mean


def leading(means: Sequence[float], *, lowest: bool = False) -> list[int]:
    """Indices of the best means, several if they tie; none if there is only one mean.

    Equal means of different seeds may differ in their last bit; they count as tied. NaN is not
    among the best.

    Example:
        >>> leading([0.1 + 0.2, 0.3, 0.2, float("nan")])
        [0, 1]
    """
    known = [mean for mean in means if not math.isnan(mean)]
    best = (min if lowest else max)(known, default=math.nan)
    return [i for i, mean in enumerate(means) if len(means) > 1 and math.isclose(mean, best)]


def difference(
    found: Paired, factor: float = 100.0, digits: int = 2, *, higher: bool | None = False
) -> str:
    """Mean ± standard error of a difference, with a mark for its verdict; none if `higher` is None.

    Example:
        >>> difference(Paired(0.02, 0.001, 0, 5)), difference(Paired(-0.02, 0.001, 5, 5))
        ('✗ +2.00 ± 0.10', '✓ −2.00 ± 0.10')
    """
    if math.isnan(found.mean):
        return "–"
    mean, error = number(found.mean, factor, digits, sign="+"), found.standard_error
    mark = "" if higher is None else f"{mark_of(found, higher=higher)} "
    return f"{mark}{mean}" + ("" if math.isnan(error) else f" ± {number(error, factor, digits)}")


def mark_of(found: Paired, *, higher: bool = False) -> str:
    """✓ for better, ✗ for worse, · for neither."""
    return "·✓✗"[found.verdict if higher else -found.verdict]


def _path(what: What) -> tuple[str | int, ...]:
    """Where the number is in a row; () if a function finds it."""
    return () if callable(what) else (what,) if isinstance(what, str) else what
