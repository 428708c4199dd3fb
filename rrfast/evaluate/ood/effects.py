"""What the temperature alone and the step alone do to ODIN: its Fig. 3, 4 and 10, on test sets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rrfast.evaluate.ood.appraisal import EvaluationData, fprs, side_by_side
from rrfast.scores import ODIN
from rrfast.scores.score import Point

#: The temperature of the baseline, and the one at which the step is looked at (Fig. 3 and 4).
COLD, HOT = 1.0, ODIN().temperature
#: What ODIN's paper takes on CIFAR-10, of which Fig. 10 has the thresholds.
PAPER: Point = {"temperature": HOT, "eps": ODIN().eps}
#: What a table shows: nothing, each part by itself, a temperature of Fig. 3's flat end, both.
FIXED: tuple[Point, ...] = (
    {"temperature": COLD, "eps": 0.0},
    {"temperature": COLD, "eps": ODIN().eps},
    {"temperature": 100.0, "eps": 0.0},
    {"temperature": HOT, "eps": 0.0},
    PAPER,
)
#: Thresholds of Fig. 10.
THRESHOLDS = 51


def effect_points(grid: Sequence[Point]) -> list[Point]:
    """The points of Fig. 3 and 4, each once: (T, 0), (1, eps), (1000, eps), and those of `FIXED`.

    Args:
        grid: Every T with every eps.

    Example:
        >>> from rrfast.scores import ODIN, ODIN_GRIDS
        >>> from rrfast.scores.tuning import grid_points
        >>> len(effect_points(grid_points(ODIN(), ODIN_GRIDS)))
        50
    """
    lines = [p for p in grid if p["eps"] == 0 or p["temperature"] in (COLD, HOT)]
    return [*FIXED, *(p for p in lines if p not in FIXED)]


def fpr_at(table: Mapping[str, Sequence[float | None]], point: Point) -> float | None:
    """The FPR of a table at a point; None where it is undefined or was not asked.

    Example:
        >>> fpr_at({"temperature": [1.0], "eps": [0.0], "fpr": [0.5]}, FIXED[0])
        0.5
    """
    for i, fpr in enumerate(table["fpr"]):
        if all(table[name][i] == value for name, value in point.items()):
            return fpr
    return None


def best_step(table: Mapping[str, Sequence[Any]]) -> Point:
    """The point of a tuning at T = 1000 with the lowest FPR, the smallest step of equally good.

    Example:
        >>> best_step({"temperature": [1000.0] * 2, "eps": [0.0, 0.004], "fpr": [0.5, 0.4]})
        {'temperature': 1000.0, 'eps': 0.004}
    """
    rows = zip(table["temperature"], table["eps"], table["fpr"], strict=True)
    at_hot = [(math.inf if fpr is None else fpr, eps) for t, eps, fpr in rows if t == HOT]
    return {"temperature": HOT, "eps": min(at_hot)[1]}


def effects(against: str, points: Sequence[Point], on: EvaluationData) -> dict[str, Any]:
    """ODIN at fixed points on a set.

    Args:
        against: The set.
        points: `PAPER` among them, as `effect_points` gives them.
        on: The model and the test images.

    Returns:
        `table`: every point, as `side_by_side`; and what `thresholds` says at `PAPER`.

    Cost: 1 forward, one for each point with a step, and a backward for each temperature of these.

    Source: ODIN §5.1, §5.2 and App. F, Fig. 3, 4 and 10.
    """
    inside, outside = on.inside("odin", points)[0], on.outside("odin", points, against)
    place = points.index(PAPER)
    return {
        "table": side_by_side(points, fprs(inside, outside)),
        "thresholds": thresholds(inside[place], outside[place]),
    }


def thresholds(inside: Tensor, outside: Tensor) -> dict[str, Any]:
    """What is accepted, by the threshold on S.

    Args:
        inside: Log-odds of S [n] on the test images.
        outside: Likewise of a set.

    Returns:
        `low` and `high`, the range of S on the test images; `tpr` and `fpr`, the shares of both
        above each of `THRESHOLDS` thresholds evenly between them. Without the latter two where a
        score is NaN.

    Source: ODIN App. F, Fig. 10, and the detector of §3: accepted is S > delta.

    Example:
        >>> found = thresholds(torch.tensor([0.0, 2.0]), torch.tensor([-1.0, 1.0]))
        >>> found["tpr"][0], found["fpr"][0], found["tpr"][-1]
        (0.5, 0.5, 0.0)
    """
    known, other = (x.double().sigmoid() for x in (inside, outside))
    if known.isnan().any() or other.isnan().any():
        return {"low": math.nan, "high": math.nan}
    low, high = known.min().item(), known.max().item()
    delta = torch.linspace(low, high, THRESHOLDS, dtype=torch.float64)
    tpr, fpr = ((x > delta[:, None]).double().mean(dim=1).tolist() for x in (known, other))
    return {"low": low, "high": high, "tpr": tpr, "fpr": fpr}
