"""`rrfast evaluate --protocol ood`: out-of-distribution detection."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from rrfast.cli.argument_types import comma_separated, positive, positive_or_all

if TYPE_CHECKING:
    from rrfast.evaluate import TrainedModel

HELP = "every score, tuned on one out-of-distribution set, tested on others (ODIN, ACET)"
SHARED: tuple[str, ...] = ("scores", "every_run")


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the options of the protocol."""
    group.add_argument(
        "--against",
        metavar="A,B",
        help="sets to test on: gaussian, uniform, textures, noise, adversarial_noise[:EPS], "
        "adversarial_samples[:EPS], photos_crop, photos_resize, crop:DIR, resize:DIR, "
        "'task:NAME KEY=VALUE' (those that need no file)",
    )
    group.add_argument("--validation", metavar="NAME", help="the set to tune on (textures)")
    group.add_argument(
        "--transfer", action="store_true", help="also ODIN tuned on each of them, tested on others"
    )
    group.add_argument(
        "--images",
        type=positive_or_all,
        metavar="N",
        help="images of the test split and of each set, or all (all; robust and distal 1000)",
    )
    group.add_argument(
        "--no-diagnostics",
        action="store_false",
        dest="diagnostics",
        help="without logits, gradients, distances, ODIN at fixed T and eps, and scaled noise",
    )
    group.add_argument(
        "--trials", type=positive, metavar="N", help="noise images to scale up (10000)"
    )


def run(trained_models: list[TrainedModel], options: dict[str, Any]) -> None:
    """Run `rrfast.evaluate.ood` on the models."""
    from rrfast.evaluate import ood

    scores = options.pop("scores", "quick")
    if "against" in options:
        options["against"] = comma_separated(options["against"])
    ood.evaluate(trained_models, scores=ood.SETS.get(scores) or comma_separated(scores), **options)
