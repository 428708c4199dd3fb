"""Paired bootstrap: differences between scores on the same predictions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rrfast._seeds import seeded
from rrfast.metrics.ranking import check
from rrfast.metrics.resampling import check_resampling

#: The metrics, in the order of `_of_draws`.
PAIRED = ("aurc", "auroc", "fpr_at_tpr", "augrc")
#: Draws times samples to process at a time.
_AT_ONCE = 2**20


class Differences(NamedTuple):
    """A metric of S scores on one test set: row minus column, with simultaneous intervals."""

    value: Tensor  #: [S], on all samples
    difference: Tensor  #: [S, S]
    low: Tensor  #: [S, S]
    high: Tensor  #: [S, S]
    draws: int  #: number of draws in which the metric is defined


def paired_bootstrap(
    scores: Sequence[object],
    correct: object,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Differences]:
    """AURC, AUROC, FPR95 and AUGRC of several scores, and the difference of each pair of scores.

    Every draw takes n of the n samples with replacement, the same for all scores, so that the
    difficulty of a test set cancels in the differences. With d the difference of a pair on all
    samples, d* on a draw and s the standard deviation of d* over draws,

        interval = d ± c s,    c = the `level` quantile over draws of max_pairs |d* - d| / s

    so that all intervals of one metric hold at once with probability `level`: however many scores
    are compared, the probability that any pair of equal scores seems to differ is at most 1 -
    level, up to the approximation of the bootstrap. Scores that rank alike are correlated, so that
    c is smaller than Bonferroni's bound. With m errors (or right predictions, if they are fewer) c
    is enlarged as much as Student's t with m - 1 degrees exceeds a normal variable. A pair that is
    equal in every draw has an interval of width 0 and does not count. Each of the four metrics is a
    family of its own: looking at all four means four comparisons.

    In simulations with 1000 test sets of 200 to 1000 samples and 20 to 40 errors, some pair of
    three or six equal scores seemed to differ at the level of 95 % on 0 to 2 % of the test sets by
    AURC, 0 to 3 % by AUGRC, 2 to 4 % by AUROC, and 2 to 7 % by FPR95, which depends on the few most
    confident errors.

    Args:
        scores: S sequences [n] of real numbers, larger = more confident; ±inf are ordinary values.
        correct: [n] booleans, True where the prediction is right.
        draws: Number of test sets to draw, at least 2.
        level: Level in (0, 1), for all pairs together.
        seed: Seed of the draws, which are the same on every device.

    Returns:
        By name, "aurc", "auroc", "fpr_at_tpr" and "augrc", in the conventions of `rrfast.metrics`.
        In a draw without errors, or without right predictions, AUROC and FPR95 are undefined for
        all scores; such draws are left out, and `Differences.draws` is the number of the others. If
        the metric itself is undefined, everything is NaN; if fewer than two draws are left, the
        intervals are.

    Raises:
        TypeError: A score is not real numbers, `correct` is not boolean, or `level` or `seed` is
            not a number.
        ValueError: No score, scores and answers not of one shape [n], no sample, NaN; `draws`
            below 2 or `level` outside (0, 1).

    Cost: O(S draws n) after one sort for each score; memory for a dozen times max(2^20, n) numbers.

    Source: Romano & Wolf (2005) for the maximum over pairs. The intervals cover the uncertainty of
    the test set only (errata 12).

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> good, correct = torch.randn(500, generator=generator), torch.arange(500) % 5 > 0
        >>> good = good + 2 * correct
        >>> found = paired_bootstrap([good, good + 5, -good], correct, draws=200)["aurc"]
        >>> found.high[0]  # the first minus itself, one that ranks alike, and a much worse one
        tensor([ 0.0000,  0.0000, -0.3819], dtype=torch.float64)
    """
    if not len(scores):
        raise ValueError("scores must hold at least one score, got none")
    check_resampling(draws, level, seed, least=2)
    # On the CPU, so that the generator gives the same numbers for every device.
    checked = [check(score, correct) for score in scores]
    right = checked[0][1].cpu()
    ranked = [_Errors.of(score.cpu(), right) for score, _ in checked]
    n = len(right)
    once = torch.ones(n, 1, dtype=torch.int32)
    harmonic = torch.cat([torch.zeros(1), torch.arange(1, n + 1)]).double()
    harmonic[1:] = harmonic[1:].reciprocal().cumsum(0)
    value = torch.stack([_of_draws(s, once, harmonic) for s in ranked])[..., 0]
    generator = seeded(seed)
    drawn = torch.cat(
        [
            torch.stack([_of_draws(s, counts, harmonic) for s in ranked])
            for counts in _counts(n, draws, generator)
        ],
        dim=-1,
    )  # [S, 4, draws]
    rarer = min(int(right.sum()), int((~right).sum()))
    return {
        name: _simultaneous(value[:, i], drawn[:, i], level, rarer) for i, name in enumerate(PAIRED)
    }


class _Errors(NamedTuple):
    """The ranks of the errors, least confident first; G distinct score values have errors."""

    order: Tensor  #: [n], all samples
    wrong: Tensor  #: [E], the errors among them
    first: Tensor  #: [G], where in `order` the ties of each value begin
    last: Tensor  #: [G], where they end
    last_wrong: Tensor  #: [G], where in `wrong` they end

    @classmethod
    def of(cls, score: Tensor, right: Tensor) -> _Errors:
        values, order = score.sort()
        wrong = order[~right[order]]
        held = score[wrong]
        # Compare neighbours instead of subtracting them: inf - inf is NaN.
        ends = torch.cat([held[1:] != held[:-1], held.new_ones(min(len(held), 1)).bool()])
        distinct = held[ends]
        first = torch.searchsorted(values, distinct)
        last = torch.searchsorted(values, distinct, right=True) - 1
        return cls(order, wrong, first, last, ends.nonzero()[:, 0])


def _counts(n: int, draws: int, generator: torch.Generator) -> Iterator[Tensor]:
    """[n, d] int32, how often each sample is drawn; d draws at a time."""
    at_once = max(1, _AT_ONCE // n)
    for first in range(0, draws, at_once):
        d = min(at_once, draws - first)
        places = torch.randint(n, (n, d), generator=generator) * d + torch.arange(d)
        yield torch.bincount(places.flatten(), minlength=n * d).view(n, d).int()


def _of_draws(score: _Errors, counts: Tensor, harmonic: Tensor) -> Tensor:
    """The metrics of `PAIRED`, [4, d], when samples occur `counts` [n, d] times.

    The same numbers as `rrfast.metrics.aurc`, `auroc`, `fpr_at_tpr` and `augrc`, but for all draws
    at once: one by one, a thousand draws of a dozen scores take minutes. All four are sums over the
    errors, or are attained at an error, so right predictions between errors are only counted. A
    group of ties without a sample in a draw adds 0.
    """
    n, d = counts.shape
    seen = torch.cat([counts.new_zeros(1, d), counts[score.order].cumsum(0, dtype=torch.int32)])
    below, to = seen[score.first].long(), seen[score.last + 1].long()  # [G, d]
    errors_to = counts[score.wrong].cumsum(0)[score.last_wrong]
    errors = errors_to.diff(dim=0, prepend=errors_to.new_zeros(1, d))
    size, above = to - below, n - to
    all_errors = errors.sum(0)
    all_right = n - all_errors
    # An error adds 1 / rank to the risk at its own rank and every later one; ties spread errors
    # evenly.
    rate = errors / size.clamp(min=1).double()
    inside = size - above * (harmonic[above + size] - harmonic[above])
    aurc = (rate * inside + errors * (harmonic[n] - harmonic[above + size])).sum(0) / n
    # Twice the number of ordered pairs, so that half ties stay integers. NaN if there is no pair.
    right_to = to - errors_to
    in_order = (errors * (2 * (all_right - right_to) + size - errors)).sum(0)
    pairs = all_errors * all_right
    auroc = in_order.double() / (2 * pairs)
    if len(errors) == 0:
        fpr = torch.full_like(aurc, torch.nan)
    else:
        reached = (errors_to.double() / all_errors >= 0.95).int().argmax(0, keepdim=True)
        fpr = right_to.gather(0, reached)[0].double() / all_right
    # r (1 - r) (1 - AUROC) + r^2 / 2, in integers.
    augrc = (2 * pairs - in_order + all_errors**2).double() / (2 * n**2)
    return torch.stack([aurc, auroc, fpr.masked_fill(pairs == 0, torch.nan), augrc])


def _simultaneous(value: Tensor, drawn: Tensor, level: float, rarer: int) -> Differences:
    """Intervals from a metric [S] and its draws [S, draws]; `rarer` is m of `paired_bootstrap`."""
    drawn = drawn[:, ~drawn.isnan().any(dim=0)]
    draws = drawn.shape[1]
    difference = value[:, None] - value
    if draws < 2 or value.isnan().any():
        nothing = torch.full_like(difference, torch.nan)
        return Differences(value, difference, nothing, nothing, draws)
    i, j = torch.triu_indices(len(value), len(value), 1)
    moved = drawn[i] - drawn[j]  # [pairs, draws]
    scale = moved.std(dim=1) if len(moved) else moved.new_zeros(0)
    # Pairs that rank alike differ only by rounding in the last bits.
    apart = scale > 1e-12
    reach = torch.zeros_like(scale)
    if apart.any():
        off = (moved - difference[i, j][:, None])[apart].abs() / scale[apart, None]
        c = off.amax(dim=0).sort().values[min(draws - 1, int(level * draws))]
        reach[apart] = _student(float(c), rarer) * scale[apart]
    wide = torch.zeros_like(difference)
    wide[i, j] = wide[j, i] = reach
    return Differences(value, difference, difference - wide, difference + wide, draws)


def _student(z: float, m: int) -> float:
    """The quantile of Student's t with m - 1 degrees where a normal variable's is z, scaled to m.

    Infinite for 0 degrees.
    """
    from scipy.special import ndtr, stdtrit  # here, because it takes a tenth of a second to import

    if m < 2:
        return math.inf
    # From the lower tail, whose probability does not round to 1.
    return -float(stdtrit(m - 1, ndtr(-z))) * math.sqrt(m / (m - 1))
