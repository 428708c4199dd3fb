"""The result of `rrfast.compare`: a sentence, tables and a figure."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console
from torch import Tensor

from rrfast._colours import BLACK, BLUE, GREEN, GREY, ORANGE, PINK, SKY, VERMILION
from rrfast._errors import require
from rrfast._tables import COLUMNS, Block, markdown, number, settings, terminal
from rrfast.metrics import Interval, risk_coverage_curve
from rrfast.metrics.paired import PAIRED
from rrfast.scores.score import Score
from rrfast.scores.standing import BEATEN, TAKE, Line, interval, sentence, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: With fewer errors or right predictions than this, a note says that intervals are rough.
FEW = 20
#: Width of a terminal in characters.
_WIDE = 80
#: MSR is black.
_COLOURS = (VERMILION, BLUE, GREEN, PINK, ORANGE, SKY, GREY)


class Row(NamedTuple):
    """One score on the test data."""

    name: str
    score: Score  #: fitted and tuned
    hyperparameters: dict[str, float]  #: the tuned ones; empty if the score's own stayed
    aurc: float  #: like the other metrics NaN if the score is NaN on some sample
    auroc: float
    fpr_at_tpr: float
    augrc: float
    less_msr: dict[str, Interval]  #: by metric: this score minus MSR
    beaten: bool  #: whether some score is better beyond the noise in the deciding metric
    forwards: float  #: per image, of the tuned score
    backwards: float  #: per image
    milliseconds: float  #: per image; NaN without timing
    nan: int  #: images on which the score is NaN

    @property
    def passes(self) -> float:
        """Forwards and backwards: a backward takes about as long as a forward."""
        return self.forwards + self.backwards


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """The result of `rrfast.compare`. It prints a sentence, two tables, and notes on them.

    Attributes:
        table: A `Row` per score, the best by `metric` first.
        name: Name of the score to take: the cheapest that no other beats beyond the noise.
        metric: The deciding metric.
        level: Level of the intervals, for all pairs of scores together.
        draws: Number of bootstrap draws.
        tuned_on: Number of images used for tuning, none of which is tested on.
        batch: Batch size of the timing.
        noise: Largest distance of the middle half of a score's turns from its time, relative to it.
        confidence: [S, n] float64, the confidences on the test images, in the order of `table`.
        correct: [n] bool, whether the prediction is right.
    """

    table: list[Row]
    name: str
    metric: str
    level: float
    draws: int
    tuned_on: int
    batch: int
    noise: float
    confidence: Tensor
    correct: Tensor

    @property
    def chosen(self) -> Row:
        """The row of the score to take."""
        return next(row for row in self.table if row.name == self.name)

    @property
    def best(self) -> Score:
        """The score to take, fitted and tuned: `SelectiveClassifier(model, result.best)`."""
        return self.chosen.score

    @property
    def sentence(self) -> str:
        """Says which score to take, and why."""
        n, errors = len(self.correct), int((~self.correct).sum())
        row, first = self.chosen, self.table[0]
        if errors in {0, n}:
            kind = "wrong" if errors else "right"
            return (
                f"Nothing to compare: all {n} tested predictions are {kind}; {row.name} is the "
                "cheapest score."
            )
        cheaper = any(other.passes < row.passes for other in self.table)
        return sentence(self._line(row), self._line(first), self.metric, cheaper=cheaper)

    def __str__(self) -> str:
        text = io.StringIO()
        # As wide as the tables, so that nothing is cut off.
        Console(file=text, width=1000).print(terminal(self._blocks()))
        lines = [line.rstrip() for line in text.getvalue().splitlines()]
        first, *said = (textwrap.fill(line, _WIDE) for line in [self.sentence, *self._notes()])
        return "\n".join([first, *lines, "", *said])

    __repr__ = __str__

    def _repr_markdown_(self) -> str:
        return "\n\n".join([self.sentence, markdown(self._blocks()), *self._notes()])

    def plot(self) -> Figure:
        """Plot risk against coverage: the share of errors among the most confident images.

        It draws MSR, the score to take, the one with the best number, and those that differ from
        MSR beyond the noise, at most eight lines. Coverages below twenty images, where one error
        decides, and those where no line has an error yet, are not drawn.

        Raises:
            ImportError: matplotlib is not installed.
        """
        require("plot", "matplotlib.figure", "matplotlib")
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        ax = figure.subplots()
        colours, start, lines = iter(_COLOURS), 1.0, []
        for i, row in enumerate(self.table):
            if row.nan or not self._drawn(row):
                continue
            colour = BLACK if row.name == "msr" else next(colours, "")
            if not colour:
                break
            curve = risk_coverage_curve(self.confidence[i], self.correct)
            shown = curve.coverage * len(self.correct) >= min(FEW, len(self.correct))
            risky = shown & (curve.risk > 0)
            start = min([start, *curve.coverage[risky].tolist()[:1]])
            lines += ax.plot(
                (100 * curve.coverage[shown]).tolist(),
                (100 * curve.risk[shown]).tolist(),
                color=colour,
                ls="--" if row.name == "msr" else "-",
                lw=2.4 if row.name == self.name else 1.2,
                label=f"{row.name}, {number(getattr(row, self.metric), *COLUMNS[self.metric][1:])}",
            )
        ax.set_xlim(left=max(0.0, 100 * start - 3) if start < 1 else 0.0)
        ax.set_xlabel("coverage: images that are accepted, %")
        ax.set_ylabel("risk: errors among them, %")
        ax.set_ylim(bottom=0)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25, lw=0.6)
        title = f"{' '.join(COLUMNS[self.metric][0].split())}; the score to take is thick"
        # Set explicitly: matplotlib would omit a name that begins with an underscore.
        ax.legend(handles=lines, title=title, frameon=False, fontsize=9, title_fontsize=9)
        return figure

    def _drawn(self, row: Row) -> bool:
        if row.name in {self.table[0].name, "msr", self.name}:
            return True
        return row.less_msr[self.metric].low > 0 or row.less_msr[self.metric].high < 0

    def _blocks(self) -> Iterator[Block]:
        n, errors = len(self.correct), int((~self.correct).sum())
        others = [name for name in PAIRED if name != self.metric]
        yield table(
            f"{n} images tested, {errors} of them wrong; tuned on {self.tuned_on} others",
            map(self._line, self.table),
            self.metric,
        )
        yield Block(
            "The other metrics less MSR's",
            ["", "score", *(COLUMNS[name][0] for name in others)],
            [
                [self._mark(row), row.name, *(self._interval(row, name) for name in others)]
                for row in self.table
            ],
            2,
            frozenset((i, 1) for i, row in enumerate(self.table) if row.name == self.name),
        )

    def _notes(self) -> Iterator[str]:
        label = COLUMNS[self.metric][0].split()[0]
        yield (
            f"{TAKE} the score to take; {BEATEN} another score is better beyond the noise, in "
            f"{label}. Brackets hold {self.level:.0%} intervals, for all pairs of scores at once, "
            f"from {self.draws} test sets drawn again from this one. F and B are forwards and "
            "backwards of the model per image."
        )
        tuned = [
            f"{row.name} {settings(row.hyperparameters)}"
            for row in self.table
            if row.hyperparameters
        ]
        if tuned:
            yield f"Tuned: {'; '.join(tuned)}."
        if not all(math.isnan(row.milliseconds) for row in self.table):
            said = (
                f"ms is the time per image, in batches of {self.batch}. Each score takes turns "
                "with MSR, and its time follows from the median of their ratios. The middle half "
                f"of a score's turns is within {self.noise:.0%} of it."
            )
            busy = self.noise > 0.5
            yield said + " The machine is busy with something else: rely on the passes." * busy
        nan = [f"{row.name} ({row.nan})" for row in self.table if row.nan]
        if nan:
            yield f"No numbers for scores that are NaN on some images: {', '.join(nan)}."
        few = min(int(self.correct.sum()), int((~self.correct).sum()))
        if 0 < few < FEW:
            kind = "right prediction" if int(self.correct.sum()) == few else "error"
            yield (
                f"With only {few} {kind}{'s' * (few != 1)}, only large differences show, and "
                "intervals are rough."
            )

    def _mark(self, row: Row) -> str:
        return TAKE if row.name == self.name else BEATEN if row.beaten else ""

    def _line(self, row: Row) -> Line:
        return Line(
            row.name,
            self._mark(row),
            {name: number(getattr(row, name), *COLUMNS[name][1:]) for name in PAIRED},
            self._interval(row, self.metric),
            row.forwards,
            row.backwards,
            row.milliseconds,
        )

    def _interval(self, row: Row, metric: str) -> str:
        return "–" if row.name == "msr" else interval(row.less_msr[metric], metric)
