"""`rrfast evaluate --protocol ood`: out-of-distribution detection (ODIN, ACET)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rrfast._processes import once
from rrfast._seeds import Stream
from rrfast._tables import settings
from rrfast.evaluate.cache import of_score
from rrfast.evaluate.misd import SETS as MISD_SETS
from rrfast.evaluate.observations import Row, at, ends, without
from rrfast.evaluate.ood import sets
from rrfast.evaluate.ood.curves import curves, short
from rrfast.evaluate.ood.diagnostics import diagnose, distances
from rrfast.evaluate.ood.effects import best_step, effect_points, effects
from rrfast.evaluate.ood.figures import figures
from rrfast.evaluate.ood.measurements import (
    OOD_METRICS,
    ModelWithSets,
    apart,
    sure,
    transferred,
    tuned,
    within,
)
from rrfast.evaluate.ood.scaling import scaled
from rrfast.evaluate.ood.tables import blocks, conventions, notes
from rrfast.evaluate.options import OodOptions, with_options
from rrfast.evaluate.run_study import Context, run_study
from rrfast.evaluate.scored_model import scores_named
from rrfast.evaluate.study import Study
from rrfast.evaluate.trained_model import TrainedModel
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


@with_options(OodOptions)
def evaluate(
    trained_models: Sequence[TrainedModel], out: Path | str, options: OodOptions
) -> dict[str, Any]:
    """Tune every score on one out-of-distribution set, test it on others, and write the results.

    Temperature and step are chosen by FPR at 95 % TPR on the validation split and a set that is not
    used for the tables. Finished parts are kept in out/parts and reused: more scores, sets or
    models can be added, and an interrupted run continues.

    Args:
        trained_models: Trained models with their data, see `rrfast.evaluate.trained_models`.
        out: Folder for ood.json, ood.csv (a row per model, score and set), ood.md and the figures.
        options: The fields of `rrfast.evaluate.options.OodOptions`, as keyword arguments.

    Returns:
        What ood.json holds: `command`, `date`, `device`, `versions`, `options`, `data`, `scores`,
        `against`, `validation`, and `runs` (None for NaN): rows of each model, by `kind`:

        * "score": a score on a set, as from `measurements.tuned` and `measurements.apart`;
        * "inside": a score on the test images, as from `measurements.within`;
        * "tuning": a score on the validation set, the `table` of `measurements.tuned`;
        * "effect": ODIN at fixed points on a set, as from `effects.effects`, with `diagnostics`;
          `step`: the best point on the validation set at T = 1000;
        * "set": a set, including "inside", its `images`, and the entries of `measurements.sure` and
          `diagnostics`;
        * "scaling": uniform noise, as from `scaled_noise.scaled`, with `diagnostics`;
        * "transfer": ODIN on a `set`, `tuned` on another: `fpr`, and `baseline`, that of MSR.

        What only figures show is in `curves` instead, as `rrfast.evaluate.ood.curves` says it,
        unless `every_run`.

    Raises:
        ImportError: scikit-learn or Pillow is not installed, and a set needs them.
        TypeError, ValueError: As for the options; there is no trained model; a score or set is
            unknown; the set for tuning is also tested on; `transfer` without ODIN; more `images`
            than there are; data without a validation or a test split; a set without an image, or of
            the model's own data; a model with NaN on the images for tuning; and all errors of
            `run_study`.

    Source: ODIN (Liang et al. 2018) §4, §5, App. A, E, F; ACET (Hein et al. 2019) Table 1, App. F
    to H; errata 19, 20.
    """
    options = replace(options, scores=scores_named(options.scores, SETS))
    scores, against, validation = options.scores, options.against, options.validation
    tuned_on = sets.known(validation, "validation")
    tested_on = [sets.known(name) for name in against]
    for name, one in zip(against, tested_on, strict=True):
        if tested_on.count(one) > 1:
            raise ValueError(f"against must name each set once, and {name} is there twice")
        if one == tuned_on:
            raise ValueError(
                f"validation must be another set than those of against, and {name} is both: "
                "hyper-parameters must not be chosen on a set that they are tested on"
            )
    if options.transfer and "odin" not in scores:
        raise ValueError("transfer must have odin among the scores: it is the score that is tuned")
    n, effects = len(against), _has_effects(options)
    return run_study(
        STUDY,
        trained_models,
        out,
        partial(_rows, options=options),
        options,
        steps=(len(scores) + 1) * (n + 1) + options.transfer * (2 * n + 1) + effects * n,
        # The rest is in the names of the parts. The noise of an attack depends on the batch size,
        # and on the numbers of its random streams, which differed in earlier versions.
        depends={
            "batch": options.batch,
            "streams": [int(Stream.OUTSIDE_TUNED), int(Stream.SCALED_NOISE)],
        },
        entries={"scores": list(scores), "against": list(against), "validation": validation},
    )


def _has_effects(options: OodOptions) -> bool:
    """Whether ODIN is evaluated at fixed points."""
    return options.diagnostics and "odin" in options.scores


# -------------------------------------------------------------------------------------- one model


def _rows(context: Context, options: OodOptions) -> list[Row]:
    """The rows of one model: every score, set by set."""
    trained = context.trained
    how = trained.seed, options.images, options.batch, context.device, trained.checkpoint
    on = ModelWithSets(context.model, context.task, *how)
    own = on.task.undivided().test
    assert own is not None  # checked by `divide`
    for role, names in (("validation", (options.validation,)), ("against", options.against)):
        for name in names:
            if sets.is_own(name, trained.data, own):
                raise ValueError(
                    f"{role} must be other data than the model's own, {trained.data}, got {name!r}"
                )
    rows = _Evaluation(on, options, context).rows()
    return [{"outliers": trained.outliers} | row for row in rows]


class _Evaluation(NamedTuple):
    """One model with its sets, and the options."""

    on: ModelWithSets
    options: OodOptions
    context: Context

    def rows(self) -> Iterator[Row]:
        """Every row, by kind and set."""
        options, advance, tuning, everywhere = self.options, self.context.advance, {}, {}
        for score in options.scores:
            tuning[score] = self.tuned(score, options.validation)
        for name in (options.validation, *options.against) if options.transfer else ():
            everywhere[name] = self.tuned("odin", name)["hyperparameters"]
        yield from self.inside(tuning)
        yield self.confident(None)
        advance()
        for name in options.against:
            yield self.confident(name)
            advance()
            yield from self.scored(name, tuning)
            if options.transfer:
                yield from self.transferred(name, everywhere)
                advance()
            if _has_effects(options):
                yield self.effect(name) | {"step": best_step(tuning["odin"]["table"])}
        if options.diagnostics:
            key = f"{options.trials} images of uniform noise scaled up"
            yield {
                "kind": "scaling",
                **self.context.cache.get(key, scaled, self.on, options.trials),
            }

    def tuned(self, score: str, validation: str) -> dict[str, Any]:
        """A score on a set for tuning."""
        key = f"{of_score(score)}: every point on {self.told(validation)}"
        if sets.is_collection(validation):
            key += f", {self.on.to_tune_on(validation)} images"
        try:
            return self.context.step(key, tuned, score, validation, self.on)  # type: ignore[no-any-return]
        except ValueError as error:
            raise ValueError(
                f"{score} cannot be tuned on the validation split against {validation}: {error}. "
                "Leave this model out: the finished parts of the others are reused"
            ) from error

    def inside(self, tuning: dict[str, dict[str, Any]]) -> Iterator[Row]:
        """Every score on the test images, and the points it was tuned over."""
        on, checkpoint = self.on, self.context.trained.checkpoint
        held = {"shared": on.shared, "left_out": on.left_out, "checkpoint": checkpoint}
        for score, found in tuning.items():
            point = found["hyperparameters"]
            key = f"{of_score(score)} {point}, {on.images} images: inside"
            said = self.context.cache.get(key, within, score, point, on)
            where = {"kind": "inside", "score": score, "set": "inside"}
            yield where | held | without(found, {"table"}) | said
            if point:
                where = {"kind": "tuning", "score": score, "set": self.options.validation}
                yield {**where, "table": found["table"]}

    def confident(self, name: str | None) -> Row:
        """Numbers on a set that do not depend on the score; None for the test images."""
        on, said = self.on, dict(self.sure(name))
        images = sum(said["confidences"]) + said["nan"]  # those whose confidence is NaN
        key = self.key(name)
        if self.options.diagnostics:
            everything = f"{key}: diagnostics and outputs"
            said["diagnostics"] = self.context.cache.get(everything, _diagnosed, name, on)
        if self.options.diagnostics and name is not None:
            said["distances"] = self.context.cache.get(
                f"{key}: distances", once, partial(_far, name, on)
            )
        return {"kind": "set", "set": name or "inside", "images": images} | said

    def sure(self, name: str | None) -> dict[str, Any]:
        """The confidences on a set; None for the test images."""
        return self.context.cache.get(f"{self.key(name)}: how sure", sure, name, self.on)  # type: ignore[no-any-return]

    def scored(self, name: str, tuning: dict[str, dict[str, Any]]) -> Iterator[Row]:
        """Every score on a set."""
        on, draws = self.on, self.options.draws
        for score, found in tuning.items():
            point = found["hyperparameters"]
            key = f"{of_score(score)} {point}, {on.images} images: against {self.told(name)}"
            # With the names of the metrics, since an older part may lack one of them.
            key += f", {draws} draws: {', '.join(OOD_METRICS)}"
            said = self.context.step(key, apart, score, point, name, on, draws)
            yield {"kind": "score", "score": score, "set": name} | without(found, {"table"}) | said

    def effect(self, name: str) -> Row:
        """ODIN at fixed points on a set."""
        on = self.on
        points = effect_points(on.points("odin"))
        key = f"{of_score('odin')} at {len(points)} points, {on.images} images: effects against"
        # With the names of the metrics, since an older part has none of them.
        key += f" {self.told(name)}: {', '.join(OOD_METRICS)}"
        said: Row = self.context.step(key, effects, name, points, on)
        return {"kind": "effect", "score": "odin", "set": name} | said

    def transferred(self, name: str, chosen: dict[str, Point]) -> Iterator[Row]:
        """ODIN Table 3: ODIN on a set, tuned on each of the others."""
        what = f"{self.on.images} images: FPR against {self.told(name)}"
        # Most sets choose among few points, so each point is computed once.
        points = {str(point): point for point in chosen.values()}
        keys = {said: f"{of_score('odin')} {said}, {what}" for said in points}

        def make(missing: list[str]) -> dict[str, float]:
            fpr = transferred([points[said] for said in missing], name, self.on)
            return dict(zip(missing, fpr, strict=True))

        fpr = self.context.cache.together(keys, make)
        where = {"kind": "transfer", "score": "odin", "set": name}
        baseline = self.sure(name)["fpr"]
        for other, point in chosen.items():
            if other != name:
                both = {"fpr": fpr[str(point)], "baseline": baseline}
                yield {**where, "tuned": other, "hyperparameters": point, **both}

    def key(self, name: str | None) -> str:
        """A set and its number of images in the name of a part."""
        return f"{'inside' if name is None else self.told(name)}, {self.on.images} images"

    def told(self, name: str) -> str:
        """A set with everything that its name leaves out: full path of a folder, default eps.

        Also its content, if it is not generated; and the training images, since noise is made from
        them and no other part of the key names them.
        """
        kind, argument = sets.known(name)
        stamp = sets.OUTSIDE[kind].stamp(argument)
        full = kind if argument is None else f"{kind}:{argument}"
        return f"{full} {stamp} beside {self.on.trained_on}"


def _diagnosed(name: str | None, on: ModelWithSets) -> dict[str, Any]:
    return diagnose(on.model, _batches(name, on))


def _far(name: str, on: ModelWithSets) -> dict[str, float]:
    inside = torch.cat([x for x, _ in _batches(None, on)])
    return distances(inside, on.to_test(name).to(on.device))


def _batches(name: str | None, on: ModelWithSets) -> Iterable[Any]:
    """The test images, or those of a set, of which a process reads only its own batches."""
    if name is None:
        return on.division.test.batches(on.batch, on.device)
    images: Sequence[Tensor] = on.to_test(name).split(on.batch)
    return images


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
        **{name: at(name) for name in ("validation_fpr", "nan", "mean_outside", *OOD_METRICS)},
        **ends(OOD_METRICS, "intervals"),
    },
    {"kind": "score"},
    curves,
    short,
)
