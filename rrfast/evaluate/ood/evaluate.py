"""`rrfast evaluate --protocol ood`: out-of-distribution detection (ODIN, ACET)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from torch import Tensor

from rrfast._checks import check_count, check_once
from rrfast._seeds import Stream
from rrfast._tables import settings
from rrfast.evaluate.cache import Cache, of_score
from rrfast.evaluate.misd import SETS as MISD_SETS
from rrfast.evaluate.observations import at, ends
from rrfast.evaluate.ood.appraisal import (
    METRICS,
    EvaluationData,
    apart,
    sure,
    transferred,
    tuned,
    within,
)
from rrfast.evaluate.ood.curves import curves, short
from rrfast.evaluate.ood.diagnosis import diagnose, distances
from rrfast.evaluate.ood.effects import best_step, effect_points, effects
from rrfast.evaluate.ood.figures import figures
from rrfast.evaluate.ood.outside import OUTSIDE, is_collection, is_own, known
from rrfast.evaluate.ood.scaled_noise import TRIALS, scaled
from rrfast.evaluate.ood.tables import blocks, conventions, notes
from rrfast.evaluate.study import Context, Study, run_study
from rrfast.evaluate.trained_model import TrainedModel
from rrfast.scores.registry import score_named
from rrfast.scores.score import Point

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
    asked = _Asked(
        tuple(scores),
        tuple(against),
        validation,
        images,
        transfer,
        diagnostics,
        trials,
        draws,
        batch,
    )
    return run_study(
        STUDY,
        trained_models,
        out,
        partial(_evaluated, asked=asked),
        steps=(len(scores) + 1) * (len(against) + 1)
        + transfer * (2 * len(against) + 1)
        + (diagnostics and "odin" in scores) * len(against),
        # The others are entries of their own.
        options=dict(list(asked._asdict().items())[3:]),
        # The rest is in the names of the parts. The noise of an attack depends on the batch size,
        # and on the numbers of its random streams, which differed in earlier versions.
        depends={"batch": batch, "streams": [int(Stream.OUTSIDE_TUNED), int(Stream.SCALED_NOISE)]},
        asked={"scores": list(scores), "against": list(against), "validation": validation},
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


class _Asked(NamedTuple):
    """Options that are the same for every model."""

    scores: tuple[str, ...]
    against: tuple[str, ...]
    validation: str
    images: int | None
    transfer: bool
    diagnostics: bool
    trials: int
    draws: int
    batch: int


# -------------------------------------------------------------------------------------- one model


def _evaluated(context: Context, asked: _Asked) -> list[dict[str, Any]]:
    """The rows of one model."""
    trained, cache = context.trained, context.cache
    on = EvaluationData(
        context.model,
        context.task,
        trained.seed,
        asked.images,
        asked.batch,
        context.device,
        trained.checkpoint,
    )
    _check_known(trained.data, on, asked)
    who = {
        "training": trained.training,
        "outliers": trained.outliers,
        "seed": trained.seed,
        "split": 0,
    }
    rows: list[dict[str, Any]] = []
    chosen, tables = {}, {}
    for score in asked.scores:
        found = _tuned(score, asked.validation, on, cache)
        chosen[score] = {key: found[key] for key in ("hyperparameters", "validation_fpr")}
        tables[score] = found["table"]
        point = found["hyperparameters"]
        key = f"{of_score(score)} {point}, {on.images} images: inside"
        said = cache.get(key, partial(within, score, point, on))
        held = {
            "shared": on.shared,
            "left_out": on.left_out,
            "checkpoint": trained.checkpoint,
        }
        inside = {**who, "kind": "inside", "score": score, "set": "inside", **held}
        rows.append(inside | chosen[score] | said)
        if point:
            where = {"kind": "tuning", "score": score, "set": asked.validation}
            rows.append({**who, **where, "table": tables[score]})
        context.advance()
    everywhere = {}
    for name in (asked.validation, *asked.against) if asked.transfer else ():
        everywhere[name] = _tuned("odin", name, on, cache)["hyperparameters"]
        context.advance()
    for set_name in (None, *asked.against):
        said = _set(set_name, on, cache, asked.diagnostics)
        images = sum(said["confidences"]) + said["nan"]  # those whose confidence is no number
        rows.append({**who, "kind": "set", "set": set_name or "inside", "images": images} | said)
        context.advance()
        if set_name is None:
            continue
        for score in asked.scores:
            point = chosen[score]["hyperparameters"]
            said = _apart(score, point, set_name, on, cache, asked.draws)
            rows.append(
                {**who, "kind": "score", "score": score, "set": set_name} | chosen[score] | said
            )
            context.advance()
        if asked.transfer:
            each = _transferred(set_name, everywhere, on, cache)
            rows += [{**who, "kind": "transfer"} | row for row in each]
            context.advance()
        if asked.diagnostics and "odin" in asked.scores:
            said = _effects(set_name, on, cache)
            where = {"kind": "effect", "score": "odin", "set": set_name}
            rows.append({**who, **where, "step": best_step(tables["odin"])} | said)
            context.advance()
    if asked.diagnostics:
        key = f"{asked.trials} images of uniform noise scaled up"
        rows.append({**who, "kind": "scaling"} | cache.get(key, partial(scaled, on, asked.trials)))
    return rows


def _check_known(data: str, on: EvaluationData, asked: _Asked) -> None:
    """Raise if a set for tuning or testing is the model's own data."""
    own = on.task.undivided().test
    assert own is not None  # checked by `divide`
    for role, names in (("validation", (asked.validation,)), ("against", asked.against)):
        for name in names:
            if is_own(name, data, own):
                raise ValueError(
                    f"{role} must be other data than the model's own, {data}, got {name!r}"
                )


def _tuned(score: str, validation: str, on: EvaluationData, cache: Cache) -> dict[str, Any]:
    key = f"{of_score(score)}: every point on {_told(validation, on)}"
    if is_collection(validation):
        key += f", {on.to_tune_on(validation)} images"
    try:
        found: dict[str, Any] = cache.get(key, partial(tuned, score, validation, on))
    except ValueError as error:
        raise ValueError(
            f"{score} cannot be tuned on the validation split against {validation}: {error}. "
            "Leave this model out: the finished parts of the others are reused"
        ) from error
    return found


def _apart(
    score: str, point: Point, name: str, on: EvaluationData, cache: Cache, draws: int
) -> dict[str, Any]:
    images = f"{on.images} images: against {_told(name, on)}"
    # With the names of the metrics, since an older part may lack one of them.
    key = f"{of_score(score)} {point}, {images}, {draws} draws: {', '.join(METRICS)}"
    return cache.get(key, partial(apart, score, point, name, on, draws))  # type: ignore[no-any-return]


def _effects(name: str, on: EvaluationData, cache: Cache) -> dict[str, Any]:
    points = effect_points(on.points("odin"))
    key = f"{of_score('odin')} at {len(points)} points, {on.images} images: effects against"
    said: dict[str, Any] = cache.get(f"{key} {_told(name, on)}", partial(effects, name, points, on))
    return said


def _set(name: str | None, on: EvaluationData, cache: Cache, diagnostics: bool) -> dict[str, Any]:
    """Numbers on a set that do not depend on the score; None for the test images."""
    key = f"{'inside' if name is None else _told(name, on)}, {on.images} images"
    said: dict[str, Any] = cache.get(f"{key}: how sure", partial(sure, name, on))
    if not diagnostics:
        return said
    said = said | {
        "diagnostics": cache.get(
            f"{key}: diagnostics and outputs", lambda: diagnose(on.model, _images(name, on))
        )
    }
    if name is None:
        return said

    def far() -> dict[str, float]:
        return distances(torch.cat(list(_images(None, on))), on.to_test(name).to(on.device))

    return said | {"distances": cache.get(f"{key}: distances", far)}


def _images(name: str | None, on: EvaluationData) -> Iterator[Tensor]:
    """The test images, or those of a set, batch by batch, on the device."""
    if name is None:
        return (x for x, _ in on.division.test.batches(on.batch, on.device))
    return (x.to(on.device) for x in on.to_test(name).split(on.batch))


def _transferred(
    name: str, chosen: dict[str, Point], on: EvaluationData, cache: Cache
) -> Iterator[dict[str, Any]]:
    """ODIN Table 3: ODIN on a set, tuned on each of the others."""
    keys = {
        str(point): f"{of_score('odin')} {point}, {on.images} images: FPR against {_told(name, on)}"
        for point in chosen.values()
    }
    # Most sets choose among few points, so each point is computed once.
    missing = {str(p): p for p in chosen.values() if not cache.has(keys[str(p)])}
    if missing:
        found = transferred([*missing.values()], name, on)
        cache.put({keys[p]: fpr for p, fpr in zip(missing, found, strict=True)})
    baseline = _set(name, on, cache, diagnostics=False)["fpr"]
    for other, point in chosen.items():
        if other != name:
            yield {
                "score": "odin",
                "tuned": other,
                "set": name,
                "hyperparameters": point,
                "fpr": cache.get(keys[str(point)]),
                "baseline": baseline,
            }


def _told(name: str, on: EvaluationData) -> str:
    """A set with everything that its name leaves out: the full path of a folder, the default eps.

    Also its content, if it is not generated; and the training images, since noise is made from them
    and no other part of the key names them.
    """
    kind, argument = known(name)
    stamp = OUTSIDE[kind].stamp(argument)
    return f"{kind if argument is None else f'{kind}:{argument}'} {stamp} beside {on.trained_on}"


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
