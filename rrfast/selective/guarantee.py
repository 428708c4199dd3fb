"""Selection with guaranteed risk: a threshold whose risk is bounded, or word that there is none."""

from __future__ import annotations

import math
from typing import NamedTuple

from rrfast.metrics._ranking import check
from rrfast.selective.bound import check_fraction, largest_risk, log_at_most
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

    Cost: a sort, then for each of L thresholds as many logarithms as it accepts errors.

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
    allowed = math.log((1 - confidence) / len(ranks))
    for rank in reversed(ranks):
        accepted, threshold = n, -math.inf
        if rank < n:
            accepted, threshold = int((ranked > ranked[rank]).sum()), just_above(ranked[rank])
        wrong = int(errors[accepted - 1]) if accepted else 0
        # No bound is below what was seen. The bound is within the target if and only if so few
        # errors are that improbable at the target: one sum for that, and the bound itself once.
        if wrong < target_risk * accepted and log_at_most(wrong, accepted)(target_risk) <= allowed:
            bound = min(target_risk, largest_risk(wrong, accepted, allowed))  # rounded upwards
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
