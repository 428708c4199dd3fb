"""Choose the demo's learning rate and eps: `python -m benchmarks.demo_settings`.

First the learning rate, for standard training; then eps, for RAT at that rate. Both by the mean
AURC of each score on the *validation* splits of seeds that the demo does not report. Writes the
table to docs/demo/settings.md; takes about ten minutes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from rich.progress import track

from rrfast.data import digits
from rrfast.demo import ROWS, Settings, train
from rrfast.metrics import aurc
from rrfast.scores import SCORES

SEEDS = tuple(range(1000, 1020))
LEARNING_RATES = (1e-3, 3e-3, 1e-2)
EPS = (0.02, 0.05, 0.1, 0.15, 0.2)
TARGET = Path(__file__).parents[1] / "docs" / "demo" / "settings.md"


def validation_aurc(training: str, settings: Settings) -> list[float]:
    """AURC x 1000 of each score of the demo, mean over the seeds."""
    values = []
    label = f"{training}, learning rate {settings.learning_rate:g}, eps {settings.eps:g}"
    for seed in track(SEEDS, label):
        data = digits(seed)
        model = train(training, data, seed, settings)
        x, y = data.validation
        with torch.no_grad():
            correct = model(x).argmax(dim=1) == y
        values.append([1000 * aurc(SCORES[score](model, x), correct) for score in ROWS])
    return torch.tensor(values, dtype=torch.float64).mean(dim=0).tolist()


def rows() -> Iterable[tuple[str, str, list[float]]]:
    chosen = Settings()
    for rate in LEARNING_RATES:
        values = validation_aurc("standard", replace(chosen, learning_rate=rate))
        yield "standard", f"learning rate {rate:g}", values
    for eps in EPS:
        yield "RAT", f"eps {eps:g}", validation_aurc("RAT", replace(chosen, eps=eps))


def main() -> None:
    torch.set_num_threads(Settings().threads)
    lines = [
        f"| training | setting | {' | '.join(ROWS.values())} |",
        "|---|---|" + "--:|" * len(ROWS),
    ]
    for training, setting, values in rows():
        lines.append(f"| {training} | {setting} | {' | '.join(f'{v:.2f}' for v in values)} |")
    text = (
        "AURC x 1000 on the validation splits (200 images) of the seeds "
        f"{SEEDS[0]} to {SEEDS[-1]}, mean over seeds; `python -m benchmarks.demo_settings`, "
        f"torch {torch.__version__}.\n\n" + "\n".join(lines) + "\n"
    )
    TARGET.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
