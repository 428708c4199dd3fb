"""Options of every protocol of `rrfast evaluate`: default, help text and check, each once.

The command line reads this file without torch, so that `rrfast --help` is quick.
"""

# ruff: noqa: RUF009 -- the calls make fields

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, ParamSpec, TypeVar

from rrfast._names import TUNINGS

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from rrfast.evaluate.trained_model import TrainedModel


def option(default: Any, told: str, *, least: int = 1, most: int | None = None, **cli: Any) -> Any:
    """A field with its help text, and the arguments of `add_argument` that its type does not give.

    `least` and `most` are the ends of an integer; with `most`, another number is a share of 1.
    """
    return field(default=default, metadata={"help": told, "least": least, "most": most, "cli": cli})


def again(protocol: type[Options], name: str, default: Any, **changed: Any) -> Any:
    """An option that another protocol has too, with a default of its own."""
    known = protocol.__dataclass_fields__[name].metadata
    return field(default=default, metadata={**known, **changed})


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of every protocol; all are checked when the object is made.

    Raises:
        TypeError, ValueError: A number is out of range; a list is empty or has a name twice; or a
            word is not among those that are known.
    """

    HELP: ClassVar[str]  #: the protocol in one line
    #: For the intervals of single runs.
    draws: int = option(1000, "bootstrap draws; 0 for none (1000)", least=0, metavar="N")
    #: Images per forward. The random draws of an attack depend on it, but kept results are reused.
    batch: int = option(500, "(500)", metavar="N")
    device: torch.device | str | None = option(
        None, "cpu, cuda, cuda:1 (CUDA if available)", metavar="D"
    )
    command: str = ""  #: the command that the results name as their origin
    console: Console | None = None  #: where to print; default standard output

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.metadata and not (value is None and each.type.endswith("None")):
                _check(each, value)

    def recorded(self) -> dict[str, Any]:
        """Those that the result names: all that numbers and files depend on."""
        apart = ("device", "command", "console")
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in apart}


def _check(option: Field[Any], value: Any) -> None:
    """Raise a sentence unless the value fits the type of its option and its help text."""
    from rrfast._checks import check_count, check_number, check_once, check_one_of, describe

    name, least, most = option.name, option.metadata["least"], option.metadata["most"]
    if option.type.startswith("int"):
        check_count(name, value, least=least)
        if most is not None:
            check_number(name, value, least=least, most=most)
    elif option.type == "float":
        check_number(name, value, most=most)
    elif option.type == "Sequence[float]":
        for number in value:
            check_number(f"every radius of {name}", number)
    elif option.type == "Sequence[str]":
        check_once(name, value)
        if not all(isinstance(each, str) for each in value):
            raise TypeError(f"{name} must be names, got {describe(value)}")
        if option.default and not value:
            raise ValueError(f"{name} must hold at least one name, got none")
    elif choices := option.metadata["cli"].get("choices"):
        check_one_of(name, value, choices)


@dataclass(frozen=True, kw_only=True)
class MisdOptions(Options):
    """The options of `rrfast.evaluate.misd.evaluate`."""

    HELP = "how well every score, tuned on a validation split, finds the errors (RAT)"

    #: Names as for `rrfast.scores.score_named`, or the name of one of `misd.SETS`.
    scores: Sequence[str] = option(
        ("quick",),
        "names, msr+eps for one with input pre-processing, or quick, paper, all (quick)",
        metavar="A,B",
    )
    #: "rat" has the same images for all models (RAT §5.1), also those of the test set that a
    #: training used for validation. For best weights, the table says that they were chosen on them.
    tuning: str = option(
        "heldout",
        "tune on the validation split, or on a fifth of the test set, three times (heldout)",
        choices=TUNINGS,
    )
    #: RAT §5.6. The files are for models trained on CIFAR-10. With "rat", on the first division.
    corruptions: bool | Path | str = option(
        False,
        "also under 15 corruptions, made by rrfast or from DIR, the files of CIFAR-10-C",
        nargs="?",
        const=True,
        metavar="DIR",
    )
    severity: int = option(3, "1 to 5 (3)", most=5, metavar="N")
    #: The AURC at each temperature of RAT B.1 (§5.5), for scores of few passes.
    sensitivity: bool = option(True, "do not evaluate every temperature on the test split")
    #: With fifteen corruptions and many scores these are megabytes.
    every_run: bool = option(
        False, "keep the curves of every run in the JSON file too, of which figures draw the means"
    )

    def recorded(self) -> dict[str, Any]:
        """Without the folder of the corrupted images, which is one of this machine."""
        return super().recorded() | {"corruptions": bool(self.corruptions)}


@dataclass(frozen=True, kw_only=True)
class OodOptions(Options):
    """The options of `rrfast.evaluate.ood.evaluate`."""

    HELP = "every score, tuned on one out-of-distribution set, tested on others (ODIN, ACET)"

    #: As for `MisdOptions`, with the sets of `ood.SETS`. ODIN is tuned over its paper's grid.
    scores: Sequence[str] = again(MisdOptions, "scores", ("quick",))
    #: See `rrfast.evaluate.ood.OUTSIDE`. By default all that need no file; the last two, ACET's,
    #: depend on the model.
    against: Sequence[str] = option(
        (
            *("gaussian", "uniform", "photos_crop", "photos_resize"),
            *("noise", "adversarial_noise", "adversarial_samples"),
        ),
        "sets to test on: gaussian, uniform, textures, noise, adversarial_noise[:EPS], "
        "adversarial_samples[:EPS], photos_crop, photos_resize, crop:DIR, resize:DIR, "
        "'task:NAME KEY=VALUE' (those that need no file)",
        metavar="A,B",
    )
    #: Not one of `against`.
    validation: str = option("textures", "the set to tune on (textures)", metavar="NAME")
    #: ODIN's Table 3, on separate draws.
    transfer: bool = option(False, "also ODIN tuned on each of them, tested on others")
    #: None: all, as in the papers (10,000 of CIFAR). This includes images of the test set that were
    #: used for validation, although T, eps and fitted matrices were chosen on them; for best
    #: weights, which were chosen on them as well, they are left out. With a number they are left
    #: out too. The table says which. The images for tuning do not depend on it.
    images: int | None = option(
        None,
        "images of the test split and of each set, or all (all; robust and distal 1000)",
        least=2,
        metavar="N",
    )
    #: ODIN §4.4, §5 and App. F; and the factors by which noise has to be scaled up (ACET Table 2).
    diagnostics: bool = option(
        True, "without logits, gradients, distances, ODIN at fixed T and eps, and scaled noise"
    )
    #: As in the paper.
    trials: int = option(10_000, "noise images to scale up (10000)", metavar="N")
    every_run: bool = again(MisdOptions, "every_run", False)


@dataclass(frozen=True, kw_only=True)
class RobustOptions(Options):
    """The options of `rrfast.evaluate.robust.evaluate`."""

    HELP = "accuracy under attacks, and in their worst case (IRAT)"

    #: AutoAttack takes some 10,000 passes for an image that withstands it.
    attacks: Sequence[str] = option(
        ("fgsm", "pgd", "cw_pgd", "apgd_ce", "autoattack"),
        "names of rrfast.attacks.ATTACKS (fgsm, pgd, cw_pgd, apgd_ce, autoattack); "
        "autoattack_package is the published one",
        metavar="A,B",
    )
    #: In units of the inputs in [0, 1].
    eps: float = option(8 / 255, "radius of the attacks (8/255; distal 0.03)", metavar="E")
    #: Of PGD and CW-PGD, as in the paper; other attacks have their own number.
    steps: int = option(100, "steps of PGD (100; distal 40)", metavar="K")
    curve: Sequence[float] = option(
        (), "also PGD at these radii, such as 2/255,4/255", metavar="E,E"
    )
    #: Chosen at random, the same for all models of one test set; None for all, as in the paper.
    #: Images of the test set that a training used for validation are included; for best weights,
    #: which were chosen on them, they are left out, and the table says so.
    images: int | None = again(OodOptions, "images", 1000, least=1)
    #: () for the weights that the models already have.
    checkpoints: Sequence[str] = option(
        (), "last, best: weights of the trainings, each with its own tables", metavar="W,W"
    )
    #: None: MAIL if it is there, else the first with adversarial training, else the first.
    baseline: str | None = option(
        None, "training to compare all with (MAIL if present)", metavar="T"
    )


@dataclass(frozen=True, kw_only=True)
class DistalOptions(Options):
    """The options of `rrfast.evaluate.distal.evaluate`."""

    HELP = "noise and attacked images at a confidence threshold (distal article, CCAT)"

    #: Of all attacks, in units of the inputs in [0, 1]; ACET also has 0.3.
    eps: float = again(RobustOptions, "eps", 0.03)
    #: Of all attacks. CCAT tests with 1000, and with 200 on the cross-entropy.
    steps: int = again(RobustOptions, "steps", 40)
    #: In addition to the input itself. CCAT tests with 10, and with 50 on the cross-entropy.
    restarts: int = option(1, "restarts of every attack (1)", metavar="N")
    #: Uniform and smoothed; the same for all models.
    noise: int = option(1000, "noise images of each kind (1000)", metavar="N")
    #: For noise, the article's code takes 10 steps, whatever `steps` is: `rrfast.attacks.DISTAL`.
    distal_attack: str = option(
        "rrfast",
        "attack on noise: ours, or the article's 10 steps and smoothing (rrfast)",
        choices=("rrfast", "article"),
    )
    keep_correct: float = option(
        0.99,
        "share of right predictions of the validation split to accept (0.99)",
        most=1,
        metavar="P",
    )
    #: Test images to attack, chosen at random.
    images: int | None = again(RobustOptions, "images", 1000)
    checkpoints: Sequence[str] = again(RobustOptions, "checkpoints", ())


#: Every protocol by its name: `rrfast.evaluate.NAME.evaluate` takes these options.
PROTOCOLS: dict[str, type[Options]] = {
    "misd": MisdOptions,
    "ood": OodOptions,
    "robust": RobustOptions,
    "distal": DistalOptions,
}

P = ParamSpec("P")
Chosen = TypeVar("Chosen", bound=Options)
if TYPE_CHECKING:
    _WithObject = Callable[[Sequence[TrainedModel], Path | str, Chosen], dict[str, Any]]
    _WithKeywords = Callable[Concatenate[Sequence[TrainedModel], Path | str, P], dict[str, Any]]


def with_options(options: Callable[P, Chosen]) -> Callable[[_WithObject[Chosen]], _WithKeywords[P]]:
    """Let a function of models, a folder and options take the options as keyword arguments."""

    def decorated(function: _WithObject[Chosen]) -> _WithKeywords[P]:
        @functools.wraps(function)
        def evaluate(
            trained_models: Sequence[TrainedModel], out: Path | str, *_: P.args, **given: P.kwargs
        ) -> dict[str, Any]:
            return function(trained_models, out, options(*_, **given))

        first = list(inspect.signature(function).parameters.values())[:2]
        own = inspect.signature(options).parameters.values()
        evaluate.__signature__ = inspect.Signature([*first, *own])  # type: ignore[attr-defined]
        return evaluate  # type: ignore[return-value]  # the first two can be named, too

    return decorated
