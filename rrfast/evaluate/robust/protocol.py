"""`rrfast evaluate --protocol robust`: accuracy under attack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rrfast._checks import check_one_of
from rrfast.attacks import ATTACKS
from rrfast.attacks.autoattack_package import the_package
from rrfast.data.loader import length
from rrfast.data.splits import chosen, tested_on
from rrfast.evaluate.observations import at
from rrfast.evaluate.options import RobustOptions, with_options
from rrfast.evaluate.robust.figures import figures
from rrfast.evaluate.robust.measurements import (
    AttackedModel,
    doubts,
    made,
    margins,
    misled,
    packed,
    unpacked,
    withstands,
)
from rrfast.evaluate.robust.tables import CLEAN, WORST, blocks, conventions, notes
from rrfast.evaluate.run_numbers import interval
from rrfast.evaluate.run_study import Context, run_study
from rrfast.evaluate.scored_model import correct
from rrfast.evaluate.study import Study
from rrfast.evaluate.trained_model import TrainedModel, at_checkpoints
from rrfast.metrics import accuracy
from rrfast.objectives.variant_names import VARIANTS

#: The training that IRAT calls Standard; its Fig. 2 to 4 show it.
STANDARD = VARIANTS["pgd_at"]


@with_options(RobustOptions)
def evaluate(
    trained_models: Sequence[TrainedModel], out: Path | str, options: RobustOptions
) -> dict[str, Any]:
    """Attack the test images of every model, and write tables and numbers.

    The accuracy under an attack is the share of images that are classified correctly before and
    after it. Only correctly classified images are attacked, all of them by each attack; in the
    worst case, an image must withstand all attacks. The result of each attack is kept in out/parts
    with the images that withstood it, so that attacks, radii and models can be added.

    Args:
        trained_models: Trained models with their data, see `rrfast.evaluate.trained_models`.
        out: Folder for robust.json, robust.csv (a row per model, checkpoint and attack), robust.md
            and the figures.
        options: The fields of `rrfast.evaluate.options.RobustOptions`, as keyword arguments.

    Returns:
        What robust.json holds: as for `rrfast.evaluate.run_study.run_study`, with `attacks`,
        `baseline`, and `runs`: a row per model, checkpoint, attack and radius, with `best` (the
        criterion of the best checkpoint), `accuracy`, its `interval`, `images` and `stood` (the
        bits of `rrfast.evaluate.robust.measurements.packed`). "clean" and "worst" are attacks
        there. "clean" also has `doubts` (the sentences of `rrfast.attacks.sanity` and, if an attack
        by gradients has several steps, of `rrfast.attacks.beyond_gradients`) and `r` (of IRAT's
        Eq. 23, before and under PGD-10); for plain adversarial training also `pictured`, the points
        of IRAT's Fig. 2 to 4.

    Raises:
        ImportError: The package autoattack is requested and not installed.
        TypeError, ValueError: As for the options; there is no trained model, an attack is unknown
            or without labels, a checkpoint is missing, the baseline is not one of the trainings, or
            data has no test split; and all errors of `run_study`.

    Cost: 13 forwards and 10 backwards per image; each attack for each correctly classified image;
    100 forwards for each image of one batch that withstands the attacks by gradients.

    Source: IRAT §4, Tables 1 to 8. Its ablations of tau and of the similarity (Tables 3, 4, 7, 8)
    are the same tables for trainings with those options, named by their folders.
    """
    attacks, baseline = options.attacks, options.baseline
    for name in attacks:
        check_one_of("attacks", name, ATTACKS)
    if "autoattack_package" in attacks:
        the_package()
    for name in attacks:
        if not made(name, options.eps, options.steps).labelled:
            raise ValueError(f"attacks must use labels, got {name!r}")
    trained_models = at_checkpoints(trained_models, options.checkpoints)
    names = list(dict.fromkeys(trained.training for trained in trained_models))
    if baseline is not None:
        check_one_of("baseline", baseline, names)
    # MAIL, which IRAT adds its margin to, else adversarial training, else the first.
    preferred = (name for name in ("MAIL", "PGD-AT", "AT", *names) if name in names)
    return run_study(
        STUDY,
        trained_models,
        out,
        partial(_attacked, options=options),
        options,
        steps=1 + len(_pairs(options)),
        depends={},
        entries={"attacks": list(attacks), "baseline": baseline or next(preferred, "")},
    )


#: The number of classes an attack needs, if more than two: its loss uses that many logits, and the
#: package targets nine wrong classes, whether or not there are as many.
CLASSES = {"apgd_dlr": 3, "apgd_t": 4, "autoattack": 4, "autoattack_package": 10}
#: Attacks that do not follow gradients over several steps, or that also run Square.
OTHERS = ("fgsm", "square", "autoattack", "autoattack_package")


def _pairs(options: RobustOptions) -> list[tuple[str, float]]:
    """Every attack with its radius, once."""
    table = [(name, options.eps) for name in options.attacks]
    return list(dict.fromkeys([*table, *(("pgd", radius) for radius in sorted(options.curve))]))


def _attacked(context: Context, options: RobustOptions) -> list[dict[str, Any]]:
    """The rows of one model: clean, every attack, and the worst case over the table's attacks."""
    for name in options.attacks:
        if context.task.classes < CLASSES.get(name, 2):
            raise ValueError(
                f"attacks must fit {context.task.classes} classes, and {name} needs "
                f"{CLASSES[name]}: leave it out"
            )
    test, left_out = tested_on(context.task, context.trained.checkpoint)
    part = chosen(test, options.images)
    images = len(part.indices)
    # The images chosen from a part of the test set differ from those chosen from all of it.
    n = f"{images}" if test is context.task.test else f"{images} of {length(test)}"

    def known(told: str, find: Callable[..., Tensor], *arguments: Any) -> Tensor:
        return unpacked(context.step(f"{told} {n}", lambda: packed(find(*arguments))), images)

    batches = part.batches(options.batch, context.device)
    right = known(CLEAN, correct, context.model, batches)
    eps, batch = options.eps, options.batch
    on = AttackedModel(context.model, part, right, context.trained.seed, context.device)
    signs = context.cache.get(f"signs {n}", doubts, on, batch)
    found = context.cache.get(f"margins {eps!r} {n}", margins, on, eps, batch)
    rows = [_row(context, CLEAN, 0.0, right, options.draws) | {"doubts": signs, "r": found["r"]}]
    rows[0] |= {"left_out": left_out} if left_out else {}
    if context.trained.training == STANDARD:
        rows[0]["pictured"] = {name: found[name] for name in ("points", "examples")}
    worst, followed = right.clone(), right.clone()
    by_gradients = {}
    for name, radius in _pairs(options):
        attack = made(name, radius, options.steps)
        # With all of its options, defaults included.
        stood = known(f"{name} {attack!r}", withstands, attack, on, batch)
        rows.append(_row(context, name, radius, stood, options.draws))
        if name in options.attacks and radius == eps:
            worst &= stood
            if name not in OTHERS:
                by_gradients[name] = attack
                followed &= stood
    if by_gradients:
        key = f"Square after {by_gradients} {eps!r} {n}"
        square = context.cache.get(key, misled, on, followed, eps, batch)
        rows[0]["doubts"] = signs + square
    return [*rows, _row(context, WORST, eps, worst, options.draws)]


def _row(context: Context, name: str, eps: float, stood: Tensor, draws: int) -> dict[str, Any]:
    score = torch.zeros(len(stood))  # the accuracy does not use it
    return {
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
