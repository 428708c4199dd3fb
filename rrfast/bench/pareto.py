"""Methods at several settings: radius against passes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from rrfast.bench import contestants
from rrfast.bench.quality import in_batches, metrics, steps
from rrfast.bench.settings import Settings
from rrfast.bench.subject import Subject
from rrfast.methods import METHODS
from rrfast.methods.method import option_names

#: The option of each method that trades passes for accuracy, and its values. Other methods are one
#: point with their defaults.
SETTINGS: dict[str, tuple[str, tuple[int, ...]]] = {
    "bs": ("budget", (16, 18, 20, 25, 33)),
    "search": ("budget", (3, 4, 5, 6, 8, 12)),
    "refined": ("rounds", (1, 2, 3, 5, 10, 20)),
    "pgd": ("steps", (4, 10, 20)),
    "deepfool": ("steps", (1, 2, 3, 5, 10, 30)),
    "fab": ("steps", (1, 2, 5, 10, 20)),
    "fmn": ("steps", (3, 5, 7, 10, 30, 100)),
}


def settings_of(method: str) -> list[dict[str, int]]:
    """The options for each point of a method's line."""
    option, values = SETTINGS.get(method, ("", ()))
    has = option in option_names(METHODS[method])
    return [{option: value} for value in values] if has else [{}]


def pareto(
    subject: Subject, settings: Settings, progress: Callable[[str, float], object]
) -> list[dict[str, Any]]:
    """One row per method and setting, and MSR: passes, the median radius, metrics.

    `found` is the share of finite radii, `flipped` the share of radii seen to change the
    prediction, 0 for methods that extrapolate.
    """
    batch = max(settings.batch)
    points = [("msr", {}), *((m, o) for m in settings.contestants() for o in settings_of(m))]
    advance = steps(progress, -(-settings.samples // batch) * len(points))
    rows = []
    for method, options in points:
        contestant = (
            contestants.msr(subject.model)
            if method == "msr"
            else contestants.method(subject.model, method, **options)
        )
        label = " ".join(["pareto,", method, *(f"{k}={v}" for k, v in options.items())])
        o = in_batches(contestant, subject.x, batch, partial(advance, label))
        rows.append(
            {
                "method": method,
                "options": options,
                "forwards": o.forwards,
                "backwards": o.backwards,
                "passes": o.forwards + o.backwards,
                "median_radius": None if method == "msr" else o.score.median().item(),
                "flipped": 0.0 if o.upper is None else float(o.upper.isfinite().float().mean()),
                "found": float(o.score.isfinite().float().mean()),
                **metrics(o, subject.y),
            }
        )
    return rows
