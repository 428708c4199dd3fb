"""What test_train_processes.py runs under torchrun: every objective, through `rrfast.train.fit`."""

from __future__ import annotations

import contextlib
import gc
import io
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import torch
from rich.console import Console
from torch import Tensor, nn

from rrfast._lock import alone
from rrfast.data import Outliers, Split
from rrfast.objectives import (
    ACET,
    CCAT,
    CEDA,
    EWAT,
    GAIRAT,
    MAIL,
    RAT,
    WMMR,
    AdversarialTraining,
    Mixup,
    Objective,
    OpenMix,
    RegMixup,
    Standard,
    inner_maximization,
)
from rrfast.train import NonFiniteLossError, Training, ValidationAttack, fit

CLASSES = 4
TRAINING = Training(
    epochs=2,
    batch_size=16,
    learning_rate=0.05,
    warmup_epochs=1,
    precision="64-true",
    threads=1,
    validation_attack=ValidationAttack(eps=0.1, steps=2),
)


def images(n: int) -> Split:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(n, 1, 8, 8, generator=generator)
    return Split(x, (x.mean(dim=(1, 2, 3)) * 97).long() % CLASSES)


def outliers() -> Outliers:
    return Outliers(torch.rand(50, 1, 8, 8, generator=torch.Generator().manual_seed(2)))


def negative(x: Tensor) -> Tensor:
    return 1 - x


#: Without numbers that each process draws for itself.
ATTACK: dict[str, Any] = {"eps": 0.05, "steps": 2, "start": "input"}
#: What is the same for the joint batch and its shares.
MADE: dict[str, Callable[[], Objective]] = {
    "standard": Standard,
    "rat": lambda: RAT(eps=0.05),
    "at": lambda: RAT(eps=0.05, mode="at"),
    "reverse_at": lambda: RAT(eps=0.05, mode="reverse_at"),
    "rat_pgd": lambda: RAT(eps=0.05, steps=3),
    "rat_mixup": lambda: RAT(eps=0.05, mixup=1.0, mixup_off_epochs=1, epochs=2),
    "mixup": Mixup,
    "regmixup": RegMixup,
    "openmix": lambda: OpenMix(outliers()),
    "pgd_at": lambda: AdversarialTraining(**ATTACK),
    "mail": lambda: MAIL(**ATTACK),
    "mail_margin": lambda: MAIL(tau=2, **ATTACK),
    "wmmr": lambda: WMMR(**ATTACK),
    "ewat": lambda: EWAT(normalize=False, **ATTACK),
    "ceda": lambda: CEDA(negative),
    "acet": lambda: ACET(negative, **ATTACK),
    "ccat": lambda: CCAT(fraction=1.0, eps=0.05, steps=2, starts=["input"]),
}
#: What is not: starts at random, means of weights, and parts of a batch are each process's own.
OWN: dict[str, Callable[[], Objective]] = {
    "pgd_at_random": lambda: AdversarialTraining(eps=0.05, steps=1),
    "gairat": lambda: GAIRAT(eps=0.05, steps=1),
    "acet_random": lambda: ACET(negative, eps=0.05, steps=1),
    "ccat_parts": lambda: CCAT(eps=0.05, steps=1, starts=["uniform_norm"]),
}
#: What draws nothing is the same in however many parts.
ACCUMULATED = ("standard", "rat", "rat_pgd")


class Network(nn.Module):
    """Without BatchNorm; interrupted in a training pass, if told so."""

    def __init__(self, classes: int, interrupted: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(144, classes)
        )
        self.left = interrupted

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self.network(x)


def train(name: str, **options: Any) -> dict[str, Any]:
    """Parameters, log and number of reductions per step."""
    objective = (MADE | OWN)[name]()
    model = options.pop("model", None) or Network(CLASSES + objective.extra_classes)
    changes = options.pop("changes", {})
    # 44 images: the last batch of every epoch is incomplete.
    with counted_reductions() as counts:
        fitted = fit(
            model,
            options.pop("data", None) or images(44),
            training=msgspec.structs.replace(TRAINING, **changes),
            objective=objective,
            validation=images(21),
            console=Console(file=io.StringIO()),
            **options,
        )
    history = [{k: v for k, v in row.items() if k != "ms_per_step"} for row in fitted.history]
    weights = {key: value.clone() for key, value in fitted.model.state_dict().items()}
    return {"weights": weights, "history": history, "reductions": counts}


@contextlib.contextmanager
def counted_reductions() -> Iterator[list[int]]:
    """One number per step of an optimizer: how often gradients were reduced before it."""
    counts: list[int] = []
    since = 0
    parallel = nn.parallel.DistributedDataParallel
    init, step = parallel.__init__, torch.optim.SGD.step

    def hook(state, bucket):  # unannotated: torch wants its own class there, not as a string
        nonlocal since
        since += 1
        world = torch.distributed.get_world_size()
        total = torch.distributed.all_reduce(bucket.buffer().div_(world), async_op=True)
        return total.get_future().then(lambda future: future.value()[0])

    def hooked(self: Any, *arguments: Any, **options: Any) -> None:
        init(self, *arguments, **options)
        self.register_comm_hook(None, hook)

    def counted(self: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal since
        counts.append(since)
        since = 0
        return step(self, *arguments, **options)

    parallel.__init__, torch.optim.SGD.step = hooked, counted
    try:
        yield counts
    finally:
        parallel.__init__, torch.optim.SGD.step = init, step


@contextlib.contextmanager
def seeds_of_starts() -> Iterator[list[int]]:
    """One number per attack of a training: what its start was drawn with."""
    seeds: list[int] = []
    own_generator = inner_maximization.own_generator

    def watched(device: torch.device) -> torch.Generator:
        generator = own_generator(device)
        seeds.append(generator.initial_seed())
        return generator

    inner_maximization.own_generator = watched
    try:
        yield seeds
    finally:
        inner_maximization.own_generator = own_generator


def own(name: str) -> dict[str, Any]:
    """`train`, and the seeds of this process's starts."""
    with seeds_of_starts() as seeds:
        return train(name) | {"seeds": seeds}


def everything(folder: Path) -> dict[str, Any]:
    """All that is compared."""
    results: dict[str, Any] = {name: train(name) for name in MADE}
    for name in ACCUMULATED:
        results[f"{name}, accumulated"] = train(name, changes={"accumulate": 2})
    results["whole"] = train("rat_mixup", out=folder / "whole", changes=OFTEN)
    return results


#: A checkpoint within an epoch.
OFTEN = {"checkpoint_steps": 2}


def left(out: Path) -> None:
    """Interrupted in the second epoch, which has no Mixup: 3 steps of 3 passes, then of 2."""
    try:
        train("rat_mixup", model=Network(CLASSES, interrupted=9 + 5), out=out, changes=OFTEN)
        raise AssertionError("it was not interrupted")
    except KeyboardInterrupt:
        pass
    torch.distributed.barrier()  # the other process may be writing it still


def interrupted(folder: Path) -> dict[str, Any]:
    """And resumed."""
    out = folder / "interrupted"
    left(out)
    kept = torch.load(out / "checkpoint.pt")["progress"]
    gc.collect()
    again = train("rat_mixup", resume=True, out=out, changes=OFTEN)
    return again | {"kept": (kept["epoch"], kept["step"])}


def not_finite(folder: Path) -> str:
    """An image that is NaN, and that one of the processes sees."""
    data = images(44)
    data.x[29] = math.nan
    try:
        train("standard", data=data, out=folder / "not finite")
    except NonFiniteLossError as error:
        return str(error)
    raise AssertionError("no loss was NaN")


def locked(folder: Path) -> str:
    """Another run holds the folder: both processes say so, and none waits for the other."""
    out = folder / "locked"
    with contextlib.ExitStack() as held:
        if torch.distributed.get_rank() == 0:
            out.mkdir()
            held.enter_context(alone(out / "train.lock", out))
        torch.distributed.barrier()
        try:
            train("standard", out=out)
        except BlockingIOError as error:
            torch.distributed.barrier()
            return str(error)
    raise AssertionError("it was not refused")


def main(folder: Path) -> None:
    results = everything(folder) | {name: own(name) for name in OWN}
    results["interrupted"] = interrupted(folder)
    results["not finite"] = not_finite(folder)
    results["locked"] = locked(folder)
    left(folder / "left")
    # 34 images: an end of 2 is a step for one process, and for two none.
    train("standard", data=images(34), out=folder / "cut")
    rank = torch.distributed.get_rank()
    torch.save(results, folder / f"rank{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    sys.stdout.flush()
    # What is left of DDP would end gloo's threads holding the GIL.
    os._exit(0)
