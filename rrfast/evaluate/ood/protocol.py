"""`rrfast evaluate --protocol ood`: out-of-distribution detection (ODIN, ACET)."""

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

#: Sets of scores by name: those of ODIN's Table 2, and those that take only a few passes.
SETS = {
    "paper": ("msr", "odin"),
    "quick": (
        *("msr", "odin", "max_logit", "margin", "entropy", "energy"),
        *("radius_grad", "radius_fast"),
    ),
    "all": MISD_SETS["all"],
}
#: Test sets: all that need no file. The last two, ACET's, depend on the model.
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
    """Tune every score on one out-of-distribution set, test it on others, and write the results.

    Temperature and step are chosen by FPR at 95 % TPR on the validation split and a set that is not
    used for the tables. Finished parts are kept in out/parts and reused: more scores, sets or
    models can be added, and an interrupted run continues.

    Args:
        trained_models: Trained models with their data, see `rrfast.evaluate.trained_models`.
        out: Folder for ood.json, ood.csv (a row per model, score and set), ood.md and the figures.
        against: Names of sets, see `rrfast.evaluate.ood.OUTSIDE`: "gaussian", "uniform",
            "textures", "noise" (ACET's), "adversarial_noise" and "adversarial_samples" (with eps
            0.3 and 0.1, or another after a colon), "photos_crop", "photos_resize", "crop:FOLDER",
            "resize:FOLDER", "task:NAME KEY=VALUE".
        validation: The set for tuning, not one of `against`.
        scores: Names as for `rrfast.scores.score_named`. ODIN is tuned over its paper's grid,
            others over their own.
        images: Number of test images, and of images of each set (or all, if a set has fewer). None:
            all test images, as in the papers (10,000 of CIFAR). This includes images of the test
            set that were used for validation, although T, eps and fitted matrices were chosen on
            them as in-distribution images; for best weights, which were chosen on them as well,
            they are left out. With a number they are left out too. The table says which. The images
            for tuning do not depend on `images`.
        transfer: Also tune ODIN on every set in turn (Table 3), on separate draws.
        diagnostics: Also compute the diagnostics of ODIN §4.4, §5 and App. F: logits, gradients and
            distances, and, if ODIN is among the scores, ODIN at fixed T and eps; and the factors by
            which noise has to be scaled up (ACET Table 2).
        trials: Number of noise images to scale up.
        draws: Number of bootstrap draws for the intervals; 0 for none.
        batch: Images per forward.
        every_run: Whether rows keep the curves of every run, of which figures draw the means, or
            the first seed: with many sets and scores these are megabytes.
        device: Default CUDA if available.
        command: The command that the results name as their origin.
        console: Where to print; default standard output.

    Returns:
        What ood.json holds: `command`, `date`, `device`, `versions`, `options`, `data`, `scores`,
        `against`, `validation`, and `runs` (None for NaN): rows of each model, by `kind`:

        * "score": a score on a set, as from `appraisal.tuned` and `appraisal.apart`;
        * "inside": a score on the test images, as from `appraisal.within`;
        * "tuning": a score on the validation set, the `table` of `appraisal.tuned`;
        * "effect": ODIN at fixed points on a set, as from `effects.effects`, with `diagnostics`;
          `step`: the best point on the validation set at T = 1000;
        * "set": a set, including "inside", its `images`, and the entries of `appraisal.sure` and
          `diagnosis`;
        * "scaling": uniform noise, as from `scaled_noise.scaled`, with `diagnostics`;
        * "transfer": ODIN on a `set`, `tuned` on another: `fpr`, and `baseline`, that of MSR.

        What only figures show is in `curves` instead, as `rrfast.evaluate.ood.curves` says it,
        unless `every_run`.

    Raises:
        ImportError: matplotlib is not installed; or scikit-learn or Pillow, if a set needs them.
        OSError: `out` cannot be written.
        ValueError: There is no trained model, score or set; one is unknown or repeated; the set for
            tuning is also tested on; `transfer` without ODIN; `draws` is not an integer of at least
            0, `batch` or `trials` of at least 1, `images` from 2 to the number of test images; data
            without a validation or a test split; a set without an image, or of the model's own
            data; a model with NaN on the images for tuning.

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
        # The rest is in the names of the parts. The noise of an attack depends on the batch size,
        # and on the numbers of its random streams, which differed in earlier versions.
        depends={"batch": batch, "streams": [int(Stream.OUTSIDE_TUNED), int(Stream.SCALED_NOISE)]},
        asked=entries,
        every_run=every_run,
        device=device,
        command=command,
        console=console,
    )


def _check(scores: Sequence[str], against: Sequence[str], validation: str, transfer: bool) -> None:
    """Check the options before hours of work."""
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
                f"validation must be another set than those of against, and {name} is both: "
                "hyper-parameters must not be chosen on a set that they are tested on"
            )
    if transfer and "odin" not in scores:
        raise ValueError("transfer must have odin among the scores: it is the score that is tuned")


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
