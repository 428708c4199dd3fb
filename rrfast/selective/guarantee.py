"""Selection with guaranteed risk: a threshold with a bounded risk, or an error if there is none.

The bound is the exact binomial one: the largest risk that is consistent with the errors seen.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from rrfast._checks import check_count, check_number
from rrfast.metrics.ranking import check
from rrfast.selective.threshold import just_above

#: The least and largest number of thresholds tried, and the samples per threshold in between. Fewer
#: thresholds get a larger share of 1 - confidence each; with more, the best tried is nearer to the
#: best possible.
FEWEST, MOST, SAMPLES = 10, 40, 100


class Guarantee(NamedTuple):
    """The threshold chosen on a calibration set of n samples."""

    threshold: float  #: accept where score >= threshold
    bound: float  #: bound on the risk among the accepted, with the given confidence
    risk: float  #: errors among the accepted of the calibration set
    coverage: float  #: accepted share of the calibration set


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
        In (0, 1], with a relative error of 1e-10; 1 if nothing or only errors were accepted.

    Raises:
        TypeError, ValueError: An argument is not a number, or out of range.

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
    check_number("confidence", confidence, below=1)
    return largest_risk(errors, accepted, 1 - float(confidence))


def largest_risk(errors: int, accepted: int, failure: float) -> float:
    """`risk_bound` by the probability `failure` = 1 - confidence, without rounding 1 - failure.

    P(Binomial(a, r) <= e) is the regularised incomplete beta function I_{1-r}(a - e, e + 1); the
    bound is its inverse.

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
    """The threshold of highest coverage, among those tried, with a guaranteed risk.

    With probability `confidence` over the draw of the calibration set, the risk among accepted
    samples, P(wrong | score >= threshold), is at most `bound`, and `bound` at most `target_risk`.
    This holds for samples from the distribution of the calibration set, which must not have been
    used for anything else, neither for training nor for tuning a temperature.

    It tries L coverages, equally spaced up to 100 %: L = 10 (n if that is less), n / 100 above 1000
    samples, and at most 40. Each gets 1 / L of 1 - confidence for its exact binomial bound
    (`risk_bound`); the highest coverage whose bound is within the target is taken. Infinite scores
    are ordinary values, and ties are accepted or rejected together; so if many scores are equal,
    the coverage at a rank may be much lower, or 0.

    Proof. The samples are independent draws of one distribution of (score, wrong), any one: scores
    may have atoms, and the risk R(v) = P(wrong | score > v) may rise and fall with v. The ranks
    k_1 < ... < k_L = n depend on n alone. For j < L let v_j be the (k_j + 1)-th largest score,
    equal ones counted, and accept above it: m_j <= k_j samples, fewer with ties.

    1.  Take any set A of m >= 1 samples and hold the others fixed. Let t be the largest score of
       the others, and c the number of the others that have it. Then A is the set above v_j if and
       only if m <= k_j < m + c and all of A lie above t, and then v_j = t. But t and c are
       functions of the others, of which A is independent. So given the others, and given that A is
       the set above v_j, the samples of A are independent draws of those that score above v_j, and
       its errors are Binomial(m, R(v_j)).
    2.  So under this condition the bound is below R(v_j) with probability at most (1 - confidence)
       / L. This is the same for every A, and therefore holds without the condition. If nothing lies
       above v_j there is no bound that could be wrong. At j = L all samples are accepted, and the
       errors are Binomial(n, P(wrong)).
    3.  So the probability that one or more of the L bounds are wrong is at most 1 - confidence.
       Otherwise all of them hold, and so does the chosen one, however it is chosen: also the best
       for several targets on the same samples, with the same score and confidence.

    Args:
        score: [n] real numbers, larger = more confident. The scores that are later compared with
            the threshold must have the same dtype, because float64 has numbers between two
            neighbours of float32.
        correct: [n] booleans, True where the prediction is right.
        target_risk: In (0, 1).
        confidence: In (0, 1).

    Returns:
        Guarantee(threshold, bound, risk, coverage).

    Raises:
        NoThresholdError: None of the thresholds tried meets the target.
        TypeError, ValueError: As the metrics; or a fraction is out of range.

    Cost: a sort, then a few microseconds for each of the L thresholds.

    Source: Geifman & El-Yaniv (2017), "Selective Classification for Deep Neural Networks": the
    problem and the bound (Lemma 3.1). In their binary search (Algorithm 1) the thresholds tried
    depend on the errors seen; here they depend only on n.

    Example:
        >>> import torch
        >>> score = torch.linspace(0, 1, 1000)
        >>> guaranteed_risk(score, score > 0.1, target_risk=0.02).coverage
        0.9
    """
    check_number("target_risk", target_risk, below=1)
    check_number("confidence", confidence, below=1)
    target_risk, confidence = float(target_risk), float(confidence)  # not NumPy's types
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
    """The number of samples that each threshold should accept, ascending; depends only on n.

    Example:
        >>> looks(500)
        [50, 100, 150, 200, 250, 300, 350, 400, 450, 500]
        >>> looks(4), len(looks(2500)), len(looks(10**6))
        ([1, 2, 3, 4], 25, 40)
    """
    spaced = min(max(samples // SAMPLES, FEWEST), MOST)
    ranks = {round(samples * j / spaced) for j in range(1, spaced + 1)}
    return sorted(ranks - {0})
