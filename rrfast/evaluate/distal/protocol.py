"""`rrfast evaluate --protocol distal`: how sure models are of noise, and of errors under attack."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from rrfast._checks import check_count, check_number, check_once, check_one_of
from rrfast._results import plain
from rrfast.attacks import DISTAL
from rrfast.data.splits import chosen, divide
from rrfast.evaluate.distal.appraisal import (
    Confidences,
    Options,
    asked,
    attacked,
    evaluate_model,
    noise,
)
from rrfast.evaluate.distal.figures import figures
from rrfast.evaluate.distal.tables import ATTACKED, NOISE, blocks, conventions, notes
from rrfast.evaluate.observations import at
from rrfast.evaluate.study import Context, Study, run_study
from rrfast.evaluate.trained_model import TrainedModel

#: Noise that is attacked.
KINDS = ("uniform", "smoothed")
ATTACKS = ("ce", "other")


def evaluate(
    trained_models: Sequence[TrainedModel],
    out: Path | str,
    *,
    eps: float = 0.03,
    steps: int = 40,
    restarts: int = 1,
    noise: int = 1000,
    images: int | None = 1000,
    keep_correct: float = 0.99,
    checkpoints: Sequence[str] = (),
    draws: int = 1000,
    batch: int = 500,
    distal_attack: str = "rrfast",
    device: torch.device | str | None = None,
    command: str = "",
    console: Console | None = None,
) -> dict[str, Any]:
    """Ask every model how sure it is of noise and of attacked images, and write what it says.

    The confidence is MSR, as log-odds. The threshold lets `keep_correct` of the right predictions
    of the validation split pass, and no number is of that split. On noise: the share of images that
    pass, as they are and as distal examples, and how well they are told from the test split. On
    test images: the error rate among what passes, as they are and after CCAT's attacks on the
    cross-entropy and on the best wrong class. What the attacks found is kept in out/parts.

    Args:
        trained_models: Trained models with their data, see `rrfast.evaluate.trained_models`.
        out: Folder for distal.json, distal.csv (a row per model), distal.md and the figures.
        eps: Radius of all attacks, in units of the inputs in [0, 1]; ACET also has 0.3.
        steps: Of all attacks. CCAT tests with 1000, and 200 on the cross-entropy.
        restarts: Of all attacks, beside the input itself. CCAT tests with 10, and 50 on the
            cross-entropy.
        noise: Noise images of each kind, uniform and smoothed: the same for all models.
        images: How many test images are attacked, chosen at random; None for all.
        keep_correct: In (0, 1].
        checkpoints: As of `rrfast.evaluate.robust.evaluate`.
        draws: Of the bootstrap for the intervals of single runs; 0 for none.
        batch: Images at once. The draws of an attack depend on it, but what is kept is used again.
        distal_attack: "rrfast", or "article": on noise the 10 steps of its code and its smoothing,
            whatever `steps` is, see `rrfast.attacks.DISTAL`.
        device: Default CUDA where there is some.
        command: What the results are to say made them.
        console: Where to print; default standard output.

    Returns:
        What distal.json holds: as `rrfast.evaluate.study.run_study`, with `runs`: a row per model,
        as `rrfast.evaluate.distal.appraisal.evaluate_model` says it, None for NaN.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: `out` cannot be written.
        ValueError: There is no trained model, a number is out of range, a checkpoint is not there,
            data have no test split or none to validate on; and as `run_study`.

    Cost: 1 forward per image of the validation and the test split; of `Distal` for 2 `noise`
    images; of the two attacks for `images`.

    Source: The distal article; Stutz et al. (2020), §5; errata 21.
    """
    options = Options(
        eps, steps, restarts, noise, images, keep_correct, draws, batch, distal_attack
    )
    _check(options)
    check_once("checkpoints", checkpoints)
    if checkpoints:
        trained_models = [trained.at(name) for name in checkpoints for trained in trained_models]
    return run_study(
        STUDY,
        trained_models,
        out,
        partial(_evaluated, options=options),
        steps=len(KINDS) + len(ATTACKS),
        options={**asdict(options), "checkpoints": list(checkpoints)},
        depends={},
        device=device,
        command=command,
        console=console,
    )


def _check(options: Options) -> None:
    """Raise before hours of work rather than after."""
    check_number("eps", options.eps)
    check_one_of("distal_attack", options.distal_attack, DISTAL)
    for name in ("steps", "restarts", "noise", "batch"):
        check_count(name, getattr(options, name))
    if options.images is not None:
        check_count("images", options.images)
    if not 0 < options.keep_correct <= 1:
        raise ValueError(
            f"keep_correct must be above 0 and at most 1, got {options.keep_correct!r}"
        )
    check_count("draws", options.draws, least=0)


def _evaluated(context: Context, options: Options) -> list[dict[str, Any]]:
    """The row of one model."""
    [division] = divide(context.task, "heldout", context.trained.seed)
    model, device, seed = context.model, context.device, context.trained.seed
    part = chosen(division.test.data, options.images)
    shape = next(division.test.batches(1, device))[0].shape[1:]
    strength = f"{options.eps!r} {options.steps} {options.restarts}"

    def known(key: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        found = context.cache.get(f"{key} {strength}", lambda: _listed(make()))
        context.advance()
        return {name: _tensor(values) for name, values in found.items()}

    def after(name: str) -> dict[str, Tensor]:
        return attacked(model, name, part, options, seed, device)._asdict()

    noises: dict[str, Tensor] = {}
    for kind in KINDS:
        make = partial(noise, model, kind, shape, options)
        whose = " article" * (options.distal_attack == "article")
        found = known(f"{kind} {options.noise}{whose}", make)
        noises |= {kind: found["before"], f"distal {kind}": found["after"]}
    attacks = {}
    for name in ATTACKS:
        pair = known(f"{name} {len(part.places)}", partial(after, name))
        attacks[name] = Confidences(pair["odds"], pair["right"].bool())
    held, test, clean = (
        asked(model, p, options, device) for p in (division.validation, division.test, part)
    )
    said = evaluate_model(held, test, clean, attacks, noises, options)
    return [
        {
            "training": context.trained.training,
            "seed": seed,
            "split": 0,
            "checkpoint": context.trained.checkpoint,
            "images": len(part.places),
            **plain(said),
        }
    ]


def _listed(found: dict[str, Tensor]) -> dict[str, list[float]]:
    """For JSON, which has no infinity: the largest number is as confident as it gets."""
    return {
        name: values.double().nan_to_num(nan=math.nan).tolist() for name, values in found.items()
    }


def _tensor(values: Sequence[float | None]) -> Tensor:
    return torch.tensor([math.nan if v is None else v for v in values], dtype=torch.float64)


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
