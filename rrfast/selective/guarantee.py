"""Selection with guaranteed risk: a threshold whose risk is bounded, or word that there is none.

The bound is the exact binomial one: how large a risk can be that showed so few errors.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from rrfast._checks import check_count, check_fraction
from rrfast.metrics.ranking import check
from rrfast.selective.threshold import just_above

#: The fewest and the most thresholds that are looked at, and samples for each in between. Few, as
#: they share 1 - confidence; many, as the best of them is near the best of all.
FEWEST, MOST, SAMPLES = 10, 40, 100


class Guarantee(NamedTuple):
    """What was chosen on a calibration set of n samples."""

    threshold: float  #: accept where score >= threshold
    bound: float  #: of the risk among the accepted, with the confidence that was asked for
    risk: float  #: errors among the accepted of the calibration set
    coverage: float  #: share of the calibration set that is accepted


class NoThresholdError(ValueError):
    """No threshold meets the target."""


def risk_bound(errors: int, accepted: int, confidence: float = 0.95) -> float:
    """Largest risk that is consistent with `errors` among `accepted`: Clopper and Pearson's bound.

        b = max {r : P(Binomial(accepted, r) <= errors) >= 1 - confidence}

    If the accepted samples are independent draws, the true risk is at most b with probability
    `confidence`, whatever the distribution and however few the samples.

    Args:
        errors: Wrong predictions among the accepted, 0 to `accepted`.
        accepted: Accepted samples, >= 0.
        confidence: In (0, 1).

    Returns:
        In (0, 1], to a relative error of 1e-10; 1 where nothing or only errors were accepted.

    Raises:
        TypeError, ValueError: An argument is no number, or out of range.

    Source: Clopper & Pearson (1934); Geifman & El-Yaniv (2017), "Selective Classification for Deep
    Neural Networks", Lemma 3.1, where it is called B*.

    Example:
        No error among 59: with 95 % confidence the risk is below 1 - 0.05^(1/59).

        >>> round(risk_bound(0, 59), 4)
        0.0495
    """
    check_count("accepted", accepted, least=0)
    check_count("errors", errors, least=0)
    if errors > accepted:
        raise ValueError(f"errors must be at most accepted, {accepted}, got {errors}")
    check_fraction("confidence", confidence)
    return largest_risk(errors, accepted, 1 - float(confidence))


def largest_risk(errors: int, accepted: int, failure: float) -> float:
    """`risk_bound` for the probability that it is wrong, which need not become a confidence first.

    P(Binomial(a, r) <= e) is the regularised incomplete beta function I_{1-r}(a - e, e + 1), and
    the bound an inverse of it.

    Args:
        errors: 0 to `accepted`.
        accepted: >= 0.
        failure: In (0, 1).
    """
    from scipy.special import betainccinv  # here, because scipy takes a tenth of a second to import

    if errors == accepted:
        return 1.0
    return float(betainccinv(errors + 1, accepted - errors, failure))


def guaranteed_risk(
    score: object, correct: object, target_risk: float, confidence: float = 0.95
) -> Guarantee:
    """The threshold with the highest coverage found whose risk is at most `target_risk`, surely.

    With probability `confidence` over the draw of the calibration set, the risk among accepted
    samples, P(wrong | score >= threshold), is at most `bound`, and `bound` at most `target_risk`.
    It holds for samples of the same distribution as the calibration set, which must not have been
    used for anything else: not for training, nor for choosing a temperature.

    Looked at are L coverages, equally spaced up to 100 %: 10 of them (n if that is less), above
    1000 samples n / 100, and never more than 40. Each gets an L-th of 1 - confidence for its exact
    binomial bound (`risk_bound`); the highest whose bound is within the target is taken. Infinite
    scores are ordinary values, ties are accepted or rejected together; so where many scores are
    equal, a look may fall on a much lower coverage, or on none.

    Proof. The samples are independent draws of one distribution of (score, wrong), any one: scores
    may have atoms, and the risk R(v) = P(wrong | score > v) may rise and fall with v. The ranks
    k_1 < ... < k_L = n depend on n alone. For j < L let v_j be the (k_j + 1)-th largest score,
    equal ones counted, and accept above it: m_j <= k_j samples, fewer with ties.

    1.  Take any set A of m >= 1 samples and hold the others fixed. Let t be their largest score,
        and c the number of them that have it. Then A is what lies above v_j if and only if
        m <= k_j < m + c and all of A lie above t, and then v_j = t. But t and c are functions of
        the others, of which A is independent. So given the others, and that A is what lies above
        v_j, its samples are independent draws of those that score above v_j, and its errors are
        Binomial(m, R(v_j)).
    2.  So given all this the bound is below R(v_j) with probability (1 - confidence) / L at most.
        It is the same for every A, and therefore without the condition. Where nothing lies above
        v_j there is no bound to be wrong. At j = L all are accepted, Binomial(n, P(wrong)).
    3.  One of the L bounds or more is wrong with probability 1 - confidence at most. Otherwise all
        of them hold, and so does the one that is chosen, however it is chosen: also the best of
        several targets on the same samples, with the same score and confidence.

    Args:
        score: [n] real numbers, larger = more confident. Those that the threshold is for must be of
            the same dtype: between two neighbours of float32 there are numbers of float64.
        correct: [n] booleans, True where the prediction is right.
        target_risk: In (0, 1).
        confidence: In (0, 1).

    Returns:
        Guarantee(threshold, bound, risk, coverage).

    Raises:
        NoThresholdError: No threshold that was looked at keeps the target.
        TypeError, ValueError: As of the metrics; or a fraction is out of range.

    Cost: a sort, then some microseconds for each of L thresholds.

    Source: Geifman & El-Yaniv (2017), "Selective Classification for Deep Neural Networks": the
    problem and the bound (Lemma 3.1). Their search is binary (Algorithm 1): which thresholds it
    looks at depends on the errors it saw, here on n alone.

    Example:
        >>> import torch
        >>> score = torch.linspace(0, 1, 1000)
        >>> guaranteed_risk(score, score > 0.1, target_risk=0.02).coverage
        0.9
    """
    check_fraction("target_risk", target_risk)
    check_fraction("confidence", confidence)
    target_risk, confidence = float(target_risk), float(confidence)  # not in NumPy's precision
    s, c = check(score, correct)
    n, (ranked, order) = len(s), s.sort(descending=True)
    ranked, errors = ranked.cpu(), (~c[order]).cumsum(0).cpu()
    ranks = looks(n)
    failure = (1 - confidence) / len(ranks)
    for rank in reversed(ranks):
        accepted, threshold = n, -math.inf
        if rank < n:
            accepted, threshold = int((ranked > ranked[rank]).sum()), just_above(ranked[rank])
        wrong = int(errors[accepted - 1]) if accepted else 0
        bound = largest_risk(wrong, accepted, failure)
        if bound <= target_risk:
            return Guarantee(threshold, bound, risk=wrong / accepted, coverage=accepted / n)
    raise NoThresholdError(
        f"no threshold keeps the risk at or below target_risk={target_risk:g} with confidence "
        f"{confidence:g} on these {n} samples, {int(errors[-1])} of them wrong. Ask for a "
        "higher risk or a lower confidence, give more samples, or use a better score"
    )


def looks(samples: int) -> list[int]:
    """How many samples each threshold is to accept, ascending: a function of their number alone.

    Example:
        >>> looks(500)
        [50, 100, 150, 200, 250, 300, 350, 400, 450, 500]
        >>> looks(4), len(looks(2500)), len(looks(10**6))
        ([1, 2, 3, 4], 25, 40)
    """
    spaced = min(max(samples // SAMPLES, FEWEST), MOST)
    ranks = {round(samples * j / spaced) for j in range(1, spaced + 1)}
    return sorted(ranks - {0})
