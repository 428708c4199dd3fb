"""`rrfast train`: train a model by a recipe."""

from __future__ import annotations

import argparse
from pathlib import Path

from rrfast.cli.argument_types import comma_separated, positive
from rrfast.cli.recipe_changes import add_changes


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
) -> argparse.ArgumentParser:
    """Add `rrfast train` and its options."""
    command = commands.add_parser(
        "train",
        help="train a model by a recipe",
        description="Train by a recipe, on one device or, under torchrun, on many, and write "
        "weights, log and checkpoints. If killed, it continues with --resume without a difference.",
    )
    command.add_argument(
        "recipe", metavar="RECIPE", nargs="?", help="a YAML file, or a name; without one: the names"
    )
    command.add_argument("--out", type=Path, metavar="DIR", help="results (rrfast-train/RECIPE)")
    command.add_argument("--resume", action="store_true", help="continue the training in DIR")
    command.add_argument(
        "--variants",
        type=comma_separated,
        metavar="A,B",
        help="train with each of these objectives into DIR/NAME_SEED; continues if stopped",
    )
    command.add_argument("--seeds", type=positive, metavar="N", help="for --variants (5)")
    add_changes(command)
    return command


def run(arguments: argparse.Namespace) -> int:
    """Print the recipes, or train by one of them: once, or each of `--variants`."""
    # Imported here, because Lightning Fabric is optional.
    from rrfast import train

    if arguments.recipe is None:
        print("\n".join(train.recipes()))
        return 0
    recipe = train.load_recipe(arguments.recipe, arguments.changes)
    out = arguments.out or Path("rrfast-train", Path(arguments.recipe).stem)
    if arguments.variants is not None:
        for trained in train.train_variants(
            recipe, out, arguments.variants, range(arguments.seeds or 5)
        ):
            if train.is_first_process():
                print(f"Written: {trained.folder}")
        return 0
    if arguments.seeds is not None:
        raise ValueError("--seeds needs --variants: for one training the seed is training.seed")
    fitted = train.train(recipe, out, resume=arguments.resume)
    if train.is_first_process():
        best = "" if fitted.best_epoch is None else f", best.pt (epoch {fitted.best_epoch + 1})"
        print(f"Written to {out}: last.pt{best}, log.csv, recipe.yaml, checkpoint.pt")
    return 0
