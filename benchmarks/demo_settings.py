"""Choose the learning rate and eps of digits_rat, `python -m benchmarks.demo_settings`.

`rrfast demo` trains by this recipe. First the learning rate, for standard training; then eps, for
RAT at that rate. Both by the mean AURC of each score on the *validation* splits of seeds that the
demo does not report. Writes the table to docs/demo/settings.md; takes about ten minutes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from rich.progress import track

from benchmarks.train_models import LEARNING_RATE, digits_network
from rrfast.data import digits
from rrfast.demo import SCORES
from rrfast.metrics import aurc
from rrfast.objectives import RAT
from rrfast.scores import SCORES as ALL

SEEDS = tuple(range(1000, 1020))
LEARNING_RATES = (1e-3, 3e-3, 1e-2)
EPS = (0.02, 0.05, 0.1, 0.15, 0.2)
TARGET = Path(__file__).parents[1] / "docs" / "demo" / "settings.md"


def validation_aurc(eps: float | None, learning_rate: float) -> list[float]:
    """AURC x 1000 of each score of the demo, mean over the seeds; eps None: standard training."""
    values = []
    objective = None if eps is None else RAT(eps=eps)
    for seed in track(SEEDS, f"learning rate {learning_rate:g}, eps {eps}"):
        data = digits(seed)
        model = digits_network(data, seed, objective, learning_rate=learning_rate)
        x, y = data.validation
        with torch.no_grad():
            correct = model(x).argmax(dim=1) == y
        values.append([1000 * aurc(ALL[score](model, x), correct) for score in SCORES])
    return torch.tensor(values, dtype=torch.float64).mean(dim=0).tolist()


def rows() -> Iterable[tuple[str, str, list[float]]]:
    for rate in LEARNING_RATES:
        yield "standard", f"learning rate {rate:g}", validation_aurc(None, rate)
    for eps in EPS:
        yield "RAT", f"eps {eps:g}", validation_aurc(eps, LEARNING_RATE)


def main() -> None:
    torch.set_num_threads(1)
    lines = [
        f"| training | setting | {' | '.join(SCORES)} |",
        "|---|---|" + "--:|" * len(SCORES),
    ]
    for training, setting, values in rows():
        lines.append(f"| {training} | {setting} | {' | '.join(f'{v:.2f}' for v in values)} |")
    text = (
        "AURC x 1000 on the validation splits (200 images) of the seeds "
        f"{SEEDS[0]} to {SEEDS[-1]}, mean over seeds; `python -m benchmarks.demo_settings`, "
        f"torch {torch.__version__}. Trained by the recipe digits_rat, but for the order of the "
        "batches and the form of the warm-up (`benchmarks/train_models.py`).\n\n"
        + "\n".join(lines)
        + "\n"
    )
    TARGET.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
