"""Selection with guaranteed risk: a threshold whose risk is bounded, or word that there is none."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from rrfast.metrics._ranking import check
from rrfast.selective.bound import check_fraction, log_at_most, risk_bound
from rrfast.selective.threshold import just_above

#: Coverages that a walk starts from, and the most thresholds that all walks together look at.
STARTS, LOOKS = 10, 200


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

    From each of ten coverages, 10 %, 20 %, ... 100 %, the threshold is lowered for as long as the
    exact binomial bound on the risk stays within the target. A walk gets a tenth of 1 - confidence
    and spends it once, on the first threshold whose true risk is too high: to pass that one is the
    only way to be wrong. So all walks together are wrong with probability 1 - confidence at most,
    however the risk depends on the threshold. Infinite scores are ordinary values, ties are
    accepted or rejected together.

    Args:
        score: [n] real numbers, larger = more confident.
        correct: [n] booleans, True where the prediction is right.
        target_risk: In (0, 1).
        confidence: In (0, 1).

    Returns:
        Guarantee(threshold, bound, risk, coverage).

    Raises:
        NoThresholdError: No threshold that was looked at keeps the target.
        TypeError, ValueError: As of the metrics; or a fraction is out of range.

    Source: Geifman & El-Yaniv (2017), "Selective Classification for Deep Neural Networks": the
    problem and the bound (Lemma 3.1). Their search is binary (Algorithm 1): which thresholds it
    looks at depends on what it saw, and its union bound over them supposes that the risk falls with
    the coverage. The walks are those of fixed sequence testing: Angelopoulos et al. (2021), "Learn
    then Test".

    Example:
        >>> score = torch.linspace(0, 1, 1000)
        >>> guaranteed_risk(score, score > 0.1, target_risk=0.02).coverage > 0.85
        True
    """
    check_fraction("target_risk", target_risk)
    check_fraction("confidence", confidence)
    s, c = check(score, correct)
    s = s if s.dtype in (torch.float32, torch.float64) else s.double()
    values, group = s.unique(return_inverse=True)
    size, errors = (torch.bincount(g, minlength=len(values)) for g in (group, group[~c]))
    # From the highest threshold to the lowest: how many are accepted, and how many of them wrong.
    accepted, wrong = (counts.flip(0).cumsum(0) for counts in (size, errors))
    looked = torch.linspace(0, len(values) - 1, min(LOOKS, len(values))).round().long()
    each = 1 - (1 - confidence) / STARTS
    kept = _kept(wrong[looked], accepted[looked], target_risk, each)
    share = accepted[looked].double() / len(s)
    best = -1
    for start in range(1, STARTS + 1):
        first = int((share < start / STARTS - 1e-12).sum())
        fails = (~kept[first:]).nonzero()
        end = first + int(fails[0]) if len(fails) else len(looked)
        if end > first:
            best = int(looked[end - 1])
    if best < 0:
        raise NoThresholdError(
            f"no threshold keeps the risk at or below target_risk={target_risk:g} with confidence "
            f"{confidence:g} on these {len(s)} samples, {int(wrong[-1])} of them wrong. Ask for a "
            "higher risk or a lower confidence, give more samples, or use a better score"
        )
    # Accepted is what scores above the next value, not what scores as the lowest accepted one:
    # given that next value, those above it are independent draws of what will be accepted.
    following = len(values) - 2 - best
    threshold = -math.inf
    if following >= 0:
        threshold = just_above(values[following])
    n, k = int(accepted[best]), int(wrong[best])
    return Guarantee(threshold, risk_bound(k, n, each), risk=k / n, coverage=n / len(s))


def _kept(wrong: Tensor, accepted: Tensor, target: float, confidence: float) -> Tensor:
    """[J] bool: whether the bound on the risk is within the target."""
    kept = wrong < target * accepted  # or there is nothing to be confident of
    if kept.any():
        log_p = log_at_most(wrong[kept], accepted[kept], target)
        kept[kept.clone()] = log_p <= math.log(1 - confidence)
    return kept
