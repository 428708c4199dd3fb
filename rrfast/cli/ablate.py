"""`rrfast ablate`: standard training, AT, ReverseAT and RAT, over seeds."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from rrfast._names import METHOD_CLASSES, TUNINGS
from rrfast.cli.argument_types import positive
from rrfast.cli.recipe_changes import add_changes


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
) -> argparse.ArgumentParser:
    """Add `rrfast ablate` and its options."""
    command = commands.add_parser(
        "ablate",
        help="standard training, AT, ReverseAT and RAT, with Mixup and without, over seeds",
        description="Train the model of a recipe with each objective over several seeds, and print "
        "how well the radius finds the errors (Tables 1 and 5 of the paper). If stopped, the same "
        "command continues.",
    )
    command.add_argument(
        "recipe", metavar="RECIPE", help="as for rrfast train; its objective gives eps"
    )
    command.add_argument("--seeds", type=positive, default=5, metavar="N", help="(5)")
    command.add_argument("--mixup", type=float, default=1.0, metavar="ALPHA", help="(1.0)")
    radii = [f"radius_{method}" for method in METHOD_CLASSES]
    command.add_argument(
        "--score",
        choices=radii,
        default="radius_search",
        metavar="RADIUS",
        help=f"one of {', '.join(radii)}; the paper has radius_bs (radius_search)",
    )
    command.add_argument(
        "--tuning",
        choices=TUNINGS,
        help="tune its temperature: on the validation split, or on a fifth of the whole test set, "
        "three times, as the paper (T = 1)",
    )
    command.add_argument("--out", type=Path, metavar="DIR", help="(rrfast-ablate/RECIPE)")
    add_changes(command)
    return command


def run(arguments: argparse.Namespace) -> int:
    """Run `rrfast.evaluate.ablate`, with the command for its table."""
    from rrfast.evaluate import ablate
    from rrfast.train import load_recipe

    recipe = load_recipe(arguments.recipe, arguments.changes)
    name = Path(arguments.recipe).stem
    command = ["rrfast", "ablate", arguments.recipe, "--seeds", str(arguments.seeds)]
    command += ["--mixup", f"{arguments.mixup:g}"] * (arguments.mixup != 1)
    command += ["--score", arguments.score] * (arguments.score != "radius_search")
    command += ["--tuning", arguments.tuning] * (arguments.tuning is not None)
    command += ["--set", *arguments.changes] * bool(arguments.changes)
    ablate(
        recipe,
        arguments.out or Path("rrfast-ablate", name),
        seeds=range(arguments.seeds),
        mixup=arguments.mixup,
        score=arguments.score,
        protocol=arguments.tuning,
        command=shlex.join(command),
    )
    return 0
