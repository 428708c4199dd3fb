"""Quality of a score: errors found, agreement with RR-BS, and with a tuned temperature."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rrfast._tables import SHOWN
from rrfast.bench.contestants import Contestant, Outcome
from rrfast.bench.settings import Settings
from rrfast.bench.subject import Subject
from rrfast.data.splits import tested_on
from rrfast.evaluate.run_numbers import shown
from rrfast.evaluate.scored_model import on_divisions
from rrfast.metrics import METRICS


def in_batches(
    contestant: Contestant, x: Tensor, batch: int, progress: Callable[[], object] = lambda: None
) -> Outcome:
    """The outcome on all images, on the CPU; passes are the mean per sample."""
    parts = []
    for part in x.split(batch):
        parts.append((len(part), contestant(part)))
        progress()
    upper = [o.upper for _, o in parts if o.upper is not None]
    return Outcome(
        torch.cat([o.score for _, o in parts]).double().cpu(),
        torch.cat([o.prediction for _, o in parts]).cpu(),
        sum(n * o.forwards for n, o in parts) / len(x),
        sum(n * o.backwards for n, o in parts) / len(x),
        None if not upper else torch.cat(upper).cpu(),
    )


def steps(progress: Callable[[str, float], object], total: int) -> Callable[[str], object]:
    """A function to call with a label after each of so many steps."""
    done = itertools.count(1)
    return lambda label: progress(label, next(done) / total)


def metrics(outcome: Outcome, y: Tensor | None) -> dict[str, float | None]:
    """AUROC, FPR95, AURC and accuracy; all None without labels or if a score is NaN."""
    if y is None or bool(outcome.score.isnan().any()):
        return dict.fromkeys(SHOWN)
    correct = outcome.prediction == y
    return {name: METRICS[name](outcome.score, correct) for name in SHOWN}


def agreement(radius: Tensor, reference: Tensor) -> dict[str, Any]:
    """Relative differences |r - r_ref| / r_ref where both are finite, and how many there are."""
    both = radius.isfinite() & reference.isfinite() & (reference > 0)
    off = (radius[both] - reference[both]).abs() / reference[both]
    empty = len(off) == 0
    return {
        "median": None if empty else off.median().item(),
        "percentile_95": None if empty else off.quantile(0.95).item(),
        "compared": len(off),
    }


def tuned(
    subject: Subject, settings: Settings, progress: Callable[[str, float], object]
) -> list[dict[str, Any]]:
    """A row for MSR and each method on each division of the data, as in `rrfast evaluate`.

    It uses float32. MSR has no temperature and no input pre-processing here: it is the bare forward
    that is timed.

    Returns:
        `method`, `split`, `seed` of the training, the `temperature`, `images`, `errors`,
        `chosen_on` (number of test images on which the weights were chosen), and the metrics of the
        test part.

    Raises:
        ValueError: The data lack the splits.

    Cost: that of `rrfast.scores.tune` on the tuning part, and of the method on the rest.

    Source: RAT §5.1, §5.4, Table 4.
    """
    task, batch, device = subject.task, max(settings.batch), subject.x.device
    assert task is not None  # required by the settings
    _, chosen_on = tested_on(task, subject.checkpoint)
    names = {"msr": "msr"} | {method: f"radius_{method}" for method in settings.contestants()}
    divided = list(on_divisions(subject.model, task, settings.tuning, subject.seed, batch, device))
    rows: list[dict[str, Any]] = []
    for split, on in enumerate(divided):
        for method, name in names.items():
            progress(method, len(rows) / (len(divided) * len(names)))
            score, point, _ = on.tuned(name)
            value = on.measured(score)[0]
            rows.append(
                {
                    "method": method,
                    "split": split,
                    "seed": subject.seed,
                    "temperature": point.get("temperature"),
                    "images": len(value),
                    "errors": int((~on.correct).sum()),
                    "chosen_on": chosen_on if settings.tuning == "rat" else 0,
                    **shown(value, on.correct),
                }
            )
    return rows
