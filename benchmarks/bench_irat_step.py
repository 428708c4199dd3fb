"""A weighted adversarial step against a plain one: the weights of IRAT add at most 2 %."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from bench_rat_step import BATCH, MODELS, make
from torch import nn

from rrfast.objectives import EWAT, GAIRAT, MAIL, WMMR, AdversarialTraining
from rrfast.objectives.reweighted import Reweighted

STEPS = 10
WEIGHTED: dict[str, Reweighted] = {
    "MAIL, tau = 2": MAIL(tau=2, steps=STEPS),
    "MAIL": MAIL(steps=STEPS),
    "WMMR, tau = 2": WMMR(tau=2, steps=STEPS),
    "EWAT": EWAT(steps=STEPS),
    "GAIRAT": GAIRAT(steps=STEPS),
}
PLAIN = AdversarialTraining(steps=STEPS)


@pytest.mark.parametrize("name", MODELS)
def bench_irat_step(name: str, device: torch.device, hold: Callable[..., None]) -> None:
    model, x, y = make(name, device)

    def gradients(objective: AdversarialTraining | Reweighted) -> Callable[[], None]:
        def run() -> None:
            model.zero_grad()
            objective.backward(model, x, y)

        return run

    # The same step twice, far apart in a round: their difference is noise.
    contenders = {"PGD-AT again": gradients(PLAIN)}
    contenders |= {label: gradients(objective) for label, objective in WEIGHTED.items()}
    contenders["PGD-AT"] = gradients(PLAIN)
    hold(
        contenders,
        model="IRAT step",
        case=f"{name}, batch {BATCH}, PGD-{STEPS}, gradients",
        floor="PGD-AT",
    )


@pytest.mark.parametrize("classes", [10, 1000])
def bench_irat_loss(classes: int, device: torch.device, hold: Callable[..., None]) -> None:
    """The cost that the weights add to a step, without the model: the loss of given logits."""
    logits = torch.randn(BATCH, classes, device=device, requires_grad=True)
    iterates = [torch.randn(BATCH, classes, device=device) for _ in range(STEPS)]
    y = torch.randint(classes, (BATCH,), device=device)

    def weighted(objective: Reweighted) -> Callable[[], None]:
        def run() -> None:
            loss = nn.functional.cross_entropy(logits, y, reduction="none")
            (objective.weights(logits, y, iterates) * loss).mean().backward()

        return run

    contenders = {label: weighted(objective) for label, objective in WEIGHTED.items()}
    contenders["PGD-AT"] = lambda: nn.functional.cross_entropy(logits, y).backward()
    hold(
        contenders,
        model="IRAT loss",
        case=f"{BATCH}x{classes}, forward and backward",
        floor="PGD-AT",
    )
