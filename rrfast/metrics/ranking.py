"""Rankings: counts of errors and right predictions per score, from which metrics are computed."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rrfast._checks import INTEGERS, check_one_of

_NO_GROUP = np.empty(0, dtype=np.int64)


class Ranking(NamedTuple):
    """Weights of wrong and right predictions for each of G distinct scores, least confident first.

    They are counts in int64, or sums of sample weights in float64. The weights are first divided by
    the power of two that brings the largest into [1/2, 1), which is exact. No group is empty.
    """

    score: Tensor  #: [G] the distinct scores, ascending, in their own dtype
    errors: Tensor  #: [G] wrong predictions
    correct: Tensor  #: [G] right predictions
    #: With weights the effective sample size (sum w)^2 / sum w^2 (Kish); None with counts.
    samples: float | None = None


def check(
    score: object, correct: object, *, empty: bool = False, nan: bool = False
) -> tuple[Tensor, Tensor]:
    """`score` [n] and `correct` [n] as tensors on one device.

    The device is the score's if it supports 64 bits (CPU and CUDA), else the CPU. n = 0 is allowed
    with `empty`, NaN with `nan`.

    Raises:
        TypeError: `score` is not real numbers, or `correct` is not boolean.
        ValueError: Scores and answers not of one shape [n], no sample, or NaN among the scores.
    """
    s, c = _scores(score), _tensor("correct", correct)
    if c.numel() and c.dtype != torch.bool:
        raise TypeError(
            f"correct must be boolean, True where the prediction is right, got {_dtype(c)}; "
            "make it with prediction == label"
        )
    _check_one_dimension("correct", c)
    n = s.numel()  # in a fifth of the time of len(s)
    if n != c.numel():
        raise ValueError(
            f"score and correct must have the same length, got {n} scores and {len(c)} answers"
        )
    if n == 0 and not empty:
        raise ValueError("score and correct must hold at least one sample, got none")
    if not nan:
        _check_no_nan(s)
    # An empty list of answers becomes float64.
    return s, c if s.is_cpu and c.is_cpu and n else c.to(s.device, torch.bool)


def check_score(score: object, *, empty: bool = False, nan: bool = False) -> Tensor:
    """`check` for a score without answers."""
    s = _scores(score)
    if len(s) == 0 and not empty:
        raise ValueError("score must hold at least one sample, got none")
    if not nan:
        _check_no_nan(s)
    return s


def rank(score: object, correct: object, weights: object = None) -> Ranking:
    """Check as `check`, sort once, and count errors and right predictions per distinct score.

    Scores are compared in their own dtype, so that rounding makes or breaks no ties. The metrics
    also take the result: `metric(ranking, None)` does not sort again.

    Args:
        score: [n] real numbers, larger = more confident; or a `Ranking`, which is returned.
        correct: [n] booleans, True where the prediction is right; None with a `Ranking`.
        weights: [n] finite real numbers >= 0, not all 0: a sample with twice the weight counts as
            two equal samples, one with weight 0 as none. Only their proportions matter. None counts
            each sample once, in integers.

    Raises:
        TypeError: As `check`; `weights` are not real numbers, or other arguments are given with a
            `Ranking`.
        ValueError: As `check`; `weights` have another shape, or are negative, infinite, NaN or all
            0.
    """
    if isinstance(score, Ranking):
        if correct is not None or weights is not None:
            raise TypeError("correct and weights must be None with a Ranking, which holds them")
        return score
    s, c = check(score, correct)
    w = None if weights is None else _weights(weights, len(s))
    if w is not None:
        # On the CPU, where floats are summed in a fixed order.
        kept = w > 0
        s, c, w = s.cpu()[kept], c.cpu()[kept], w[kept]
    elif s.is_cpu:
        return _counted(s, c)
    s, order = s.sort()
    # Compare neighbours instead of subtracting them: inf - inf is NaN.
    starts = torch.cat([s.new_ones(1, dtype=torch.bool), s[1:] != s[:-1]])
    group = starts.cumsum(0) - 1
    groups = int(group[-1]) + 1
    right = c[order]
    if w is not None:
        w = w[order]
        errors, correct_ = (
            torch.bincount(group[which], weights=w[which], minlength=groups)
            for which in (~right, right)
        )
        return Ranking(s[starts], errors, correct_, float(w.sum() ** 2 / w.square().sum()))
    size = torch.bincount(group, minlength=groups)
    rights = torch.bincount(group[right], minlength=groups)
    return Ranking(s[starts], size - rights, rights)


class Ordered(NamedTuple):
    """Scores, and where their errors are, as arrays: for few samples tensors cost more.

    Rank i is the i-th most confident of n samples. Samples with the same score are a group; T
    groups have more than one sample.
    """

    values: npt.NDArray[Any]  #: [n] scores, ascending
    errors: npt.NDArray[np.int64]  #: [n] by rank; those of a group are all at its last rank
    before: npt.NDArray[np.int64]  #: [T] for each such group the last rank before it, descending
    until: npt.NDArray[np.int64]  #: [T] its last rank


def ordered(score: Tensor, correct: Tensor) -> Ordered:
    """Sort scores and answers that are on the CPU and checked, but for NaN.

    NumPy sorts numbers in a fifth of the time that it needs to sort an order of them. So the scores
    of the errors are sorted separately, and then found among all.

    Raises:
        ValueError: NaN among the scores.
    """
    # NumPy has no bfloat16; as float32 all numbers and their order are the same.
    wide = (score.float() if score.dtype == torch.bfloat16 else score).numpy()
    values, wrong = wide.copy(), wide.compress(~correct.numpy())
    values.sort()
    if values[-1] != values[-1]:  # NaN comes last
        _check_no_nan(score)
    wrong.sort()
    n = len(values)
    errors = np.bincount((n - 1) - values.searchsorted(wrong), minlength=n)
    again = values[1:] == values[:-1]
    if not np.count_nonzero(again):
        return Ordered(values, errors, _NO_GROUP, _NO_GROUP)
    edges = np.flatnonzero(np.diff(again, prepend=False, append=False))
    first, last = edges[::2], edges[1::2]
    return Ordered(values, errors, n - 1 - last, n - first)


def _counted(score: Tensor, correct: Tensor) -> Ranking:
    """`rank` on the CPU, without weights."""
    values, errors, before, until = ordered(score, correct)
    errors = errors[::-1].copy()
    size = np.ones_like(errors)
    if len(until):
        size[-until] = until - before
        starts = np.concatenate([[True], values[1:] != values[:-1]])
        values, errors, size = values[starts], errors[starts], size[starts]
    distinct, wrong, right = map(torch.from_numpy, (values, errors, size - errors))
    return Ranking(distinct.to(score.dtype), wrong, right)


def sweep(ranking: Ranking, positive: str) -> tuple[Tensor, Tensor]:
    """Positives and negatives, [G] each; scores that are called positive first come first.

    Errors are detected from the least confident score up, right predictions from the top down.
    """
    check_one_of("positive", positive, ("errors", "correct"))
    if positive == "errors":
        return ranking.errors, ranking.correct
    return ranking.correct.flip(0), ranking.errors.flip(0)


def _weights(value: object, n: int) -> Tensor:
    w = _tensor("weights", value).cpu()
    if not (w.is_floating_point() or w.dtype in INTEGERS):
        raise TypeError(f"weights must be real numbers, got {_dtype(w)}")
    if w.shape != (n,):
        raise ValueError(f"weights must have shape [{n}], one per score, got {list(w.shape)}")
    w = w.double()
    if not bool((w.isfinite() & (w >= 0)).all()):
        raise ValueError(f"weights must be finite and >= 0, got {w.min()} to {w.max()}")
    if not bool((w > 0).any()):
        raise ValueError("weights must not all be 0: no sample would count")
    # After this, sums and squares neither overflow nor underflow. In two steps, because 2^1074 is
    # not a float64.
    exponent = math.frexp(w.max().item())[1]
    return w * 2.0 ** (-exponent // 2) * 2.0 ** (-exponent - -exponent // 2)


def _scores(score: object) -> Tensor:
    s = _tensor("score", score)
    # Not every device has float64 and sorts all integers: MPS does not.
    s = s if s.is_cpu or s.is_cuda else s.cpu()
    if not (s.is_floating_point() or s.dtype in INTEGERS):
        raise TypeError(f"score must be real numbers, larger = more confident, got {_dtype(s)}")
    _check_one_dimension("score", s)
    return s


def _check_one_dimension(name: str, value: Tensor) -> None:
    if value.dim() != 1:
        raise ValueError(f"{name} must have one dimension [n], got shape {list(value.shape)}")


def _check_no_nan(score: Tensor) -> None:
    # The maximum of anything and NaN is NaN; it takes a tenth of the time and no memory.
    if score.is_floating_point() and len(score) and math.isnan(score.amax().item()):
        missing = int(score.isnan().sum())
        raise ValueError(
            f"score must not contain NaN, which cannot be ranked, got {missing} among {len(score)}"
        )


def _tensor(name: str, value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach() if value.requires_grad else value
    try:
        # Through NumPy, which keeps a list of floats in float64; torch would round it to float32
        # and make ties. Copy, because torch does not support negative strides.
        return torch.from_numpy(np.array(value, order="C"))
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"{name} must be a tensor, an array or a sequence of numbers, "
            f"got {type(value).__name__}: {error}"
        ) from error


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
