"""Thresholds that accept a given share, catch a given share of the errors, or show a given risk."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rrfast.checks import describe, is_number
from rrfast.metrics._ranking import check


def just_above(value: Tensor) -> float:
    """The smallest number of the value's dtype that is greater: what scores as much is rejected."""
    return float(value.nextafter(value.new_tensor(math.inf)))


def coverage_threshold(score: object, coverage: float) -> float:
    """The highest threshold that accepts at least a share `coverage` of the samples.

    Accepted is score >= threshold; ties are accepted together, so that it may be more.

    Args:
        score: [n] real numbers, larger = more confident; no NaN.
        coverage: In (0, 1].

    Example:
        >>> coverage_threshold([0.1, 0.4, 0.4, 0.9], 0.5)
        0.4
    """
    _check_share("coverage", coverage)
    s, _ = check(score, torch.ones(len(score), dtype=torch.bool))  # type: ignore[arg-type]
    # A product of floats may end just above the integer it stands for.
    accepted = max(1, math.ceil(float(coverage) * len(s) - 1e-9))
    return float(s.sort(descending=True).values[accepted - 1])


def tpr_threshold(score: object, correct: object, tpr: float) -> float:
    """The lowest threshold that rejects at least a share `tpr` of the errors.

    Args:
        score: [n] real numbers, larger = more confident; no NaN.
        correct: [n] booleans, True where the prediction is right.
        tpr: In (0, 1].

    Raises:
        ValueError: There is no error to reject, or so many of them score infinity, which no
            threshold is above, that none rejects that share.

    Source: RAT §5.1; errata 11: as FPR95, at the first score that reaches `tpr`.

    Example:
        >>> tpr_threshold([0.1, 0.4, 0.6, 0.9], [False, True, False, True], 0.5) > 0.1
        True
    """
    _check_share("tpr", tpr)
    s, c = check(score, correct)
    s = s if s.dtype in (torch.float32, torch.float64) else s.double()
    wrong = s[~c].sort().values
    if len(wrong) == 0:
        raise ValueError("correct must have a wrong prediction, or there is nothing to reject")
    rejected = max(1, math.ceil(float(tpr) * len(wrong) - 1e-9))
    if wrong[rejected - 1] == math.inf:
        raise ValueError(
            f"no threshold rejects a share tpr={tpr:g} of the {len(wrong)} errors: "
            f"{int((wrong == math.inf).sum())} of them score infinity, which nothing is above"
        )
    return just_above(wrong[rejected - 1])


def risk_threshold(score: object, correct: object, risk: float) -> float:
    """The lowest threshold with at most a share `risk` of wrong samples among the accepted.

    As seen here, and what is seen on few samples says little of others: `guaranteed_risk` bounds
    the true risk.

    Args:
        score: [n] real numbers, larger = more confident; no NaN.
        correct: [n] booleans, True where the prediction is right.
        risk: In [0, 1].

    Raises:
        ValueError: No threshold has that risk.

    Example:
        >>> risk_threshold([0.1, 0.4, 0.6, 0.9], [False, True, False, True], 0.34)
        0.4
    """
    if not is_number(risk) or not 0 <= risk <= 1:
        raise ValueError(f"risk must be a number from 0 to 1, got {describe(risk)}")
    s, c = check(score, correct)
    values, group = s.unique(return_inverse=True)
    size, errors = (torch.bincount(g, minlength=len(values)) for g in (group, group[~c]))
    accepted, wrong = (counts.flip(0).cumsum(0).flip(0) for counts in (size, errors))
    kept = (wrong.double() <= float(risk) * accepted.double() + 1e-9).nonzero()
    if len(kept) == 0:
        raise ValueError(
            f"no threshold has a risk of at most {risk:g} on these {len(s)} samples: the most "
            "confident of them are wrong"
        )
    return float(values[int(kept[0])])


def _check_share(name: str, value: object) -> None:
    if not is_number(value):
        raise TypeError(f"{name} must be a number, got {describe(value)}")
    if not 0 < value <= 1:
        raise ValueError(f"{name} must be above 0 and at most 1, got {value!r}")
