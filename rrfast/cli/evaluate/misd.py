"""`rrfast evaluate --protocol misd`: how well every score finds the errors."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from rrfast._names import TUNINGS
from rrfast.cli.argument_types import comma_separated, positive

if TYPE_CHECKING:
    from rrfast.evaluate import TrainedModel

HELP = "how well every score, tuned on a validation split, finds the errors (RAT)"
SHARED: tuple[str, ...] = ()


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the options of the protocol."""
    group.add_argument(
        "--scores",
        metavar="A,B",
        help="names, msr+eps for one with input pre-processing, or quick, paper, all (quick)",
    )
    group.add_argument(
        "--tuning",
        choices=TUNINGS,
        help="tune on the validation split, or on a fifth of the test set, three times (heldout)",
    )
    group.add_argument(
        "--corruptions",
        nargs="?",
        const=True,
        metavar="DIR",
        help="also under 15 corruptions, made by rrfast or from DIR, the files of CIFAR-10-C",
    )
    group.add_argument("--severity", type=positive, metavar="N", help="1 to 5 (3)")
    group.add_argument(
        "--no-sensitivity",
        action="store_false",
        dest="sensitivity",
        help="do not evaluate every temperature on the test split",
    )
    group.add_argument(
        "--every-run",
        action="store_true",
        help="keep the curves of every run in the JSON file too, of which figures draw the means",
    )


def run(trained_models: list[TrainedModel], options: dict[str, Any]) -> None:
    """Run `rrfast.evaluate.misd` on the models."""
    from rrfast.evaluate import misd

    scores = options.pop("scores", "quick")
    protocol = options.pop("tuning", "heldout")
    misd.evaluate(
        trained_models,
        scores=misd.SETS.get(scores) or comma_separated(scores),
        protocol=protocol,
        **options,
    )
