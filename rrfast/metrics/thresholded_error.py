"""The error rate among what is accepted, attacks included."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from rrfast._checks import is_number
from rrfast.metrics._ranking import check


def thresholded_error(
    score: object,
    correct: object,
    threshold: float = -math.inf,
    *,
    attacked: Sequence[tuple[object, object]] = (),
) -> float:
    """Share of errors among the samples that are accepted, or may be after an attack.

        RTE(tau) = sum_i max_a [wrong_ia and c_ia >= tau] / sum_i max_a [c_ia >= tau]

    with a over the sample as it is and every attack on it: a sample counts once, as an error if any
    accepted version of it is one. Without `attacked` this is the confidence-thresholded test error,
    1 less the accuracy among the accepted; without a threshold the robust test error; with neither
    the test error. Smaller is better.

    The denominator grows with the attacks too: what is only accepted after an attack is in it, as
    in released code.

    Args:
        score: [n] real numbers, larger = more confident; ±inf are ordinary values. NaN is accepted
            at no threshold, not even -inf.
        correct: [n] booleans, True where the prediction is right.
        threshold: tau, from `acceptance_threshold` on other samples. With NaN nothing is accepted.
        attacked: For each attack, (score, correct) of its results on the same samples, in order.

    Returns:
        The rate, in [0, 1]; NaN where nothing is accepted.

    Raises:
        TypeError: Scores are not real numbers, answers not boolean, or `threshold` is no number.
        ValueError: Not one score per answer in one dimension, or an attack of other samples.

    Source: Stutz et al. (2020), §5 and App. C; errata 21.

    Example:
        The second error is rejected; the attack makes of the first sample an error, and of the last
        one that is accepted.

        >>> score, correct = [0.9, 0.8, 0.6, 0.5], [True, False, True, False]
        >>> after = [0.9, 0.8, 0.6, 0.7], [False, False, True, False]
        >>> thresholded_error(score, correct), thresholded_error(score, correct, 0.6)
        (0.5, 0.3333333333333333)
        >>> thresholded_error(score, correct, 0.6, attacked=[after])
        0.75
    """
    if not is_number(threshold):
        raise TypeError(f"threshold must be a number, got {threshold!r}")
    accepted, wrong = _accepted(score, correct, threshold)
    for i, (there, right) in enumerate(attacked):
        more, errors = _accepted(there, right, threshold)
        if len(more) != len(accepted):
            raise ValueError(
                f"attacked must be the same samples, {len(accepted)} of them, got {len(more)} from "
                f"attack {i}"
            )
        accepted, wrong = accepted | more.to(accepted.device), wrong | errors.to(wrong.device)
    count = int(accepted.sum())
    return int(wrong.sum()) / count if count else math.nan


def _accepted(score: object, correct: object, threshold: float) -> tuple[Tensor, Tensor]:
    """[n] bool: which are accepted, and which of those are wrong."""
    s, c = check(score, correct, empty=True, nan=True)
    accepted = s.double() >= threshold
    return accepted, accepted & ~c
