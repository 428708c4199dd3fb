"""What the ranking alone adds to the area under the risk-coverage curve."""

from __future__ import annotations

import math

import torch

from rrfast.metrics._ranking import Ranking, rank
from rrfast.metrics.aurc import aurc
from rrfast.metrics.convention import conventions, known


@conventions(
    {
        "rat": "AURC less that of a perfect ranking of the same answers",
        "geifman": "AURC less r + (1 - r) ln(1 - r), with error rate r",
    }
)
def e_aurc(
    score: object, correct: object, *, convention: str = "rat", weights: object = None
) -> float:
    """Excess of `aurc` over the least that any score could have with the same right answers.

        E-AURC = AURC - (1/n) sum_{i=C+1}^{n} (i - C) / i

    with C right predictions of n: the sum is the AURC of a score that ranks all of them above all
    errors. Smaller is better, 0 a perfect ranking, whatever the error rate.

    Convention: "rat" subtracts that sum, exactly. "geifman", the published form, subtracts its
    limit for many samples, r + (1 - r) ln(1 - r) with r = (n - C)/n; a perfect ranking then gets
    about r/(2n) and not 0. Both subtract from `aurc` with its default, ties averaged.

    Args:
        score: [n] real numbers, larger = more confident; ±inf are ordinary values.
        correct: [n] booleans, True where the prediction is right.
        convention: "rat" or "geifman"; `rrfast.metrics.convention` gives its sentence.
        weights: [n] real numbers >= 0, not all 0, as of `aurc`; only their proportions matter. None
            counts each sample once.

    Returns:
        E-AURC in [0, 1) for "rat", 0 where all predictions are right or all are wrong.

    Raises:
        TypeError: `score` or `weights` are not real numbers, or `correct` is not boolean.
        ValueError: Not one score per answer in one dimension, none at all, NaN among the scores,
            weights that are not one per score, finite, >= 0 and somewhere positive, or another
            `convention`.

    Source: Geifman, Uziel & El-Yaniv 2019, §4; errata 11.

    Example:
        >>> e_aurc([0.9, 0.7, 0.1], [True, True, False])
        0.0
        >>> round(e_aurc([0.5, 0.5, 0.5], [True, True, False]), 4)
        0.2222
    """
    known("e_aurc", convention)
    ranking = rank(score, correct, weights)
    errors, right = ranking.errors.sum(), ranking.correct.sum()
    area = aurc(ranking, None)
    if convention == "geifman":
        accuracy = (right.double() / (right + errors)).item()
        entropy = accuracy * math.log(accuracy) if accuracy else 0.0
        return area - (1 - accuracy + entropy)
    # Through the same sum, term by term, so that a perfect ranking gets 0 and no rounding error.
    total, zero = torch.stack([errors, right]), errors.new_zeros(())
    kept = total > 0
    best = Ranking(
        torch.arange(2, device=total.device)[kept],
        torch.stack([errors, zero])[kept],
        torch.stack([zero, right])[kept],
        ranking.samples,
    )
    return area - aurc(best, None)
