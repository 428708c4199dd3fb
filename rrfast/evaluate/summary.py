"""Means and differences over seeds, from the rows of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch

Row = dict[str, Any]
#: What is averaged: a number of a row, None or NaN where it is undefined.
Value = Callable[[Row], "float | None"]


class Spread(NamedTuple):
    """A number over several runs."""

    mean: float
    std: float  #: with n - 1; NaN for one run
    runs: int


class Paired(NamedTuple):
    """One number less another of the same run, over several runs."""

    mean: float
    standard_error: float  #: over seeds; NaN for one, however many divisions it has
    lower: int  #: runs in which it is below 0
    runs: int

    @property
    def verdict(self) -> int:
        """-1: the 95 % interval of Student's t is below 0; +1: above; 0: neither.

        Two runs that agree to the last digit decide nothing: they may do so by chance, and then
        have no interval.
        """
        from scipy.special import stdtrit

        # Of five runs 2.78 standard errors, and not two: their size is itself estimated.
        if (
            self.runs < (3 if self.standard_error == 0 else 2)
            or not abs(self.mean) > stdtrit(self.runs - 1, 0.975) * self.standard_error
        ):
            return 0  # also where one of them is NaN
        return -1 if self.mean < 0 else 1


def counted(found: Sequence[Paired]) -> str:
    """How many comparisons bear a claim out, each being lower where it does.

    Example:
        >>> counted([Paired(-1.0, 0.1, 5, 5), Paired(-1.0, math.nan, 1, 1)])
        'confirmed in 1, contradicted in 0, undecided in 1 of 2'
    """
    verdicts = [one.verdict for one in found]
    confirmed, contradicted, undecided = map(verdicts.count, (-1, 1, 0))
    return (
        f"confirmed in {confirmed}, contradicted in {contradicted}, undecided in {undecided} of "
        f"{len(verdicts)}"
    )


def at(*path: str | int) -> Value:
    """What stands in a row under these keys, one within the other.

    Example:
        >>> at("above", "0.9", "errors")({"above": {"0.9": {"errors": 3}}})
        3
    """

    def value(row: Row) -> float | None:
        found: Any = row
        for key in path:
            found = found[key]
        return found  # type: ignore[no-any-return]

    return value


def fewer(result: dict[str, Any]) -> Iterator[str]:
    """A sentence where a test split has fewer images than were asked for."""
    asked = result["options"]["images"]
    there = sorted({row["images"] for row in result["runs"]})
    if asked is not None and there[0] < asked:
        yield (
            f"{asked} images were asked for; a test split of {there[0]} has no more, and all of it "
            "was attacked."
        )


def of(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    """The rows that have all these values."""
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def per_run(rows: Sequence[Row], value: Value) -> list[float]:
    """A number for each seed, the mean over its divisions; for one seed, one for each division.

    Divisions of one test set share most of it and all of the training: they are no independent
    repetitions, and where there are seeds to average over, they do not count as such (errata 12).
    """
    seeds: dict[int, list[float]] = {}
    for row in rows:
        found = value(row)
        seeds.setdefault(row["seed"], []).append(math.nan if found is None else found)
    if len(seeds) == 1:
        return next(iter(seeds.values()))
    return [sum(values) / len(values) for _, values in sorted(seeds.items())]


def spread(rows: Sequence[Row], value: Value) -> Spread:
    """Mean and standard deviation over runs; NaN where a run has none."""
    v = torch.tensor(per_run(rows, value), dtype=torch.float64)
    std = v.std().item() if len(v) > 1 else math.nan
    return Spread(v.mean().item() if len(v) else math.nan, std, len(v))


def runs_of(rows: Sequence[Row]) -> set[tuple[str, int, int]]:
    """Data, seed and division of each: what two trainings must share to be compared run by run."""
    return {(row.get("data", ""), row["seed"], row["split"]) for row in rows}


def paired(rows: Sequence[Row], less: Sequence[Row], value: Value) -> Paired:
    """`value` of the rows less that of others, run by run; both must have the same runs.

    The divisions of a single seed have a mean difference and no standard error: they are no
    repetitions of the training (see `per_run`), and decide nothing.

    Raises:
        ValueError: They have not.
    """
    runs, others = runs_of(rows), runs_of(less)
    if runs != others:
        raise ValueError(
            f"rows must be of the same data, seeds and divisions, got {runs} and {others}"
        )
    both = zip(per_run(_ordered(rows), value), per_run(_ordered(less), value), strict=True)
    d = torch.tensor([one - other for one, other in both], dtype=torch.float64)
    several = len({seed for _, seed, _ in runs}) > 1
    error = d.std().item() / math.sqrt(len(d)) if several else math.nan
    return Paired(d.mean().item(), error, int((d < 0).sum()), len(d))


def _ordered(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row["seed"], row["split"]))
