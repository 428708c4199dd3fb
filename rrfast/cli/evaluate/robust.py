"""`rrfast evaluate --protocol robust`: accuracy under attack."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from rrfast.cli.argument_types import comma_separated, positive, ratio, ratios

if TYPE_CHECKING:
    from rrfast.evaluate import TrainedModel

HELP = "accuracy under attacks, and in their worst case (IRAT)"
SHARED: tuple[str, ...] = ("images",)


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the options of the protocol."""
    group.add_argument(
        "--attacks",
        type=comma_separated,
        metavar="A,B",
        help="names of rrfast.attacks.ATTACKS (fgsm, pgd, cw_pgd, apgd_ce, autoattack); "
        "autoattack_package is the published one",
    )
    group.add_argument(
        "--eps", type=ratio, metavar="E", help="radius of the attacks (8/255; distal 0.03)"
    )
    group.add_argument("--steps", type=positive, metavar="K", help="steps of PGD (100; distal 40)")
    group.add_argument(
        "--curve", type=ratios, metavar="E,E", help="also PGD at these radii, such as 2/255,4/255"
    )
    group.add_argument(
        "--checkpoints",
        type=comma_separated,
        metavar="W,W",
        help="last, best: weights of the trainings, each with its own tables",
    )
    group.add_argument(
        "--baseline", metavar="T", help="training to compare all with (MAIL if present)"
    )


def run(trained_models: list[TrainedModel], options: dict[str, Any]) -> None:
    """Run `rrfast.evaluate.robust` on the models."""
    from rrfast.evaluate import robust

    robust.evaluate(trained_models, **options)
