"""`rrfast evaluate`: trained models under the protocols of the papers.

One file per protocol, with `HELP`, `add_arguments` and `run`; another one is a file and a line in
`PROTOCOLS`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rrfast._names import SPECIFICATIONS
from rrfast.cli.argument_types import positive
from rrfast.cli.evaluate import distal, misd, ood, robust

if TYPE_CHECKING:
    from rrfast.evaluate import TrainedModel


class Evaluation(Protocol):
    """The interface of a protocol's module."""

    HELP: str  #: one line
    SHARED: tuple[str, ...]  #: options that it shares with the protocols before it

    def add_arguments(self, group: argparse._ArgumentGroup, /) -> None:
        """Add its own options, without defaults: an option that is not given is missing."""

    def run(self, trained_models: list[TrainedModel], options: dict[str, Any], /) -> None:
        """Evaluate; `options` are the given ones, and the common ones."""


PROTOCOLS: dict[str, Evaluation] = {
    "misd": misd,
    "ood": ood,
    "robust": robust,
    "distal": distal,
}


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
) -> argparse.ArgumentParser:
    """Add `rrfast evaluate` and its options."""
    command = commands.add_parser(
        "evaluate",
        help="trained models under the protocols of the papers",
        description="Evaluate trained models, and write the tables, the figures and the numbers, "
        "and verdicts on the paper's claims. If stopped, or run with more options, it continues "
        "from kept results. Under torchrun, processes share the images.",
    )
    command.add_argument(
        "models",
        metavar="MODEL",
        nargs="+",
        help=f"a training's folder, a folder of such folders, or {SPECIFICATIONS}",
    )
    command.add_argument(
        "--protocol",
        choices=tuple(PROTOCOLS),
        default="misd",
        help="; ".join(f"{name}: {module.HELP}" for name, module in PROTOCOLS.items()) + " (misd)",
    )
    command.add_argument(
        "--data",
        nargs="+",
        metavar="NAME KEY=VALUE",
        help="data of a model without a training's folder: cifar10 folder=data, FILE.py:FUNCTION",
    )
    command.add_argument("--weights", metavar="W", help="a state_dict; for a folder last or best")
    command.add_argument("--classes", type=positive, metavar="K", help="logits of the model")
    command.add_argument("--normalize", metavar="NAME", help="in front of the model: cifar10, ...")
    command.add_argument(
        "--trust",
        action="store_true",
        help="run code that a training's folder names, as its model or its data",
    )
    command.add_argument(
        "--draws", type=int, default=1000, metavar="N", help="bootstrap draws; 0 for none (1000)"
    )
    command.add_argument("--batch", type=positive, default=500, metavar="N", help="(500)")
    command.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1 (CUDA if available)")
    command.add_argument(
        "--out", type=Path, default=Path("rrfast-evaluate"), metavar="DIR", help="(rrfast-evaluate)"
    )
    owners: dict[str, list[str]] = {}
    flags: dict[str, str] = {}
    for name, module in PROTOCOLS.items():
        group = command.add_argument_group(f"protocol {name}", argument_default=argparse.SUPPRESS)
        module.add_arguments(group)
        flags |= {action.dest: action.option_strings[0] for action in group._group_actions}
        for option in (*module.SHARED, *(action.dest for action in group._group_actions)):
            owners.setdefault(option, []).append(name)
    command.set_defaults(owners=owners, flags=flags)
    return command


def run(arguments: argparse.Namespace) -> int:
    """Run the protocol on the models."""
    from rrfast.evaluate import trained_models
    from rrfast.train import parse_options

    given = {name for name in arguments.owners if hasattr(arguments, name)}
    strange = sorted(name for name in given if arguments.protocol not in arguments.owners[name])
    if strange:
        raise ValueError(
            f"{arguments.flags[strange[0]]} is an option of the protocol "
            f"{' and '.join(arguments.owners[strange[0]])}, and the protocol is "
            f"{arguments.protocol}"
        )
    if arguments.weights and hasattr(arguments, "checkpoints"):
        raise ValueError(
            "--weights and --checkpoints both say which weights to use: give one of them"
        )
    found = trained_models(
        arguments.models,
        data=parse_options(arguments.data) if arguments.data else None,
        weights=arguments.weights,
        classes=arguments.classes,
        normalize=arguments.normalize,
        trust=arguments.trust,
    )
    options = {name: getattr(arguments, name) for name in given}
    common = {name: getattr(arguments, name) for name in ("out", "draws", "batch", "device")}
    PROTOCOLS[arguments.protocol].run(found, options | common | {"command": arguments.typed})
    return 0
