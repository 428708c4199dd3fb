"""A weighted adversarial step against a plain one: the weights of IRAT add at most 2 %."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from bench_rat_step import BATCH, MODELS, make

from rrfast.objectives import EWAT, GAIRAT, MAIL, WMMR, AdversarialTraining

STEPS = 10


@pytest.mark.parametrize("name", MODELS)
def bench_irat_step(name: str, device: torch.device, hold: Callable[..., None]) -> None:
    model, x, y = make(name, device)

    def gradients(
        objective: AdversarialTraining | GAIRAT | MAIL | WMMR | EWAT,
    ) -> Callable[[], None]:
        def run() -> None:
            model.zero_grad()
            objective.backward(model, x, y)

        return run

    contenders = {
        "MAIL, tau = 2": gradients(MAIL(tau=2, steps=STEPS)),
        "MAIL": gradients(MAIL(steps=STEPS)),
        "WMMR, tau = 2": gradients(WMMR(tau=2, steps=STEPS)),
        "EWAT": gradients(EWAT(steps=STEPS)),
        "GAIRAT": gradients(GAIRAT(steps=STEPS)),
        "PGD-AT": gradients(AdversarialTraining(steps=STEPS)),
    }
    hold(
        contenders,
        model="IRAT step",
        case=f"{name}, batch {BATCH}, PGD-{STEPS}, gradients",
        floor="PGD-AT",
    )
