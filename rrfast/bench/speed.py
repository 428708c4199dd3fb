"""The speed options of `RadiusEstimator`: time saved, and change of the ranking."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import rrfast
from rrfast._turns import in_a_line
from rrfast.bench import contestants
from rrfast.bench.contestants import Contestant, Outcome
from rrfast.bench.quality import in_batches, metrics
from rrfast.bench.settings import Settings
from rrfast.bench.subject import Subject
from rrfast.estimator import FLOAT32
from rrfast.evaluate.run_numbers import spearman

TIMED_METHODS = ("grad", "fast")
#: The options of each row, for every device; CUDA graphs only where named, unlike by default.
OPTIONS: dict[str, dict[str, Any]] = {
    **FLOAT32,
    "compile": {"compile": True},
    "bfloat16": {"dtype": torch.bfloat16},
}


def rows_of(device: torch.device) -> dict[str, dict[str, Any]]:
    """Every option alone, then together; CUDA graphs only on CUDA.

    Together both with and without bfloat16: a CPU without instructions for it is many times slower.
    """
    rows = dict(OPTIONS)
    together = {key: value for options in OPTIONS.values() for key, value in options.items()}
    if device.type == "cuda":
        rows["cuda_graph"] = {"cuda_graph": True}
        # A compiled model has its own graphs.
        rows["all but compile"] = {**together, "compile": False, "cuda_graph": True}
    layout = [name for name, options in FLOAT32.items() if options]
    rows[" + ".join(layout)] = {k: v for name in layout for k, v in OPTIONS[name].items()}
    rows["all in float32"] = {key: value for key, value in together.items() if key != "dtype"}
    rows["all together"] = together
    return rows


def speed(
    subject: Subject, settings: Settings, progress: Callable[[str, float], object]
) -> list[dict[str, Any]]:
    """One row per method and option, at the largest batch size."""
    batch = max(settings.batch)
    x = subject.x[:batch]
    options = rows_of(x.device)
    every: dict[str, Contestant] = {}
    errors: dict[str, str] = {}
    for method in TIMED_METHODS:
        for row, chosen in options.items():
            name = f"{method}, {row}"
            progress(name, 0.0)
            if "dtype" in chosen and no_bfloat16(x.device):
                errors[name] = "left out: no bfloat16 in this processor"
                continue
            try:
                contestant = estimator(subject.model, method, **{"cuda_graph": False, **chosen})
                contestant(x)  # compiles or captures, which is not timed
                every[name] = contestant
            except (RuntimeError, ValueError) as error:
                errors[name] = in_a_line(error)
    timed = contestants.in_turn(subject.model, x, every, settings.seconds, progress)
    rows: list[dict[str, Any]] = []
    for method in TIMED_METHODS:
        plain: Outcome | None = None
        for row in options:
            name = f"{method}, {row}"
            failure = errors.get(name) or timed[name].error
            rows.append({"method": method, "options": row, "batch": batch, "error": failure})
            if failure:
                continue
            outcome = in_batches(_padded(every[name], batch), subject.x, batch)
            plain = plain or outcome
            aurc, plain_aurc = (metrics(o, subject.y)["aurc"] for o in (outcome, plain))
            rows[-1] |= {
                **contestants.timed(timed[name], batch),
                "aurc": aurc,
                "aurc_difference": None
                if aurc is None or plain_aurc is None
                else aurc - plain_aurc,
                "spearman": spearman(outcome.score, plain.score),
                "nan": int(outcome.score.isnan().sum()),
            }
    return rows


def fastest(rows: list[dict[str, Any]], method: str) -> tuple[str, float] | None:
    """The fastest options that keep float32, and how many times as fast as eager they are."""
    measured = {
        row["options"]: float(row["images_per_second"])
        for row in rows
        if row["method"] == method and not row["error"]
    }
    coarse = {row for row, options in rows_of(torch.device("cuda")).items() if "dtype" in options}
    kept = measured.keys() - coarse
    if "eager" not in kept:
        return None
    best = max(kept, key=measured.__getitem__)
    return best, measured[best] / measured["eager"]


def estimator(model: nn.Module, method: str, **options: Any) -> Contestant:
    """`rrfast.RadiusEstimator` as a contestant."""
    estimate = rrfast.RadiusEstimator(model, method, **options)
    return lambda x: contestants.outcome(estimate(x, full_output=True))


def no_bfloat16(device: torch.device) -> bool:
    """Whether this is a CPU without instructions for bfloat16.

    It then converts number by number, and takes dozens of times as long as in float32.
    """
    # Not every supported version of torch can tell.
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    has = [known[name] for name in ("amx_bf16", "avx512_bf16") if name in known]
    return device.type == "cpu" and bool(has) and not any(has)


def _padded(contestant: Contestant, batch: int) -> Contestant:
    """Pad every call to the same batch size: another size would be compiled or captured again."""

    def call(x: Tensor) -> Outcome:
        n = len(x)
        if n < batch:
            x = torch.cat([x, x[-1:].expand(batch - n, *x.shape[1:])])
        score, prediction, forwards, backwards, _ = contestant(x)
        # A graph overwrites its result in the next call.
        return Outcome(score[:n].clone(), prediction[:n].clone(), forwards, backwards)

    return call
