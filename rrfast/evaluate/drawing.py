"""Figures of an evaluation: title, caption, and a panel per training."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from rrfast._colours import BLUE, COLOURS, VERMILION
from rrfast.evaluate.observations import Row, Value, curve, of, values

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

#: Panels side by side.
WIDE = 3
LINES = ("-", "--", "-.", ":")


class Style(NamedTuple):
    """How a line is drawn; line and marker differ as well as the colour, for the colour-blind."""

    colour: str
    line: str = "-"
    marker: str = ""
    width: float = 1.4


#: Of predictions.
RIGHT_AND_WRONG = {"right": Style(BLUE), "wrong": Style(VERMILION, "--")}


def styles(names: Iterable[str]) -> dict[str, Style]:
    """A style for each name, in the given order."""
    return {
        name: Style(COLOURS[i % len(COLOURS)], LINES[i // len(COLOURS) % len(LINES)])
        for i, name in enumerate(dict.fromkeys(names))
    }


class Drawing(NamedTuple):
    """A figure that is drawn on demand, with its title and caption."""

    name: str  #: name of its file
    title: str
    caption: str
    draw: Callable[[], Figure]

    @property
    def figure(self) -> Figure:
        """Draw it anew."""
        return self.draw()


def drawn(
    name: str,
    title: str,
    caption: str,
    draw: Callable[[Sequence[Row]], Figure],
    rows: Sequence[Row],
) -> Iterator[Drawing]:
    """The figure of these rows; none if there is none."""
    if rows:
        yield Drawing(name, title, caption, partial(draw, rows))


def file_name(kind: str, training: str) -> str:
    """The name of a figure that is of one training.

    Example:
        >>> file_name("roc", "RAT + Mixup"), file_name("roc", "trainings/rat")
        ('roc_rat_mixup', 'roc_trainings_rat')
    """
    return re.sub(r"\W+", "_", f"{kind}_{training.lower()}").strip("_")


def panels(
    titles: Sequence[str],
    height: float = 3.4,
    *,
    x: str = "",
    y: str = "",
    share: bool | Literal["col"] = True,
    wide: int = WIDE,
) -> tuple[Figure, Iterator[tuple[str, Axes]]]:
    """A panel for each title, at most `wide` side by side.

    `x` and `y` are the labels of all axes; the axes can be shared by all panels or by each column.
    """
    from matplotlib.figure import Figure

    wide = min(wide, len(titles))
    deep = math.ceil(len(titles) / wide)
    # A single panel is as wide as a legend beside it needs.
    figure = Figure(figsize=(max(1 + 3.6 * wide, 7.0), 0.6 + height * deep), layout="constrained")
    grid = figure.subplots(deep, wide, sharex=share, sharey=share, squeeze=False).flatten()
    for ax in grid[len(titles) :]:
        ax.remove()
    for title, ax in zip(titles, grid, strict=False):
        ax.set_title(title, fontsize=11)
        plain_axes(ax)
        # The tick labels that a removed panel below would have shown.
        ax.tick_params(labelbottom=True)
    figure.supxlabel(x, fontsize=10)
    figure.supylabel(y, fontsize=10)
    return figure, iter(zip(titles, grid, strict=False))


def line(
    ax: Axes,
    x: Sequence[float],
    means: Sequence[float],
    style: Style,
    label: str,
    factor: float = 100.0,
    stds: Sequence[float] = (),
    **more: Any,
) -> None:
    """Means at `x`, times `factor`, with a band of standard deviations where they are defined.

    `more` is as for `Axes.plot`.
    """
    looks: dict[str, Any] = {"color": style.colour, "ls": style.line, "lw": style.width, **more}
    ax.plot(x, [factor * mean for mean in means], label=label, **looks)
    if not all(map(math.isnan, stds)):
        low, high = (
            [factor * (mean + sign * std) for mean, std in zip(means, stds, strict=True)]
            for sign in (-1, 1)
        )
        ax.fill_between(x, low, high, color=style.colour, alpha=0.12, lw=0)


#: A line's positions, means and standard deviations from its rows; no position: no line.
Points = Callable[[list[Row]], tuple[Sequence[float], Sequence[float], Sequence[float]]]


def along(x: Sequence[float], numbers: Sequence[Value]) -> Points:
    """The spread of each number over the runs, at fixed positions."""
    return lambda rows: (x, *curve(rows, numbers))


def lines(
    rows: Sequence[Row],
    panel: str,
    key: str,
    points: Points,
    looks: Mapping[str, Style] | None = None,
    factor: float = 100.0,
    *,
    band: bool = False,
    marked: bool = False,
    **axes: Any,
) -> Figure:
    """A panel for each value of one key, in it a line for each value of another.

    `points` says where a line runs, and `looks` the style of each, by default `styles`; `factor`
    is as for `line`, `axes` as for `panels`. With `band`, deviations are drawn. If `marked`, each
    number has the marker of its style, hollow on dotted lines.
    """
    looks = looks or styles(values(rows, key))
    figure, grid = panels(values(rows, panel), **axes)
    for title, ax in grid:
        for name, style in looks.items():
            own = of(rows, **{panel: title, key: name})
            x, means, stds = points(own) if own else ((), (), ())
            face = "none" if style.line == ":" else style.colour
            more = {"marker": style.marker, "mfc": face, "ms": 4} if marked else {}
            if len(x):
                line(ax, x, means, style, name, factor, stds if band else (), **more)
    return legend(figure, list(looks))


def histogram(
    ax: Axes,
    edges: Sequence[float],
    counts: Sequence[int],
    style: Style,
    label: str,
    median: float | None = None,
    total: int = 0,
) -> None:
    """The outline of a histogram, in per cent of `total`, by default of all counts.

    With a median it is filled, with a line at the median.
    """
    share = [100 * n / max(total or sum(counts), 1) for n in counts]
    if median is not None:
        ax.stairs(share, edges, color=style.colour, alpha=0.25, fill=True)
        ax.axvline(median, color=style.colour, ls=style.line, lw=1)
    ax.stairs(share, edges, color=style.colour, ls=style.line, lw=1.3, label=label)


def beside(
    place: int, of: int, found: Sequence[Sequence[float]], factor: float = 100.0
) -> tuple[list[float], list[float], list[float]]:
    """One of several series of bars or markers side by side.

    From a mean and a deviation for each group: the positions, and both times `factor`; 0 for a
    deviation that is undefined.
    """
    means, stds = ([factor * pair[k] for pair in found] for k in (0, 1))
    where = [group + 0.8 * ((place + 0.5) / of - 0.5) for group in range(len(found))]
    return where, means, [0 if math.isnan(std) else std for std in stds]


def plain_axes(ax: Axes, axis: Literal["both", "x", "y"] = "both") -> None:
    """A light grid, and no lines at the top and at the right."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25, lw=0.6, axis=axis)


def log_ticks(axis: Axis, labelled: Sequence[int] = (1, 2, 5)) -> None:
    """Ticks of a log axis at these multiples of powers of ten: a label at each would overlap."""
    from matplotlib.ticker import LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=labelled))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: f"{value:g}")


def counted(lists: Iterable[Sequence[int]]) -> list[int]:
    """The summed counts of several histograms, bin by bin."""
    return [sum(counts) for counts in zip(*lists, strict=True)]


def legend(figure: Figure, order: Sequence[str] | None = None) -> Figure:
    """One legend above all panels, with every label that any of them has."""
    found: dict[str, Any] = {}
    for ax in figure.axes:
        drawn = [*ax.lines, *ax.patches, *ax.collections, *ax.containers]
        labels = [str(each.get_label()) for each in drawn]  # type: ignore[attr-defined]
        # `Axes.get_legend_handles_labels` skips labels that begin with an underscore, but the name
        # of a folder may. Only those that matplotlib itself gives are skipped here.
        named = zip(labels, drawn, strict=True)
        own = {k: v for k, v in named if not re.fullmatch(r"|_child\d+|_nolegend_|None", k)}
        found = own | found
    names = [name for name in dict.fromkeys(order or found) if name in found]
    # In inches: the letters of a name at 9 points, and its line.
    wide = 0.5 + 0.08 * max(map(len, names), default=0)
    columns = max(1, min(len(names), 6, int(figure.get_figwidth() / wide)))
    rows = math.ceil(len(names) / columns)
    # Make room for it; otherwise it takes room from the panels.
    figure.set_figheight(figure.get_figheight() + 0.2 * max(rows - 2, 0))
    figure.legend(
        [found[name] for name in names],
        names,
        loc="outside upper center",
        ncols=columns,
        frameon=False,
        fontsize=9,
    )
    return figure
