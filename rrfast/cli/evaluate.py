"""`rrfast evaluate`: trained models under the protocols of the papers.

The protocols and their options are in `rrfast/evaluate/options.py`.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from rrfast._names import SPECIFICATIONS
from rrfast.cli.argument_types import comma_separated, positive, positive_or_all, ratio, ratios
from rrfast.evaluate.options import PROTOCOLS, Options

HELP = "trained models under the protocols of the papers"
DESCRIPTION = (
    "Evaluate trained models, and write the tables, the figures and the numbers, and verdicts on "
    "the paper's claims. If stopped, or run with more options, it continues from kept results. "
    "Under torchrun, processes share the images."
)
#: The words of an option by the type of its field; those of all others stay as they are.
TYPES: dict[str, Callable[[str], Any]] = {
    "int": positive,
    "int | None": positive_or_all,
    "float": ratio,
    "Sequence[float]": ratios,
    "Sequence[str]": comma_separated,
}


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = command.add_argument
    models = f"a training's folder, a folder of such folders, or {SPECIFICATIONS}"
    add("models", metavar="MODEL", nargs="+", help=models)
    told = "; ".join(f"{name}: {each.HELP}" for name, each in PROTOCOLS.items()) + " (misd)"
    add("--protocol", choices=tuple(PROTOCOLS), default="misd", help=told)
    data = "data of a model without a training's folder: cifar10 folder=data, FILE.py:FUNCTION"
    add("--data", nargs="+", metavar="NAME KEY=VALUE", help=data)
    add("--weights", metavar="W", help="a state_dict; for a folder last or best")
    add("--classes", type=positive, metavar="K", help="logits of the model")
    add("--normalize", metavar="NAME", help="in front of the model: cifar10, ...")
    trust = "run code that a training's folder names, as its model or its data"
    add("--trust", action="store_true", help=trust)
    everywhere = [each for each in fields(Options) if each.metadata]
    for each in everywhere:
        _add(add, each)
    out = Path("rrfast-evaluate")
    add("--out", type=Path, default=out, metavar="DIR", help="(rrfast-evaluate)")
    flags = {each.name: "" for each in everywhere}
    for name, options in PROTOCOLS.items():
        group = command.add_argument_group(f"protocol {name}")
        for each in fields(options):
            if each.metadata and each.name not in flags:
                flags[each.name] = _add(group.add_argument, each)
    command.set_defaults(flags=flags)


def _add(add: Callable[..., argparse.Action], option: Field[Any]) -> str:
    """Add an option, and return its flag; if it is not given, it is missing."""
    flag, more = option.name.replace("_", "-"), dict(option.metadata["cli"])
    if option.type == "bool":
        flag = f"no-{flag}" if option.default else flag
        more["action"] = "store_false" if option.default else "store_true"
    elif option.type in TYPES:
        # `positive` would refuse a 0, which the options allow here.
        more["type"] = TYPES[option.type] if option.metadata["least"] else int
    told = option.metadata["help"]
    add(f"--{flag}", dest=option.name, default=argparse.SUPPRESS, help=told, **more)
    return f"--{flag}"


def run(arguments: argparse.Namespace) -> int:
    """Run the protocol on the models."""
    from rrfast.evaluate import trained_models
    from rrfast.train import parse_options

    protocol, flags = arguments.protocol, arguments.flags
    options = {name: getattr(arguments, name) for name in flags if hasattr(arguments, name)}
    for name in sorted(options):
        owners = [key for key, each in PROTOCOLS.items() if hasattr(each, name)]
        if protocol not in owners:
            raise ValueError(
                f"{flags[name]} is an option of the protocol {' or '.join(owners)}, and the "
                f"protocol is {protocol}"
            )
    if arguments.weights and "checkpoints" in options:
        raise ValueError(
            "--weights and --checkpoints both say which weights to use: give one of them"
        )
    if "severity" in options and "corruptions" not in options:
        raise ValueError("--severity is of corruptions, and there are none without --corruptions")
    if "trials" in options and "diagnostics" in options:
        raise ValueError("--trials is of scaled noise, which --no-diagnostics leaves out")
    found = trained_models(
        arguments.models,
        data=parse_options(arguments.data) if arguments.data else None,
        weights=arguments.weights,
        classes=arguments.classes,
        normalize=arguments.normalize,
        trust=arguments.trust,
    )
    room = importlib.import_module(f"rrfast.evaluate.{protocol}")
    room.evaluate(found, arguments.out, **options, command=arguments.typed)
    return 0
