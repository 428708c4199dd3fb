"""`rrfast score`: prediction, confidence and acceptance of every image."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from rrfast._names import SPECIFICATIONS
from rrfast.cli.argument_types import positive

HELP = "prediction, confidence and acceptance of every image of a folder, .npy or shards"
DESCRIPTION = (
    "Write a table with a row per image, on one device or, under torchrun, on many. If killed, the "
    "same command continues. Exits with 1 if a row has an error."
)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = command.add_argument
    add("model", metavar="MODEL", help=f"a training's folder, or {SPECIFICATIONS}")
    add("source", metavar="INPUT", help="a folder of images or shards, or .tar, .parquet, .npy")
    add("--out", type=Path, required=True, metavar="FILE", help=".csv or .parquet")
    add("--weights", metavar="FILE|best", help="a state_dict; for a training last or best (last)")
    add("--classes", type=positive, metavar="K", help="logits of the model (its own)")
    add("--trust", action="store_true", help="run code that a training's folder names")
    add("--normalize", metavar="NAME", help="in front of the model, such as imagenet (nothing)")
    add("--score", metavar="NAME", help="a name in rrfast.scores.SCORES (msr)")
    add("--batch", type=positive, default=128, metavar="N", help="images per call (128)")
    add("--part", type=positive, default=1000, metavar="N", help="images lost if killed (1000)")
    size = "side to scale images to (the training's; their own)"
    add("--size", type=positive, metavar="N", help=size)
    add("--channels", type=int, choices=(1, 3), help="of the images in a folder (the model's)")
    add("--device", metavar="D", help="cpu, cuda, cuda:1 (CUDA if available)")
    add("--workers", type=int, metavar="N", help="processes that read images (by cores and images)")
    add("--overwrite", action="store_true", help="replace FILE when the new one is complete")
    page = command.add_argument_group("gallery", "a page of thumbnails, the least confident first")
    add = page.add_argument
    add("--gallery", type=Path, metavar="FILE.html", help="write it, as one self-contained file")
    shown = "show N of accepted and rejected, and N/10 of the most confident (100)"
    add("--gallery-images", type=positive, default=100, metavar="N", help=shown)
    add("--class-names", type=Path, metavar="FILE", help="one per line (the training's folders)")
    chosen = command.add_argument_group("threshold", "one of these; without, no decision")
    add = chosen.add_argument
    add("--threshold", type=float, metavar="T", help="accept scores of at least T")
    coverage = "accept this share of the training's validation data"
    add("--coverage", type=float, metavar="C", help=coverage)
    errors = "reject this share of the errors in these data"
    add("--reject-errors", type=float, metavar="R", help=errors)
    add("--target-risk", type=float, metavar="R", help="largest share of errors among the accepted")
    add("--confidence", type=float, metavar="P", help="--target-risk holds with this probability")
    add("--classifier", metavar="FILE", help="state_dict of a SelectiveClassifier, with weights")


def run(arguments: argparse.Namespace) -> int:
    """Write the table of `rrfast.inference.score`; 1 if an image could not be scored."""
    from rrfast.inference import score

    given = vars(arguments).copy()
    for name in ("command", "run", "typed"):
        del given[name]
    done = score(**given, command=arguments.typed)
    # One process speaks for all; torchrun ends the others when one has failed.
    if os.environ.get("RANK", "0") != "0":
        return 0
    accepted = "" if done.accepted is None else f", {done.accepted} accepted"
    page = "" if arguments.gallery is None else f", {arguments.gallery}"
    print(f"Written to {arguments.out}: {done.images} images{accepted}; {arguments.out}.json{page}")
    if not done.failed:
        return 0
    named = ", ".join(
        f"{image} ({error.removeprefix(f'{image} ')})" for image, error in done.errors.items()
    )
    more = done.failed - len(done.errors)
    print(
        f"rrfast: {done.failed} of {done.images} images could not be scored: {named}"
        + f", and {more} more: see the column error" * (more > 0),
        file=sys.stderr,
    )
    return 1
