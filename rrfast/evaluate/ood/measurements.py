"""Measurements of a score on a model: tuned on one out-of-distribution set, tested on others."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rrfast._processes import shared
from rrfast._seeds import Stream, derive_seed
from rrfast.data.loader import length
from rrfast.data.splits import Division, Part, divide, tested_on
from rrfast.data.tasks import Task
from rrfast.engine import logits
from rrfast.evaluate.ood import sets
from rrfast.evaluate.ood.curves import EDGES, accuracies, rates
from rrfast.evaluate.ood.sets import OUTSIDE, Wanted, evenly, made
from rrfast.evaluate.run_numbers import counts, defined, intervals
from rrfast.evaluate.scored_model import ScoredModel
from rrfast.metrics import aupr_error, aupr_success, auroc, detection_error, fpr_at_tpr
from rrfast.metrics.registry import Metric
from rrfast.ops import accumulate_dtype
from rrfast.scores import ODIN_GRIDS, Score
from rrfast.scores.score import Point
from rrfast.scores.tuning import best_apart, grid_points

#: ODIN §4.3, with in-distribution images in the place of right predictions; the detection error by
#: its formula, and the lowest over all thresholds, as in most of its Table 2 (errata 30).
OOD_METRICS: dict[str, Metric] = {
    "fpr": partial(fpr_at_tpr, positive="correct"),
    "detection_error": partial(detection_error, convention="odin"),
    "least_error": partial(detection_error, convention="rat"),
    "auroc": auroc,
    "aupr_in": aupr_success,
    "aupr_out": aupr_error,
}
#: Number of most and least confident images whose indices are stored (ACET Fig. 2 and 3).
EXTREMES = 10
#: Number of training images that identify a training set.
LOOKED_AT = 100
#: In units of 1 / K: the smallest probability at which a predicted label does not count as chance.
LEAST = 1.01


class ModelWithSets(ScoredModel):
    """A model with its in- and out-of-distribution images, which are made on demand.

    `seed` is that of all random draws, `images` the number of test images and of images per set;
    None: all of the test set, as from `tested_on`.

    Raises:
        ValueError: A split of the task is missing or too small, or has fewer than `images`.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        seed: int,
        images: int | None,
        batch: int,
        device: torch.device,
        checkpoint: str = "last",
    ) -> None:
        [division] = divide(task, "heldout")
        test, self.left_out = division.test.data, 0
        if images is None:
            test, self.left_out = tested_on(task, checkpoint)
        whole = task.undivided().test
        self._most = 0 if whole is None else length(whole)
        #: Number of test images on which hyper-parameters are also chosen.
        self.shared = length(test) - length(division.test.data)
        available = length(test)
        if images is not None and not 2 <= images <= available:
            raise ValueError(
                f"images must be from 2 to the number of test images, {available}, got {images}"
            )
        self.images = images or available
        part = Part(test, evenly(available, self.images))
        super().__init__(model, Division(division.validation, part), seed, batch, device)
        self.task = task
        some = sets.looked_at(task.train, LOOKED_AT).numpy().tobytes()
        #: Identifies the training images by their number and some of them.
        self.trained_on = f"{length(task.train)} {hashlib.sha256(some).hexdigest()[:16]}"
        self._sets: dict[int, tuple[str, Tensor]] = {}
        self._grids: dict[str, tuple[Score, list[Point], Tensor]] = {}
        self._inside: dict[tuple[str, str], Tensor] = {}
        self._right: dict[str, Tensor] = {}

    def to_tune(self, name: str) -> Tensor:
        """The images of a set for tuning, whatever `images` is: see `to_tune_on`."""
        validation = self.division.validation
        return self._set(name, Stream.OUTSIDE_TUNED, validation, self.to_tune_on(name))

    def to_tune_on(self, name: str) -> int:
        """The largest number of images of a set for tuning: that of the validation split.

        For a collection, all of its images, as ODIN does for iSUN's 8,925; but no more than the
        validation or the test set has, since a large folder might not fit into memory.
        """
        n = len(self.division.validation.indices)
        return max(n, self._most) if sets.is_collection(name) else n

    def to_test(self, name: str) -> Tensor:
        """The images of a set for testing: another draw of it."""
        return self._set(name, Stream.OUTSIDE_TESTED, self.division.test, self.images)

    def _set(self, name: str, use: Stream, inside: Part, n: int) -> Tensor:
        # Only the last one is kept: sets are large and used one after the other.
        if self._sets.get(use, ("",))[0] != name:
            shape, seed = tuple(inside.data[0][0].shape), derive_seed(self.seed, use)
            train, model, device = self.task.train, self.model, self.device
            wanted = Wanted(n, shape, seed, train, inside, model, device, self.batch)
            self._sets.pop(use, None)
            self._sets[use] = name, made(name, wanted)
        return self._sets[use][1]

    def points(self, name: str) -> list[Point]:
        """The points for tuning a score: for ODIN its paper's grid, for others their own."""
        return grid_points(self.at(name, {}), ODIN_GRIDS if name == "odin" else None)

    def grid(self, name: str) -> tuple[Score, list[Point], Tensor]:
        """A score, its points for tuning, and its values there on in-distribution images.

        Computed once for all sets.
        """
        if name not in self._grids:
            (score, part), points = self.tunable(name), self.points(name)
            values = self.predicted(score, self.batches(part), points).confidence
            self._grids[name] = score, points, values
        return self._grids[name]

    def inside(self, name: str, points: Sequence[Point]) -> tuple[Tensor, Tensor]:
        """A score on the test images at several points [P, n], and where the model is right [n].

        Each point is computed once for all sets; new points are computed together.
        """
        keys = [(name, str(sorted(point.items()))) for point in points]
        missing = {
            key: point for key, point in zip(keys, points, strict=True) if key not in self._inside
        }
        if missing:
            found = self.predicted(self.at(name, {}), self.tested, [*missing.values()])
            self._inside |= zip(missing, found.confidence, strict=True)
            self._right[name] = found.correct
        return torch.stack([self._inside[key] for key in keys]), self._right[name]

    def outside(self, name: str, points: Sequence[Point], against: str) -> Tensor:
        """A score on a set, at several points: [P, n], on the CPU."""
        images = self.to_test(against).split(self.batch)
        return self.predicted(self.at(name, {}), images, points).confidence

    def resisted(self, against: str) -> Tensor:
        """For a set of attacked test images, where the model is still right: [n] bool."""
        images = self.to_test(against).split(self.batch)

        def one(i: int, batch: tuple[Tensor, Tensor]) -> Tensor:
            return resisted(logits(self.model, images[i].to(self.device)), batch[1]).cpu()

        return torch.cat(shared(one, self.tested))


def resisted(logits: Tensor, labels: Tensor) -> Tensor:
    """Whether the model classifies each image correctly with more than a uniform confidence.

        argmax_k p_k = y  and  p_y >= 1.01 / K

    From the logits [B, K] at the attacked images, and the labels y [B] of the images before the
    attack: [B] bool, False if a logit is NaN.

    Source: ACET's released code, which the paper does not mention; errata 37.

    Example:
        >>> h = torch.tensor([[0.0, 3.0], [0.0, 1e-3], [3.0, 0.0]])
        >>> resisted(h, torch.tensor([1, 1, 1]))
        tensor([ True, False, False])
    """
    p = logits.to(accumulate_dtype(logits.dtype)).softmax(dim=1)
    own = p.gather(1, labels.view(-1, 1)).squeeze(1)
    return (p.argmax(dim=1) == labels) & (own >= LEAST / p.shape[1])


def tuned(name: str, validation: str, on: ModelWithSets) -> dict[str, Any]:
    """The hyper-parameters that best separate the validation split from a set; no other is read.

    Returns `hyperparameters`; `validation_fpr`, the FPR at 95 % TPR there; `table`, all points, as
    from `side_by_side`.

    Cost: `score_grid` on the set; on the validation split once for all sets.

    Source: ODIN §4.4.
    """
    score, points, inside = on.grid(name)
    batches = on.to_tune(validation).split(on.batch)
    outside = on.predicted(score, batches, points).confidence
    found = best_apart(score, points, inside, outside)
    return {
        "hyperparameters": dict(found.best.point),
        "validation_fpr": found.best.metric,
        "table": side_by_side(points, [row.metric for row in found.table]),
    }


def side_by_side(points: Sequence[Point], fpr: Sequence[float]) -> dict[str, list[Any]]:
    """A list for each hyper-parameter, and `fpr`, NaN if a score is NaN.

    Example:
        >>> side_by_side([{"temperature": 1.0}, {"temperature": 2.0}], [0.5, 0.4])
        {'temperature': [1.0, 2.0], 'fpr': [0.5, 0.4]}
    """
    return {**{name: [p[name] for p in points] for name in points[0]}, "fpr": [*fpr]}


def within(name: str, point: Point, on: ModelWithSets) -> dict[str, Any]:
    """A score on the test images only.

    Returns `images`, `nan`, `mean`, `forwards` and `backwards` per image; `accepted` and
    `rejected`: accuracies, as from `accuracies` (ODIN Fig. 11).
    """
    [value], correct = on.inside(name, (point,))
    one, _ = next(iter(on.division.test.batches(1, on.device)))
    cost = on.at(name, point).measure(on.model, one, ({},))
    accepted, rejected = accuracies(value, correct)
    return {
        "images": len(value),
        "nan": int(value.isnan().sum()),
        "mean": value.double().mean().item(),
        "forwards": cost.forwards,
        "backwards": cost.backwards,
        "accepted": accepted,
        "rejected": rejected,
    }


def apart(name: str, point: Point, against: str, on: ModelWithSets, draws: int) -> dict[str, Any]:
    """How well a score separates the test images from a set.

    Returns every metric of `OOD_METRICS`, their `intervals`, `nan`, `mean_outside`, and `roc`: the
    true positive rate at `RATES`. Metrics are NaN if the score of an image is NaN.
    """
    [inside], _ = on.inside(name, (point,))
    [outside] = on.outside(name, (point,), against)
    both = joined(inside, outside)
    return {
        **{name: defined(metric, *both) for name, metric in OOD_METRICS.items()},
        "intervals": intervals(OOD_METRICS, *both, draws),
        "nan": int(both[0].isnan().sum()),
        "mean_outside": outside.double().mean().item(),
        "roc": rates(*both),
    }


def sure(against: str | None, on: ModelWithSets) -> dict[str, Any]:
    """The model's confidence (largest softmax probability) on a set; None: on the test images.

    Returns `mmc`, its mean; `highest` and `lowest` over the images; `confidences`, the counts in
    the bins of `EDGES`; `nan`. For a set, `auroc` and `fpr` of separating it from the test images
    by the confidence, and `surest`, indices of images from the most confident down. For the test
    images, the model's `error`, and `least_sure`. For attacked test images also `not_resisted`:
    `images`, `mmc`, `highest`, `lowest`, `auroc`, `fpr` and `roc` of those that the model did not
    resist, as in the paper (errata 37), NaN if there is none.

    Source: ACET Table 1, App. C, F and H.
    """
    [inside], correct = on.inside("msr", ({},))
    # Not the mean of the log-odds: the paper takes the mean of the probability.
    value = inside if against is None else on.outside("msr", ({},), against)[0]
    said: dict[str, Any] = _of_confidence(value) | {
        "confidences": counts(value.sigmoid(), EDGES),
        "nan": int(value.isnan().sum()),
    }
    if against is None:
        least = _in_order(value, descending=False)
        return said | {"error": 1 - correct.double().mean().item(), "least_sure": least}
    said |= _told_apart(inside, value) | {"surest": _in_order(value, descending=True)}
    if OUTSIDE[sets.known(against)[0]].attacked:
        value = value[~on.resisted(against)]
        apart = _told_apart(inside, value) | {"roc": rates(*joined(inside, value))}
        said["not_resisted"] = {"images": len(value), **_of_confidence(value), **apart}
    return said


def _of_confidence(value: Tensor) -> dict[str, float]:
    confidence = value.sigmoid()
    counted = confidence[~confidence.isnan()]
    ends = [counted.amax().item(), counted.amin().item()] if len(counted) else [math.nan] * 2
    return {"mmc": confidence.mean().item(), "highest": ends[0], "lowest": ends[1]}


def _told_apart(inside: Tensor, outside: Tensor) -> dict[str, float]:
    both = joined(inside, outside)
    return {name: defined(OOD_METRICS[name], *both) for name in ("auroc", "fpr")}


def _in_order(value: Tensor, *, descending: bool) -> list[int]:
    """At most `EXTREMES` indices, without those of NaN."""
    order = value.argsort(descending=descending, stable=True)
    places: list[int] = order[~value[order].isnan()][:EXTREMES].tolist()
    return places


def transferred(points: Sequence[Point], against: str, on: ModelWithSets) -> list[float]:
    """The FPR of ODIN on a set at each of several points (ODIN Table 3)."""
    return fprs(on.inside("odin", points)[0], on.outside("odin", points, against))


def fprs(inside: Tensor, outside: Tensor) -> list[float]:
    """The FPR of each of several scores on two sets: [P, n], [P, m]; NaN if a score is NaN."""
    pairs = zip(inside, outside, strict=True)
    return [defined(OOD_METRICS["fpr"], *joined(*both)) for both in pairs]


def joined(inside: Tensor, outside: Tensor) -> tuple[Tensor, Tensor]:
    """All values, and which of them are in-distribution."""
    known = torch.arange(len(inside) + len(outside)) < len(inside)
    return torch.cat([inside, outside]), known
