"""ACET's Table 2: how far noise has to be scaled up until a model is sure of it."""

from __future__ import annotations

import math
from typing import Any

import torch

from rrfast import ops
from rrfast._seeds import Stream, stream
from rrfast.attacks.loss import confidence
from rrfast.data import uniform_noise
from rrfast.engine import logits
from rrfast.evaluate.ood.appraisal import EvaluationData
from rrfast.evaluate.ood.scaling import confidence_scaling, scaled_up

#: The confidences that scaled noise is to reach, without a box and in it.
SURE, SURE_IN_BOX, BOX = 0.999, 0.95, (0.0, 1.0)
#: Noise images of the paper.
TRIALS = 10_000
#: Forwards of the second: fewer than 1 of 100 images are missed by them, against 2,000 factors.
FORWARDS = 48


def scaled(on: EvaluationData, trials: int) -> dict[str, Any]:
    """How far uniform noise has to be scaled up until the model is sure of it.

    Args:
        on: The model.
        trials: Noise images; they are drawn batch by batch.

    Returns:
        `trials`; `alpha`, the median factor that reaches `SURE`, infinite where half of the images
        reach it at none; `overconfident`, the share of images that reach `SURE_IN_BOX` at some
        factor, put back into [0, 1]; `overconfident_at_alpha`, the share that does at the image's
        own factor for `SURE`, which an image without one does not; `nan`, images with NaN logits at
        a factor, which count as not reaching it.

    Cost: 81 forwards of each image.

    Source: ACET Theorem 3.1, App. B and F, Table 2; errata 36.
    """
    shape = tuple(on.division.test.data[0][0].shape)
    odds = math.log(SURE_IN_BOX / (1 - SURE_IN_BOX))
    alphas, boxed, at_alpha = [], [], []
    for i, start in enumerate(range(0, trials, on.batch)):
        n = min(on.batch, trials - start)
        x = uniform_noise(n, shape, seed=stream(on.seed, Stream.SCALED_NOISE, i)).to(on.device)
        alpha = confidence_scaling(on.model, x, SURE).alpha
        found = confidence_scaling(on.model, x, SURE_IN_BOX, bounds=BOX, budget=FORWARDS).found
        there = scaled_up(x, alpha.log(), ops.channel_bounds(BOX, x))
        sure_there = confidence(logits(on.model, there), None) >= odds
        alphas.append(alpha.cpu())
        boxed.append(found.cpu())
        at_alpha.append((sure_there & alpha.isfinite()).cpu())
    alpha = torch.cat(alphas)
    ordered = alpha.nan_to_num(nan=math.inf).sort().values
    return {
        "trials": trials,
        "alpha": ordered[(len(ordered) - 1) // 2].item(),
        "overconfident": torch.cat(boxed).double().mean().item(),
        "overconfident_at_alpha": torch.cat(at_alpha).double().mean().item(),
        "nan": int(alpha.isnan().sum()),
    }
