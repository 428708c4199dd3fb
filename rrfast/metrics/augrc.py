"""Area under the generalised-risk-coverage curve."""

from __future__ import annotations

from rrfast.metrics._ranking import rank
from rrfast.metrics.convention import conventions


@conventions({"rat": "area of coverage times risk over coverage, straight through ties"})
def augrc(score: object, correct: object, *, weights: object = None) -> float:
    """Probability, over thresholds, that a prediction is accepted and wrong.

        AUGRC = integral_0^1 e(c) dc,    e(i/n) = errors among the i most confident / n

    e is coverage times risk, a straight line between neighbouring coverages i/n, i = 0, ..., n, and
    averaged over the orders of ties, straight through all of them: with E_g errors above the g-th
    distinct score, e_g at it and m_g predictions, sum_g m_g (E_g + e_g / 2) / n^2. Smaller is
    better. Unlike AURC, each error counts alike, at whatever coverage; and exactly

        AUGRC = r (1 - r) (1 - AUROC) + r^2 / 2

    with error rate r: r^2/2 is a perfect ranking, r/2 a constant score.

    Convention: the area. The mean of e over the n coverages i/n, as AURC is a mean, would be larger
    by r/(2n), for every score alike. torch-uncertainty leaves out the area below coverage 1/n, and
    divides by 1 - 1/n. Times 1000 in papers; not here.

    Args:
        score: [n] real numbers, larger = more confident; ±inf are ordinary values.
        correct: [n] booleans, True where the prediction is right.
        weights: [n] real numbers >= 0, not all 0; twice the weight is the sample twice. None
            counts each sample once.

    Returns:
        AUGRC in [0, 1/2]: 0 where all predictions are right, 1/2 where all are wrong.

    Raises:
        TypeError: `score` or `weights` are not real numbers, or `correct` is not boolean.
        ValueError: Not one score per answer in one dimension, none at all, NaN among the scores,
            weights that are not one per score, finite, >= 0 and somewhere positive.

    Source: Traub et al., NeurIPS 2024 (in no paper of ours); errata 11.

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
