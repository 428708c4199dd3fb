"""A cell of a table: a number over the runs of a training."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rrfast._tables import number
from rrfast.evaluate.summary import Paired, Row, Value, spread


def cell(
    rows: Sequence[Row],
    value: Value,
    factor: float = 100.0,
    digits: int = 2,
    interval: Sequence[float] | None = None,
) -> str:
    """Mean ± standard deviation; of a single run its interval, where there is one.

    Args:
        rows: Of one training.
        value: What is averaged.
        factor: What it is multiplied with.
        digits: After the point.
        interval: Lower and upper end.

    Example:
        >>> rows = [{"seed": 0, "error": 0.1}, {"seed": 1, "error": 0.2}]
        >>> cell(rows, lambda row: row["error"])
        '15.00 ± 7.07'
        >>> cell(rows[:1], lambda row: row["error"], interval=(0.05, 0.15))
        '10.00 [5.00, 15.00]'
    """
    if not rows:
        return "–"
    found = spread(rows, value)
    mean = number(None if math.isnan(found.mean) else found.mean, factor, digits)
    if not math.isnan(found.std):
        return f"{mean} ± {number(found.std, factor, digits)}"
    if found.runs == 1 and interval:
        low, high = (number(end, factor, digits) for end in interval)
        return f"{mean} [{low}, {high}]"
    return mean


def leading(means: Sequence[float], *, lowest: bool = False) -> list[int]:
    """Places of the best of several means, all of them where they tie; none of a single one.

    Means of different seeds may be equal and yet differ in their last bit.

    Args:
        means: NaN is not among the best.
        lowest: Whether lower is better.

    Example:
        >>> leading([0.1 + 0.2, 0.3, 0.2, float("nan")])
        [0, 1]
    """
    known = [mean for mean in means if not math.isnan(mean)]
    best = (min if lowest else max)(known, default=math.nan)
    return [i for i, mean in enumerate(means) if len(means) > 1 and math.isclose(mean, best)]


def difference(found: Paired, marks: Sequence[str], factor: float = 100.0, digits: int = 2) -> str:
    """Mean ± standard error of a difference, and a mark for what it decides.

    Args:
        found: The difference.
        marks: For a verdict of -1, 0 and 1.
        factor: What it is multiplied with.
        digits: After the point.

    Example:
        >>> difference(Paired(0.02, 0.001, 0, 5), "−=+")
        '+ +2.00 ± 0.10'
    """
    if math.isnan(found.mean):
        return "–"
    mean, error = number(found.mean, factor, digits, sign="+"), found.standard_error
    spread_ = "" if math.isnan(error) else f" ± {number(error, factor, digits)}"
    return f"{marks[found.verdict + 1]} {mean}{spread_}"
