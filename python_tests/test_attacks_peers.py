"""The attacks beside those of adv-lib and of the package autoattack, where these are installed.

    pip install --no-deps adv-lib==0.2.8 git+https://github.com/fra31/auto-attack

On the samples that are right: adv-lib's targets on the others are other classes.
"""

from __future__ import annotations

import importlib
import math

import pytest
import torch
from peers import peer
from torch import Tensor, nn

from rrfast.attacks import ATTACKS, AutoAttackPackage
from rrfast.engine import Engine

EPS = 0.1
#: Starts are drawn by everyone for himself: a sample or two near the boundary may go either way.
BY_CHANCE = 2


@pytest.fixture
def labels(trained: nn.Module, images: Tensor) -> Tensor:
    return trained(images).argmax(dim=1)


def left(model: nn.Module, z: Tensor, labels: Tensor) -> int:
    return int((model(z).argmax(dim=1) == labels).sum())


@pytest.mark.parametrize("name", ["apgd_ce", "apgd_dlr", "apgd_t"])
def test_apgd_beside_adv_lib(trained: nn.Module, images: Tensor, labels: Tensor, name: str) -> None:
    peers = peer("adv_lib.attacks.auto_pgd")
    attack = peers.apgd_targeted if name == "apgd_t" else peers.apgd
    options = {"num_targets": 9} if name == "apgd_t" else {}
    loss = "ce" if name == "apgd_ce" else "dlr"
    theirs = attack(
        trained, images, labels, eps=EPS, norm=math.inf, n_iter=30, loss_function=loss, **options
    )
    with Engine(trained) as engine:
        ours = ATTACKS[name](EPS, 30).run(engine, images, labels)
        runs = 9 if name == "apgd_t" else 1
        assert engine.forwards == runs * 31 + (runs > 1)
        assert engine.backwards == runs * 30
    right = left(trained, theirs, labels)
    assert 0 < right < len(labels) / 2
    assert abs(int((~ours.wrong).sum()) - right) <= BY_CHANCE


def test_apgd_beside_the_package(trained: nn.Module, images: Tensor, labels: Tensor) -> None:
    peer("autoattack")
    x, y = images[:40], labels[:40]
    with Engine(trained) as engine:
        theirs = AutoAttackPackage(EPS, version=("apgd-t",)).run(engine, x, y)
        # A gradient more than ours, at the end, for each target that any sample is left for.
        assert 0 < engine.backwards <= 9 * 101
    ours = ATTACKS["apgd_t"](EPS)(trained, x, y)
    right = int((~theirs.wrong).sum())
    assert 0 < right < len(y) / 2
    assert abs(int((~ours.wrong).sum()) - right) <= BY_CHANCE
    assert torch.equal(theirs.wrong, trained(theirs.x).argmax(1) != y)


def test_square_beside_the_package(trained: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Measured: of 189 samples 63 and 66 are left beside 85 and 83, by 1000 queries.

    Its squares never reach the last row and column. With ours kept from there, 84 and 82 are left.
    """
    peer("autoattack")
    square = importlib.import_module("autoattack.square").SquareAttack
    attack = square(
        trained,
        p_init=0.8,
        n_queries=150,
        eps=EPS,
        norm="Linf",
        seed=0,
        verbose=False,
        device="cpu",
        resc_schedule=True,
    )
    right = left(trained, attack.perturb(images, labels), labels)
    ours = ATTACKS["square"](EPS, 150)(trained, images, labels)
    assert 0 < int((~ours.wrong).sum()) <= right < len(labels)
