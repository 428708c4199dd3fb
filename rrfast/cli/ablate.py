"""`rrfast ablate`: standard training, AT, ReverseAT and RAT, over seeds."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from rrfast._names import METHOD_CLASSES, TUNINGS
from rrfast.cli.argument_types import add_changes, positive

HELP = "standard training, AT, ReverseAT and RAT, with Mixup and without, over seeds"
DESCRIPTION = (
    "Train the model of a recipe with each objective over several seeds, and print how well the "
    "radius finds the errors (Tables 1 and 5 of the paper). If stopped, the same command continues."
)
RADII = [f"radius_{method}" for method in METHOD_CLASSES]


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = command.add_argument
    add("recipe", metavar="RECIPE", help="as for rrfast train; its objective gives eps")
    add("--seeds", type=positive, default=5, metavar="N", help="(5)")
    add("--mixup", type=float, metavar="ALPHA", help="0: none (the recipe's, or 1.0)")
    told = (
        f"one of {', '.join(RADII)}, with options as in radius_fast:alpha=0.01; the paper has "
        "radius_bs (radius_search)"
    )
    add("--score", type=_radius, default="radius_search", metavar="RADIUS", help=told)
    tuning = (
        "tune its temperature: on the validation split, or on a fifth of the whole test set, three "
        "times, as the paper (T = 1)"
    )
    add("--tuning", choices=TUNINGS, help=tuning)
    add("--out", type=Path, metavar="DIR", help="(rrfast-ablate/RECIPE)")
    add_changes(command)


def _radius(text: str) -> str:
    """A radius with or without options, which are checked where torch is."""
    if text.partition(":")[0] not in RADII:
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(RADII)}, got {text!r}")
    return text


def run(arguments: argparse.Namespace) -> int:
    """Run `rrfast.evaluate.ablate`, with the command for its table."""
    from rrfast.evaluate import ablate
    from rrfast.train import load_recipe

    recipe = load_recipe(arguments.recipe, arguments.changes)
    command = ["rrfast", "ablate", arguments.recipe, "--seeds", str(arguments.seeds)]
    if arguments.mixup is not None:
        command += ["--mixup", f"{arguments.mixup:g}"]
    command += ["--score", arguments.score] * (arguments.score != "radius_search")
    command += ["--tuning", arguments.tuning] * (arguments.tuning is not None)
    command += ["--set", *arguments.changes] * bool(arguments.changes)
    ablate(
        recipe,
        arguments.out or Path("rrfast-ablate", Path(arguments.recipe).stem),
        seeds=range(arguments.seeds),
        mixup=arguments.mixup,
        score=arguments.score,
        tuning=arguments.tuning,
        changes=arguments.changes,
        command=shlex.join(command),
    )
    return 0
