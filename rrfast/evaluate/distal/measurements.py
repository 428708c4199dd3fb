"""Measurements on a model: confidences on test images, on noise, after attacks on both."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from rrfast._processes import shared
from rrfast._seeds import Stream, derive_seed
from rrfast.attacks import DISTAL, PGD, Distal, distal_examples
from rrfast.data.splits import Part
from rrfast.engine import Engine
from rrfast.evaluate.run_numbers import counts, defined, interval, read_off
from rrfast.metrics import (
    acceptance_threshold,
    false_acceptance,
    mean_confidence,
    roc_curve,
    thresholded_error,
)
from rrfast.scores import MSR, predict

if TYPE_CHECKING:
    from rrfast.evaluate.options import DistalOptions

#: Edges of the bins in which log-odds are counted; the outermost bins also hold values beyond them.
EDGES = tuple(i / 2 for i in range(-8, 49))
#: Shares of accepted test images at which the curves are stored.
SHARES = tuple(i / 100 for i in range(1, 101))


class Confidences(NamedTuple):
    """Confidences on some inputs."""

    odds: Tensor  #: [n] float64, log-odds of the predicted class; NaN if a logit is NaN
    right: Tensor  #: [n] bool, whether the predicted class is the label


def ccat(name: str, options: DistalOptions) -> PGD:
    """The attacks of CCAT: "ce" on the cross-entropy, "other" on the best wrong class.

    An error is preferred to any other result, and among errors the one with the largest loss. For
    "other" that is the most confident error, which passes every threshold above 1/2 that any of
    them passes.
    """
    eps, steps, restarts = options.eps, options.steps, options.restarts
    if name == "ce":
        return PGD(eps, steps, start="uniform", restarts=restarts, origin=True)
    return PGD(
        eps,
        steps,
        1 / 6,
        loss="other",
        start="uniform_norm",
        restarts=restarts,
        origin=True,
        momentum=0.9,
        backtracking=1.5,
    )


def on_noise(kind: str, options: DistalOptions) -> Distal:
    """The attack on noise; for smoothed noise it starts from smoothed perturbations."""
    if options.distal_attack == "article":
        return DISTAL["article"](options.eps, restarts=options.restarts)
    start = "smoothed" if kind == "smoothed" else "uniform_norm"
    return Distal(options.eps, options.steps, start=start, restarts=options.restarts)


def unattacked(
    model: nn.Module, part: Part, options: DistalOptions, device: torch.device
) -> Confidences:
    """Confidences on unchanged images. Cost: 1 forward per image."""
    found = predict(model, part.batches(options.batch, device), MSR(), progress=False)
    return Confidences(found.confidence, found.correct)


def attacked(
    model: nn.Module, name: str, part: Part, options: DistalOptions, seed: int, device: torch.device
) -> Confidences:
    """Confidences on images after an attack; a wrong one is attacked too, to raise its confidence.

    Cost: the attack, and 1 forward per image.
    """
    attack = ccat(name, options)

    def one(i: int, batch: tuple[Tensor, Tensor]) -> Confidences:
        x, y = batch
        generator = torch.Generator(device).manual_seed(derive_seed(seed, Stream.DISTAL, i))
        found = attack(model, x, y, generator=generator).x
        with Engine(model) as engine:
            h = engine.forward(found)
        return Confidences(MSR().of_logits(h), h.argmax(dim=1) == y)

    parts = shared(one, part.batches(options.batch, device))
    return Confidences(*(torch.cat(part).cpu() for part in zip(*parts, strict=True)))


def noise(
    model: nn.Module, kind: str, shape: Sequence[int], options: DistalOptions
) -> tuple[Tensor, Tensor]:
    """Log-odds [n] on noise, and on distal examples made from it; the same noise for every model.

    Cost: the attack, and 2 forwards per image.
    """
    found = distal_examples(
        model,
        options.noise,
        shape,
        attack=on_noise(kind, options),
        smooth=kind == "smoothed",
        border="article" if options.distal_attack == "article" else "shared",
        batch=options.batch,
    )
    return found.before.cpu(), found.confidence.cpu()


def evaluate_model(
    held: Confidences,
    test: Confidences,
    clean: Confidences,
    attacks: Mapping[str, Confidences],
    noises: Mapping[str, Tensor],
    options: DistalOptions,
) -> dict[str, Any]:
    """Everything that the tables and figures show about one model.

    The confidences are those on the validation split (`held`, only for the threshold), on the test
    split, against which noise is detected, on the test images to attack before the attack (`clean`)
    and after each, and the log-odds on noise, by name.

    Returns `threshold` (log-odds), `probability` (its softmax probability), `held` (number of right
    predictions that the threshold is a rank of), `accepted` (the share of right predictions of the
    test split that pass), `mean`, `histogram` of the test split; `noise`, for each kind its `fpr`
    at the threshold, `auroc`, their `intervals`, `roc` (the FPR at which SHARES of the test split
    pass), `mean` and `histogram`; `errors` before attacks, after each attack and in the worst case,
    each `robust` (without a threshold) and `thresholded`. A number is NaN if one of the confidences
    it ranks is NaN.
    """
    threshold = acceptance_threshold(held.odds, held.right, options.keep_correct)
    versions = {"clean": [], **{name: [found] for name, found in attacks.items()}}
    versions["worst"] = list(attacks.values())
    return {
        "threshold": threshold,
        "probability": torch.tensor(threshold, dtype=torch.float64).sigmoid().item(),
        "held": int(held.right.sum()),
        "accepted": _passing(test.odds[test.right], threshold),
        "mean": _mean(test.odds),
        "histogram": counts(test.odds, EDGES),
        "noise": {
            name: _noise(odds, test.odds, threshold, options.draws) for name, odds in noises.items()
        },
        "errors": {
            name: {
                "robust": thresholded_error(*clean, attacked=found),
                "thresholded": thresholded_error(*clean, threshold, attacked=found),
            }
            for name, found in versions.items()
        },
    }


def _noise(odds: Tensor, test: Tensor, threshold: float, draws: int) -> dict[str, Any]:
    score = torch.cat([test, odds])
    images = torch.arange(len(score)) < len(test)
    return {
        "fpr": _passing(odds, threshold),
        "auroc": defined("auroc", score, images),
        "intervals": {
            # Without a threshold nothing passes, and so there is no interval.
            "fpr": interval("accuracy", torch.zeros(len(odds)), odds >= threshold, draws),
            "auroc": interval("auroc", score, images, draws),
        },
        "roc": _roc(score, images),
        "mean": _mean(odds),
        "histogram": counts(odds, EDGES),
    }


def _passing(odds: Tensor, threshold: float) -> float:
    """NaN without a threshold: a broken model accepts nothing, which does not make it good."""
    return math.nan if math.isnan(threshold) else false_acceptance(odds, threshold)


def _roc(score: Tensor, images: Tensor) -> list[float]:
    if score.isnan().any():
        return [math.nan] * len(SHARES)
    curve = roc_curve(score, images, positive="correct")
    return read_off(curve.tpr, curve.fpr, SHARES)


def _mean(odds: Tensor) -> float:
    """Mean of the probabilities: MMC of ACET."""
    known = len(odds) and not bool(odds.isnan().any())
    return mean_confidence(odds.sigmoid(), torch.ones_like(odds).bool()) if known else math.nan
