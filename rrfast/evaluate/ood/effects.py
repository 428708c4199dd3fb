"""The effects of ODIN's temperature alone and step alone: its Fig. 3, 4 and 10, on test sets."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rrfast.evaluate.observations import without
from rrfast.evaluate.ood.measurements import OOD_METRICS, ModelWithSets, fprs, joined, side_by_side
from rrfast.evaluate.run_numbers import defined
from rrfast.scores import ODIN
from rrfast.scores.score import Point

#: The temperature of the baseline, and the one at which the step is varied (Fig. 3 and 4).
COLD, HOT = 1.0, ODIN().temperature
#: The point of ODIN's paper for CIFAR-10; Fig. 10 shows its thresholds.
PAPER: Point = {"temperature": HOT, "eps": ODIN().eps}
#: Points of a table: no part, each part by itself, a temperature at Fig. 3's flat end, both.
FIXED: tuple[Point, ...] = (
    {"temperature": COLD, "eps": 0.0},
    {"temperature": COLD, "eps": ODIN().eps},
    {"temperature": 100.0, "eps": 0.0},
    {"temperature": HOT, "eps": 0.0},
    PAPER,
)
#: The steps of ODIN's Table 2, at T = 1000: for CIFAR-10 and for CIFAR-100.
PRINTED = (ODIN().eps, 0.002)
#: Thresholds of Fig. 10.
THRESHOLDS = 51


def effect_points(grid: Sequence[Point]) -> list[Point]:
    """The points of Fig. 3 and 4 from every T with every eps: (T, 0), (1, eps), (1000, eps).

    `FIXED` comes first, and none is repeated.

    Example:
        >>> from rrfast.scores import ODIN, ODIN_GRIDS
        >>> from rrfast.scores.tuning import grid_points
        >>> len(effect_points(grid_points(ODIN(), ODIN_GRIDS)))
        50
    """
    lines = [p for p in grid if p["eps"] == 0 or p["temperature"] in (COLD, HOT)]
    return [*FIXED, *(p for p in lines if p not in FIXED)]


def fpr_at(table: Mapping[str, Sequence[float | None]], point: Point) -> float | None:
    """The FPR of a table at a point; None if it is undefined or the point is missing.

    Example:
        >>> fpr_at({"temperature": [1.0], "eps": [0.0], "fpr": [0.5]}, FIXED[0])
        0.5
    """
    for i, fpr in enumerate(table["fpr"]):
        if all(table[name][i] == value for name, value in point.items()):
            return fpr
    return None


def best_step(table: Mapping[str, Sequence[Any]]) -> Point:
    """The tuning point at T = 1000 with the lowest FPR; if several tie, the smallest step.

    Example:
        >>> best_step({"temperature": [1000.0] * 2, "eps": [0.0, 0.004], "fpr": [0.5, 0.4]})
        {'temperature': 1000.0, 'eps': 0.004}
    """
    rows = zip(table["temperature"], table["eps"], table["fpr"], strict=True)
    at_hot = [(math.inf if fpr is None else fpr, eps) for t, eps, fpr in rows if t == HOT]
    return {"temperature": HOT, "eps": min(at_hot)[1]}


def effects(against: str, points: Sequence[Point], on: ModelWithSets) -> dict[str, Any]:
    """ODIN at fixed points on a set; they include `PAPER`, as those of `effect_points` do.

    Returns `table`: every point, as from `side_by_side`; `hot`: of those at T = 1000 the `eps`, and
    every metric of `OOD_METRICS` at each; and `thresholds` at `PAPER`.

    Cost: 1 forward, 1 for each point with a step, and 1 backward for each temperature of these.

    Source: ODIN §4.4, Table 2; §5.1, §5.2 and App. F, Fig. 3, 4 and 10.
    """
    inside, outside = on.inside("odin", points)[0], on.outside("odin", points, against)
    place = points.index(PAPER)
    hot = [i for i, point in enumerate(points) if point["temperature"] == HOT]
    pairs = [joined(inside[i], outside[i]) for i in hot]
    of_hot = {name: [defined(m, *pair) for pair in pairs] for name, m in OOD_METRICS.items()}
    return {
        "table": side_by_side(points, fprs(inside, outside)),
        "hot": {"eps": [points[i]["eps"] for i in hot]} | of_hot,
        "thresholds": thresholds(inside[place], outside[place]),
    }


def at_steps(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """ODIN on a set at T = 1000, by step: those of `PRINTED`, and the one that was tuned there.

    From a row with `hot` of `effects` and `step`; the results have every metric of `OOD_METRICS`.

    Example:
        >>> hot = {"eps": [0.0, 0.002]} | {name: [0.5, 0.4] for name in OOD_METRICS}
        >>> row = {"set": "noise", "hot": hot, "step": {"temperature": 1000.0, "eps": 0.0}}
        >>> [(found["eps"], found["fpr"]) for found in at_steps(row)]
        [('0.002', 0.4), ('tuned', 0.5)]
    """
    hot = row["hot"]
    steps = {f"{eps:g}": eps for eps in PRINTED} | {"tuned": row["step"]["eps"]}
    for said, eps in steps.items():
        if eps in hot["eps"]:
            place = hot["eps"].index(eps)
            numbers = {name: hot[name][place] for name in OOD_METRICS}
            yield {**without(row, {"hot", "table", "thresholds"}), "eps": said, **numbers}


def thresholds(inside: Tensor, outside: Tensor) -> dict[str, Any]:
    """The accepted shares by the threshold on S.

    From the log-odds of S [n] on the test images, and those on a set: `low` and `high`, the range
    of S on the test images; `tpr` and `fpr`, the accepted shares of both at each of `THRESHOLDS`
    evenly spaced thresholds between them. Without the latter two if a score is NaN.

    Source: ODIN App. F, Fig. 10, and the detector of §3: accept if S > delta.

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
