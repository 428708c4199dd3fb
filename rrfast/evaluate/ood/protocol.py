"""`rrfast evaluate --protocol ood`: what a model knows from what it does not (ODIN, ACET)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from rrfast._checks import check_count, check_once
from rrfast._seeds import Stream
from rrfast._tables import settings
from rrfast.evaluate.misd import SETS as MISD_SETS
from rrfast.evaluate.observations import at, ends
from rrfast.evaluate.ood.appraisal import METRICS
from rrfast.evaluate.ood.curves import curves, short
from rrfast.evaluate.ood.figures import figures
from rrfast.evaluate.ood.outside import known
from rrfast.evaluate.ood.rows import Asked, rows_of
from rrfast.evaluate.ood.scaled_noise import TRIALS
from rrfast.evaluate.ood.tables import blocks, conventions, notes
from rrfast.evaluate.study import Study, run_study
from rrfast.evaluate.trained_model import TrainedModel
from rrfast.scores.registry import score_named

#: Sets of scores by name: ODIN's Table 2; and those that few passes give.
SETS = {
    "paper": ("msr", "odin"),
    "quick": (
        *("msr", "odin", "max_logit", "margin", "entropy", "energy"),
        *("radius_grad", "radius_fast"),
    ),
    "all": MISD_SETS["all"],
}
#: What is tested against: all that needs no file. ACET's last two know the model.
AGAINST = (
    *("gaussian", "uniform", "photos_crop", "photos_resize"),
    *("noise", "adversarial_noise", "adversarial_samples"),
)


def evaluate(
    trained_models: Sequence[TrainedModel],
    out: Path | str,
    *,
    against: Sequence[str] = AGAINST,
    validation: str = "textures",
    scores: Sequence[str] = SETS["quick"],
    images: int | None = None,
    transfer: bool = False,
    diagnostics: bool = True,
    trials: int = TRIALS,
    draws: int = 1000,
    batch: int = 500,
    every_run: bool = False,
    device: torch.device | str | None = None,
    command: str = "",
    console: Console | None = None,
) -> dict[str, Any]:
    """Tune every score against one out-distribution, hold it against others, and write it down.

    Temperature and step are chosen by FPR at 95 % TPR, the validation split against a set that no
    number of the tables comes from. What is done is kept in out/parts, and is not done again: more
    scores, sets or models can be added, and a run that was stopped goes on.

    Args:
        trained_models: Trained models with their data, see `rrfast.evaluate.trained_models`.
        out: Folder for ood.json, ood.csv (a row per model, score and set), ood.md and the figures.
        against: Names of sets, see `rrfast.evaluate.ood.OUTSIDE`: "gaussian", "uniform",
            "textures", "noise" (ACET's), "adversarial_noise" and "adversarial_samples" (of eps 0.3
            and 0.1, another one behind a colon), "photos_crop", "photos_resize", "crop:FOLDER",
            "resize:FOLDER", "task:NAME KEY=VALUE".
        validation: The set that is tuned on, none of `against`.
        scores: Names as of `rrfast.scores.score_named`. ODIN is tuned over its paper's grid, others
            over their own.
        images: Test images, and images of each set, or as many as a set has; None: all test images,
            of CIFAR 10,000, as the papers have it. Those that were held out of the test set to
            validate on are of it too, though T, eps and what is fitted were chosen on them as the
            inside; but not where best weights are asked, which were chosen on them as well. With a
            number they are not. The table says which. What is tuned on is the same whatever
            `images`.
        transfer: Also ODIN tuned on every set in turn (Table 3), on draws of their own.
        diagnostics: Also what ODIN §4.4, §5 and App. F look at: logits, gradients and distances,
            and ODIN, where it is among the scores, at fixed T and eps; and how far noise has to be
            scaled up (ACET Table 2).
        trials: Noise images that are scaled up.
        draws: Of the bootstrap for the intervals; 0 for none.
        batch: Images per forward.
        every_run: Whether rows keep the curves of every run, of which figures draw the means, or
            the first seed: with many sets and scores these are megabytes.
        device: Default CUDA where there is some.
        command: What the results are to say made them.
        console: Where to print; default standard output.

    Returns:
        What ood.json holds: `command`, `date`, `device`, `versions`, `options`, `data`, `scores`,
        `against`, `validation`, and `runs`, None for NaN: rows of each model with `kind`

        * "score": a score on a set, as `appraisal.tuned` and `appraisal.apart` say it;
        * "inside": a score on the test images, as `appraisal.within`;
        * "tuning": a score on the validation set, the `table` of `appraisal.tuned`;
        * "effect": ODIN at fixed points on a set, as `effects.effects`, with `diagnostics`; `step`:
          the point that is best on the validation set at T = 1000;
        * "set": a set, and "inside" as one, its `images`, and what `appraisal.sure` and `diagnosis`
          say of it;
        * "scaling": uniform noise, as `scaled_noise.scaled`, with `diagnostics`;
        * "transfer": ODIN on a `set`, `tuned` on another: `fpr`, and `baseline`, that of MSR.

        What only figures show is in `curves` instead, as `rrfast.evaluate.ood.curves` says it,
        unless `every_run`.

    Raises:
        ImportError: matplotlib is not installed; scikit-learn or Pillow, where a set needs them.
        OSError: `out` cannot be written.
        ValueError: There is no trained model, score or set; an unknown one, or one twice; a set
            that is tuned on too; `transfer` without ODIN; `draws` is no integer from 0 on, `batch`
            or `trials` from 1 on, `images` from 2 to the number of test images; data without a
            validation or a test split; a set without an image, or of the model's own data; a model
            that is NaN on the images that every score is tuned on.

    Source: ODIN (Liang et al. 2018) §4, §5, App. A, E, F; ACET (Hein et al. 2019) Table 1, App. F
    to H; errata 19, 20.
    """
    _check(scores, against, validation, transfer)
    check_count("draws", draws, least=0)
    check_count("batch", batch)
    check_count("trials", trials)
    if images is not None:
        check_count("images", images, least=2)
    asked = Asked(
        scores=tuple(scores),
        against=tuple(against),
        validation=validation,
        images=images,
        transfer=transfer,
        diagnostics=diagnostics,
        trials=trials,
        draws=draws,
        batch=batch,
    )
    entries = {"scores": list(scores), "against": list(against), "validation": validation}
    return run_study(
        STUDY,
        trained_models,
        out,
        partial(rows_of, asked=asked),
        steps=asked.steps,
        options={name: value for name, value in asked._asdict().items() if name not in entries},
        # The rest is in the names of the parts. How noise is drawn for an attack goes by batches,
        # and by the numbers of its streams, which have not always been these.
        depends={"batch": batch, "streams": [int(Stream.OUTSIDE_TUNED), int(Stream.SCALED_NOISE)]},
        asked=entries,
        every_run=every_run,
        device=device,
        command=command,
        console=console,
    )


def _check(scores: Sequence[str], against: Sequence[str], validation: str, transfer: bool) -> None:
    """Raise before hours of work rather than after."""
    for name, values in (("scores", scores), ("against", against)):
        if not values:
            raise ValueError(f"{name} must hold at least one name, got none")
        check_once(name, values)
    for score in scores:
        score_named(score)
    tuned_on = known(validation, "validation")
    sets = [known(name) for name in against]
    for name, one in zip(against, sets, strict=True):
        if sets.count(one) > 1:
            raise ValueError(f"against must name each set once, and {name} is there twice")
    for name in against:
        if known(name) == tuned_on:
            raise ValueError(
                f"validation must be another set than those of against, and {name} is both: what "
                "is chosen on a set says nothing when it is tested on it"
            )
    if transfer and "odin" not in scores:
        raise ValueError("transfer must come with odin among the scores, as it is what is tuned")


STUDY = Study(
    "ood",
    lambda result: f"Out-of-distribution detection: {', '.join(result['data'])}",
    conventions,
    blocks,
    notes,
    figures,
    {
        **{name: at(name) for name in ("training", "seed", "score", "set")},
        "hyperparameters": lambda row: settings(row["hyperparameters"]),
        **{name: at(name) for name in ("validation_fpr", "nan", "mean_outside", *METRICS)},
        **ends(METRICS, "intervals"),
    },
    {"kind": "score"},
    curves,
    short,
)
