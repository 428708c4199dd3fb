"""`rrfast evaluate`: how well every score finds the errors of trained models."""

from __future__ import annotations

import argparse
from pathlib import Path

from rrfast.cli.argument_types import comma_separated, positive
from rrfast.models import SPECIFICATIONS


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
) -> argparse.ArgumentParser:
    """Add `rrfast evaluate` and its options."""
    command = commands.add_parser(
        "evaluate",
        help="how well every score finds the errors of trained models",
        description="Tune every score on a validation split, ask it for the errors of each model, "
        "and write the tables, the numbers and what they say of the paper's claims. Stopped, or "
        "asked for more scores or models, it goes on where it was.",
    )
    command.add_argument(
        "models",
        metavar="MODEL",
        nargs="+",
        help=f"a training's folder, one of such folders, or {SPECIFICATIONS}",
    )
    command.add_argument(
        "--scores",
        metavar="A,B",
        default="quick",
        help="names, msr+eps for one with input pre-processing, or quick, paper, all (quick)",
    )
    command.add_argument(
        "--tuning",
        choices=("heldout", "rat"),
        default="heldout",
        help="on the validation split, or on a fifth of the test split, three times (heldout)",
    )
    command.add_argument(
        "--data",
        nargs="+",
        metavar="NAME KEY=VALUE",
        help="for a model that is no training's folder, such as cifar10 folder=data",
    )
    command.add_argument("--weights", metavar="W", help="a state_dict; of a folder last or best")
    command.add_argument("--classes", type=positive, metavar="K", help="logits of the model")
    command.add_argument("--normalize", metavar="NAME", help="in front of the model: cifar10, ...")
    command.add_argument(
        "--corruptions",
        nargs="?",
        const=True,
        default=False,
        metavar="DIR",
        help="also under 15 corruptions, made here or in DIR, the files of CIFAR-10-C",
    )
    command.add_argument("--severity", type=positive, default=3, metavar="N", help="1 to 5 (3)")
    command.add_argument(
        "--draws", type=int, default=1000, metavar="N", help="of the bootstrap; 0 for none (1000)"
    )
    command.add_argument(
        "--no-sensitivity", action="store_true", help="not at every temperature on the test split"
    )
    command.add_argument("--batch", type=positive, default=500, metavar="N", help="(500)")
    command.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1 (CUDA if there is some)")
    command.add_argument(
        "--out", type=Path, default=Path("rrfast-evaluate"), metavar="DIR", help="(rrfast-evaluate)"
    )
    return command


def run(arguments: argparse.Namespace) -> int:
    """Run `rrfast.evaluate.misd` on the models."""
    from rrfast.evaluate import misd, subjects
    from rrfast.train import parse_options

    found = subjects(
        arguments.models,
        data=parse_options(arguments.data) if arguments.data else None,
        weights=arguments.weights,
        classes=arguments.classes,
        normalize=arguments.normalize,
    )
    misd.evaluate(
        found,
        arguments.out,
        scores=misd.SETS.get(arguments.scores) or comma_separated(arguments.scores),
        protocol=arguments.tuning,
        corruptions=arguments.corruptions,
        severity=arguments.severity,
        draws=arguments.draws,
        sensitivity=not arguments.no_sensitivity,
        batch=arguments.batch,
        device=arguments.device,
        command=arguments.typed,
    )
    return 0
