"""`rrfast evaluate --protocol distal`: confidence on noise, and of errors under attack."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from rrfast.cli.argument_types import positive, ratio

if TYPE_CHECKING:
    from rrfast.evaluate import TrainedModel

HELP = "noise and attacked images at a confidence threshold (distal article, CCAT)"
SHARED: tuple[str, ...] = ("eps", "steps", "images", "checkpoints")


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the options of the protocol."""
    group.add_argument(
        "--restarts", type=positive, metavar="N", help="restarts of every attack (1)"
    )
    group.add_argument(
        "--noise", type=positive, metavar="N", help="noise images of each kind (1000)"
    )
    group.add_argument(
        "--distal-attack",
        choices=("rrfast", "article"),
        help="attack on noise: ours, or the article's 10 steps and smoothing (rrfast)",
    )
    group.add_argument(
        "--keep-correct",
        type=ratio,
        metavar="P",
        help="share of right predictions of the validation split to accept (0.99)",
    )


def run(trained_models: list[TrainedModel], options: dict[str, Any]) -> None:
    """Run `rrfast.evaluate.distal` on the models."""
    from rrfast.evaluate import distal

    distal.evaluate(trained_models, **options)
