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


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = command.add_argument
    add("recipe", metavar="RECIPE", help="as for rrfast train; its objective gives eps")
    add("--seeds", type=positive, default=5, metavar="N", help="(5)")
    add("--mixup", type=float, metavar="ALPHA", help="0: none (the recipe's, or 1.0)")
    told = (
        f"one of {', '.join(f'radius_{name}' for name in METHOD_CLASSES)}, with options as in "
        "radius_fast:alpha=0.01; the paper has radius_bs (radius_search)"
    )
    add("--score", default="radius_search", metavar="RADIUS", help=told)
    tuning = (
        "tune its temperature: on the validation split, or on a fifth of the whole test set, three "
        "times, as the paper (T = 1)"
    )
    add("--tuning", choices=TUNINGS, help=tuning)
    add("--out", type=Path, metavar="DIR", help="(rrfast-ablate/RECIPE)")
    add_changes(command)


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
