"""`rrfast evaluate --protocol robust`: what is left of accuracy under attack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from torch import Tensor

from rrfast._checks import check_count, check_number, check_once, check_one_of
from rrfast.attacks import ATTACKS
from rrfast.attacks.autoattack_package import the_package
from rrfast.data.loader import length
from rrfast.data.splits import chosen, tested_on
from rrfast.evaluate.interval import interval
from rrfast.evaluate.observations import at
from rrfast.evaluate.robust.figures import figures
from rrfast.evaluate.robust.standing import (
    EvaluationData,
    correct,
    doubts,
    made,
    margins,
    misled,
    packed,
    standing,
    unpacked,
)
from rrfast.evaluate.robust.tables import CLEAN, WORST, blocks, conventions, notes
from rrfast.evaluate.study import Context, Study, run_study
from rrfast.evaluate.trained_model import TrainedModel
from rrfast.metrics import accuracy
from rrfast.objectives.variant_names import VARIANTS

#: What IRAT calls Standard, of which its Fig. 2 to 4 are.
STANDARD = VARIANTS["pgd_at"]
#: The columns of IRAT's tables.
PAPER = ("fgsm", "pgd", "cw_pgd", "apgd_ce", "autoattack")


def evaluate(
    trained_models: Sequence[TrainedModel],
    out: Path | str,
    *,
    attacks: Sequence[str] = PAPER,
    eps: float = 8 / 255,
    steps: int = 100,
    curve: Sequence[float] = (),
    images: int | None = 1000,
    checkpoints: Sequence[str] = (),
    baseline: str | None = None,
    draws: int = 1000,
    batch: int = 500,
    device: torch.device | str | None = None,
    command: str = "",
    console: Console | None = None,
) -> dict[str, Any]:
    """Attack the test images of every model, and write tables and numbers.

    The accuracy under an attack is the share of images that are right as they are and after it.
    Only what is right is attacked. Each attack is on all of that, whatever another one found; the
    worst case counts an image while it stands all of them. What is done is kept in out/parts,
    attack by attack, with the images that stood, so that attacks, radii and models can be added.

    Args:
        trained_models: Trained models with their data, see `rrfast.evaluate.trained_models`.
        out: Folder for robust.json, robust.csv (a row per model, checkpoint and attack), robust.md
            and the figures.
        attacks: Names in `rrfast.attacks.ATTACKS`; default those of the paper, of which
            AutoAttack takes some 10,000 passes for an image that stands it. "autoattack_package" is
            the published one, as the paper's is.
        eps: Radius of the ball, in units of the inputs in [0, 1].
        steps: K of PGD and CW-PGD; the paper's is 100. Other attacks have their own defaults.
        curve: Further radii, for PGD alone.
        images: How many test images, chosen at random, the same for all models of one test set;
            None for all, as in the paper. Those that a training held out of the test set to
            validate on are of it too, CIFAR's 10,000 are all: last weights were chosen on none. Of
            best weights they are left out, and the table says so.
        checkpoints: "last" and "best" weights of trainings' folders, each in tables of its own;
            () for those that the trained_models are.
        baseline: A training that all are compared with; None: MAIL where it is, else the first of
            adversarial training, else the first.
        draws: Of the bootstrap for the intervals of single runs; 0 for none.
        batch: Images at once. The draws of an attack depend on it, but what is kept is used again.
        device: Default CUDA where there is some.
        command: What the results are to say made them.
        console: Where to print; default standard output.

    Returns:
        What robust.json holds: as `rrfast.evaluate.study.run_study`, with `attacks`, `baseline`,
        and `runs`: a row per model, checkpoint, attack and radius, with `best`, by what the best
        checkpoint was chosen, `accuracy`, its `interval`, `images` and `stood`, the bits of
        `rrfast.evaluate.robust.standing.packed`; "clean" and "worst" are attacks there, and "clean"
        has `doubts`, the sentences of `rrfast.attacks.sanity` and, where an attack by gradients has
        several steps, of `rrfast.attacks.beyond_gradients`, and `r`, IRAT's of Eq. 23, as they are
        and under PGD-10; of plain adversarial training also `pictured`, what its Fig. 2 to 4 show.

    Raises:
        ImportError: matplotlib is not installed; or the package autoattack, where it is asked for.
        OSError: `out` cannot be written.
        ValueError: There is no trained model, an unknown attack or one twice, one without labels, a
            number out of range, a checkpoint that is not there, a baseline that is no training,
            data without a test split; and as `run_study`.

    Cost: 13 forwards and 10 backwards per image; of each attack for each image that is right; 100
    forwards for each image of one batch that stands the attacks by gradients.

    Source: IRAT §4, Tables 1 to 8. Its ablations of tau and of the similarity (Tables 3, 4, 7, 8)
    are the same tables of trainings with those options, called by their folders.
    """
    _check(attacks, eps, steps, curve, images, draws, batch)
    check_once("checkpoints", checkpoints)
    if checkpoints:
        trained_models = [trained.at(name) for name in checkpoints for trained in trained_models]
    names = list(dict.fromkeys(trained.training for trained in trained_models))
    if baseline is not None:
        check_one_of("baseline", baseline, names)
    asked = _Asked(tuple(attacks), eps, steps, tuple(sorted(set(curve))), images, draws, batch)
    return run_study(
        STUDY,
        trained_models,
        out,
        partial(_attacked, asked=asked),
        steps=1 + len(asked.pairs()),
        options={**asked._asdict(), "checkpoints": list(checkpoints)},
        depends={},
        asked={"attacks": list(attacks), "baseline": baseline or _baseline(names)},
        device=device,
        command=command,
        console=console,
    )


#: How many classes an attack needs, where it is more than two: its loss has so many logits, and the
#: package aims at nine wrong classes, whether there are as many or not.
CLASSES = {"apgd_dlr": 3, "apgd_t": 4, "autoattack": 4, "autoattack_package": 10}
#: Attacks that do not follow gradients to where they lead: one step of them, or Square as well.
OTHERS = ("fgsm", "square", "autoattack", "autoattack_package")


def _check(
    attacks: Sequence[str],
    eps: float,
    steps: int,
    curve: Sequence[float],
    images: int | None,
    draws: int,
    batch: int,
) -> None:
    """Raise before hours of work rather than after."""
    if not attacks:
        raise ValueError("attacks must hold at least one name, got none")
    for name in attacks:
        if name not in ATTACKS:
            raise ValueError(f"attacks must be of {', '.join(ATTACKS)}, got {name!r}")
    check_once("attacks", attacks)
    for name, value in (("eps", eps), *(("every radius of curve", r) for r in curve)):
        check_number(name, value)
    check_count("steps", steps)
    if images is not None:
        check_count("images", images)
    check_count("draws", draws, least=0)
    check_count("batch", batch)
    if "autoattack_package" in attacks:
        the_package()
    for name in attacks:
        if not made(name, eps, steps).labelled:
            raise ValueError(f"attacks must be on labels, got {name!r}")


def _baseline(names: Sequence[str]) -> str:
    """What IRAT adds its margin to, else what it is compared with, else the first."""
    return next((n for n in ("MAIL", "PGD-AT", "AT") if n in names), names[0] if names else "")


class _Asked(NamedTuple):
    """What is asked of every model."""

    attacks: tuple[str, ...]
    eps: float
    steps: int
    curve: tuple[float, ...]
    images: int | None
    draws: int
    batch: int

    def pairs(self) -> list[tuple[str, float]]:
        """Every attack with its radius, once."""
        table = [(name, self.eps) for name in self.attacks]
        return list(dict.fromkeys([*table, *(("pgd", radius) for radius in self.curve)]))


def _attacked(context: Context, asked: _Asked) -> list[dict[str, Any]]:
    """The rows of one model: clean, every attack, and the worst case of those of the table."""
    for name in asked.attacks:
        if context.task.classes < CLASSES.get(name, 2):
            raise ValueError(
                f"attacks must fit {context.task.classes} classes, and {name} needs "
                f"{CLASSES[name]}: leave it out"
            )
    test, left_out = tested_on(context.task, context.trained.checkpoint)
    part = chosen(test, asked.images)
    images = len(part.places)
    # Of a part of the test set other images were chosen than of all of it.
    n = f"{images}" if test is context.task.test else f"{images} of {length(test)}"

    def known(told: str, find: Callable[[], Tensor]) -> Tensor:
        text = context.cache.get(f"{told} {n}", lambda: packed(find()))
        context.advance()
        return unpacked(text, images)

    right = known(CLEAN, partial(correct, context.model, part, asked.batch, context.device))
    on = EvaluationData(context.model, part, right, context.trained.seed, context.device)
    signs = context.cache.get(f"signs {n}", partial(doubts, on, asked.batch))
    measure = partial(margins, on, asked.eps, asked.batch)
    found = context.cache.get(f"margins {asked.eps!r} {n}", measure)
    rows = [_row(context, CLEAN, 0.0, right, asked.draws) | {"doubts": signs, "r": found["r"]}]
    rows[0] |= {"left_out": left_out} if left_out else {}
    if context.trained.training == STANDARD:
        rows[0]["pictured"] = {name: found[name] for name in ("points", "examples")}
    worst, followed = right.clone(), right.clone()
    by_gradients = {}
    for name, eps in asked.pairs():
        attack = made(name, eps, asked.steps)
        # With its options, those that nobody gave too.
        stood = known(f"{name} {attack!r}", partial(standing, attack, on, asked.batch))
        rows.append(_row(context, name, eps, stood, asked.draws))
        if name in asked.attacks and eps == asked.eps:
            worst &= stood
            if name not in OTHERS:
                by_gradients[name] = attack
                followed &= stood
    if by_gradients:
        key = f"Square after {by_gradients} {asked.eps!r} {n}"
        square = partial(misled, on, followed, asked.eps, asked.batch)
        rows[0]["doubts"] = signs + context.cache.get(key, square)
    return [*rows, _row(context, WORST, asked.eps, worst, asked.draws)]


def _row(context: Context, name: str, eps: float, stood: Tensor, draws: int) -> dict[str, Any]:
    score = torch.zeros(len(stood))  # the accuracy needs none
    return {
        "training": context.trained.training,
        "seed": context.trained.seed,
        "split": 0,
        "checkpoint": context.trained.checkpoint,
        "best": context.trained.best,
        "attack": name,
        "eps": eps,
        "images": len(stood),
        "accuracy": accuracy(score, stood),
        "interval": interval("accuracy", score, stood, draws),
        "stood": packed(stood),
    }


STUDY = Study(
    "robust",
    lambda result: f"Accuracy under attack: {', '.join(result['data'])}",
    conventions,
    blocks,
    notes,
    figures,
    {
        **{name: at(name) for name in ("training", "seed", "checkpoint", "attack", "eps")},
        **{name: at(name) for name in ("images", "accuracy")},
        "accuracy_low": at("interval", 0),
        "accuracy_high": at("interval", 1),
    },
)
