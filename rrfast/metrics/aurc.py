"""Area under the risk-coverage curve."""

from __future__ import annotations

import torch

from rrfast.metrics._ranking import rank


def aurc(score: object, correct: object) -> float:
    """Mean error rate of the most confident i of n predictions, over i = 1, ..., n.

        AURC = (1/n) sum_{i=1}^{n} risk(i/n),    risk(i/n) = errors among the i most confident / i

    Smaller is better; it falls with fewer errors and with errors ranked lower. A random ranking
    gives the error rate. Times 1000 in the papers' tables; not here.

    Convention: the exact sum over all n coverages, no trapezoid. Samples with the same score have
    no order, so the sum is averaged over all of them: inside a group of m ties with e errors the
    expected number of errors grows by e/m per sample, which gives that average in closed form.
    The result therefore never depends on the order of the data. Errors are what is counted, as
    everywhere here (RAT §5.1).

    Args:
        score: [n] real numbers, larger = more confident; ±inf are ordinary values.
        correct: [n] booleans, True where the prediction is right.

    Returns:
        AURC in [0, 1]: 0 where all predictions are right, 1 where all are wrong.

    Raises:
        TypeError: `score` is not real numbers, or `correct` is not boolean.
        ValueError: Not one score per answer in one dimension, none at all, or NaN among the scores.

    Source: RAT §5.1 (Geifman & El-Yaniv 2017); errata 11.

    Example:
        Risks 0, 0, 1/3 at coverages 1/3, 2/3, 1; and a constant score, which knows nothing:

        >>> round(aurc([0.9, 0.7, 0.1], [True, True, False]), 4)
        0.1111
        >>> round(aurc([0.5, 0.5, 0.5], [True, True, False]), 4)
        0.3333
    """
    errors, correct = (counts.flip(0) for counts in rank(score, correct))
    size = errors + correct
    group = torch.repeat_interleave(size)
    coverage = torch.arange(1, len(group) + 1)
    errors_above, seen_above = errors.cumsum(0) - errors, size.cumsum(0) - size
    rate = errors.double() / size
    expected = errors_above[group] + rate[group] * (coverage - seen_above[group])
    return float((expected / coverage).mean())
