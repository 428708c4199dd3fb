"""`rrfast evaluate --protocol distal`: confidence on noise, and on errors under attack."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from rrfast._results import for_json
from rrfast.data.splits import chosen, divide
from rrfast.evaluate.cache import packed, unpacked
from rrfast.evaluate.distal.figures import figures
from rrfast.evaluate.distal.measurements import (
    Confidences,
    attacked,
    evaluate_model,
    noise,
    unattacked,
)
from rrfast.evaluate.distal.tables import ATTACKED, NOISE, blocks, conventions, notes
from rrfast.evaluate.observations import at
from rrfast.evaluate.options import DistalOptions, with_options
from rrfast.evaluate.run_study import Context, run_study
from rrfast.evaluate.study import Study
from rrfast.evaluate.trained_model import TrainedModel, at_checkpoints

#: Kinds of noise to attack.
KINDS = ("uniform", "smoothed")
ATTACK_KINDS = ("ce", "other")


@with_options(DistalOptions)
def evaluate(
    trained_models: Sequence[TrainedModel], out: Path | str, options: DistalOptions
) -> dict[str, Any]:
    """Measure every model's confidence on noise and on attacked images, and write the results.

    The confidence is MSR, as log-odds. The threshold accepts a share `keep_correct` of the right
    predictions of the validation split; that split is used for nothing else. For noise: the share
    of accepted images, unchanged and as distal examples, and how well they are distinguished from
    the test split. For test images: the error rate among the accepted ones, before and after CCAT's
    attacks on the cross-entropy and on the best wrong class. The results of the attacks are kept in
    out/parts.

    Args:
        trained_models: Trained models with their data, see `rrfast.evaluate.trained_models`.
        out: Folder for distal.json, distal.csv (a row per model), distal.md and the figures.
        options: The fields of `rrfast.evaluate.options.DistalOptions`, as keyword arguments.

    Returns:
        What distal.json holds: as for `rrfast.evaluate.run_study.run_study`, with `runs`: a row per
            model, as from `rrfast.evaluate.distal.measurements.evaluate_model`, None for NaN.

    Raises:
        TypeError, ValueError: As for the options; there is no trained model, a checkpoint is
            missing, or data has no test or no validation split; and all errors of `run_study`.

    Cost: 1 forward per image of the validation and the test split; `Distal` on 2 `noise` images;
    the two attacks on `images`.

    Source: The distal article; Stutz et al. (2020), §5; errata 21.
    """
    return run_study(
        STUDY,
        at_checkpoints(trained_models, options.checkpoints),
        out,
        partial(_evaluated, options=options),
        options,
        steps=len(KINDS) + len(ATTACK_KINDS),
        depends={},
    )


def _evaluated(context: Context, options: DistalOptions) -> list[dict[str, Any]]:
    """The row of one model."""
    [division] = divide(context.task, "heldout", context.trained.seed)
    model, device, seed = context.model, context.device, context.trained.seed
    part = chosen(division.test.data, options.images)
    shape = next(iter(division.test.batches(1, device)))[0].shape[1:]
    strength = f"eps {options.eps!r}, {options.steps} steps, {options.restarts} restarts"

    def known(key: str, make: Callable[..., Iterable[Tensor]], *arguments: Any) -> list[Tensor]:
        kept = context.step(f"{key}, {strength}", lambda: [*map(packed, make(*arguments))])
        return [*map(unpacked, kept)]

    noises: dict[str, Tensor] = {}
    whose = " article" * (options.distal_attack == "article")
    for kind in KINDS:
        pair = known(f"{kind} {options.noise}{whose}", noise, model, kind, shape, options)
        noises |= zip((kind, f"distal {kind}"), pair, strict=True)
    attacks = {}
    for name in ATTACK_KINDS:
        how = model, name, part, options, seed, device
        odds, right = known(f"{name} {len(part.indices)}", attacked, *how)
        attacks[name] = Confidences(odds, right.bool())
    held, test, clean = (
        unattacked(model, p, options, device) for p in (division.validation, division.test, part)
    )
    said = evaluate_model(held, test, clean, attacks, noises, options)
    who = {"checkpoint": context.trained.checkpoint, "images": len(part.indices)}
    return [who | for_json(said)]


STUDY = Study(
    "distal",
    lambda result: f"Distal examples: {', '.join(result['data'])}",
    conventions,
    blocks,
    notes,
    figures,
    {
        **{name: at(name) for name in ("training", "seed", "checkpoint", "images")},
        **{name: at(name) for name in ("probability", "accepted", "mean")},
        **{
            f"{name} {number}".replace(" ", "_"): at(kind, name, number)
            for kind, names, numbers in (
                ("noise", NOISE, ("fpr", "auroc", "mean")),
                ("errors", ATTACKED, ("robust", "thresholded")),
            )
            for name in names
            for number in numbers
        },
    },
)
