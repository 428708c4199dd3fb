"""`rrfast train`: train a model by a recipe."""

from __future__ import annotations

import argparse
from pathlib import Path

from rrfast.cli.argument_types import add_changes, comma_separated, positive

HELP = "train a model by a recipe"
DESCRIPTION = (
    "Train by a recipe, on one device or, under torchrun, on many, and write weights, log and "
    "checkpoints. If killed, it continues with --resume without a difference."
)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = command.add_argument
    add(
        "recipe", metavar="RECIPE", nargs="?", help="a YAML file, or a name; without one: the names"
    )
    add("--out", type=Path, metavar="DIR", help="results (rrfast-train/RECIPE)")
    add("--resume", action="store_true", help="continue the training in DIR")
    variants = "train with each of these objectives into DIR/NAME_SEED; continues if stopped"
    add("--variants", type=comma_separated, metavar="A,B", help=variants)
    add("--seeds", type=positive, metavar="N", help="for --variants (5)")
    add_changes(command)


def run(arguments: argparse.Namespace) -> int:
    """Print the recipes, or train by one of them: once, or each of `--variants`."""
    # Imported here, because Lightning Fabric is optional.
    from rrfast import train
    from rrfast.train.variants import check_changes

    if arguments.recipe is None:
        print("\n".join(train.recipes()))
        return 0
    recipe = train.load_recipe(arguments.recipe, arguments.changes)
    out = arguments.out or Path("rrfast-train", Path(arguments.recipe).stem)
    if arguments.variants is not None:
        seeds = range(arguments.seeds or 5)
        named, changes = arguments.variants, arguments.changes
        for trained in train.train_variants(recipe, out, named, seeds, changes=changes):
            if train.is_first_process():
                print(f"Written: {trained.folder}")
        return 0
    if arguments.seeds is not None:
        raise ValueError("--seeds needs --variants: for one training the seed is training.seed")
    check_changes(recipe, arguments.changes, ())
    fitted = train.train(recipe, out, resume=arguments.resume)
    if train.is_first_process():
        best = "" if fitted.best_epoch is None else f", best.pt (epoch {fitted.best_epoch + 1})"
        print(f"Written to {out}: last.pt{best}, log.csv, recipe.yaml, checkpoint.pt")
    return 0
