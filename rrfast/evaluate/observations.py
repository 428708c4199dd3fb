"""The table behind every evaluation: observations by training, condition and run.

A row is an observation. Some of its keys say what was observed (`training`, `seed`, `split` and
`data`), some under which condition (`score`, `set`, `attack` and the like), and the rest hold the
numbers found. Tables, claims and figures are declared over these rows: which rows, which number,
and how it is printed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch

Row = dict[str, Any]
#: The number to average: taken from a row, None or NaN if it is undefined.
Value = Callable[[Row], "float | None"]


class Spread(NamedTuple):
    """A number over several runs."""

    mean: float
    std: float  #: with n - 1; NaN for one run
    runs: int


class Paired(NamedTuple):
    """One number minus another of the same run, over several runs."""

    mean: float
    standard_error: float  #: over seeds; NaN for one, however many divisions it has
    lower: int  #: runs in which it is below 0
    runs: int

    @property
    def verdict(self) -> int:
        """-1: the 95 % interval of Student's t is below 0; +1: above; 0: neither.

        Two runs that agree to the last digit decide nothing: they may agree by chance, and then
        there is no interval.
        """
        from scipy.special import stdtrit

        # For five runs, 2.78 standard errors instead of two, because the error is itself estimated.
        if (
            self.runs < (3 if self.standard_error == 0 else 2)
            or not abs(self.mean) > stdtrit(self.runs - 1, 0.975) * self.standard_error
        ):
            return 0  # also where one of them is NaN
        return -1 if self.mean < 0 else 1


# ------------------------------------------------------------------------ which rows, which number


def of(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    """The rows that have all these values."""
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def values(rows: Iterable[Row], key: str) -> list[Any]:
    """The values of a key, each once, in the order of the rows."""
    return list(dict.fromkeys(row[key] for row in rows))


def grouped(rows: Iterable[Row], *keys: str) -> dict[tuple[Any, ...], list[Row]]:
    """Rows by their values of `keys`, ordered by the first key, then the next, as by `values`.

    Example:
        >>> rows = [{"set": s, "score": f} for f, s in ("ax", "ay", "bx")]
        >>> list(grouped(rows, "set", "score"))
        [('x', 'a'), ('x', 'b'), ('y', 'a')]
    """
    rows, found = list(rows), dict[tuple[Any, ...], list[Row]]()
    for row in rows:
        found.setdefault(tuple(row[key] for key in keys), []).append(row)
    order = itertools.product(*(values(rows, key) for key in keys))
    return {group: found[group] for group in order if group in found}


def without(row: Row, keys: Collection[str]) -> Row:
    """The row without these keys."""
    return {key: value for key, value in row.items() if key not in keys}


def at(*path: str | int) -> Value:
    """The value in a row under these nested keys; None if it is missing.

    Results of earlier versions lack keys that were added later.

    Example:
        >>> at("above", "0.9", "errors")({"above": {"0.9": {"errors": 3}}})
        3
    """

    def value(row: Row) -> Any:
        found: Any = row
        for key in path:
            if found is None or found == []:
                return None
            found = found.get(key) if isinstance(found, dict) else found[key]
        return found

    return value


def ends(names: Iterable[str], *path: str) -> dict[str, Value]:
    """Lower and upper end of the intervals under a path, by their names in a CSV file."""
    both = ("low", "high")
    return {f"{name}_{end}": at(*path, name, i) for name in names for i, end in enumerate(both)}


# ------------------------------------------------------------------------------------ over the runs


def per_run(rows: Iterable[Row], value: Value) -> list[float]:
    """One number per seed, the mean over its divisions; for a single seed, one per division.

    Divisions of one test set share most of it and all of the training. They are not independent
    repetitions, and are not counted as such if there are several seeds (errata 12).
    """
    seeds: dict[int, list[float]] = {}
    for row in sorted(rows, key=lambda row: (row["seed"] or 0, row.get("split", 0))):
        found = value(row)
        seeds.setdefault(row["seed"], []).append(math.nan if found is None else found)
    if len(seeds) == 1:
        return next(iter(seeds.values()))
    return [sum(numbers) / len(numbers) for numbers in seeds.values()]


def spread(rows: Sequence[Row], value: Value) -> Spread:
    """Mean and standard deviation over runs; NaN if a run lacks the number."""
    return _spread(per_run(rows, value))


def curve(rows: Sequence[Row], numbers: Iterable[Value]) -> tuple[list[float], list[float]]:
    """Means and standard deviations, as from `spread`, of a sequence of numbers."""
    v = torch.tensor([per_run(rows, value) for value in numbers], dtype=torch.float64)
    mean = v.mean(dim=-1)
    std = v.std(dim=-1) if v.shape[-1] > 1 else torch.full_like(mean, math.nan)
    return mean.tolist(), std.tolist()


def _spread(numbers: Sequence[float]) -> Spread:
    v = torch.tensor(numbers, dtype=torch.float64)
    std = v.std().item() if len(v) > 1 else math.nan
    return Spread(v.mean().item(), std, len(v))


def runs_of(rows: Sequence[Row]) -> set[tuple[str, int, int]]:
    """Data, seed and division of each row: two trainings must share them to be compared by run."""
    return {(row.get("data", ""), row["seed"], row.get("split", 0)) for row in rows}


def condensed(rows: Sequence[Row], left_out: Collection[str]) -> list[Row]:
    """The rows without these entries, and with `intervals` only where a run is shown by itself."""
    by, more = grouped(rows, "training"), {*left_out, "intervals"}
    single = {training for (training,), own in by.items() if len(runs_of(own)) == 1}
    return [without(row, left_out if row["training"] in single else more) for row in rows]


def in_common(rows: Sequence[Row], others: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """The rows of both whose runs appear in both."""
    runs = runs_of(rows) & runs_of(others)
    first, second = ([row for row in part if runs_of([row]) <= runs] for part in (rows, others))
    return first, second


def paired(
    rows: Sequence[Row], others: Sequence[Row], value: Value, less: Value | None = None
) -> Paired:
    """`value` of the rows minus that of the others, run by run; both must have the same runs.

    `less` is the number of the others, if it differs. The divisions of a single seed give a mean
    difference but no standard error. They are not repetitions of the training (see `per_run`) and
    decide nothing.

    Raises:
        ValueError: Their runs differ.
    """
    runs = runs_of(rows)
    if runs != runs_of(others):
        raise ValueError(
            f"rows must be of the same data, seeds and divisions, got {runs} and {runs_of(others)}"
        )
    ours, theirs = per_run(rows, value), per_run(others, less or value)
    d = [one - other for one, other in zip(ours, theirs, strict=True)]
    several = len({seed for _, seed, _ in runs}) > 1
    error = _spread(d).std / math.sqrt(len(d)) if several else math.nan
    return Paired(_spread(d).mean, error, sum(x < 0 for x in d), len(d))


# ----------------------------------------------------------------------------------- in a sentence


def tuning_of(options: Mapping[str, Any]) -> Any:
    """The way of tuning, which results of earlier versions call the protocol."""
    return options.get("tuning", options.get("protocol"))


def either(rows: Iterable[Row], key: str) -> str:
    """The values of a key, such as "40 or 50"."""
    return " or ".join(map(str, sorted({row[key] for row in rows})))


def weights(checkpoint: str) -> str:
    """The words for a model's weights in titles.

    Example:
        >>> weights("last"), weights("given")
        ('last checkpoint', 'as given')
    """
    return "as given" if checkpoint == "given" else f"{checkpoint} checkpoint"


def by_weights(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The rows of each checkpoint, by the words for it."""
    return {weights(name): own for (name,), own in grouped(rows, "checkpoint").items()}


def seeds_said(rows: Sequence[Row], draws: int, drawn: str) -> Iterator[str]:
    """Sentences on what a mean is taken over: seeds, divisions, or `draws` resampled test sets.

    `drawn` says what was resampled, such as "test sets drawn again from this one".
    """
    counts = {len(values(own, "seed")) for own in grouped(rows, "training").values()}
    several = " or ".join(str(n) for n in sorted(counts) if n > 1)
    divisions = len({row.get("split", 0) for row in rows})
    if several:
        each = f", each the mean over {divisions} divisions" * (divisions > 1)
        yield f"Mean ± standard deviation over {several} training seeds{each}."
    if min(counts) > 1 or (divisions == 1 and not draws):
        return
    said = f"in brackets the 95 % interval over {draws} {drawn}."
    if divisions > 1:
        said = f"mean ± standard deviation over {divisions} divisions of one test set."
    yield f"Of a training with one seed: {said}" if several else said[0].upper() + said[1:]


def fewer_images(result: dict[str, Any]) -> Iterator[str]:
    """A sentence if a test split has fewer images than requested."""
    asked, there = result["options"]["images"], min(row["images"] for row in result["runs"])
    if asked is not None and there < asked:
        yield (
            f"{asked} images were asked for; a test split of {there} has no more, and all of it "
            "was attacked."
        )
