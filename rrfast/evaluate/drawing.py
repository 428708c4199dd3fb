"""Figures of an evaluation: title, caption, and a panel per training."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from rrfast.evaluate.observations import Row, Value, curve, of, values

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Panels side by side.
WIDE = 3
#: Okabe and Ito's colours, which the colour-blind can distinguish.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
LINES = ("-", "--", "-.", ":")


class Style(NamedTuple):
    """How a line is drawn; line and marker differ as well as the colour, for the colour-blind."""

    colour: str
    line: str = "-"
    marker: str = ""


#: Of predictions.
RIGHT_AND_WRONG = {"right": Style("#0072B2"), "wrong": Style("#D55E00", "--")}


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
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25, lw=0.6)
        # The tick labels that a removed panel below would have shown.
        ax.tick_params(labelbottom=True)
    figure.supxlabel(x, fontsize=10)
    figure.supylabel(y, fontsize=10)
    return figure, iter(zip(titles, grid, strict=False))


def line(
    ax: Axes,
    x: Sequence[float],
    found: tuple[Sequence[float], Sequence[float]],
    style: Style,
    label: str,
    factor: float = 100.0,
    *,
    band: bool = False,
    **more: Any,
) -> None:
    """Means at `x`; with `band`, also one standard deviation around them if it is defined.

    Args:
        ax: The panel.
        x: Positions of the means.
        found: Means and standard deviations, as from `curve`.
        style: Style of the line.
        label: Its label in the legend.
        factor: The means are multiplied by it.
        band: Whether the deviation is drawn.
        more: As for `Axes.plot`.
    """
    means, low, high = (
        [factor * (mean + sign * (std if sign else 0)) for mean, std in zip(*found, strict=True)]
        for sign in (0, -1, 1)
    )
    looks: dict[str, Any] = {
        "color": style.colour,
        "ls": style.line,
        "lw": 1.4,
        "label": label,
    } | more
    ax.plot(x, means, **looks)
    if band and not all(map(math.isnan, low)):
        ax.fill_between(x, low, high, color=style.colour, alpha=0.12, lw=0)


def lines(
    rows: Sequence[Row],
    panel: str,
    key: str,
    looks: Mapping[str, Style],
    places: Sequence[float],
    numbers: Sequence[Value],
    **axes: Any,
) -> Figure:
    """Curves of shares in per cent: a panel per value of one key, a line per value of another.

    Args:
        rows: The observations.
        panel: The key of the panels.
        key: The key of the lines.
        looks: A style for each line.
        places: The x positions of a line's numbers.
        numbers: The numbers along a line.
        axes: As for `panels`.
    """
    figure, grid = panels(values(rows, panel), **axes)
    for title, ax in grid:
        own = of(rows, **{panel: title})
        for name, style in looks.items():
            line(ax, places, curve(of(own, **{key: name}), numbers), style, name)
    legend(figure, list(looks))
    return figure


def histogram(
    ax: Axes,
    edges: Sequence[float],
    share: Sequence[float],
    style: Style,
    label: str,
    median: float | None = None,
) -> None:
    """The outline of a histogram; with a median it is filled, with a line at the median."""
    if median is not None:
        ax.stairs(share, edges, color=style.colour, alpha=0.25, fill=True)
        ax.axvline(median, color=style.colour, ls=style.line, lw=1)
    ax.stairs(share, edges, color=style.colour, ls=style.line, lw=1.3, label=label)


def counted(lists: Iterable[Sequence[int]]) -> list[int]:
    """The summed counts of several histograms, bin by bin."""
    return [sum(counts) for counts in zip(*lists, strict=True)]


def weights(checkpoint: str) -> str:
    """The words for a model's weights in titles.

    Example:
        >>> weights("last"), weights("given")
        ('last checkpoint', 'as given')
    """
    return "as given" if checkpoint == "given" else f"{checkpoint} checkpoint"


def legend(figure: Figure, order: Sequence[str] | None = None) -> None:
    """One legend above all panels, with every label that any of them has."""
    found: dict[str, Any] = {}
    for ax in figure.axes:
        found = _labelled(ax) | found
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


def _labelled(ax: Axes) -> dict[str, Any]:
    """The artists of a panel by label.

    `Axes.get_legend_handles_labels` skips labels that begin with an underscore, but the name of a
    folder may begin with one. Only labels that matplotlib itself gives are skipped here.
    """
    drawn = [*ax.lines, *ax.patches, *ax.collections, *ax.containers]
    labels = [str(each.get_label()) for each in drawn]  # type: ignore[attr-defined]
    return {
        label: each
        for label, each in zip(labels, drawn, strict=True)
        if not re.fullmatch(r"|_child\d+|_nolegend_|None", label)
    }
