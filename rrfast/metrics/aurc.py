"""Area under the risk-coverage curve."""

from __future__ import annotations

import torch
from torch import Tensor

from rrfast.metrics._ranking import Ranking, check, rank
from rrfast.metrics.convention import conventions, known


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

    Smaller is better; it falls with fewer errors and with errors ranked lower. A random ranking
    gives the error rate. Times 1000 in the papers' tables; not here.

    Convention: the exact sum over all n coverages, no trapezoid. Samples with the same score have
    no order, so the sum is averaged over all of them: inside a group of m ties with e errors the
    expected number of errors grows by e/m per sample, which gives that average in closed form.
    The result therefore never depends on the order of the data. Errors are what is counted, as
    everywhere here (RAT §5.1). Others, to compare with older papers:

    * "rat": the above.
    * "openmix": the sum with ties in the order of the data. A constant score can give anything.
    * "fd-shifts": trapezoid over the coverages of distinct scores; below the least, its risk.
    * "rat_released": fd-shifts' first, which RAT's released code has. Samples leave from the least
      confident on, ties in the order of the data, and a point is taken before any has left and
      after the first of each group of ties, not after its last. Below the last point its risk,
      down to coverage 1/n, where the area ends: one sample has area 0.
    * "torch-uncertainty": trapezoid over coverages 1/n, ..., 1, divided by their width 1 - 1/n; NaN
      for one sample. Its own order of ties is not defined; here that of the data.

    With weights n is the number of equal weights that know as much, (sum w)^2 / sum w^2 (Kish), and
    weights are scaled to that sum: their proportions decide, equal weights change nothing, and a
    weight that goes to 0 goes like the sample. m and the sums become sums of weights, and
    sum_{i=1}^{m} 1/(a+i), which the closed form needs, becomes psi(a+m+1) - psi(a+1) with the
    digamma function psi: the same for integers, and smooth between them.

    Args:
        score: [n] real numbers, larger = more confident; ±inf are ordinary values.
        correct: [n] booleans, True where the prediction is right.
        convention: A name of the list; `rrfast.metrics.convention` gives its sentence.
        weights: [n] real numbers >= 0, not all 0, as above; only their proportions matter. None
            counts each sample once. Only for "rat" and "fd-shifts".

    Returns:
        AURC in [0, 1]: 0 where all predictions are right, 1 where all are wrong.

    Raises:
        TypeError: `score` or `weights` are not real numbers, or `correct` is not boolean.
        ValueError: Not one score per answer in one dimension, none at all, NaN among the scores,
            weights that are not one per score, finite, >= 0 and somewhere positive, another
            `convention`, or weights or a `Ranking` where it needs the order of the data.

    Source: RAT §5.1 (Geifman & El-Yaniv 2017); errata 11.

    Example:
        Risks 0, 0, 1/3 at coverages 1/3, 2/3, 1; and a constant score, which knows nothing:

        >>> round(aurc([0.9, 0.7, 0.1], [True, True, False]), 4)
        0.1111
        >>> round(aurc([0.5, 0.5, 0.5], [True, True, False]), 4)
        0.3333
        >>> round(aurc([0.5, 0.5, 0.5], [True, True, False], convention="openmix"), 4)
        0.1111
    """
    known("aurc", convention)
    if convention in {"openmix", "rat_released", "torch-uncertainty"}:
        if weights is not None or isinstance(score, Ranking):
            raise ValueError(
                f'convention "{convention}" depends on the order of the data: it needs score and '
                "correct themselves, and no weights"
            )
        s, c = check(score, correct)
        return _in_data_order(s, c, convention)
    _, errors, right, samples = rank(score, correct, weights)
    errors, size = errors.flip(0), (errors + right).flip(0)
    if convention == "fd-shifts":
        coverage = size.cumsum(0).double()
        risk = errors.cumsum(0) / coverage
        area = risk[0] * coverage[0] + torch.trapezoid(risk, coverage)
        return float(area / coverage[-1])
    if samples is not None:
        errors, size = (weight * (samples / size.sum()) for weight in (errors, size))
    errors_above, seen_above = errors.cumsum(0) - errors, size.cumsum(0) - size
    rate = errors.double() / size
    if size.is_floating_point():
        inside = errors + (errors_above - rate * seen_above) * _reciprocals(seen_above, size)
        return float(inside.sum() / size.sum())
    group = torch.repeat_interleave(size)
    place = torch.arange(1, len(group) + 1, device=size.device)
    expected = errors_above[group] + rate[group] * (place - seen_above[group])
    return float((expected / place).mean())


def _in_data_order(score: Tensor, correct: Tensor, convention: str) -> float:
    n = len(score)
    if convention == "rat_released":
        score, order = score.sort(stable=True)
        wrong = ~correct[order]
        left = n - torch.arange(n, device=score.device)
        risk = (wrong.sum() - wrong.cumsum(0) + wrong.long()) / left.double()  # of those left
        # A point after the first sample of each group has left; the last sample never leaves.
        starts = torch.cat([score.new_ones(1, dtype=torch.bool), score[1:] != score[:-1]])
        taken = torch.cat([starts.new_ones(1), starts[:-1]])
        area = -torch.trapezoid(risk[taken], left[taken].double())
        return float((area + risk[taken][-1] * (left[taken][-1] - 1)) / n)
    order = score.argsort(descending=True, stable=True)
    place = torch.arange(1, n + 1, device=score.device).double()
    risk = (~correct[order]).cumsum(0) / place
    if convention == "openmix":
        return float(risk.mean())
    return float(torch.trapezoid(risk) / (n - 1))


def _reciprocals(a: Tensor, m: Tensor) -> Tensor:
    """1/(a+1) + ... + 1/(a+m) for integers, psi(a+m+1) - psi(a+1) for reals; float64 [G].

    From 16 on the difference is taken term by term of the asymptotic series, where the logarithms
    make one log1p and lose no digits; the first term left out is 691/32760/16^12 < 1e-16.
    """
    low, high = a + 1, a + m + 1
    series = torch.log1p(m / low) - 0.5 * (1 / high - 1 / low)
    for power, denominator in ((2, -12), (4, 120), (6, -252), (8, 240), (10, -132)):
        series = series + (high**-power - low**-power) / denominator
    return torch.where(low < 16, torch.digamma(high) - torch.digamma(low), series)
