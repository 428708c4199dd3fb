"""The test of a paper's claim: comparisons on the same runs, and their verdicts in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from rrfast._tables import Block
from rrfast.evaluate.observations import Paired, Row, Value, in_common, of, paired, runs_of, values
from rrfast.evaluate.tables import difference
from rrfast.objectives.variant_names import VARIANTS

#: The rule for a verdict.
RULE = (
    "0 is outside the 95 % interval of Student's t (by chance in one of twenty comparisons without "
    "a difference); · undecided"
)


class Claim(NamedTuple):
    """A paper's claim on a difference: a number that should be lower, or higher if `higher`."""

    sentence: str
    unit: str = ""
    factor: float = 100.0
    digits: int = 1
    higher: bool = False

    @property
    def title(self) -> str:
        """The sentence with its unit."""
        return f"{self.sentence} ({self.unit})" if self.unit else self.sentence


class Comparison(NamedTuple):
    """One number minus another of the same runs, and its place in a table."""

    claim: Claim
    row: tuple[str, ...]
    column: str
    found: Paired
    group: str = ""  #: comparisons that one sentence counts together

    @property
    def cell(self) -> str:
        """The printed text."""
        _, _, factor, digits, higher = self.claim
        return difference(self.found, factor, digits, higher=higher)

    @property
    def confirmed(self) -> int:
        """1: it confirms the claim; -1: it contradicts it; 0: it decides nothing."""
        return self.found.verdict if self.claim.higher else -self.found.verdict


def compared(
    claim: Claim,
    row: tuple[str, ...] | str,
    column: str,
    pair: tuple[Sequence[Row], Sequence[Row]],
    value: Value,
    less: Value | None = None,
    group: str = "",
) -> Iterator[Comparison]:
    """The comparison of `pair`, as `paired`; none if they are not of the same runs."""
    runs = runs_of(pair[0])
    if runs and runs == runs_of(pair[1]):
        where = (row,) if isinstance(row, str) else row
        yield Comparison(claim, where, column, paired(*pair, value, less), group)


def counted(found: Iterable[Comparison]) -> str:
    """How many comparisons confirm their claim.

    Example:
        >>> found = [Paired(-1.0, 0.1, 5, 5), Paired(-1.0, math.nan, 1, 1)]
        >>> counted(Comparison(Claim("less"), ("a",), "b", one) for one in found)
        'confirmed in 1, contradicted in 0, undecided in 1 of 2'
    """
    verdicts = [one.confirmed for one in found]
    confirmed, contradicted, undecided = map(verdicts.count, (1, -1, 0))
    return (
        f"confirmed in {confirmed}, contradicted in {contradicted}, undecided in {undecided} of "
        f"{len(verdicts)}"
    )


def lower_on(found: Paired, runs: str = "seeds") -> str:
    """A difference of AURC, × 1000, and the number of runs in which it is below 0.

    Example:
        >>> lower_on(Paired(-0.0026, 0.0002, 10, 10))
        '−2.60 ± 0.20, lower on 10 of 10 seeds'
    """
    less = difference(found, 1000.0, 2, higher=None)
    return f"{less}, lower on {found.lower} of {found.runs} {runs}"


def by_claim(found: Iterable[Comparison]) -> dict[str, list[Comparison]]:
    """Comparisons by the sentence of their claim, in the given order."""
    claims: dict[str, list[Comparison]] = {}
    for one in found:
        claims.setdefault(one.claim.sentence, []).append(one)
    return claims


def known(found: Iterable[Comparison]) -> list[Comparison]:
    """Leaves out those that are undefined for a run: they decide nothing."""
    return [one for one in found if not math.isnan(one.found.mean)]


def verdicts(found: Iterable[Comparison]) -> Iterator[str]:
    """A sentence for each claim and each group of its comparisons."""
    for sentence, own in by_claim(known(found)).items():
        for group in dict.fromkeys(one.group for one in own):
            yield f"{sentence}; {group}: {counted(one for one in own if one.group == group)}."


def notes_of(undefined: Iterable[str], heading: str, said: Iterable[str], *more: str) -> list[str]:
    """What has no metrics, sentences on it, and the verdicts on claims under their heading."""
    names, lines = ", ".join(sorted(set(undefined))), list(said)
    first = [f"NaN on some images, so without metrics: {names}."] if names else []
    return [*first, *more, *([heading, *lines] if lines else [])]


def difference_block(title: str, head: Sequence[str], found: Sequence[Comparison]) -> Block:
    """A table of differences: lines and columns are the rows and columns of the comparisons."""
    columns = list(dict.fromkeys(one.column for one in found))
    cells = {(one.row, one.column): one.cell for one in found}
    lines = [
        [*row, *(cells.get((row, column), "–") for column in columns)]
        for row in dict.fromkeys(one.row for one in found)
    ]
    return Block(title, [*head, *columns], lines, len(head))


def claim_blocks(found: Iterable[Comparison], corner: str = "") -> Iterator[Block]:
    """A table for each claim."""
    for own in by_claim(found).values():
        yield difference_block(own[0].claim.title, [corner], own)


# -------------------------------------------------------------------- trainings against each other

#: The baseline of all comparisons if it is there; else the first training.
BASELINE = VARIANTS["standard"]
#: Compared in addition: RAT with AT, which takes the same step with another sign.
RIVALS = tuple((VARIANTS[f"rat{end}"], VARIANTS[f"at{end}"]) for end in ("", "_mixup"))
TRAINED = (
    "Trainings against each other: one minus the other with the same seed, data and score, mean ± "
    f"standard error over their common seeds. ✓ better and ✗ worse: {RULE}, always for a single "
    "seed."
)


class Line(NamedTuple):
    """A line of a table of trainings: what is compared, on which rows."""

    words: tuple[str, ...]  #: the cells at its left
    rows: Sequence[Row]
    value: Value
    claim: Claim  #: how it is printed, and which direction is better


def training_pairs(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Pairs of trainings to compare: all with the baseline, and the `RIVALS`.

    Example:
        >>> training_pairs([{"training": name} for name in ("Standard", "AT", "RAT")])
        [('AT', 'Standard'), ('RAT', 'Standard'), ('RAT', 'AT')]
    """
    there = values(rows, "training")
    baseline = BASELINE if BASELINE in there else "".join(there[:1])
    found = [(training, baseline) for training in there if training != baseline]
    found += [pair for pair in RIVALS if set(pair) <= set(there)]
    return list(dict.fromkeys(found))


def trained(title: str, head: Sequence[str], lines: Sequence[Line]) -> Iterator[Block]:
    """A table with a column for each pair of trainings; none if no pair shares a seed."""
    everything = [row for line in lines for row in line.rows]
    found: list[Comparison] = []
    for pair in training_pairs(everything):
        seeds = set.intersection(*({r["seed"] for r in of(everything, training=t)} for t in pair))
        column = f"{pair[0]}\nless {pair[1]}\n{len(seeds)} seed{'s' * (len(seeds) > 1)}"
        for words, rows, value, claim in lines if seeds else ():
            ours, theirs = (of(rows, training=training) for training in pair)
            found += compared(claim, words, column, in_common(ours, theirs), value)
    if found:
        yield difference_block(f"Trainings against each other: {title}", head, found)
