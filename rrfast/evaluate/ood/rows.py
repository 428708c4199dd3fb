"""The rows of `rrfast evaluate --protocol ood` on one model: every score, set by set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rrfast._processes import once
from rrfast.evaluate.cache import Cache, of_score
from rrfast.evaluate.observations import Row
from rrfast.evaluate.ood.appraisal import (
    METRICS,
    EvaluationData,
    apart,
    sure,
    transferred,
    tuned,
    within,
)
from rrfast.evaluate.ood.diagnosis import diagnose, distances
from rrfast.evaluate.ood.effects import best_step, effect_points, effects
from rrfast.evaluate.ood.outside import OUTSIDE, is_collection, is_own, known
from rrfast.evaluate.ood.scaled_noise import scaled
from rrfast.evaluate.study import Context
from rrfast.scores.score import Point


class Asked(NamedTuple):
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

    @property
    def effects(self) -> bool:
        """Whether ODIN is evaluated at fixed points."""
        return self.diagnostics and "odin" in self.scores

    @property
    def steps(self) -> int:
        """Steps of the progress bar per model."""
        sets = len(self.against)
        transfers = self.transfer * (2 * sets + 1)
        return (len(self.scores) + 1) * (sets + 1) + transfers + self.effects * sets


def rows_of(context: Context, asked: Asked) -> list[Row]:
    """The rows of one model."""
    trained = context.trained
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
    tuning = {}
    for score in asked.scores:
        tuning[score] = _tuned(score, asked.validation, on, context.cache)
        context.advance()
    everywhere = {}
    for name in (asked.validation, *asked.against) if asked.transfer else ():
        everywhere[name] = _tuned("odin", name, on, context.cache)["hyperparameters"]
        context.advance()
    rows = list(_of_inside(tuning, on, context, asked))
    for set_name in (None, *asked.against):
        rows += _of_set(set_name, tuning, everywhere, on, context, asked)
    if asked.diagnostics:
        key = f"{asked.trials} images of uniform noise scaled up"
        found = context.cache.get(key, partial(scaled, on, asked.trials))
        rows.append({"kind": "scaling"} | found)
    return [who | row for row in rows]


def _of_inside(
    tuning: dict[str, dict[str, Any]], on: EvaluationData, context: Context, asked: Asked
) -> Iterator[Row]:
    """Every score on the test images, and the points it was tuned over."""
    held = {
        "shared": on.shared,
        "left_out": on.left_out,
        "checkpoint": context.trained.checkpoint,
    }
    for score, found in tuning.items():
        point = found["hyperparameters"]
        key = f"{of_score(score)} {point}, {on.images} images: inside"
        said = context.cache.get(key, partial(within, score, point, on))
        inside = {"kind": "inside", "score": score, "set": "inside", **held}
        yield inside | _chosen(found) | said
        if point:
            where = {"kind": "tuning", "score": score, "set": asked.validation}
            yield {**where, "table": found["table"]}


def _chosen(found: dict[str, Any]) -> dict[str, Any]:
    return {key: found[key] for key in ("hyperparameters", "validation_fpr")}


def _of_set(
    set_name: str | None,
    tuning: dict[str, dict[str, Any]],
    everywhere: dict[str, Point],
    on: EvaluationData,
    context: Context,
    asked: Asked,
) -> Iterator[Row]:
    """A set, and every score on it; None for the test images."""
    cache = context.cache
    said = _set(set_name, on, cache, asked.diagnostics)
    images = sum(said["confidences"]) + said["nan"]  # those whose confidence is NaN
    yield {"kind": "set", "set": set_name or "inside", "images": images} | said
    context.advance()
    if set_name is None:
        return
    for score, found in tuning.items():
        said = _apart(score, found["hyperparameters"], set_name, on, cache, asked.draws)
        yield {"kind": "score", "score": score, "set": set_name} | _chosen(found) | said
        context.advance()
    if asked.transfer:
        for row in _transferred(set_name, everywhere, on, cache):
            yield {"kind": "transfer"} | row
        context.advance()
    if asked.effects:
        where = {"kind": "effect", "score": "odin", "set": set_name}
        said = _effects(set_name, on, cache)
        yield {**where, "step": best_step(tuning["odin"]["table"])} | said
        context.advance()


def _check_known(data: str, on: EvaluationData, asked: Asked) -> None:
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
            f"{key}: diagnostics and outputs", lambda: diagnose(on.model, _batches(name, on))
        )
    }
    if name is None:
        return said

    def far() -> dict[str, float]:
        inside = torch.cat([x for x, _ in _batches(None, on)])
        return distances(inside, on.to_test(name).to(on.device))

    return said | {"distances": cache.get(f"{key}: distances", partial(once, far))}


def _batches(name: str | None, on: EvaluationData) -> Iterable[Any]:
    """The test images, or those of a set, of which a process reads only its own batches."""
    if name is None:
        return on.division.test.batches(on.batch, on.device)
    images: Sequence[Tensor] = on.to_test(name).split(on.batch)
    return images


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
