"""Measurements of a score on a model: how well it finds the errors, after it was tuned.

Also numbers on the model itself: its accuracy on training images, and its gradients.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rrfast._processes import once, shared
from rrfast._seeds import Stream, derive_seed
from rrfast._tables import SHOWN
from rrfast.data import corrupt
from rrfast.data.splits import Part, chosen
from rrfast.engine import Engine
from rrfast.evaluate.cache import packed
from rrfast.evaluate.run_numbers import (
    auroc_or_nan,
    counts,
    defined,
    intervals,
    median,
    read_off,
    shown,
)
from rrfast.evaluate.scored_model import ScoredModel, correct
from rrfast.metrics import METRICS, risk_coverage_curve
from rrfast.scores import MSR, TEMPERATURES, Radius, Score
from rrfast.scores.cost import costs_of
from rrfast.scores.standing import standings

if TYPE_CHECKING:
    from rrfast.data.loader import Data
    from rrfast.evaluate.options import MisdOptions

#: Fig. B.1 shows predictions whose softmax probability is above each of these.
ABOVE = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
#: Coverages at which the risk is stored, for curves.
COVERAGES = tuple(i / 100 for i in range(1, 101))
#: Edges of the bins in which radii are counted: twenty bins per decade.
EDGES = tuple(10 ** (i / 20) for i in range(-160, 61))
#: A score is evaluated at every temperature if it takes at most this many passes per image.
SWEPT = 50
#: Batch size for measuring times.
TIMED = 100


def evaluate_score(name: str, on: ScoredModel, options: MisdOptions) -> dict[str, Any]:
    """Everything that the tables and figures show about one score on one division.

    Returns `hyperparameters`, `validation_aurc`, `images`, `errors`, `nan`, `forwards`, `backwards`
    and `milliseconds` per image, `beside_msr` (the milliseconds of MSR, measured in alternation),
    every metric of `METRICS`, `intervals` of the four that are shown, `temperature` (AURC at each
    T), `above` (AUROC among predictions above each probability), `risk` at `COVERAGES`, for a
    radius `histogram`, and `values`, the `packed` score. Metrics are NaN if the score of an image
    is NaN.

    Cost: `tune` on the validation part; the score on the test part; for `sensitivity` the score at
    each temperature, with passes shared as in `Score.measure`; and a few repetitions on one batch.
    """
    score, point, validation_aurc = on.tuned(name)
    few, _ = next(iter(on.division.test.batches(min(TIMED, on.batch), on.device)))
    # Other processes wait, since they would slow down what is timed.
    costs, _ = once(lambda: costs_of(on.model, few, {"msr": MSR(), name: score}, timing=True))
    points = [dict(point)]
    cheap = costs[name].forwards + costs[name].backwards <= SWEPT
    if options.sensitivity and cheap and "temperature" in point:
        points += [{**point, "temperature": t} for t in TEMPERATURES if t != point["temperature"]]
    values = on.measured(score, points)
    value, correct = values[0], on.correct
    said: dict[str, Any] = {
        "hyperparameters": dict(point),
        "validation_aurc": validation_aurc,
        "images": len(correct),
        "errors": int((~correct).sum()),
        "nan": int(value.isnan().sum()),
        **costs[name]._asdict(),
        "beside_msr": costs["msr"].milliseconds,
        **{metric: defined(metric, value, correct) for metric in METRICS},
        "intervals": intervals({m: m for m in SHOWN}, value, correct, options.draws),
        "temperature": {
            str(p["temperature"]): defined("aurc", v, correct)
            for p, v in zip(points, values, strict=True)
            if len(points) > 1
        },
        "above": {str(p): _above(value, on, p) for p in ABOVE},
        "risk": _risk(value, correct),
        "values": packed(value),
    }
    if isinstance(score, Radius):
        said["histogram"] = histograms(value, correct)
    return said


def on_one_clock(said: Sequence[dict[str, Any]]) -> list[float | None]:
    """Milliseconds per image of each score, as if measured at one time; None if unknown.

    The speed of a machine drifts, so each score was measured in alternation with MSR. Its time is
    divided by MSR's time next to it and multiplied by the median of all of MSR's times.

    Example:
        >>> one = {"milliseconds": 1.0, "beside_msr": 1.0}
        >>> slow = {"milliseconds": 8.0, "beside_msr": 4.0}  # the machine was
        >>> on_one_clock([one, slow, one])
        [1.0, 2.0, 1.0]
    """
    floors = [own["beside_msr"] for own in said if own["beside_msr"]]
    floor = statistics.median(floors) if floors else None
    both = [(own["milliseconds"], own["beside_msr"]) for own in said]
    return [floor * own / msr if floor and own and msr else None for own, msr in both]


def compared_with_msr(
    values: Mapping[str, Tensor], on: ScoredModel, draws: int
) -> dict[str, dict[str, Any]]:
    """Ranks the scores of one model on one division by the rules of `rrfast.compare`.

    Returns for each of the scores, [n] on the test part and possibly NaN, `less_msr`: for every
    paired metric, the difference to MSR and the ends of its interval; and `behind`: for each other
    score, by how much at least its AURC is above the other's. Both hold for all pairs of scores at
    once, including MSR even if it was not requested. They are empty with fewer than two draws,
    errors or right predictions, and for a score with NaN.

    Cost: that of `rrfast.metrics.paired_bootstrap`.
    """
    errors = int((~on.correct).sum())
    if draws < 2 or min(errors, len(on.correct) - errors) < 2 or bool(on.msr.isnan().any()):
        return {name: {"less_msr": {}, "behind": {}} for name in values}
    found = standings({"msr": on.msr} | dict(values), on.correct, "aurc", draws)
    return {
        name: {
            "less_msr": {} if own.nan else {m: list(d) for m, d in own.less_msr.items()},
            "behind": own.behind,
        }
        for name in values
        for own in [found[name]]
    }


def _above(score: Tensor, on: ScoredModel, probability: float) -> dict[str, float]:
    kept = on.probability > probability if probability else torch.ones_like(on.correct)
    score, correct = score[kept], on.correct[kept]
    errors = int((~correct).sum())
    return {"images": len(correct), "errors": errors, "auroc": auroc_or_nan(score, correct)}


def _risk(score: Tensor, correct: Tensor) -> list[float]:
    if score.isnan().any():
        return [math.nan] * len(COVERAGES)
    curve = risk_coverage_curve(score, correct)
    # As `risk_at_coverage`, which would sort again for each.
    return read_off(curve.coverage, curve.risk, COVERAGES)


def histograms(radius: Tensor, correct: Tensor) -> dict[str, Any]:
    """Of the radii of right and wrong predictions: counts in the bins of `EDGES`, and medians."""
    return {"right": _histogram(radius[correct]), "wrong": _histogram(radius[~correct])}


def _histogram(radius: Tensor) -> dict[str, Any]:
    radius = radius.double()
    inside = (radius >= EDGES[0]) & (radius < EDGES[-1])
    return {
        "counts": counts(radius[inside], EDGES),
        "outside": int((~inside).sum()),
        "median": median(radius),
    }


def corrupted(
    kind: str, severity: int, scores: Mapping[str, Score], on: ScoredModel, made: Part | None = None
) -> dict[str, dict[str, float]]:
    """AUROC, FPR95, AURC and accuracy of every score on the test part under a corruption (Fig. 4).

    The scores are tuned: nothing is chosen on corrupted images. `made` is the corrupted
    test part, such as that of CIFAR-10-C; None: made here by `rrfast.data.corrupt`.

    Cost: each score on each image; an image is corrupted once for all scores.
    """

    def one(i: int, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, y = batch
        if made is None:
            seed = derive_seed(on.seed, Stream.CORRUPT, i)
            x = corrupt(x.cpu(), kind, severity, seed=seed).to(y.device)
        found = [score.measure(on.model, x, ({},)) for score in scores.values()]
        values = [scored.values[0].cpu() for scored in found]
        return torch.stack(values), (found[0].prediction == y).cpu()

    parts = shared(one, on.batches(made or on.division.test))
    values, right = zip(*parts, strict=True)
    correct = torch.cat(right)
    return {
        name: shown(value, correct)
        for name, value in zip(scores, torch.cat(values, dim=1), strict=True)
    }


# ------------------------------------------------------------------------------- the network itself


def train_accuracy(on: ScoredModel, train: Data) -> float:
    """Accuracy on training images without augmentation, at most as many as there are test images.

    Cost: 1 forward per image.
    """
    learned = on.batches(chosen(train, len(on.correct)))
    return correct(on.model, learned).double().mean().item()


def gradient_auroc(on: ScoredModel) -> float:
    """AUROC of minus ||grad_x (h_y - h_2)||_1 for right predictions, on the test part.

    A radius is a margin divided by that norm: below 1/2, the division makes the ranking worse. NaN
    without a right prediction or an error, or if a gradient is NaN.

    Cost: 1 forward and 1 backward per image.
    """

    def one(_: int, batch: tuple[Tensor, Tensor]) -> Tensor:
        with Engine(on.model) as engine:
            gradient = engine.forward_backward(batch[0], temperature=0.0).grad
        norm: Tensor = gradient.flatten(1).double().norm(1, dim=1).cpu()
        return norm

    norm = torch.cat(shared(one, on.tested))
    return auroc_or_nan(-norm, on.correct)
