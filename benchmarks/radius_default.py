"""Compares radii and other scores, to choose the default: `python -m benchmarks.radius_default`.

For every task of `benchmarks.radius_tasks` and its seeds, it measures how well scores find the
model's errors: MSR and other scores of the logits, radii of few passes, and the paper's step of
"fast". All comparisons are on the same network and the same images. A task whose data or packages
are missing is left out, and the table says so.

Writes results/<device>/radius_default.json, task by task, and then radius_default.md; about forty
minutes on one core. Results of the same versions are kept, so an interrupted run continues, and
tasks can be measured separately. If something else has changed, delete the file.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import multiprocessing
import statistics
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from scipy.stats import spearmanr, t
from torch import Tensor

from benchmarks.__main__ import slug
from benchmarks.radius_step import clean_above
from benchmarks.radius_tasks import TASKS, Case
from rrfast import ops
from rrfast._files import write_text
from rrfast._machine import machine
from rrfast._results import write_json
from rrfast._tables import CONVENTION, Block, markdown, number
from rrfast.data import Split
from rrfast.engine import Engine, Model
from rrfast.metrics import METRICS
from rrfast.scores import SCORES, DoctorBeta, Radius, Score, tune
from rrfast.scores.score import Point, Scored

HERE = Path(__file__).parent
COMMAND = "python -m benchmarks.radius_default"
BATCH = 250
MEASURED = ("aurc", "auroc", "fpr_at_tpr", "augrc")
#: Scores that are distances to the decision boundary.
LENGTHS = ("grad", "fast", "fast, alpha=0.01", "search", "refined")
Row = dict[str, Any]


# ------------------------------------------------------------------------------------------- scores


@dataclass(frozen=True, eq=False)
class Soft(Score):
    """MSR's log-odds over the dual norm of their gradient: (h_y - LSE_{k != y} h_k) / ||grad||_1.

    The first-order distance to the point where the prediction has a probability of one half,
    negative if it has less. "grad" is its limit at temperature 0. It is the "soft" of the released
    code, corrected for the box and the unit.
    """

    bounds: ops.Bounds | None = None
    scale: ops.Scale | None = None

    def measure(self, model: Model, x: Tensor, points: Sequence[Point]) -> Scored:
        bounds, scale = ops.channel_bounds(self.bounds, x), ops.channel_scale(self.scale, x)
        with Engine(model) as engine:
            clean = engine.forward_backward(x, temperature=1.0)
        odds = SCORES["msr"].of_logits(clean.logits)  # type: ignore[attr-defined]
        distance = ops.plane_distance(x, clean.grad, odds.abs().to(x.dtype), bounds, scale)
        return Scored((odds.sign() * distance)[None], clean.prediction, 1, 1, None)


@dataclass(frozen=True, eq=False)
class SmallNorm(Score):
    """One over the dual norm of the gradient of "grad", by which a radius divides."""

    bounds: ops.Bounds | None = None  #: not used: a norm has no box
    scale: ops.Scale | None = None

    def measure(self, model: Model, x: Tensor, points: Sequence[Point]) -> Scored:
        scale = ops.channel_scale(self.scale, x)
        with Engine(model) as engine:
            clean = engine.forward_backward(x, temperature=0.0)
        unit = torch.ones_like(clean.margin, dtype=x.dtype)
        distance = ops.plane_distance(x, clean.grad, unit, None, scale)
        return Scored(distance[None], clean.prediction, 1, 1, None)


def scores(case: Case) -> dict[str, Score]:
    """Scores by name. "doctor_beta" is MSR at the T that ranks best on the tuning data."""
    options = dict(case.options)
    tuned = tune(DoctorBeta(), case.model, batches(case.tuning)).score
    return {
        "msr": SCORES["msr"],
        "doctor_beta, tuned": tuned,
        "margin": SCORES["margin"],
        "energy": SCORES["energy"],
        "small norm": SmallNorm(**options),
        "grad": Radius("grad", options=options),
        "soft": Soft(**options),
        "fast": Radius("fast", options=options),
        "fast, alpha=0.01": Radius("fast", options=options | {"alpha": 0.01}),
        "search": Radius("search", options=options),
        "refined": Radius("refined", options=options),
    }


def batches(split: Split) -> Iterable[tuple[Tensor, Tensor]]:
    return list(zip(split.x.split(BATCH), split.y.split(BATCH), strict=True))


# ------------------------------------------------------------------------------------- measurements


def measured(task: str, seed: int) -> list[Row] | str:
    """A row for each score; or the reason why there is none."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # a package prints what it loads
            case = TASKS[task].make(seed)
    except (ImportError, FileNotFoundError) as error:
        return str(error)
    rows: list[Row] = []
    values: dict[str, Tensor] = {}
    for name, score in scores(case).items():
        parts = [score.measure(case.model, x, ({},)) for x, _ in batches(case.test)]
        values[name] = torch.cat([part.values[0] for part in parts]).double()
        correct = torch.cat([part.prediction for part in parts]) == case.test.y
        rows.append(
            {
                "task": task,
                "seed": seed,
                "score": name,
                "temperature": getattr(score, "temperature", None),
                "forwards": parts[0].forwards,
                "backwards": parts[0].backwards,
                "samples": len(correct),
                "errors": int((~correct).sum()),
                "infinite": int(values[name].isinf().sum()),
                **{metric: METRICS[metric](values[name], correct) for metric in MEASURED},
            }
        )
    search = values["search"]
    for row in rows:
        own = values[row["score"]]
        row["spearman"] = float(spearmanr(own, search)[0])
        if row["score"] in LENGTHS:
            known = own.isfinite() & search.isfinite() & (search > 0)
            row["off"] = float((own / search - 1)[known].abs().median())
        if case.clean is not None:
            row["clean_above"] = clean_above(values[row["score"]], case.clean)
    return rows


def mean_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean and its standard error over defined values: AUROC is undefined without an error."""
    known = torch.tensor(values, dtype=torch.float64)
    known = known[known.isfinite()]
    error = float(known.std()) / math.sqrt(len(known)) if len(known) > 1 else math.nan
    return float(known.mean()), error


class Table:
    """Measurements by task, score and metric, over the seeds in their order."""

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self.values: dict[tuple[str, str, str], list[float]] = {}
        self.passes: dict[str, str] = {}
        for row in rows:
            for metric in (*MEASURED, "spearman", "off", "clean_above", "errors", "samples"):
                value = row.get(metric)
                key = (row["task"], row["score"], metric)
                self.values.setdefault(key, []).append(math.nan if value is None else value)
            self.passes.setdefault(row["score"], f"{row['forwards']:g} F + {row['backwards']:g} B")
        self.tasks = [task for task in TASKS if (task, "msr", "aurc") in self.values]
        self.scores = list(dict.fromkeys(key[1] for key in self.values))

    def mean(self, task: str, score: str, metric: str) -> float:
        return mean_error(self.values[task, score, metric])[0]

    def less(self, task: str, score: str, other: str, metric: str) -> tuple[float, float, bool]:
        """Mean difference on the same seed, its standard error, and whether it is beyond noise."""
        pairs = zip(self.values[task, score, metric], self.values[task, other, metric], strict=True)
        differences = [a - b for a, b in pairs]
        mean, error = mean_error(differences)
        seeds = sum(math.isfinite(d) for d in differences)
        return mean, error, bool(abs(mean) > t.ppf(0.975, seeds - 1) * error)


# ------------------------------------------------------------------------------------------- tables

#: The pairs to decide: the first minus the second.
QUESTIONS = (
    ("fast", "fast, alpha=0.01"),
    ("fast", "grad"),
    ("search", "grad"),
    ("refined", "grad"),
    ("soft", "grad"),
    ("soft", "msr"),
)
#: Radii and what they are compared with, for the short table.
SHORT = ("margin", "soft", "grad", "fast", "fast, alpha=0.01", "search", "refined")


def paired(
    found: Table,
    metric: str,
    unit: tuple[float, int],
    title: str,
    pairs: Iterable[tuple[str, str]],
) -> Block:
    """MSR's mean, and the difference of each pair, in bold if it is beyond noise."""
    pairs, rows, best = list(pairs), [], set()
    for i, task in enumerate(found.tasks):
        cells = [task, number(found.mean(task, "msr", metric), *unit)]
        for j, (score, other) in enumerate(pairs):
            mean, error, beyond = found.less(task, score, other, metric)
            cells.append(f"{number(mean, *unit, '+')} ± {number(error, *unit)}")
            if beyond:
                best.add((i, j + 2))
        rows.append(cells)
    heads = [a if b == "msr" else f"{a} − {b}" for a, b in pairs]
    return Block(title, ["task", "msr", *heads], rows, 1, frozenset(best))


def means(found: Table, metric: str, unit: tuple[float, int], title: str) -> Block:
    """A table of means for the tasks and scores that have the metric."""

    def known(task: str, score: str) -> bool:
        return math.isfinite(found.mean(task, score, metric))

    tasks = [k for k in found.tasks if any(known(k, name) for name in found.scores)]
    names = [name for name in found.scores if any(known(k, name) for k in tasks)]
    rows = [[k, *(number(found.mean(k, name, metric), *unit) for name in names)] for k in tasks]
    return Block(title, ["task", *names], rows, 1)


def facts(found: Table) -> Block:
    """Facts about each task, and the AUROC of the norm alone, by which a radius divides."""
    rows = []
    for task in found.tasks:
        errors, samples = (found.mean(task, "msr", key) for key in ("errors", "samples"))
        seeds = len(found.values[task, "msr", "aurc"])
        accuracy = number(1 - errors / samples, 100, 1)
        norm = number(found.mean(task, "small norm", "auroc"), 100, 1)
        rows.append([task, str(seeds), f"{samples:.0f}", f"{errors:.0f}", accuracy, norm])
    head = ["task", "seeds", "samples", "errors", "accuracy, %", "AUROC of a small norm, %"]
    return Block("Tasks", head, rows, 1)


def summary(found: Table) -> Block:
    """A row for each score, over all tasks."""
    rows = []
    for name in found.scores:
        ratios, better, worse = [], 0, 0
        for task in found.tasks:
            ratios.append(found.mean(task, name, "aurc") / found.mean(task, "msr", "aurc"))
            mean, _, beyond = found.less(task, name, "msr", "aurc")
            better, worse = better + (beyond and mean < 0), worse + (beyond and mean > 0)
        ratio = math.prod(ratios) ** (1 / len(ratios)) - 1
        spearman = [found.mean(task, name, "spearman") for task in found.tasks]
        off = [found.mean(task, name, "off") for task in found.tasks]
        rows.append(
            [
                name,
                found.passes[name],
                f"{number(ratio, 100, 1, '+')} %" if name != "msr" else "–",
                f"{better} / {worse}" if name != "msr" else "–",
                number(min(spearman), 1, 2),
                number(statistics.median(off), 100, 1) if name in LENGTHS else "–",
                *(
                    number(found.mean(task, name, "clean_above"), 1, 2)
                    for task in ("Lite0", "Lite1")
                    if task in found.tasks
                ),
            ]
        )
    head = ["score", "passes", "AURC against MSR's", "better / worse", "least ρ", "off, %"]
    clean = [f"P, {task}" for task in ("Lite0", "Lite1") if task in found.tasks]
    return Block("In short", [*head, *clean], rows, 1)


def page(results: Mapping[str, Any]) -> str:
    where, found = results["environment"], Table(results["rows"])
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    others = [(name, "msr") for name in found.scores if name != "msr"]
    aurc, percent = (1000, 2), (100, 2)
    blocks = [
        summary(found),
        paired(found, "aurc", aurc, "AURC × 1000, less MSR's", [(name, "msr") for name in SHORT]),
        facts(found),
        paired(found, "aurc", aurc, "AURC × 1000: what is decided", QUESTIONS),
        paired(found, "auroc", percent, "AUROC, %: what is decided", QUESTIONS),
        paired(found, "aurc", aurc, "AURC × 1000, all scores less MSR", others),
        paired(found, "auroc", percent, "AUROC, %, all scores less MSR", others),
        paired(found, "fpr_at_tpr", (100, 1), "FPR95, %, all scores less MSR", others),
        means(found, "spearman", (1, 3), "Spearman's correlation with search"),
        means(found, "off", (100, 1), "How far the radius is from that of search: median, %"),
        means(found, "clean_above", (1, 3), "How often a clean crop is above a degraded one"),
    ]
    parts = [
        "# The scores that could be the default",
        f"{where['device']}, 1 thread; {versions}; {where['date']}; `{COMMAND}`",
        (
            f"{CONVENTION} Mean over the seeds ± standard error of the mean of the differences on "
            "the same seed; **bold** where that is beyond the 95 % interval of Student's t, each "
            "for itself, so that of twenty equal pairs one would be. Seeds of digits, of "
            "Fashion-MNIST's test images, of texts and of the tabular sets share samples, and "
            "those of the photographs share the network: for other data the errors are too small. "
            "On the photographs (Lite0, Lite1: EfficientNet) there are no labels: an answer other "
            "than that on the whole photograph is an error."
        ),
        (
            "In short: *AURC against MSR's*, the geometric mean over the tasks of the ratio; "
            "*better / worse*, on how many tasks beyond noise; *ρ*, Spearman's correlation with "
            "`search`; *off*, how far the radius is from that of `search`, the median over images "
            "and then tasks; *P*, how often a clean crop is above a degraded one."
        ),
        *(f"Left out: {task}: {reason}." for task, reason in results["left_out"].items()),
        markdown(block for block in blocks if block.rows),
    ]
    return "\n\n".join(parts) + "\n"


def rounded(value: Any) -> Any:
    """Rounded to seven significant digits; the page shows at most four."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.7g}") if isinstance(value, float) else value


def main(argv: Sequence[str] | None = None) -> int:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="(all)")
    parser.add_argument("--seeds", type=int, help="of each task, 0, 1, ... (its own number)")
    parser.add_argument("--processes", type=int, default=1, help="each with one thread (1)")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="a folder")
    arguments = parser.parse_args(argv)
    each = {task: arguments.seeds or TASKS[task].seeds for task in arguments.tasks}
    # The first seed of every task first, so that the table soon has all tasks.
    work = [(k, seed) for seed in range(max(each.values())) for k in each if seed < each[k]]
    where = machine(torch.device("cpu"))
    path = arguments.results / slug(where["processor"]) / "radius_default.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"environment": where, "left_out": {}, "rows": []}
    if path.is_file():
        before = json.loads(path.read_text())
        if before["environment"]["versions"] == where["versions"]:
            results["rows"] = before["rows"]
    known = {(row["task"], row["seed"]) for row in results["rows"]}
    work = [pair for pair in work if pair not in known]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.processes, mp_context=context) as pool:
        running = {pool.submit(measured, task, seed): task for task, seed in work}
        for done in track(as_completed(running), "networks", len(work)):
            rows = done.result()
            if isinstance(rows, str):
                results["left_out"][running[done]] = rows
            else:
                results["rows"] += map(rounded, rows)
            results["rows"].sort(key=lambda row: (list(TASKS).index(row["task"]), row["seed"]))
            write_json(path, results, compact=True)
    write_text(path.with_suffix(".md"), page(results))
    print(page(results))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
