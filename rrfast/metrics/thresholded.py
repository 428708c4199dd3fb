"""Metrics of the samples that a threshold accepts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rrfast._checks import as_number, check_number
from rrfast.metrics.conventions import conventions
from rrfast.metrics.ranking import check, check_score, rank


@conventions({"rat": "fraction of predictions that are right"})
def accuracy(score: object, correct: object, *, weights: object = None) -> float:
    """Fraction of predictions that are right.

    The score does not matter; it is an argument, and checked, so that all metrics are called in the
    same way.

    Args:
        score: [n] real numbers, larger = more confident; ±inf are ordinary values.
        correct: [n] booleans, True where the prediction is right.
        weights: [n] real numbers >= 0, not all 0; twice the weight is the sample twice. None
            counts each sample once.

    Returns:
        Accuracy in [0, 1], not per cent.

    Raises:
        TypeError: `score` or `weights` are not real numbers, or `correct` is not boolean.
        ValueError: Scores and answers not of one shape [n], no sample, NaN among the scores,
            weights that are not one per score, finite, >= 0 and not all 0.

    Source: RAT §5.1.

    Example:
        >>> accuracy([0.9, 0.4, 0.8, 0.3], [True, True, False, True])
        0.75
    """
    _, errors, right, _ = rank(score, correct, weights)
    return right.sum().item() / (right.sum() + errors.sum()).item()


@conventions({"rat": "mean of the score; correct does not enter"})
def mean_confidence(score: object, correct: object, *, weights: object = None) -> float:
    """Mean of the score; for the maximal softmax probability, ACET's mean maximal confidence.

        MMC = (1/n) sum_i s_i,    s_i = max_k softmax(f(x_i))_k

    On noise and other out-of-distribution inputs smaller is better: 1/K is the least value for K
    classes. It is the only metric here that uses values instead of ranks; its unit is the score's.
    The answers do not matter; they are an argument, and checked, so that all metrics are called in
    the same way.

    Args:
        score: [n] real numbers, larger = more confident; ±inf are ordinary values.
        correct: [n] booleans, True where the prediction is right.
        weights: [n] real numbers >= 0, not all 0; twice the weight is the sample twice. None
            counts each sample once.

    Returns:
        Mean in float64, in the score's unit. Infinite with one kind of infinity among the scores,
        NaN with both.

    Raises:
        TypeError: `score` or `weights` are not real numbers, or `correct` is not boolean.
        ValueError: Scores and answers not of one shape [n], no sample, NaN among the scores,
            weights that are not one per score, finite, >= 0 and not all 0.

    Source: ACET §5, Table 1 (MMC).

    Example:
        >>> mean_confidence([0.75, 0.5, 1.0, 0.25], [True, True, False, True])
        0.625
    """
    values, errors, right, _ = rank(score, correct, weights)
    count = errors + right
    return float((values.double() * count).sum() / count.sum())


def acceptance_threshold(score: object, correct: object, keep_correct: float = 0.99) -> float:
    """The highest threshold that at least a share `keep_correct` of right predictions reach.

        tau = max {t : #{i right : s_i >= t} >= keep_correct C},    C right predictions

    It is exact: tau is the m-th largest score of the right predictions, m the smallest integer with
    m / C >= keep_correct. Nothing is rounded: 99.5 % gives another threshold than 99 %. Choose it
    on images whose results are not reported.

    `rrfast.selective.error_threshold` rejects a share of the errors instead.

    Args:
        score: [n] real numbers, larger = more confident; ±inf are ordinary values. NaN reaches no
            threshold.
        correct: [n] booleans, True where the prediction is right.
        keep_correct: In (0, 1].

    Returns:
        The threshold, for score >= threshold. NaN, which no score reaches, if no prediction is
        right, or if so many of their scores are NaN that no threshold keeps `keep_correct`.

    Raises:
        TypeError: `score` is not real numbers, or `correct` is not boolean.
        ValueError: Scores and answers not of one shape [n], or `keep_correct` is outside (0, 1].

    Source: Stutz et al. (2020), §5; the distal article, §4; errata 21. The released code rounds 1 -
    keep_correct to two digits.

    Example:
        >>> score, correct = [0.1, 0.3, 0.6, 0.8, 0.9], [True, False, True, True, True]
        >>> [acceptance_threshold(score, correct, share) for share in (0.75, 0.76, 1.0)]
        [0.6, 0.1, 0.1]
    """
    check_number("keep_correct", keep_correct, most=1)
    s, c = check(score, correct, empty=True, nan=True)
    right = s[c].double()
    if len(right) == 0:
        return math.nan
    places = torch.arange(1, len(right) + 1, dtype=torch.float64, device=s.device)
    # A quotient, not a product: 99 / 100 rounds to the double 0.99.
    m = int((places / len(right) >= keep_correct).int().argmax())
    # NaN last: it is the result if there are too many.
    return float((-right).sort().values[m].neg())


def false_acceptance(score: object, threshold: float) -> float:
    """Share of samples that are accepted but should all be rejected: the FPR at a threshold.

        FPR(tau) = #{i : s_i >= tau} / n

    With `acceptance_threshold`, chosen on other samples, this is the FPR at 99 % TPR of adversarial
    or distal examples. All of them are in the denominator. Smaller is better.

    Args:
        score: [n] real numbers, larger = more confident. NaN is not accepted, and counts.
        threshold: tau; with NaN nothing is accepted.

    Returns:
        The rate, in [0, 1]; NaN for no samples.

    Raises:
        TypeError: `score` is not real numbers, or `threshold` is not a number.
        ValueError: `score` has not one dimension.

    Source: Stutz et al. (2020), §5; the distal article, §4.

    Example:
        >>> false_acceptance([0.2, 0.5, 0.7, 0.9], 0.5)
        0.75
    """
    as_number("threshold", threshold)
    s = check_score(score, empty=True, nan=True)
    return int((s.double() >= threshold).sum()) / len(s) if len(s) else math.nan


def thresholded_error(
    score: object,
    correct: object,
    threshold: float = -math.inf,
    *,
    attacked: Sequence[tuple[object, object]] = (),
) -> float:
    """Share of errors among the samples that are accepted, before or after an attack.

        RTE(tau) = sum_i max_a [wrong_ia and c_ia >= tau] / sum_i max_a [c_ia >= tau]

    where a runs over the clean sample and every attack on it: a sample counts once, as an error if
    any accepted version of it is an error. Without `attacked` this is the confidence-thresholded
    test error, 1 minus the accuracy among the accepted; without a threshold it is the robust test
    error; with neither the test error. Smaller is better.

    The denominator also contains samples that are only accepted after an attack, as in the released
    code.

    Args:
        score: [n] real numbers, larger = more confident; ±inf are ordinary values. NaN is accepted
            at no threshold, not even -inf.
        correct: [n] booleans, True where the prediction is right.
        threshold: tau, from `acceptance_threshold` on other samples. With NaN nothing is accepted.
        attacked: For each attack the (score, correct) of its results on the same samples, in order.

    Returns:
        The rate, in [0, 1]; NaN where nothing is accepted.

    Raises:
        TypeError: Scores are not real numbers, answers not boolean, or `threshold` is not a number.
        ValueError: Scores and answers not of one shape [n], or an attack of other samples.

    Source: Stutz et al. (2020), §5 and App. C; errata 21.

    Example:
        The second error is rejected; the attack turns the first sample into an error, and makes the
        last one, an error, accepted.

        >>> score, correct = [0.9, 0.8, 0.6, 0.5], [True, False, True, False]
        >>> after = [0.9, 0.8, 0.6, 0.7], [False, False, True, False]
        >>> thresholded_error(score, correct), thresholded_error(score, correct, 0.6)
        (0.5, 0.3333333333333333)
        >>> thresholded_error(score, correct, 0.6, attacked=[after])
        0.75
    """
    as_number("threshold", threshold)
    accepted, wrong = _accepted(score, correct, threshold)
    for i, (there, right) in enumerate(attacked):
        more, errors = _accepted(there, right, threshold)
        if len(more) != len(accepted):
            raise ValueError(
                f"attacked must have the same {len(accepted)} samples, got {len(more)} from attack "
                f"{i}"
            )
        accepted, wrong = accepted | more.to(accepted.device), wrong | errors.to(wrong.device)
    count = int(accepted.sum())
    return int(wrong.sum()) / count if count else math.nan


def _accepted(score: object, correct: object, threshold: float) -> tuple[Tensor, Tensor]:
    """[n] bool: which samples are accepted, and which of those are wrong."""
    s, c = check(score, correct, empty=True, nan=True)
    accepted = s.double() >= threshold
    return accepted, accepted & ~c
