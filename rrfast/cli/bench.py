"""`rrfast bench`: speed and quality of every method, for your model."""

from __future__ import annotations

import argparse
import functools
import shlex
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from rrfast._names import METHOD_CLASSES, SPECIFICATIONS, TUNINGS
from rrfast.cli.argument_types import comma_separated, positive

HELP = "speed and quality of every method, for your model"
DESCRIPTION = (
    "Time every method of rrfast.radius against MSR and the loop of the released code, measure how "
    "well each finds errors, and write tables, numbers and figures."
)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options. Those that are not given are None: then the settings decide."""
    add = command.add_argument
    model = f"a training's folder, or {SPECIFICATIONS} (rrfast.models:synthetic_cnn)"
    add("--model", metavar="SPEC", help=model)
    weights = "a state_dict (random weights); for a folder last or best"
    add("--weights", metavar="W", help=weights)
    add("--normalize", metavar="NAME", help="in front of the model: cifar10, ...")
    methods = f"some of {', '.join(METHOD_CLASSES)}; or all (all)"
    add("--methods", type=_names, metavar="A,B", help=methods)
    add("--batch", type=positive, nargs="+", metavar="N", help="sizes (16 128)")
    add("--dtype", nargs="+", metavar="T", help="float32 bfloat16 float16 (float32)")
    add("--device", metavar="D", help="cpu, cuda, cuda:1 (CUDA if available)")
    data = (
        "synthetic, digits, cifar10 folder=data and other data of a recipe, or FILE.npz with x, y "
        "(the training's; synthetic)"
    )
    add("--data", nargs="+", metavar="NAME KEY=VALUE", help=data)
    add("--size", type=positive, metavar="N", help="side of synthetic images (32)")
    add("--samples", type=positive, metavar="N", help="images for metrics (512)")
    add("--seconds", type=float, metavar="S", help="time for each method (2)")
    add("--seed", type=int, metavar="N", help="seed of data and random weights (0)")
    tuning = (
        "also with T tuned, as in rrfast evaluate: on the validation split, or on a fifth of the "
        "whole test set, three times (the paper's Table 4)"
    )
    add("--tuning", choices=TUNINGS, help=tuning)
    flag = functools.partial(add, action="store_true", default=None)
    flag("--trust", help="run code that a training's folder names, as its model or its data")
    flag("--speed", help="also the effect of each option of RadiusEstimator")
    flag("--pareto", help="also each method at several settings")
    flag("--peers", help="also the attack libraries that are installed, on images in [0, 1]")
    add("--smoke", action="store_true", help="test run of seconds; numbers mean nothing")
    add("--out", type=Path, default=Path("rrfast-bench"), metavar="DIR", help="(rrfast-bench)")


def _names(text: str) -> tuple[str, ...] | None:
    return None if text == "all" else comma_separated(text)


def run(arguments: argparse.Namespace) -> int:
    """Run `rrfast.bench` with these options."""
    from rrfast import bench

    given: dict[str, Any] = {
        field.name: tuple(value) if isinstance(value, list) else value
        for field in fields(bench.Settings)
        if (value := getattr(arguments, field.name)) is not None
    }
    if "data" in given:
        # A word may contain a name and its options, as in the command of the results.
        first, *more = given["data"]
        given["data"] = shlex.join([first, *more]) if more else first
    settings = replace(bench.SMOKE if arguments.smoke else bench.Settings(), **given)
    bench.run(settings, arguments.out)
    return 0
