"""Train the models for the measurements: `python -m benchmarks.train_models FOLDER`.

For every seed a ResNet-20 of pytorchcv on `rrfast.data.synthetic(seed)` and `digits_cnn` on
`digits(seed)`, as state_dicts that `rrfast bench --weights` takes:

    FOLDER/resnet20_synthetic_0.pt    rrfast bench --model pytorchcv:resnet20_cifar10 --seed 0 ...
    FOLDER/digits_cnn_0.pt            rrfast bench --model rrfast.models:digits_cnn --data digits ..

A seed determines data, initial weights and batches. With one thread, a run gives the same weights
every time; with more, sums may differ in their last bits. FOLDER/models.json holds the results.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from rrfast import models
from rrfast.data import Digits, Split, digits, synthetic
from rrfast.models import load_model
from rrfast.objectives import Objective

RESNET = "pytorchcv:resnet20_cifar10"
EPOCHS, BATCH, LEARNING_RATE, WEIGHT_DECAY = 6, 64, 3e-3, 0.05
#: Of `digits_network`.
DIGITS_EPOCHS = 40

Advance = Callable[[], object]
#: An augmentation of a batch of training inputs.
Augment = Callable[[Tensor, torch.Generator], Tensor]
#: Of an optimizer and a number of steps.
Schedule = Callable[[Optimizer, int], LRScheduler]


def resnet20(seed: int, epochs: int, advance: Advance) -> tuple[nn.Module, Split]:
    """A ResNet-20 and the test split it has not seen. 80 steps per epoch."""
    data = synthetic(seed)
    model = load_model(RESNET, seed=seed)
    train(model, data.train, seed, epochs, advance, augment=somewhere)
    return model.eval(), data.test


def somewhere(x: Tensor, generator: torch.Generator) -> Tensor:
    """Images of periodic textures, all shifted by the same amount, which loses nothing."""
    return x.roll(torch.randint(x.shape[-1], (2,), generator=generator).tolist(), (2, 3))


def one_cycle(optimizer: Optimizer, steps: int) -> LRScheduler:
    return OneCycleLR(optimizer, optimizer.param_groups[0]["lr"], steps, pct_start=0.2)


def cosine(optimizer: Optimizer, steps: int) -> LRScheduler:
    """A cosine to 0, times a linear rise over a tenth of the steps."""

    def factor(step: int) -> float:
        return min(1.0, 10 * (step + 1) / steps) * (1 + math.cos(math.pi * step / steps)) / 2

    return LambdaLR(optimizer, factor)


def train(
    model: nn.Module,
    split: Split,
    seed: int,
    epochs: int,
    advance: Advance = lambda: None,
    *,
    objective: Objective | None = None,
    augment: Augment = lambda x, _: x,
    batch_size: int = BATCH,
    learning_rate: float = LEARNING_RATE,
    weight_decay: float = WEIGHT_DECAY,
    schedule: Schedule = one_cycle,
) -> None:
    """AdamW; cross-entropy by default."""
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=weight_decay)
    scheduler = schedule(optimizer, epochs * -(-len(split.y) // batch_size))
    generator = torch.Generator().manual_seed(seed)
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(split.y), generator=generator).split(batch_size):
            x = augment(split.x[batch], generator)
            optimizer.zero_grad()
            if objective is None:
                loss = nn.functional.cross_entropy(model(x), split.y[batch])
                torch.autograd.backward(loss)
            else:
                objective.backward(model, x, split.y[batch])
            optimizer.step()
            scheduler.step()
            advance()


def digits_network(
    data: Digits,
    seed: int,
    objective: Objective | None = None,
    *,
    epochs: int = DIGITS_EPOCHS,
    learning_rate: float = LEARNING_RATE,
    advance: Advance = lambda: None,
) -> nn.Module:
    """`digits_cnn`, trained by the settings of the recipe digits_rat; cross-entropy by default.

    Two things differ from `rrfast train`, so the networks do: the order of the batches, and that
    the cosine begins to fall during the warm-up already.
    """
    model = models.digits_cnn(seed)
    train(
        model,
        data.train,
        seed,
        epochs,
        advance,
        objective=objective,
        learning_rate=learning_rate,
        weight_decay=1e-4,
        schedule=cosine,
    )
    return model.eval()


def digits_cnn(seed: int, advance: Advance) -> tuple[nn.Module, Split]:
    """A `digits_cnn` and the test split it has not seen. 7 steps per epoch."""
    data = digits(seed)
    return digits_network(data, seed, advance=advance), data.test


def accuracy(model: nn.Module, split: Split) -> float:
    with torch.no_grad():
        right: list[Tensor] = [
            model(x).argmax(dim=1) == y
            for x, y in zip(split.x.split(250), split.y.split(250), strict=True)
        ]
    return float(torch.cat(right).float().mean())


def main(argv: Sequence[str] | None = None) -> int:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        "python -m benchmarks.train_models", description=__doc__.split("\n", maxsplit=1)[0]
    )
    parser.add_argument("folder", type=Path, help="for the state_dicts; made where it is missing")
    parser.add_argument("--seeds", type=int, default=3, help="0, 1, ... (3)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"of ResNet-20 ({EPOCHS})")
    parser.add_argument("--threads", type=int, help="of torch; 1 for the same bits every time")
    arguments = parser.parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    with Progress() as bars:
        for seed in range(arguments.seeds):
            task = bars.add_task(f"seed {seed}", total=80 * arguments.epochs + 7 * DIGITS_EPOCHS)

            def advance(task: Any = task) -> None:
                bars.advance(task)

            for name, make in {
                "digits_cnn": lambda seed=seed, advance=advance: digits_cnn(seed, advance),
                "resnet20_synthetic": lambda seed=seed, advance=advance: resnet20(
                    seed, arguments.epochs, advance
                ),
            }.items():
                started = time.perf_counter()
                model, test = make()
                seconds = time.perf_counter() - started
                torch.save(model.state_dict(), arguments.folder / f"{name}_{seed}.pt")
                row = {"model": name, "seed": seed, "accuracy": accuracy(model, test)}
                rows.append(row | {"seconds": round(seconds, 1)})
                bars.console.print(
                    f"{name} {seed}: {100 * row['accuracy']:.2f} % in {seconds:.0f} s"
                )
    record = {"threads": torch.get_num_threads(), "torch": torch.__version__, "models": rows}
    (arguments.folder / "models.json").write_text(json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
