"""`rrfast evaluate`: trained models under the protocols of the papers.

Another protocol is a package in `rrfast.evaluate`, a function here that adds its options, and a
line in `PROTOCOLS`.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from rrfast._names import SPECIFICATIONS, TUNINGS
from rrfast.cli.argument_types import comma_separated, positive, positive_or_all, ratio, ratios

Add = Callable[..., object]  #: `add_argument`; an option that is not given is missing


def _misd(add: Add) -> None:
    scores = "names, msr+eps for one with input pre-processing, or quick, paper, all (quick)"
    add("--scores", metavar="A,B", help=scores)
    tuning = "tune on the validation split, or on a fifth of the test set, three times (heldout)"
    add("--tuning", choices=TUNINGS, help=tuning)
    told = "also under 15 corruptions, made by rrfast or from DIR, the files of CIFAR-10-C"
    add("--corruptions", nargs="?", const=True, metavar="DIR", help=told)
    add("--severity", type=positive, metavar="N", help="1 to 5 (3)")
    told = "do not evaluate every temperature on the test split"
    add("--no-sensitivity", action="store_false", dest="sensitivity", help=told)
    told = "keep the curves of every run in the JSON file too, of which figures draw the means"
    add("--every-run", action="store_true", help=told)


def _ood(add: Add) -> None:
    against = (
        "sets to test on: gaussian, uniform, textures, noise, adversarial_noise[:EPS], "
        "adversarial_samples[:EPS], photos_crop, photos_resize, crop:DIR, resize:DIR, "
        "'task:NAME KEY=VALUE' (those that need no file)"
    )
    add("--against", type=comma_separated, metavar="A,B", help=against)
    add("--validation", metavar="NAME", help="the set to tune on (textures)")
    transfer = "also ODIN tuned on each of them, tested on others"
    add("--transfer", action="store_true", help=transfer)
    images = "images of the test split and of each set, or all (all; robust and distal 1000)"
    add("--images", type=positive_or_all, metavar="N", help=images)
    told = "without logits, gradients, distances, ODIN at fixed T and eps, and scaled noise"
    add("--no-diagnostics", action="store_false", dest="diagnostics", help=told)
    add("--trials", type=positive, metavar="N", help="noise images to scale up (10000)")


def _robust(add: Add) -> None:
    attacks = (
        "names of rrfast.attacks.ATTACKS (fgsm, pgd, cw_pgd, apgd_ce, autoattack); "
        "autoattack_package is the published one"
    )
    add("--attacks", type=comma_separated, metavar="A,B", help=attacks)
    add("--eps", type=ratio, metavar="E", help="radius of the attacks (8/255; distal 0.03)")
    add("--steps", type=positive, metavar="K", help="steps of PGD (100; distal 40)")
    curve = "also PGD at these radii, such as 2/255,4/255"
    add("--curve", type=ratios, metavar="E,E", help=curve)
    checkpoints = "last, best: weights of the trainings, each with its own tables"
    add("--checkpoints", type=comma_separated, metavar="W,W", help=checkpoints)
    add("--baseline", metavar="T", help="training to compare all with (MAIL if present)")


def _distal(add: Add) -> None:
    add("--restarts", type=positive, metavar="N", help="restarts of every attack (1)")
    add("--noise", type=positive, metavar="N", help="noise images of each kind (1000)")
    attack = "attack on noise: ours, or the article's 10 steps and smoothing (rrfast)"
    add("--distal-attack", choices=("rrfast", "article"), help=attack)
    share = "share of right predictions of the validation split to accept (0.99)"
    add("--keep-correct", type=ratio, metavar="P", help=share)


class Evaluation(NamedTuple):
    """A protocol: its options are the arguments of `rrfast.evaluate.NAME.evaluate`."""

    help: str  #: one line
    add: Callable[[Add], None]  #: adds its own options
    shared: tuple[str, ...] = ()  #: options that it shares with the protocols before it


PROTOCOLS = {
    "misd": Evaluation(
        "how well every score, tuned on a validation split, finds the errors (RAT)", _misd
    ),
    "ood": Evaluation(
        "every score, tuned on one out-of-distribution set, tested on others (ODIN, ACET)",
        _ood,
        ("scores", "every_run"),
    ),
    "robust": Evaluation(
        "accuracy under attacks, and in their worst case (IRAT)", _robust, ("images",)
    ),
    "distal": Evaluation(
        "noise and attacked images at a confidence threshold (distal article, CCAT)",
        _distal,
        ("eps", "steps", "images", "checkpoints"),
    ),
}
HELP = "trained models under the protocols of the papers"
DESCRIPTION = (
    "Evaluate trained models, and write the tables, the figures and the numbers, and verdicts on "
    "the paper's claims. If stopped, or run with more options, it continues from kept results. "
    "Under torchrun, processes share the images."
)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = command.add_argument
    models = f"a training's folder, a folder of such folders, or {SPECIFICATIONS}"
    add("models", metavar="MODEL", nargs="+", help=models)
    told = "; ".join(f"{name}: {each.help}" for name, each in PROTOCOLS.items()) + " (misd)"
    add("--protocol", choices=tuple(PROTOCOLS), default="misd", help=told)
    data = "data of a model without a training's folder: cifar10 folder=data, FILE.py:FUNCTION"
    add("--data", nargs="+", metavar="NAME KEY=VALUE", help=data)
    add("--weights", metavar="W", help="a state_dict; for a folder last or best")
    add("--classes", type=positive, metavar="K", help="logits of the model")
    add("--normalize", metavar="NAME", help="in front of the model: cifar10, ...")
    trust = "run code that a training's folder names, as its model or its data"
    add("--trust", action="store_true", help=trust)
    draws = "bootstrap draws; 0 for none (1000)"
    add("--draws", type=int, default=1000, metavar="N", help=draws)
    add("--batch", type=positive, default=500, metavar="N", help="(500)")
    add("--device", metavar="D", help="cpu, cuda, cuda:1 (CUDA if available)")
    out = Path("rrfast-evaluate")
    add("--out", type=Path, default=out, metavar="DIR", help="(rrfast-evaluate)")
    owners: dict[str, list[str]] = {}
    flags: dict[str, str] = {}
    for name, each in PROTOCOLS.items():
        group = command.add_argument_group(f"protocol {name}", argument_default=argparse.SUPPRESS)
        each.add(group.add_argument)
        flags |= {action.dest: action.option_strings[0] for action in group._group_actions}
        for option in (*each.shared, *(action.dest for action in group._group_actions)):
            owners.setdefault(option, []).append(name)
    command.set_defaults(owners=owners, flags=flags)


def run(arguments: argparse.Namespace) -> int:
    """Run the protocol on the models."""
    from rrfast.evaluate import trained_models
    from rrfast.train import parse_options

    protocol, owners = arguments.protocol, arguments.owners
    options = {name: getattr(arguments, name) for name in owners if hasattr(arguments, name)}
    strange = sorted(name for name in options if protocol not in owners[name])
    if strange:
        raise ValueError(
            f"{arguments.flags[strange[0]]} is an option of the protocol "
            f"{' and '.join(owners[strange[0]])}, and the protocol is {protocol}"
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
    if "scores" in options:
        options["scores"] = room.SETS.get(options["scores"]) or comma_separated(options["scores"])
    if "tuning" in options:
        options["protocol"] = options.pop("tuning")
    common = {name: getattr(arguments, name) for name in ("out", "draws", "batch", "device")}
    room.evaluate(found, **options, **common, command=arguments.typed)
    return 0
