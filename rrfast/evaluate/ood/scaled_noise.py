"""ACET's Table 2: the factor by which noise has to be scaled up to reach a high confidence."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from rrfast import ops
from rrfast._processes import shared
from rrfast._seeds import Stream, stream
from rrfast.attacks.loss import confidence
from rrfast.data import uniform_noise
from rrfast.engine import logits
from rrfast.evaluate.ood.appraisal import EvaluationData
from rrfast.evaluate.ood.scaling import confidence_scaling, scaled_up

#: The confidences for scaled noise to reach, without a box and in it.
SURE, SURE_IN_BOX, BOX = 0.999, 0.95, (0.0, 1.0)
#: Number of noise images in the paper.
TRIALS = 10_000
#: Forwards for the second one: compared with 2,000 factors, they miss fewer than 1 in 100 images.
FORWARDS = 48


def scaled(on: EvaluationData, trials: int) -> dict[str, Any]:
    """The factor by which uniform noise has to be scaled up to reach a high confidence.

    Args:
        on: The model.
        trials: Number of noise images; they are drawn batch by batch.

    Returns:
        `trials`; `alpha`, the median factor that reaches `SURE`, infinite if half of the images
        never reach it; `overconfident`, the share of images that reach `SURE_IN_BOX` at some factor
        when clipped to [0, 1]; `overconfident_at_alpha`, the share that reaches it at the image's
        own factor for `SURE` (an image without such a factor does not count); `nan`, the number of
        images with NaN logits at a factor, which count as not reaching it.

    Cost: 81 forwards per image.

    Source: ACET Theorem 3.1, App. B and F, Table 2; errata 36.
    """
    shape = tuple(on.division.test.data[0][0].shape)
    odds = math.log(SURE_IN_BOX / (1 - SURE_IN_BOX))

    def one(i: int, start: int) -> tuple[Tensor, Tensor, Tensor]:
        n = min(on.batch, trials - start)
        x = uniform_noise(n, shape, seed=stream(on.seed, Stream.SCALED_NOISE, i)).to(on.device)
        alpha = confidence_scaling(on.model, x, SURE).alpha
        found = confidence_scaling(on.model, x, SURE_IN_BOX, bounds=BOX, budget=FORWARDS).found
        there = scaled_up(x, alpha.log(), ops.channel_bounds(BOX, x))
        sure_there = confidence(logits(on.model, there), None) >= odds
        return alpha.cpu(), found.cpu(), (sure_there & alpha.isfinite()).cpu()

    parts = zip(*shared(one, range(0, trials, on.batch)), strict=True)
    alpha, boxed, at_alpha = (torch.cat(part) for part in parts)
    ordered = alpha.nan_to_num(nan=math.inf).sort().values
    return {
        "trials": trials,
        "alpha": ordered[(len(ordered) - 1) // 2].item(),
        "overconfident": boxed.double().mean().item(),
        "overconfident_at_alpha": at_alpha.double().mean().item(),
        "nan": int(alpha.isnan().sum()),
    }
