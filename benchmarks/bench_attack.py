"""PGD against a loop by hand, APGD against other libraries: as many steps, and what they flip.

adv-lib and torchattacks are left out where they do not import (`beside_peers.py` says how they do).
"""

from __future__ import annotations

import contextlib
import importlib
import math
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import make
from torch import Tensor, nn
from torch.nn import functional

from rrfast.attacks import APGD, PGD

sys.path.append(str(Path(__file__).parents[1] / "python_tests"))
from peers import stand_ins

EPS, STEPS = 8 / 255, 20
BATCH = 16


def by_hand(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    z = x
    for _ in range(STEPS):
        z = z.detach().requires_grad_()
        (grad,) = torch.autograd.grad(functional.cross_entropy(model(z), y), z)
        with torch.no_grad():
            z = z + EPS / 4 * grad.sign()
            z = torch.min(torch.max(z, x - EPS), x + EPS).clamp(0, 1)
    return z


@pytest.mark.parametrize("name", ["mlp1000", "conv1d", "separable", "resnet18", "vit"])
def bench_attack(name: str, device: torch.device, hold: Callable[..., None]) -> None:
    model, x = make(name, BATCH, device)
    with torch.no_grad():
        y = model(x).argmax(dim=1)
    last, error = (PGD(EPS, STEPS, keep=keep) for keep in ("last", "error"))
    flipped, expected = (
        int((model(z).argmax(dim=1) != y).sum())
        for z in (last(model, x, y).x, by_hand(model, x, y))
    )
    hold(
        {
            'PGD(keep="last")': lambda: last(model, x, y),
            "PGD": lambda: error(model, x, y),
            "by hand": lambda: by_hand(model, x, y),
        },
        model="PGD",
        case=f"{name}, {STEPS} steps, {flipped} of {BATCH} flipped, by hand {expected}",
        floor="by hand",
    )


def libraries(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, Callable[[], Tensor]]:
    """APGD on the cross-entropy, in those that import."""
    found: dict[str, Any] = {}
    with stand_ins(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("adv_lib.attacks", "torchattacks"):
            with contextlib.suppress(ImportError):
                found[name] = importlib.import_module(name)
    runs: dict[str, Callable[[], Tensor]] = {}
    if "adv_lib.attacks" in found:
        options = {"eps": EPS, "norm": math.inf, "n_iter": STEPS, "loss_function": "ce"}
        runs["adv-lib"] = lambda: found["adv_lib.attacks"].apgd(model, x, y, **options)
    if "torchattacks" in found:
        runs["torchattacks"] = lambda: found["torchattacks"].APGD(model, eps=EPS, steps=STEPS)(x, y)
    return runs


@pytest.mark.parametrize("name", ["separable", "resnet18", "vit"])  # of images
def bench_apgd(name: str, device: torch.device, hold: Callable[..., None]) -> None:
    model, x = make(name, BATCH, device)
    with torch.no_grad():
        y = model(x).argmax(dim=1)
    peers = libraries(model, x, y)
    if not peers:
        pytest.skip("neither adv-lib nor torchattacks is installed")
    attack = APGD(EPS, STEPS, bounds=(0, 1))
    runs = {"APGD": lambda: attack(model, x, y).x, **peers}
    flipped = {name: int((model(run()).argmax(dim=1) != y).sum()) for name, run in runs.items()}
    hold(
        runs,
        model="APGD",
        case=f"{name}, {STEPS} steps, flipped: "
        + ", ".join(f"{run} {count}" for run, count in flipped.items()),
        floor=next(iter(peers)),
    )
