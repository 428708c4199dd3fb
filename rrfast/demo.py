"""`rrfast demo`: compares standard training with RAT on handwritten digits, over several seeds.

Paired: for each seed both trainings see the same images, initial weights, batches and number of
epochs. The settings were chosen on other seeds (1000 and up) than those reported (0 and up).
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from torch import nn

import rrfast
from rrfast._checks import check_one_of
from rrfast._errors import require
from rrfast._files import write_text
from rrfast._machine import machine
from rrfast._progress import bars
from rrfast._results import require_matplotlib, results_in, write_figure, write_json
from rrfast._tables import SHOWN, Block, markdown_table, terminal
from rrfast.data import digits
from rrfast.evaluate.claims import lower_on
from rrfast.evaluate.misd.appraisal import histograms
from rrfast.evaluate.misd.figures import radius_histograms
from rrfast.evaluate.observations import Paired, Row, at, grouped, of, paired
from rrfast.evaluate.tables import Column, Table
from rrfast.metrics import METRICS
from rrfast.models import digits_cnn
from rrfast.scores import SCORES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rrfast.data import Digits, Split

TRAININGS = ("standard", "RAT")
#: The rows of the table: name in `SCORES`, and printed name.
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


COLUMNS = [
    Column("AUROC ↑,\n%", "auroc", 100.0, 1),
    Column("FPR95 ↓,\n%", "fpr_at_tpr", 100.0, 1),
    Column("AURC ↓,\n× 1000", "aurc", 1000.0, 2),
    Column("accuracy ↑,\n%", "accuracy", 100.0, 1),
    Column("images/s ↑,\nthousands", "images_per_second", 1e-3, 1),
]
TITLE = "Finding the errors on digits: mean ± standard deviation over seeds"


@dataclass(frozen=True)
class Settings:
    """Everything that determines the result.

    The learning rate was chosen for standard training (from 1e-3, 3e-3, 1e-2), then eps for RAT
    (from 0.02, 0.05, 0.1, 0.15, 0.2), both by AURC on the validation splits of the seeds 1000 to
    1019.

    Attributes:
        seeds: One pair of trainings per seed; a seed determines division, noise, initial weights
            and batches.
        epochs: Passes over the training images, the same for both trainings.
        batch_size: Images per step.
        learning_rate: Peak of AdamW's schedule: linear warm-up over a tenth of the steps, then
            a cosine to 0.
        weight_decay: Weight decay of AdamW.
        eps: RAT's step, where 1 is the full range of a pixel.
        threads: CPU threads of torch. The default is one, because the last bits of a sum depend on
            the number, and because passes this small gain nothing from more and lose much on a busy
            machine.
    """

    seeds: tuple[int, ...] = tuple(range(8))
    epochs: int = 40
    batch_size: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    eps: float = 0.1
    threads: int = 1


#: Takes seconds, to check that all parts work; its numbers are meaningless.
SMOKE = Settings(seeds=(0, 1), epochs=2)


def run(
    settings: Settings | None = None,
    out: Path | str = "rrfast-demo",
    console: Console | None = None,
) -> dict[str, Any]:
    """Train, score, print one table, and write `demo.json`, `demo.md` and `radius.png` to `out`.

    Args:
        settings: What to run; default `Settings()`.
        out: Folder for the results; created if missing.
        console: Where to print; default standard output.

    Returns:
        What `demo.json` holds: `command`, `date`, `device`, `versions`, `kernels`, `settings`,
        `runs` (one row per seed, training and score), `summary` (mean and standard deviation over
        seeds) and `paired` (RAT minus standard per score and metric: mean, standard error).

    Raises:
        BlockingIOError: Another demo is writing to `out`.
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
        runs = _train_and_score(settings, console)
    finally:
        torch.set_num_threads(threads)
    here = machine(torch.device("cpu"))
    here["versions"] |= {name: version(name) for name in ("numpy", "scikit-learn")}
    result = {
        "command": f"rrfast demo --seeds {len(settings.seeds)} --epochs {settings.epochs}",
        **here,
        "threads": settings.threads,
        "seconds": round(time.perf_counter() - started, 1),
        "settings": asdict(settings),
        "summary": _summary(runs),
        "paired": _paired(runs),
        "runs": runs,
    }
    console.print(terminal([_block(result)]))
    console.print("\n".join(_notes(result)), highlight=False)
    write_json(out / "demo.json", result)
    write_text(out / "demo.md", page(result))
    write_figure(out / "radius.png", radius_histograms(of(runs, score=DRAWN)))
    console.print(f"\nWritten to {out}: demo.json, demo.md, radius.png", highlight=False)
    return result


def require_extras() -> None:
    """Raise an ImportError with the install command, before minutes of training."""
    require_matplotlib("demo")
    require("rrfast demo", "sklearn.datasets", "scikit-learn")


# ------------------------------------------------------------------------------ train and score


def _train_and_score(settings: Settings, console: Console) -> list[Row]:
    """A row for each seed, training and score."""
    rows: list[Row] = []
    # In units of a standard epoch: an epoch of RAT costs two, scoring a network about 25.
    total = len(settings.seeds) * (3 * settings.epochs + 2 * 25)
    with bars(console) as progress:
        task = progress.add_task("", total=total)
        for i, seed in enumerate(settings.seeds, 1):
            data = digits(seed)
            for training in TRAININGS:
                label = f"seed {i} of {len(settings.seeds)}, {training:<8}"
                progress.update(task, description=f"{label} trains")
                on_epoch = partial(progress.advance, task, 2 if training == "RAT" else 1)
                model = train(training, data, seed, settings, on_epoch)
                progress.update(task, description=f"{label} scores")
                who = {"seed": seed, "training": training}
                rows += [{**who, "score": name, **_score(name, model, data.test)} for name in ROWS]
                progress.advance(task, 25)
        progress.update(task, description="done", completed=total)
    return rows


def train(
    training: str,
    data: Digits,
    seed: int,
    settings: Settings,
    on_epoch: Callable[[], object] = lambda: None,
) -> nn.Module:
    """A `digits_cnn` trained on `data.train`; the trainings differ in the line with `backward`.

    Args:
        training: "standard" (cross-entropy) or "RAT".
        data: From `rrfast.data.digits`.
        seed: Determines the initial weights and the batches.
        settings: All other settings.
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
    # A separate generator, so that the batches do not depend on the random draws of a step.
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


def _score(name: str, model: nn.Module, test: Split) -> dict[str, Any]:
    """How well a score finds the errors, and how fast it is; of the radius drawn also its bins."""
    score = SCORES[name]
    with torch.no_grad():
        correct = model(test.x).argmax(dim=1) == test.y
    score(model, test.x[:256])  # the first call allocates, so it is not timed
    passes, started = 0, time.perf_counter()
    while passes == 0 or time.perf_counter() - started < 0.05:
        value = score(model, test.x)
        passes += 1
    return {
        **{metric: METRICS[metric](value, correct) for metric in SHOWN},
        "images_per_second": passes * len(test.x) / (time.perf_counter() - started),
        **({"histogram": histograms(value, correct)} if name == DRAWN else {}),
    }


# ---------------------------------------------------------------------------------- statistics


def _summary(runs: Sequence[Row]) -> list[dict[str, Any]]:
    """Mean and standard deviation (n - 1) over seeds, one row per training and score."""
    rows: list[dict[str, Any]] = []
    for (training, score), own in grouped(runs, "training", "score").items():
        found = {str(column.what): column.spread(own) for column in COLUMNS}
        told = {name: {"mean": f.mean, "std": f.std} for name, f in found.items()}
        rows.append({"training": training, "score": score} | told)
    return rows


def _paired(runs: Sequence[Row]) -> dict[str, dict[str, dict[str, float]]]:
    """RAT minus standard on the same seed: mean, standard error over seeds, seeds where lower."""
    return {score: {m: _less(own, m).told for m in SHOWN} for (score,), own in _by_score(runs)}


def _by_score(runs: Sequence[Row]) -> Iterable[tuple[tuple[Any, ...], list[Row]]]:
    return grouped(runs, "score").items()


def _less(runs: Sequence[Row], metric: str) -> Paired:
    return paired(of(runs, training="RAT"), of(runs, training="standard"), at(metric))


# -------------------------------------------------------------------------------------- report


def _block(result: dict[str, Any]) -> Block:
    rows = [run | {"score": ROWS[run["score"]]} for run in result["runs"]]
    return Table(TITLE, {"training": "training", "score": "score"}, COLUMNS).block(rows)


def _notes(result: dict[str, Any]) -> list[str]:
    """The conventions, and the paired differences."""
    settings = result["settings"]
    threads = f"{settings['threads']} thread{'s' * (settings['threads'] > 1)}"
    setting = (
        f"{len(settings['seeds'])} seeds (each its own split, noise and initial weights, the same "
        f"for both trainings), {settings['epochs']} epochs, RAT eps {settings['eps']}; "
        f"{result['device']}, {threads}, {result['seconds']} s."
    )
    return [
        CONVENTION,
        setting,
        "AURC × 1000, RAT minus standard on the same seed, mean ± standard error:",
        *(
            f"  {ROWS[score]:<13}{lower_on(_less(own, 'aurc'))}"
            for (score,), own in _by_score(result["runs"])
        ),
    ]


def page(result: dict[str, Any]) -> str:
    """The table and its notes in Markdown."""
    convention, setting, differences, *each = _notes(result)
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    bullets = "\n".join(f"* {' '.join(line.split())}" for line in each)
    return (
        f"{markdown_table(_block(result))}\n\nMean ± standard deviation over seeds. {convention}\n"
        f"{setting}\n\n{differences}\n\n{bullets}\n\n`{result['command']}`, {result['date']}; "
        f"{versions}.\n"
    )
