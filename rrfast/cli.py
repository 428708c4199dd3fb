"""The `rrfast` command."""

from __future__ import annotations

import argparse
import functools
import os
import shlex
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rrfast import bench, demo
from rrfast.__main__ import main as report
from rrfast.models import SPECIFICATIONS
from rrfast.radius import METHODS

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments after the program's name; default those of the process. None given: print
            what runs here, as `python -m rrfast`.

    Returns:
        Exit code: 0 done, 1 something is missing, cannot be written, the loss is not finite, or
        `score` is done but for images that it names, 2 arguments that do not fit the data or each
        other (all said in a sentence on standard error), 130 interrupted. Wrong arguments exit
        with 2, as argparse does.

    Example:
        >>> main(["demo", "--seeds", "none"])
        Traceback (most recent call last):
        SystemExit: 2
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    arguments.typed = shlex.join(["rrfast", *(sys.argv[1:] if argv is None else argv)])
    try:
        if arguments.command is None:
            return report([])
        code: int = arguments.run(arguments)
    except (ArithmeticError, ImportError, OSError, TypeError, ValueError) as error:
        print(f"rrfast: {error}", file=sys.stderr)
        return 2 if isinstance(error, (TypeError, ValueError)) else 1
    except KeyboardInterrupt:
        print("rrfast: interrupted", file=sys.stderr)
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rrfast", description="How far an input is from changing a classifier's mind."
    )
    commands = parser.add_subparsers(dest="command", metavar="command")
    _add_demo(commands)
    _add_bench(commands)
    _add_train(commands)
    _add_ablate(commands)
    _add_evaluate(commands)
    _add_report(commands)
    _add_score(commands)
    return parser


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "demo",
        help="standard training against RAT on handwritten digits",
        description="Train a standard and a RAT network on scikit-learn's digits over several "
        "seeds, print how well each score finds their errors, and write the table, the numbers "
        "and a figure of the radii.",
    )
    command.set_defaults(run=_demo)
    command.add_argument("--seeds", type=_positive, metavar="N", help="number of seeds (8)")
    command.add_argument("--epochs", type=_positive, metavar="N", help="epochs per training (40)")
    command.add_argument(
        "--out", type=Path, default=Path("rrfast-demo"), metavar="DIR", help="results (rrfast-demo)"
    )
    command.add_argument(
        "--smoke", action="store_true", help="2 seeds, 2 epochs: seconds; numbers mean nothing"
    )


def _add_bench(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "bench",
        help="speed and worth of every method, for a model of yours",
        description="Time every method of rrfast.radius against MSR and the loop of the released "
        "code, say how well each finds errors, and write the tables, the numbers and figures.",
    )
    command.set_defaults(run=_bench)
    plain = bench.Settings()
    command.add_argument("--model", metavar="SPEC", help=f"{SPECIFICATIONS} ({plain.model})")
    command.add_argument("--weights", metavar="FILE", help="a state_dict (random weights)")
    command.add_argument(
        "--methods", type=_names, metavar="A,B", help=f"of {', '.join(METHODS)}; or all (all)"
    )
    command.add_argument("--batch", type=_positive, nargs="+", metavar="N", help="sizes (16 128)")
    command.add_argument(
        "--dtype", nargs="+", metavar="T", help="float32 bfloat16 float16 (float32)"
    )
    command.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1 (CUDA if there is some)")
    command.add_argument(
        "--data", metavar="D", help="synthetic, digits, FILE.npz with x, y (synthetic)"
    )
    command.add_argument("--size", type=_positive, metavar="N", help="of synthetic images (32)")
    command.add_argument("--samples", type=_positive, metavar="N", help="images for metrics (512)")
    command.add_argument("--seconds", type=float, metavar="S", help="for each to be timed (2)")
    command.add_argument("--seed", type=int, metavar="N", help="of data and random weights (0)")
    # None where not given: the settings decide then.
    flag = functools.partial(command.add_argument, action="store_true", default=None)
    flag("--speed", help="also what each option of RadiusEstimator buys")
    flag("--pareto", help="also each method at several settings")
    command.add_argument("--smoke", action="store_true", help="seconds; numbers mean nothing")
    command.add_argument(
        "--out", type=Path, default=Path("rrfast-bench"), metavar="DIR", help="(rrfast-bench)"
    )


def _add_train(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "train",
        help="train a model as a recipe says",
        description="Train as a recipe says, on one device or, under torchrun, on many, and write "
        "weights, log and checkpoints. Killed, it continues with --resume as if it had not been.",
    )
    command.set_defaults(run=_train)
    command.add_argument(
        "recipe", metavar="RECIPE", nargs="?", help="a YAML file, or a name; without one: the names"
    )
    command.add_argument("--out", type=Path, metavar="DIR", help="results (rrfast-train/RECIPE)")
    command.add_argument("--resume", action="store_true", help="continue what is in DIR")
    command.add_argument(
        "--variants",
        type=_list,
        metavar="A,B",
        help="train with each of these objectives into DIR/NAME_SEED, and go on where it was",
    )
    command.add_argument("--seeds", type=_positive, metavar="N", help="for --variants (5)")
    _add_changes(command)


def _add_changes(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--set",
        dest="changes",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="entries of the recipe, such as training.epochs=3 objective.eps=1e-2",
    )


def _add_ablate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "ablate",
        help="standard training, AT, ReverseAT and RAT, with Mixup and without, over seeds",
        description="Train the model of a recipe with each objective over several seeds, and print "
        "how well the radius finds the errors (Tables 1 and 5 of the paper). Stopped, it goes on "
        "where it was.",
    )
    command.set_defaults(run=_ablate)
    command.add_argument(
        "recipe", metavar="RECIPE", help="as for rrfast train; its objective gives eps"
    )
    command.add_argument("--seeds", type=_positive, default=5, metavar="N", help="(5)")
    command.add_argument("--mixup", type=float, default=1.0, metavar="ALPHA", help="(1.0)")
    command.add_argument("--out", type=Path, metavar="DIR", help="(rrfast-ablate/RECIPE)")
    _add_changes(command)


def _add_evaluate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "evaluate",
        help="how well every score finds the errors of trained models",
        description="Tune every score on a validation split, ask it for the errors of each model, "
        "and write the tables, the numbers and what they say of the paper's claims. Stopped, or "
        "asked for more scores or models, it goes on where it was.",
    )
    command.set_defaults(run=_evaluate)
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
    command.add_argument("--classes", type=_positive, metavar="K", help="logits of the model")
    command.add_argument("--normalize", metavar="NAME", help="in front of the model: cifar10, ...")
    command.add_argument(
        "--corruptions",
        nargs="?",
        const=True,
        default=False,
        metavar="DIR",
        help="also under 15 corruptions, made here or in DIR, the files of CIFAR-10-C",
    )
    command.add_argument("--severity", type=_positive, default=3, metavar="N", help="1 to 5 (3)")
    command.add_argument(
        "--draws", type=int, default=1000, metavar="N", help="of the bootstrap; 0 for none (1000)"
    )
    command.add_argument(
        "--no-sensitivity", action="store_true", help="not at every temperature on the test split"
    )
    command.add_argument("--batch", type=_positive, default=500, metavar="N", help="(500)")
    command.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1 (CUDA if there is some)")
    command.add_argument(
        "--out", type=Path, default=Path("rrfast-evaluate"), metavar="DIR", help="(rrfast-evaluate)"
    )


def _add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "report",
        help="one page with every table and figure",
        description="Write one HTML file, which needs no other, with the tables and figures of "
        "results that rrfast evaluate, ablate and bench have left.",
    )
    command.set_defaults(run=_report)
    command.add_argument("folders", metavar="DIR", nargs="+", type=Path, help="of results")
    command.add_argument("--title", metavar="TEXT", help="of the page")
    command.add_argument(
        "--out", type=Path, default=Path("report.html"), metavar="FILE", help="(report.html)"
    )


def _add_score(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "score",
        help="prediction, confidence and acceptance of every image of a folder or a .npy file",
        description="Score images into a table, a row each, on one device or, under torchrun, on "
        "many. Killed, it goes on with the same arguments. Exits with 1 if an image could not be "
        "scored: its row says why.",
    )
    command.set_defaults(run=_score)
    add = command.add_argument
    add("model", metavar="MODEL", help=f"a training's folder, or {SPECIFICATIONS}")
    add("source", metavar="INPUT", help="a folder of images, or FILE.npy of [N, C, H, W] in [0, 1]")
    add("--out", type=Path, required=True, metavar="FILE", help=".csv or .parquet")
    add("--weights", metavar="FILE|best", help="a state_dict; of a training last or best (last)")
    add("--classes", type=_positive, metavar="K", help="logits of the model (its own)")
    add("--normalize", metavar="NAME", help="in front of the model, such as imagenet (nothing)")
    add("--score", metavar="NAME", help="of rrfast.scores.SCORES (radius_fast)")
    add("--batch", type=_positive, default=128, metavar="N", help="images per call (128)")
    add("--part", type=_positive, default=1000, metavar="N", help="images lost if killed (1000)")
    add("--size", type=_positive, metavar="N", help="side that images are scaled to (their own)")
    add("--channels", type=int, choices=(1, 3), help="of the images of a folder (the model's)")
    add("--device", metavar="D", help="cpu, cuda, cuda:1 (CUDA if there is some)")
    add("--workers", type=int, default=0, metavar="N", help="processes that read images (0)")
    add("--overwrite", action="store_true", help="replace FILE when the new one is complete")
    chosen = command.add_argument_group("threshold", "one of them, or nothing is accepted or not")
    add = chosen.add_argument
    add("--threshold", type=float, metavar="T", help="accept from this score on")
    add("--coverage", type=float, metavar="C", help="this share, of the training's validation data")
    add("--tpr", type=float, metavar="R", help="reject this share of the errors among them")
    add("--target-risk", type=float, metavar="R", help="at most this share of the accepted wrong")
    add("--confidence", type=float, metavar="P", help="the latter with this probability")
    add("--classifier", metavar="FILE", help="state_dict of a SelectiveClassifier, with weights")


def _list(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _names(text: str) -> tuple[str, ...] | None:
    return None if text == "all" else _list(text)


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1, got {text!r}")
    return number


def _demo(arguments: argparse.Namespace) -> int:
    settings = demo.SMOKE if arguments.smoke else demo.Settings()
    if arguments.seeds is not None:
        settings = replace(settings, seeds=tuple(range(arguments.seeds)))
    if arguments.epochs is not None:
        settings = replace(settings, epochs=arguments.epochs)
    demo.run(settings, arguments.out)
    return 0


def _bench(arguments: argparse.Namespace) -> int:
    given: dict[str, Any] = {
        field.name: tuple(value) if isinstance(value, list) else value
        for field in fields(bench.Settings)
        if (value := getattr(arguments, field.name)) is not None
    }
    settings = replace(bench.SMOKE if arguments.smoke else bench.Settings(), **given)
    bench.run(settings, arguments.out)
    return 0


def _train(arguments: argparse.Namespace) -> int:
    # Here, because Lightning Fabric is an extra.
    from rrfast import train

    if arguments.recipe is None:
        print("\n".join(train.recipes()))
        return 0
    recipe = train.load_recipe(arguments.recipe, arguments.changes)
    out = arguments.out or Path("rrfast-train", Path(arguments.recipe).stem)
    if arguments.variants is not None:
        for run in train.train_variants(
            recipe, out, arguments.variants, range(arguments.seeds or 5)
        ):
            if train.is_first_process():
                print(f"Written: {run.folder}")
        return 0
    if arguments.seeds is not None:
        raise ValueError("--seeds needs --variants: of one training the seed is training.seed")
    fitted = train.train(recipe, out, resume=arguments.resume)
    if train.is_first_process():
        best = "" if fitted.best_epoch is None else f", best.pt (epoch {fitted.best_epoch + 1})"
        print(f"Written to {out}: last.pt{best}, log.csv, recipe.yaml, checkpoint.pt")
    return 0


def _ablate(arguments: argparse.Namespace) -> int:
    from rrfast.evaluate import ablate
    from rrfast.train import load_recipe

    recipe = load_recipe(arguments.recipe, arguments.changes)
    name = Path(arguments.recipe).stem
    command = f"rrfast ablate {arguments.recipe} --seeds {arguments.seeds}"
    command += f" --mixup {arguments.mixup:g}" * (arguments.mixup != 1)
    command += f" --set {' '.join(arguments.changes)}" * bool(arguments.changes)
    ablate(
        recipe,
        arguments.out or Path("rrfast-ablate", name),
        seeds=range(arguments.seeds),
        mixup=arguments.mixup,
        command=command,
    )
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
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
        scores=misd.SETS.get(arguments.scores) or _list(arguments.scores),
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


def _report(arguments: argparse.Namespace) -> int:
    from rrfast.evaluate import report as page

    page(arguments.folders, arguments.out, title=arguments.title, command=arguments.typed)
    print(f"Written: {arguments.out}")
    return 0


def _score(arguments: argparse.Namespace) -> int:
    from rrfast.evaluate import score

    given = vars(arguments).copy()
    for name in ("command", "run", "typed"):
        del given[name]
    done = score(**given, command=arguments.typed)
    # One speaks for all, and torchrun ends those that still run when one has failed.
    if os.environ.get("RANK", "0") != "0":
        return 0
    accepted = "" if done.accepted is None else f", {done.accepted} accepted"
    print(f"Written to {arguments.out}: {done.images} images{accepted}; {arguments.out}.json")
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
