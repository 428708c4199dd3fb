"""`rrfast train`: train a model as a recipe says."""

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
        help="train a model as a recipe says",
        description="Train as a recipe says, on one device or, under torchrun, on many, and write "
        "weights, log and checkpoints. Killed, it continues with --resume as if it had not been.",
    )
    command.add_argument(
        "recipe", metavar="RECIPE", nargs="?", help="a YAML file, or a name; without one: the names"
    )
    command.add_argument("--out", type=Path, metavar="DIR", help="results (rrfast-train/RECIPE)")
    command.add_argument("--resume", action="store_true", help="continue what is in DIR")
    command.add_argument(
        "--variants",
        type=comma_separated,
        metavar="A,B",
        help="train with each of these objectives into DIR/NAME_SEED, and go on where it was",
    )
    command.add_argument("--seeds", type=positive, metavar="N", help="for --variants (5)")
    add_changes(command)
    return command


def run(arguments: argparse.Namespace) -> int:
    """Print the recipes, or train as one of them says: once, or each of `--variants`."""
    # Here, because Lightning Fabric is an extra.
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
        raise ValueError("--seeds needs --variants: of one training the seed is training.seed")
    fitted = train.train(recipe, out, resume=arguments.resume)
    if train.is_first_process():
        best = "" if fitted.best_epoch is None else f", best.pt (epoch {fitted.best_epoch + 1})"
        print(f"Written to {out}: last.pt{best}, log.csv, recipe.yaml, checkpoint.pt")
    return 0
