"""Throughput of every contestant, and the quality of its score."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor

from rrfast.bench import contestants
from rrfast.bench.contestants import Contestant, Outcome
from rrfast.bench.quality import agreement, in_batches, metrics, steps
from rrfast.bench.settings import DTYPES, Settings
from rrfast.bench.subject import Subject

Row = dict[str, Any]
#: Method and dtype.
Key = tuple[str, str]
#: A progress callback: description and fraction done.
Progress = Callable[[str, float], object]

#: The names of the two baselines; MSR is also the floor.
MSR, NAIVE = "msr", "naive loop"


def everyone(subject: Subject, settings: Settings) -> dict[Key, Contestant]:
    """All contestants by method and dtype. The naive loop runs only in float32, as released."""
    names = settings.contestants()
    every: dict[Key, Contestant] = {}
    for dtype in settings.dtype:
        plain = {MSR: contestants.msr(subject.model)}
        if dtype == "float32":
            plain[NAIVE] = contestants.naive_loop(subject.model)
        plain |= {name: contestants.method(subject.model, name) for name in names}
        for name, contestant in plain.items():
            every[name, dtype] = contestants.autocast(contestant, DTYPES[dtype])
    return every


def throughput(
    subject: Subject, settings: Settings, batch: int, progress: Progress
) -> tuple[list[Row], dict[Key, Outcome]]:
    """One row per contestant at one batch size, and the outcome of each.

    A backward counts as two forwards in `forward_equivalents_per_second`.
    """
    x = subject.x[:batch]
    every = everyone(subject, settings)
    named = {" ".join(key): contestant for key, contestant in every.items()}
    timed = contestants.in_turn(subject.model, x, named, settings.seconds, progress)
    rows = []
    outcomes: dict[Key, Outcome] = {}
    for (name, dtype), t in zip(every, timed.values(), strict=True):
        row: Row = {"method": name, "dtype": dtype, "batch": batch, "error": t.error}
        if not t.error:
            outcomes[name, dtype] = t.first
            row |= contestants.timed(t, batch)
            passes = row["forwards"] + 2 * row["backwards"]
            row |= {
                "forward_equivalents_per_second": row["images_per_second"] * passes,
                "memory_bytes": t.memory,
                "milliseconds": [1e3 * s for s in t.own],
            }
        rows.append(row)
    return rows, outcomes


def worth(
    subject: Subject, settings: Settings, outcomes: Mapping[Key, Outcome], progress: Progress
) -> list[Row]:
    """One row per contestant: metrics over all samples, and agreement with bs in float32.

    `outcomes` are for the first images, as many as the largest batch. Contestants without an
    outcome are left out; if these are all images, nothing is computed again.
    """
    batch = max(settings.batch)
    chunks = -(-settings.samples // batch)
    every = {("", ""): contestants.method(subject.model, "bs")}
    every |= {k: c for k, c in everyone(subject, settings).items() if k in outcomes}
    if chunks == 1:
        every |= {key: partial(_again, outcome) for key, outcome in outcomes.items()}
        every["", ""] = every.get(("bs", "float32"), every["", ""])
    advance = steps(progress, chunks * len(every))
    rows = []
    reference = None
    for (name, dtype), contestant in every.items():
        label = f"metrics, {name or 'bs'} {dtype}"
        outcome = in_batches(contestant, subject.x, batch, partial(advance, label))
        if reference is None:
            reference = outcome.score
            continue
        rows.append(
            {
                "method": name,
                "dtype": dtype,
                **metrics(outcome, subject.y),
                "against_bs": None if name == MSR else agreement(outcome.score, reference),
                "median": outcome.score.median().item(),
                "infinite": int(outcome.score.isinf().sum()),
                "nan": int(outcome.score.isnan().sum()),
            }
        )
    return rows


def _again(outcome: Outcome, _: Tensor) -> Outcome:
    return outcome
