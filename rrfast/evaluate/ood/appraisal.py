"""One score on one model: tuned against one out-distribution, then held against others."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rrfast.evaluate.division import Division, Part, divide, tested_on
from rrfast.evaluate.ood.outside import Wanted, evenly, is_collection, looked_at, made
from rrfast.evaluate.ood.scaling import confidence_scaling
from rrfast.metrics import (
    aupr_error,
    aupr_success,
    auroc,
    bootstrap,
    detection_error,
    fpr_at_tpr,
    roc_curve,
)
from rrfast.metrics.registry import Metric
from rrfast.scores import ODIN_GRIDS, SCORES, Score
from rrfast.scores.named import named
from rrfast.scores.score import Point
from rrfast.scores.tuning import best_apart, grid_points, grid_values
from rrfast.train.batches import Data, length, stream
from rrfast.train.tasks import Task

#: ODIN §4.3, with what is inside in the place of right predictions.
METRICS: dict[str, Metric] = {
    "fpr": partial(fpr_at_tpr, positive="correct"),
    "detection_error": partial(detection_error, convention="odin"),
    "auroc": auroc,
    "aupr_in": aupr_success,
    "aupr_out": aupr_error,
}
#: Per cent of what is inside that is accepted, where the accuracy is asked (ODIN Fig. 11).
ACCEPTED = (50, 60, 70, 80, 85, 90, 95, 98, 99)
#: False positive rates at which the ROC curve is kept.
RATES = tuple(i / 100 for i in range(101))
#: Edges of the bins in which confidences are counted: ACET's App. H has them from 0 to 1.
EDGES = tuple(i / 50 for i in range(51))
#: The confidences that scaled noise is to reach, without a box and in [0, 1] (ACET Table 2).
SURE, SURE_IN_BOX = 0.999, 0.95
#: Training images by which others are told from them.
LOOKED_AT = 100
#: What the random numbers are for, beside those of `rrfast.train.batches`: another draw to tune on
#: than to test on.
_TUNE, _TEST = 103, 104


class Ground:
    """A model, what it knows, and what it does not; nothing is made before it is needed.

    Args:
        model: On the device.
        task: With splits to validate and to test on.
        seed: Of everything that is drawn.
        images: Inside and of each set; None: all of the test set, as `tested_on` gives it.
        batch: Images per forward.
        device: Where.
        checkpoint: As of `rrfast.evaluate.Subject`.

    Raises:
        ValueError: A split is missing or too small, or has fewer than `images`.
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
        [self.division] = divide(task, "heldout")
        test, self.left_out = self.division.test.data, 0
        if images is None:
            test, self.left_out = tested_on(task, checkpoint)
        whole = task.undivided().test
        self._most = 0 if whole is None else length(whole)
        #: Images that are tested on and that hyper-parameters are chosen on too.
        self.shared = length(test) - length(self.division.test.data)
        available = length(test)
        if images is not None and not 2 <= images <= available:
            raise ValueError(
                f"images must be from 2 to the number of test images, {available}, got {images}"
            )
        self.images = images or available
        part = Part(test, evenly(available, self.images))
        self.division = Division(self.division.validation, part)
        self.model, self.task, self.seed = model, task, seed
        self.batch, self.device = batch, device
        self.trained_on = _digest(task.train)
        self._sets: dict[int, tuple[str, Tensor]] = {}
        self._fitted: dict[str, Score] = {}
        self._grids: dict[str, tuple[Score, list[Point], Tensor]] = {}
        self._inside: dict[tuple[str, str], tuple[Tensor, Tensor]] = {}

    def to_tune(self, name: str) -> Tensor:
        """A set as it is tuned on, whatever `images`: see `to_tune_on`."""
        return self._set(name, _TUNE, self.division.validation, self.to_tune_on(name))

    def to_tune_on(self, name: str) -> int:
        """How many images of a set are tuned on at most: as many as the validation split has.

        Of images that there are, all, as ODIN has it of iSUN's 8,925; no more than the validation
        or the test set has, or a large folder would not fit into memory.
        """
        n = len(self.division.validation.places)
        return max(n, self._most) if is_collection(name) else n

    def to_test(self, name: str) -> Tensor:
        """A set as it is tested on: another draw of it."""
        return self._set(name, _TEST, self.division.test, self.images)

    def _set(self, name: str, use: int, inside: Part, n: int) -> Tensor:
        # The last one alone: they are large, and asked for one after the other.
        if self._sets.get(use, ("",))[0] != name:
            shape = tuple(inside.data[0][0].shape)
            seed = stream(self.seed, use)
            train, model, device = self.task.train, self.model, self.device
            wanted = Wanted(n, shape, seed, train, inside, model, device, self.batch)
            self._sets.pop(use, None)
            self._sets[use] = name, made(name, wanted)
        return self._sets[use][1]

    def score(self, name: str, point: Point) -> Score:
        """A score at a point, fitted on half of the validation part if it has to be (RAT B.1)."""
        if name not in self._fitted:
            score = named(name, SCORES)
            if not score.fitted:
                fit, _ = self.division.halves(self.seed)
                score = score.fit(self.model, fit.batches(self.batch, self.device))
            self._fitted[name] = score
        return self._fitted[name].at(**point)

    def grid(self, name: str) -> tuple[Score, list[Point], Tensor]:
        """A score, the points it is tuned over, and its values there on what is inside.

        Once for all sets that it is tuned on.
        """
        if name not in self._grids:
            score, part = self.score(name, {}), self.division.validation
            if not named(name, SCORES).fitted:
                _, part = self.division.halves(self.seed)
            points = grid_points(score, ODIN_GRIDS if name == "odin" else None)
            batches = part.batches(self.batch, self.device)
            values = grid_values(score, self.model, batches, points, "inside")
            self._grids[name] = score, points, values
        return self._grids[name]

    def inside(self, name: str, point: Point) -> tuple[Tensor, Tensor]:
        """A score on the test images [n], once for all sets, and where the model is right."""
        key = name, str(sorted(point.items()))
        if key not in self._inside:
            score, values, right = self.score(name, point), [], []
            for x, y in self.division.test.batches(self.batch, self.device):
                scored = score.measure(self.model, x, ({},))
                values.append(scored.values[0].cpu())
                right.append((scored.prediction == y).cpu())
            self._inside[key] = torch.cat(values), torch.cat(right)
        return self._inside[key]

    def outside(self, name: str, points: Sequence[Point], against: str) -> Tensor:
        """A score on a set, at several points: [P, n], on the CPU."""
        score = self.score(name, {})
        return torch.cat(
            [
                score.measure(self.model, x.to(self.device), points).values.cpu()
                for x in self.to_test(against).split(self.batch)
            ],
            dim=1,
        )


def _digest(data: Data) -> str:
    """What tells training images from others: their number, and some of them."""
    images = looked_at(data, LOOKED_AT)
    return f"{length(data)} {hashlib.sha256(images.numpy().tobytes()).hexdigest()[:16]}"


def tuned(name: str, validation: str, on: Ground) -> dict[str, Any]:
    """The hyper-parameters that tell the validation split best from a set; no other is read.

    Returns:
        `hyperparameters`, and `validation_fpr`, the FPR at 95 % TPR there.

    Cost: of `score_grid` on the set; on the validation split once for all sets.

    Source: ODIN §4.4.
    """
    score, points, inside = on.grid(name)
    outside = grid_values(
        score, on.model, on.to_tune(validation).split(on.batch), points, "outside"
    )
    best = best_apart(score, points, inside, outside).best
    return {"hyperparameters": dict(best.point), "validation_fpr": best.metric}


def within(name: str, point: Point, on: Ground) -> dict[str, Any]:
    """A score on the test images alone.

    Returns:
        `images`, `nan`, `mean`, `forwards` and `backwards` per image; `accepted`: the accuracy
        among the images that the score accepts where it accepts at least each of `ACCEPTED` per
        cent of them, and `rejected`: among the others, NaN where there is none (ODIN Fig. 11).
    """
    value, correct = on.inside(name, point)
    one, _ = next(on.division.test.batches(1, on.device))
    cost = on.score(name, point).measure(on.model, one, ({},))
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


def accuracies(value: Tensor, correct: Tensor) -> tuple[list[float], list[float]]:
    """The accuracy of what is accepted, and of what is not, at each of `ACCEPTED`; ties together.

    Example:
        >>> value = torch.tensor([4.0, 3.0, 2.0, 1.0])
        >>> accepted, rejected = accuracies(value, torch.tensor([True, True, False, True]))
        >>> accepted[0], rejected[0], accepted[-1], rejected[-1]
        (1.0, 0.5, 0.75, nan)
    """
    if value.isnan().any():
        return [math.nan] * len(ACCEPTED), [math.nan] * len(ACCEPTED)
    n = len(value)
    # The least number that is at least p % of n, in integers.
    least = torch.tensor([-(-p * n // 100) for p in ACCEPTED])
    threshold = value.sort(descending=True).values[least - 1]
    above = value >= threshold[:, None]
    found = [
        ((part & correct).sum(dim=1).double() / part.sum(dim=1)).tolist()
        for part in (above, ~above)
    ]
    return found[0], found[1]


def apart(name: str, point: Point, against: str, on: Ground, draws: int) -> dict[str, Any]:
    """How well a score tells the test images from a set.

    Returns:
        Every metric of `METRICS`, `intervals` of them, `nan`, `mean_outside`, and `roc`: the true
        positive rate at `RATES`. Metrics are NaN where a score is.
    """
    inside, _ = on.inside(name, point)
    [outside] = on.outside(name, (point,), against)
    value, known = joined(inside, outside)
    return {
        **{metric: _metric(metric, value, known) for metric in METRICS},
        "intervals": _intervals(value, known, draws),
        "nan": int(value.isnan().sum()),
        "mean_outside": outside.double().mean().item(),
        "roc": rates(value, known),
    }


def sure(against: str | None, on: Ground) -> dict[str, Any]:
    """How sure the model is of a set, by its largest softmax probability; None for the inside.

    Returns:
        `mmc`, its mean; `confidences`, how many are in the bins of `EDGES`; `nan`; of a set,
        `auroc` and `fpr` of telling it from the inside by that; of the inside, the model's `error`.

    Source: ACET Table 1, App. F and H.
    """
    inside, correct = on.inside("msr", {})
    # Not the log-odds' own mean: the paper's is that of the probability.
    value = inside if against is None else on.outside("msr", ({},), against)[0]
    confidence = value.sigmoid()
    counted = confidence[~confidence.isnan()]
    place = torch.bucketize(counted, torch.tensor(EDGES[1:-1], dtype=counted.dtype), right=True)
    said = {
        "mmc": confidence.mean().item(),
        "confidences": torch.bincount(place, minlength=len(EDGES) - 1).tolist(),
        "nan": int(value.isnan().sum()),
    }
    if against is None:
        return said | {"error": 1 - correct.double().mean().item()}
    both = joined(inside, value)
    return said | {metric: _metric(metric, *both) for metric in ("auroc", "fpr")}


def scaled(on: Ground) -> dict[str, Any]:
    """How far uniform noise has to be scaled up until the model is sure of it.

    Returns:
        `alpha`, the median factor that reaches `SURE`, infinite where half of the images reach it
        at none; `overconfident`, the share of images that reach `SURE_IN_BOX` at some factor, put
        back into [0, 1]; `nan`, images with NaN logits at a factor, which count as not reaching it.

    Cost: 64 forwards.

    Source: ACET Theorem 3.1, App. B and F, Table 2.
    """
    free, boxed = [], []
    for noise in on.to_test("uniform").split(on.batch):
        x = noise.to(on.device)
        free.append(confidence_scaling(on.model, x, SURE).alpha.cpu())
        boxed.append(confidence_scaling(on.model, x, SURE_IN_BOX, bounds=(0, 1)).found.cpu())
    alpha = torch.cat(free)
    ordered = alpha.nan_to_num(nan=math.inf).sort().values
    return {
        "alpha": ordered[(len(ordered) - 1) // 2].item(),
        "overconfident": torch.cat(boxed).double().mean().item(),
        "nan": int(alpha.isnan().sum()),
    }


def transferred(points: Sequence[Point], against: str, on: Ground) -> list[float]:
    """The FPR of ODIN on a set, at each of several points (ODIN Table 3)."""
    outside = on.outside("odin", points, against)
    return [
        _metric("fpr", *joined(on.inside("odin", point)[0], values))
        for point, values in zip(points, outside, strict=True)
    ]


def joined(inside: Tensor, outside: Tensor) -> tuple[Tensor, Tensor]:
    """All values, and which of them are of the inside."""
    known = torch.arange(len(inside) + len(outside)) < len(inside)
    return torch.cat([inside, outside]), known


def rates(value: Tensor, known: Tensor) -> list[float]:
    """The true positive rate at each of `RATES`, straight between thresholds, highest where equal.

    Example:
        >>> value, known = torch.tensor([2.0, 1.0]), torch.tensor([True, False])
        >>> set(rates(value, known)), rates(torch.ones(2), known) == list(RATES)
        ({1.0}, True)
    """
    if value.isnan().any():
        return [math.nan] * len(RATES)
    curve = roc_curve(value, known, positive="correct")
    fpr, tpr = (torch.cat([x.new_zeros(1), x.cpu()]) for x in (curve.fpr, curve.tpr))
    wanted = torch.tensor(RATES, dtype=fpr.dtype)
    # The last threshold with no more than that, and the next.
    before = torch.searchsorted(fpr, wanted, right=True) - 1
    after = (before + 1).clamp(max=len(fpr) - 1)
    width = fpr[after] - fpr[before]
    share = torch.where(width > 0, (wanted - fpr[before]) / width, 0.0)
    found: list[float] = torch.lerp(tpr[before], tpr[after], share).tolist()
    return found


def _metric(name: str, value: Tensor, known: Tensor) -> float:
    return math.nan if value.isnan().any() else METRICS[name](value, known)


def _intervals(value: Tensor, known: Tensor, draws: int) -> dict[str, list[float]]:
    if draws == 0 or value.isnan().any():
        return {}
    found = {name: bootstrap(metric, value, known, draws) for name, metric in METRICS.items()}
    return {name: [interval.low, interval.high] for name, interval in found.items()}
