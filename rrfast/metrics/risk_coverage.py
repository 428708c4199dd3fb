"""The risk-coverage curve, its area, and points on it."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from rrfast._checks import check_number
from rrfast.metrics.conventions import conventions, known
from rrfast.metrics.ranking import Ranking, check, ordered, rank
from rrfast.metrics.risks import by_rank, mean_risk


class RiskCoverageCurve(NamedTuple):
    """One point per distinct score, G of them, coverage ascending to 1."""

    coverage: Tensor  #: [G] share of predictions with score >= threshold, float64
    risk: Tensor  #: [G] error rate among them, float64
    threshold: Tensor  #: [G] descending, in the dtype of the scores


def risk_coverage_curve(
    score: object, correct: object, *, weights: object = None
) -> RiskCoverageCurve:
    """Risk and coverage at every threshold: accept where score >= threshold.

        coverage(t) = |{i : s_i >= t}| / n,    risk(t) = errors among {i : s_i >= t} / their number

    Samples with the same score are accepted together. There is no point at coverage 0, where risk
    is 0/0. (`aurc` is the mean of the risk over all n coverages, ties averaged, not a trapezoid of
    these points.)

    Args:
        score: [n] real numbers, larger = more confident; ±inf are ordinary values.
        correct: [n] booleans, True where the prediction is right.
        weights: [n] real numbers >= 0, not all 0; twice the weight is the sample twice. None
            counts each sample once.

    Returns:
        `RiskCoverageCurve(coverage, risk, threshold)`, on the device of the score (CPU with
        weights).

    Raises:
        TypeError: `score` or `weights` are not real numbers, or `correct` is not boolean.
        ValueError: Scores and answers not of one shape [n], no sample, NaN among the scores,
            weights that are not one per score, finite, >= 0 and not all 0.

    Source: RAT §5.1 (Geifman & El-Yaniv 2017).

    Example:
        >>> curve = risk_coverage_curve([0.9, 0.8, 0.8, 0.3], [True, False, True, True])
        >>> curve.coverage.tolist(), curve.threshold.tolist()
        ([0.25, 0.75, 1.0], [0.9, 0.8, 0.3])
        >>> [round(risk, 4) for risk in curve.risk.tolist()]
        [0.0, 0.3333, 0.25]
    """
    threshold, errors, right = (x.flip(0) for x in rank(score, correct, weights)[:3])
    accepted = (errors + right).cumsum(0).double()
    return RiskCoverageCurve(accepted / accepted[-1], errors.cumsum(0) / accepted, threshold)


@conventions(
    {
        "rat": "mean of risk at the n coverages, averaged over the orders of ties",
        "openmix": "mean of risk at the n coverages, ties in the order of the data",
        "fd-shifts": "trapezoid over distinct scores, held flat below the least coverage",
        "rat_released": (
            "trapezoid over points one sample into each group of ties, in the order of the data, "
            "held flat below the last down to coverage 1/n"
        ),
        "torch-uncertainty": (
            "trapezoid over coverages 1/n to 1, divided by 1 - 1/n, ties in the order of the data"
        ),
    }
)
def aurc(
    score: object, correct: object, *, convention: str = "rat", weights: object = None
) -> float:
    """Mean error rate of the most confident i of n predictions, over i = 1, ..., n.

        AURC = (1/n) sum_{i=1}^{n} risk(i/n),    risk(i/n) = errors among the i most confident / i

    Smaller is better: fewer errors and errors ranked lower both reduce it. A random ranking gives
    the error rate. Papers print it times 1000; here it is not multiplied.

    Convention: the exact sum over all n coverages, no trapezoid. Samples with the same score have
    no order, so the sum is averaged over all their orders: inside a group of m ties with e errors
    the expected number of errors grows by e/m per sample, which gives that average in closed form.
    So the result never depends on the order of the data. Errors are counted, as everywhere here
    (RAT §5.1). Other conventions, to compare with older papers:

    * "rat": the above.
    * "openmix": the sum with ties in the order of the data. A constant score can give anything.
    * "fd-shifts": trapezoid over the coverages of distinct scores, constant below the least one.
    * "rat_released": the older fd-shifts version in RAT's released code. Samples are removed from
      the least confident on, ties in the order of the data, and a point is taken before the first
      removal and after that of the first sample of each group of ties, not of its last. Below the
      last point the risk is constant down to coverage 1/n, where the area ends: one sample has area
      0.
    * "torch-uncertainty": trapezoid over coverages 1/n, ..., 1, divided by their width 1 - 1/n; NaN
      for one sample. Its order of ties is not defined; here it is that of the data.

    With weights n is the effective sample size (sum w)^2 / sum w^2 (Kish), and weights are scaled
    to that sum: only their proportions matter, equal weights change nothing, and a weight near 0
    acts like leaving the sample out. m and the sums become sums of weights, and sum_{i=1}^{m}
    1/(a+i) in the closed form becomes psi(a+m+1) - psi(a+1) with the digamma function psi: the same
    for integers, and smooth between them.

    Args:
        score: [n] real numbers, larger = more confident; ±inf are ordinary values.
        correct: [n] booleans, True where the prediction is right.
        convention: A name of the list; `rrfast.metrics.convention` defines it in a sentence.
        weights: [n] real numbers >= 0, not all 0, as above; only their proportions matter. None
            counts each sample once. Only for "rat" and "fd-shifts".

    Returns:
        AURC in [0, 1]: 0 where all predictions are right, 1 where all are wrong.

    Raises:
        TypeError: `score` or `weights` are not real numbers, or `correct` is not boolean.
        ValueError: Scores and answers not of one shape [n], no sample, NaN among the scores,
            weights that are not one per score, finite, >= 0 and not all 0, an unknown `convention`,
            or weights or a `Ranking` with one that needs the order of the data.

    Source: RAT §5.1 (Geifman & El-Yaniv 2017); errata 11.

    Example:
        Risks 0, 0, 1/3 at coverages 1/3, 2/3, 1; then a constant score, which says nothing:

        >>> round(aurc([0.9, 0.7, 0.1], [True, True, False]), 4)
        0.1111
        >>> round(aurc([0.5, 0.5, 0.5], [True, True, False]), 4)
        0.3333
        >>> round(aurc([0.5, 0.5, 0.5], [True, True, False], convention="openmix"), 4)
        0.1111
    """
    if convention == "rat" and weights is None and not isinstance(score, Ranking):
        score, correct = check(score, correct, nan=True)
        if score.is_cpu:
            return mean_risk(*ordered(score, correct)[1:])
    known("aurc", convention)
    if convention in {"openmix", "rat_released", "torch-uncertainty"}:
        if weights is not None or isinstance(score, Ranking):
            raise ValueError(
                f'convention "{convention}" depends on the order of the data: it needs score and '
                "correct themselves, not a Ranking, and no weights"
            )
        s, c = check(score, correct)
        return _in_data_order(s, c, convention)
    errors, right, samples = rank(score, correct, weights)[1:]
    weighted = errors.is_floating_point() or right.is_floating_point()
    if convention == "rat" and not weighted:
        return mean_risk(*by_rank(errors, right))
    errors, size = errors.flip(0), (errors + right).flip(0)
    if convention == "fd-shifts":
        coverage = size.cumsum(0).double()
        risk = errors.cumsum(0) / coverage
        area = risk[0] * coverage[0] + torch.trapezoid(risk, coverage)
        return float(area / coverage[-1])
    if samples is not None:
        errors, size = (weight * (samples / size.sum()) for weight in (errors, size))
    errors_above, seen_above = errors.cumsum(0) - errors, size.cumsum(0) - size
    ahead = errors_above - errors / size * seen_above
    inside = errors + ahead * _reciprocals(seen_above, size)
    return float(inside.sum() / size.sum())


def _in_data_order(score: Tensor, correct: Tensor, convention: str) -> float:
    n = len(score)
    if convention == "rat_released":
        score, order = score.sort(stable=True)
        wrong = ~correct[order]
        left = n - torch.arange(n, device=score.device)
        risk = (wrong.sum() - wrong.cumsum(0) + wrong.long()) / left.double()  # of the rest
        # A point after the first sample of each group is removed; the last sample is never removed.
        starts = torch.cat([score.new_ones(1, dtype=torch.bool), score[1:] != score[:-1]])
        taken = torch.cat([starts.new_ones(1), starts[:-1]])
        area = -torch.trapezoid(risk[taken], left[taken].double())
        return float((area + risk[taken][-1] * (left[taken][-1] - 1)) / n)
    order = score.argsort(descending=True, stable=True)
    place = torch.arange(1, n + 1, device=score.device).double()
    risk = (~correct[order]).cumsum(0) / place
    return float(risk.mean() if convention == "openmix" else torch.trapezoid(risk) / (n - 1))


def _reciprocals(a: Tensor, m: Tensor) -> Tensor:
    """1/(a+1) + ... + 1/(a+m) for integers, psi(a+m+1) - psi(a+1) for reals; float64 [G].

    From 16 on the difference of the asymptotic series is taken term by term; the logarithms become
    one log1p and lose no digits; the first omitted term is 691/32760/16^12 < 1e-16.
    """
    low, high = a + 1, a + m + 1
    series = torch.log1p(m / low) - 0.5 * (1 / high - 1 / low)
    for power, denominator in ((2, -12), (4, 120), (6, -252), (8, 240), (10, -132)):
        series = series + (high**-power - low**-power) / denominator
    return torch.where(low < 16, torch.digamma(high) - torch.digamma(low), series)


@conventions(
    {
        "rat": "AURC less that of a perfect ranking of the same answers",
        "geifman": "AURC less r + (1 - r) ln(1 - r), with error rate r",
    }
)
def e_aurc(
    score: object, correct: object, *, convention: str = "rat", weights: object = None
) -> float:
    """Excess of `aurc` over the least value that any score could have on the same predictions.

        E-AURC = AURC - (1/n) sum_{i=C+1}^{n} (i - C) / i

    with C right predictions of n: the sum is the AURC of a score that ranks all right predictions
    above all errors. Smaller is better, 0 is a perfect ranking, whatever the error rate.

    Convention: "rat" subtracts that sum, exactly. "geifman", the published form, subtracts its
    limit for many samples, r + (1 - r) ln(1 - r) with r = (n - C)/n; a perfect ranking then gets
    about r/(2n) instead of 0. Both subtract from `aurc` with its default, ties averaged.

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
        ValueError: Scores and answers not of one shape [n], no sample, NaN among the scores,
            weights that are not one per score, finite, >= 0 and not all 0, or another `convention`.

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
    # By the same sum, term by term, so that a perfect ranking gets exactly 0.
    total, zero = torch.stack([errors, right]), errors.new_zeros(())
    kept = total > 0
    best = Ranking(
        torch.arange(2, device=total.device)[kept],
        torch.stack([errors, zero])[kept],
        torch.stack([zero, right])[kept],
        ranking.samples,
    )
    return area - aurc(best, None)


@conventions({"rat": "area of coverage times risk over coverage, straight through ties"})
def augrc(score: object, correct: object, *, weights: object = None) -> float:
    """Probability, over thresholds, that a prediction is accepted and wrong.

        AUGRC = integral_0^1 e(c) dc,    e(i/n) = errors among the i most confident / n

    e is coverage times risk. It is linear between neighbouring coverages i/n, i = 0, ..., n, and,
    averaged over the orders of ties, linear through each group of ties: with E_g errors above the
    g-th distinct score, e_g errors and m_g predictions at it, AUGRC = sum_g m_g (E_g + e_g / 2) /
    n^2. Smaller is better. Unlike in AURC, every error has the same weight, whatever its coverage,
    and exactly

        AUGRC = r (1 - r) (1 - AUROC) + r^2 / 2

    with error rate r: r^2/2 for a perfect ranking, r/2 for a constant score.

    Convention: the area. The mean of e over the n coverages i/n, like the mean in AURC, would be
    larger by r/(2n) for every score. torch-uncertainty leaves out the area below coverage 1/n, and
    divides by 1 - 1/n. Papers print it times 1000; here it is not multiplied.

    Args:
        score: [n] real numbers, larger = more confident; ±inf are ordinary values.
        correct: [n] booleans, True where the prediction is right.
        weights: [n] real numbers >= 0, not all 0; twice the weight is the sample twice. None
            counts each sample once.

    Returns:
        AUGRC in [0, 1/2]: 0 where all predictions are right, 1/2 where all are wrong.

    Raises:
        TypeError: `score` or `weights` are not real numbers, or `correct` is not boolean.
        ValueError: Scores and answers not of one shape [n], no sample, NaN among the scores,
            weights that are not one per score, finite, >= 0 and not all 0.

    Source: Traub et al., NeurIPS 2024 (in none of the five papers); errata 11.

    Example:
        >>> round(augrc([0.9, 0.7, 0.1], [True, True, False]), 4)
        0.0556
        >>> round(augrc([0.5, 0.5, 0.5], [True, True, False]), 4)
        0.1667
    """
    _, errors, right, _ = rank(score, correct, weights)
    errors, size = errors.flip(0), (errors + right).flip(0)
    # Twice the area, so that half ties stay integers.
    twice = (size * (2 * errors.cumsum(0) - errors)).sum().item()
    return float(twice / (2 * size.sum().item() ** 2))


@conventions({"rat": "risk at the least coverage that occurs and is >= coverage, ties together"})
def risk_at_coverage(
    score: object, correct: object, coverage: float, *, weights: object = None
) -> float:
    """Error rate of the accepted predictions when at least a share `coverage` must be accepted.

        result = risk(t*),    t* = the largest score t with coverage(t) >= coverage

    Smaller is better. It is exact for a real threshold: predictions with the same score are
    accepted together, so that the coverage may be larger than `coverage`, and nothing is
    interpolated. A constant score gives the error rate at every coverage.

    Args:
        score: [n] real numbers, larger = more confident; ±inf are ordinary values.
        correct: [n] booleans, True where the prediction is right.
        coverage: The least share to accept, in (0, 1].
        weights: [n] real numbers >= 0, not all 0; twice the weight is the sample twice. None
            counts each sample once.

    Returns:
        Risk in [0, 1].

    Raises:
        TypeError: `score` or `weights` are not real numbers, or `correct` is not boolean.
        ValueError: Scores and answers not of one shape [n], no sample, NaN among the scores,
            weights that are not one per score, finite, >= 0 and not all 0, or another `coverage`.

    Source: the curve of RAT §5.1 (Geifman & El-Yaniv 2017), read at one point.

    Example:
        >>> risk_at_coverage([0.9, 0.8, 0.8, 0.3], [True, False, True, False], 0.25)
        0.0
        >>> round(risk_at_coverage([0.9, 0.8, 0.8, 0.3], [True, False, True, False], 0.5), 4)
        0.3333
    """
    check_number("coverage", coverage, most=1)
    curve = risk_coverage_curve(score, correct, weights=weights)
    return float(curve.risk[(curve.coverage >= coverage).int().argmax()])


@conventions({"rat": "largest coverage that occurs with risk <= risk, ties together; else 0"})
def coverage_at_risk(
    score: object, correct: object, risk: float, *, weights: object = None
) -> float:
    """Largest share of predictions, the most confident ones, whose error rate is at most `risk`.

        result = max {coverage(t) : risk(t) <= risk},    0 if no threshold has so small a risk

    Larger is better. It is exact for a real threshold: predictions with the same score are accepted
    together or not at all, and nothing is interpolated. The risk may be larger at some smaller
    coverage.

    Args:
        score: [n] real numbers, larger = more confident; ±inf are ordinary values.
        correct: [n] booleans, True where the prediction is right.
        risk: The largest error rate among accepted predictions, in [0, 1].
        weights: [n] real numbers >= 0, not all 0; twice the weight is the sample twice. None
            counts each sample once.

    Returns:
        Coverage in [0, 1].

    Raises:
        TypeError: `score` or `weights` are not real numbers, or `correct` is not boolean.
        ValueError: Scores and answers not of one shape [n], no sample, NaN among the scores,
            weights that are not one per score, finite, >= 0 and not all 0, or another `risk`.

    Source: the curve of RAT §5.1 (Geifman & El-Yaniv 2017), read at one point.

    Example:
        >>> coverage_at_risk([0.9, 0.8, 0.8, 0.3], [True, False, True, False], 0.4)
        0.75
        >>> coverage_at_risk([0.9, 0.8, 0.8, 0.3], [True, False, True, False], 0.3)
        0.25
    """
    check_number("risk", risk, least=0, most=1)
    curve = risk_coverage_curve(score, correct, weights=weights)
    return max(curve.coverage[curve.risk <= risk].tolist(), default=0.0)
