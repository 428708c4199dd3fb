"""`rrfast demo`: standard training against RAT on handwritten digits, over several seeds.

Paired: for each seed both trainings see the same images, initial weights, batches and number of
epochs. The settings were chosen on other seeds (1000 and up) than those reported (0 and up).
"""

from __future__ import annotations

import math
import platform
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from torch import Tensor, nn

import rrfast
from rrfast._checks import check_one_of
from rrfast._files import write_text
from rrfast._machine import processor
from rrfast._results import results_in, write_figure, write_json
from rrfast._tables import SHOWN, number
from rrfast.data import digits
from rrfast.metrics import METRICS
from rrfast.models import digits_cnn
from rrfast.scores import SCORES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes

    from rrfast.data import Digits, Split

TRAININGS = ("standard", "RAT")
#: The rows of the table: name in `SCORES`, and as it is printed.
ROWS = {
    "msr": "MSR",
    "radius_fast": "radius fast",
    "radius_bs": "radius bs",
    "radius_grad": "radius grad",
}
DRAWN = "radius_bs"
CONVENTION = (
    "Errors are the positive class; FPR95 at the first threshold with TPR ≥ 95 %; AURC is the "
    "exact sum over all coverages, ties averaged."
)


class Column(NamedTuple):
    """One quantity of the table, printed in `unit`, that is multiplied by `factor`."""

    title: str
    unit: str
    factor: float
    digits: int


COLUMNS = {
    "auroc": Column("AUROC ↑", "%", 100, 1),
    "fpr_at_tpr": Column("FPR95 ↓", "%", 100, 1),
    "aurc": Column("AURC ↓", "× 1000", 1000, 2),
    "accuracy": Column("accuracy ↑", "%", 100, 1),
    "images_per_second": Column("images/s ↑", "thousands", 1e-3, 1),
}


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result.

    The learning rate was chosen for standard training (of 1e-3, 3e-3, 1e-2), then eps for RAT (of
    0.02, 0.05, 0.1, 0.15, 0.2), both by AURC on the validation splits of the seeds 1000 to 1019.

    Attributes:
        seeds: One pair of trainings each; a seed decides split, noise, initial weights and batches.
        epochs: Passes over the training images, the same for both trainings.
        batch_size: Images per step.
        learning_rate: Peak of AdamW's schedule: linear warm-up over a tenth of the steps, then
            a cosine to 0.
        weight_decay: AdamW's.
        eps: RAT's step, where 1 is the full range of a pixel.
        threads: CPU threads of torch. One, because the last bits of a sum depend on their number,
            and because passes this small gain nothing from more and lose much on a busy machine.
    """

    seeds: tuple[int, ...] = tuple(range(8))
    epochs: int = 40
    batch_size: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    eps: float = 0.1
    threads: int = 1


#: Seconds, to see that all parts work; its numbers mean nothing.
SMOKE = Settings(seeds=(0, 1), epochs=2)


class Scored(NamedTuple):
    """One score on the test split of one network."""

    score: Tensor  #: [n]
    correct: Tensor  #: [n] bool
    images_per_second: float


def run(
    settings: Settings | None = None,
    out: Path | str = "rrfast-demo",
    console: Console | None = None,
) -> dict[str, Any]:
    """Train, score, print one table, and write `demo.json`, `demo.md` and `radius.png` to `out`.

    Args:
        settings: What to run; default `Settings()`.
        out: Folder for the results, made where it is missing.
        console: Where to print; default standard output.

    Returns:
        What `demo.json` holds: `command`, `date`, `device`, `versions`, `kernels`, `settings`,
        `runs` (one row per seed, training and score), `summary` (mean and standard deviation over
        seeds) and `paired` (RAT minus standard per score and metric: mean, standard error).

    Raises:
        BlockingIOError: Another demo is writing into `out`.
        ImportError: scikit-learn or matplotlib is not installed.
        OSError: `out` cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as out:
        ...     result = run(Settings(seeds=(0,), epochs=1), out, Console(quiet=True))
        >>> len(result["runs"])
        8
    """
    settings = settings or Settings()
    console = console or Console()
    require_extras()
    out = Path(out)
    with results_in(out, "demo"):
        return _run(settings, out, console)


def _run(settings: Settings, out: Path, console: Console) -> dict[str, Any]:
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    started = time.perf_counter()
    try:
        scored = _train_and_score(settings, console)
    finally:
        torch.set_num_threads(threads)

    runs = [
        {
            "seed": seed,
            "training": training,
            "score": name,
            **{m: METRICS[m](s.score, s.correct) for m in SHOWN},
            "images_per_second": s.images_per_second,
        }
        for (seed, training, name), s in scored.items()
    ]
    result = {
        "command": f"rrfast demo --seeds {len(settings.seeds)} --epochs {settings.epochs}",
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "seconds": round(time.perf_counter() - started, 1),
        **_machine(),
        "settings": asdict(settings),
        "summary": _summary(runs),
        "paired": _paired(runs),
        "runs": runs,
    }
    console.print(_table(result))
    for line in _notes(result):
        console.print(line, highlight=False)
    write_json(out / "demo.json", result)
    write_text(out / "demo.md", _markdown(result))
    _figure(scored, out / "radius.png")
    console.print(f"\nWritten to {out}: demo.json, demo.md, radius.png", highlight=False)
    return result


def require_extras() -> None:
    """Raise an ImportError that names the remedy, before minutes of training rather than after."""
    try:
        import matplotlib.figure  # noqa: F401
        import sklearn.datasets  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"rrfast demo needs scikit-learn and matplotlib: {error}. "
            "Install them with: pip install scikit-learn matplotlib"
        ) from error


# ------------------------------------------------------------------------------ train and score


def _train_and_score(settings: Settings, console: Console) -> dict[tuple[int, str, str], Scored]:
    scored = {}
    # In units of a standard epoch: one of RAT costs two, to score a network about 25.
    total = len(settings.seeds) * (3 * settings.epochs + 2 * 25)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=total)
        for i, seed in enumerate(settings.seeds, 1):
            data = digits(seed)
            for training in TRAININGS:
                label = f"seed {i} of {len(settings.seeds)}, {training:<8}"
                progress.update(task, description=f"{label} trains")
                on_epoch = partial(progress.advance, task, 2 if training == "RAT" else 1)
                model = train(training, data, seed, settings, on_epoch)
                progress.update(task, description=f"{label} scores")
                for name in ROWS:
                    scored[seed, training, name] = _score(name, model, data.test)
                progress.advance(task, 25)
        progress.update(task, description="done", completed=total)
    return scored


def train(
    training: str,
    data: Digits,
    seed: int,
    settings: Settings,
    on_epoch: Callable[[], object] = lambda: None,
) -> nn.Module:
    """A `digits_cnn` trained on `data.train`. RAT and standard differ in the line with `backward`.

    Args:
        training: "standard" (cross-entropy) or "RAT".
        data: From `rrfast.data.digits`.
        seed: Decides the initial weights and the batches.
        settings: The rest.
        on_epoch: Called after every epoch.

    Returns:
        The network after the last epoch, in eval mode.

    Example:
        >>> model = train("RAT", digits(seed=0), seed=0, settings=SMOKE)
        >>> model.training
        False
    """
    check_one_of("training", training, TRAININGS)
    x, y = data.train
    model = digits_cnn(seed)
    objective = rrfast.RAT(eps=settings.eps)
    optimizer = torch.optim.AdamW(
        model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    steps = settings.epochs * math.ceil(len(y) / settings.batch_size)

    def schedule(step: int) -> float:
        return min(1.0, 10 * (step + 1) / steps) * (1 + math.cos(math.pi * step / steps)) / 2

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    # A generator of its own, so that the batches do not depend on what a step draws.
    generator = torch.Generator().manual_seed(seed)
    for _ in range(settings.epochs):
        order = torch.randperm(len(y), generator=generator)
        for start in range(0, len(y), settings.batch_size):
            batch = order[start : start + settings.batch_size]
            optimizer.zero_grad()
            if training == "RAT":
                objective.backward(model, x[batch], y[batch])
            else:
                loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
                torch.autograd.backward(loss)
            optimizer.step()
            scheduler.step()
        on_epoch()
    return model.eval()


def _score(name: str, model: nn.Module, test: Split) -> Scored:
    score = SCORES[name]
    with torch.no_grad():
        correct = model(test.x).argmax(dim=1) == test.y
    score(model, test.x[:256])  # the first call allocates, and is not timed
    passes, started = 0, time.perf_counter()
    while passes == 0 or time.perf_counter() - started < 0.05:
        value = score(model, test.x)
        passes += 1
    return Scored(value, correct, passes * len(test.x) / (time.perf_counter() - started))


# ---------------------------------------------------------------------------------- statistics


def _summary(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and standard deviation (n - 1) over seeds, one row per training and score."""
    rows = []
    for training in TRAININGS:
        for score in ROWS:
            own = [r for r in runs if (r["training"], r["score"]) == (training, score)]
            row: dict[str, Any] = {"training": training, "score": score}
            for column in COLUMNS:
                mean, std = _mean_std([r[column] for r in own])
                row[column] = {"mean": mean, "std": std}
            rows.append(row)
    return rows


def _paired(runs: Sequence[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """RAT minus standard on the same seed: mean, standard error over seeds, seeds where lower."""
    value = {(r["seed"], r["training"], r["score"]): r for r in runs}
    seeds = sorted({r["seed"] for r in runs})
    paired: dict[str, dict[str, dict[str, float]]] = {}
    for score in ROWS:
        paired[score] = {}
        for metric in SHOWN:
            differences = [
                value[seed, "RAT", score][metric] - value[seed, "standard", score][metric]
                for seed in seeds
            ]
            mean, std = _mean_std(differences)
            paired[score][metric] = {
                "mean": mean,
                "standard_error": std / math.sqrt(len(seeds)),
                "lower": sum(d < 0 for d in differences),
                "seeds": len(seeds),
            }
    return paired


def _mean_std(values: Sequence[float]) -> tuple[float, float]:
    # Not the statistics module: its stdev fails on NaN, which a seed without errors gives.
    v = torch.tensor(values, dtype=torch.float64)
    return v.mean().item(), v.std().item() if len(v) > 1 else math.nan


# -------------------------------------------------------------------------------------- report


def _cells(row: dict[str, Any]) -> list[str]:
    cells = [row["training"], ROWS[row["score"]]]
    for name, column in COLUMNS.items():
        mean, std = (f"{column.factor * row[name][k]:,.{column.digits}f}" for k in ("mean", "std"))
        cells.append(mean if std == "nan" else f"{mean} ± {std}")
    return cells


def _table(result: dict[str, Any]) -> Table:
    table = Table(
        title="Finding the errors on digits: mean ± standard deviation over seeds",
        box=box.SIMPLE_HEAD,
        padding=0,
        show_edge=False,
    )
    for name in ("training", "score"):
        table.add_column(name)
    for column in COLUMNS.values():
        table.add_column(f"{column.title}\n{column.unit}", justify="right", no_wrap=True)
    for row in result["summary"]:
        last = row["score"] == next(reversed(ROWS))
        table.add_row(*_cells(row), end_section=last)
    return table


def _notes(result: dict[str, Any]) -> list[str]:
    """What the numbers are, and the paired differences."""
    settings = result["settings"]
    threads = f"{settings['threads']} thread{'s' * (settings['threads'] > 1)}"
    setting = (
        f"{len(settings['seeds'])} seeds (each its own split, noise and initial weights, the same "
        f"for both trainings), {settings['epochs']} epochs, RAT eps {settings['eps']}; "
        f"{result['device']}, {threads}, {result['seconds']} s."
    )
    notes = [
        CONVENTION,
        setting,
        "AURC × 1000, RAT minus standard on the same seed, mean ± standard error:",
    ]
    for score, metrics in result["paired"].items():
        d = metrics["aurc"]
        error = "" if math.isnan(d["standard_error"]) else f" ± {1000 * d['standard_error']:.2f}"
        mean = number(d["mean"], 1000, 2, "+")
        notes.append(
            f"  {ROWS[score]:<13}{mean}{error}, lower on {d['lower']} of {d['seeds']} seeds"
        )
    return notes


def _markdown(result: dict[str, Any]) -> str:
    head = ["training", "score", *(f"{column.title}, {column.unit}" for column in COLUMNS.values())]
    lines = [head, ["---", "---", *["---:"] * len(COLUMNS)], *map(_cells, result["summary"])]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    convention, setting, paired, *differences = _notes(result)
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    bullets = "\n".join(f"* {' '.join(line.split())}" for line in differences)
    return (
        f"{table}\n\nMean ± standard deviation over seeds. {convention}\n{setting}\n\n"
        f"{paired}\n\n{bullets}\n\n`{result['command']}`, {result['date']}; {versions}.\n"
    )


def _machine() -> dict[str, Any]:
    config = rrfast.config()
    names = ("torch", "numpy", "scikit-learn")
    return {
        "device": f"CPU ({processor()})",
        "versions": {
            "rrfast": rrfast.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in names},
        },
        "kernels": {op: answers["cpu"] for op, answers in config["ops"].items()},
    }


# -------------------------------------------------------------------------------------- figure


def _figure(scored: dict[tuple[int, str, str], Scored], path: Path) -> None:
    """Histograms of the radius of right and wrong predictions, the seeds pooled."""
    from matplotlib.figure import Figure

    pooled = {}
    for training in TRAININGS:
        own = [s for (_, t, name), s in scored.items() if (t, name) == (training, DRAWN)]
        radius = torch.cat([s.score for s in own]).double()
        correct = torch.cat([s.correct for s in own])
        pooled[training] = {"right": radius[correct], "wrong": radius[~correct]}

    # The same bins for all four histograms, from the smallest radius to the largest.
    every = torch.cat([radius for groups in pooled.values() for radius in groups.values()])
    drawn = every[every.isfinite() & (every > 0)].log10()
    low, high = (float(drawn.min()) - 1e-6, float(drawn.max()) + 1e-6) if len(drawn) else (0, 1)
    edges = torch.logspace(low, high, 41, dtype=torch.float64).tolist()

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    axes = figure.subplots(1, len(TRAININGS), sharex=True, sharey=True)
    for training, ax in zip(TRAININGS, axes, strict=True):
        _histogram(ax, pooled[training], edges)
        ax.set_title("RAT" if training == "RAT" else f"{training} training", fontsize=11)
    axes[0].set_ylabel("share of its group per bin, %")
    figure.supxlabel("robust radius (RR-BS, L∞; 1 is the full range of a pixel)", fontsize=10)
    write_figure(path, figure)


def _histogram(ax: Axes, groups: dict[str, Tensor], edges: list[float]) -> None:
    # Blue and vermilion of Okabe and Ito, told apart by the colour-blind; line styles help in grey.
    styles = {"right": ("#0072B2", "-"), "wrong": ("#D55E00", "--")}
    for name, radius in groups.items():
        if len(radius) == 0:
            continue
        colour, line = styles[name]
        share = [100 / len(radius)] * len(radius)
        median = float(radius.median())
        label = f"{name}: {len(radius):,}\nmedian {median:.2g}"
        outside = int((~radius.isfinite() | (radius <= 0)).sum())
        if outside:
            label += f"\n{outside} at 0 or ∞, not drawn"
        values = radius.tolist()
        ax.hist(values, edges, weights=share, color=colour, alpha=0.25)
        ax.hist(
            values,
            edges,
            weights=share,
            histtype="step",
            color=colour,
            ls=line,
            lw=1.3,
            label=label,
        )
        ax.axvline(median, color=colour, ls=line, lw=1)
    ax.set_xscale("log")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(
        loc="upper left",
        title="predictions",
        alignment="left",
        fontsize=9,
        title_fontsize=9,
        frameon=False,
    )
