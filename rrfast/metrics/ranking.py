"""Rankings: checked scores and answers, and counts per score, from which metrics are computed."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


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

    n = 0 is allowed with `empty`, NaN with `nan`.

    The device is the score's if it supports 64 bits (CPU and CUDA), else the CPU.

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
    if len(s) != len(c):
        raise ValueError(
            f"score and correct must have the same length, got {len(s)} scores and {len(c)} answers"
        )
    if len(s) == 0 and not empty:
        raise ValueError("score and correct must hold at least one sample, got none")
    if not nan:
        _check_no_nan(s)
    # An empty list of answers becomes float64.
    return s, c.to(s.device, torch.bool)


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
    elif s.device.type == "cpu":
        distinct, errors, correct_ = map(torch.from_numpy, counts(s, c))
        return Ranking(distinct.to(s.dtype), errors, correct_)
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


class Counts(NamedTuple):
    """The three of a `Ranking` without weights, as arrays: of a few numbers tensors cost more."""

    score: npt.NDArray[Any]
    errors: npt.NDArray[np.int64]
    correct: npt.NDArray[np.int64]


def counts(score: Tensor, correct: Tensor) -> Counts:
    """Of checked scores and answers on a CPU; bfloat16 as float32.

    By NumPy, which sorts numbers in a fifth of the time that an order of them takes it. The scores
    are sorted once, and once more those of the wrong predictions, or of the right ones where they
    are fewer, to be found among the former. A score takes 40 bytes at most.
    """
    # NumPy has no bfloat16; as float32 all numbers and their order are the same.
    wide = score.float() if score.dtype == torch.bfloat16 else score
    values, right = wide.numpy(), correct.numpy()
    n = len(values)
    distinct = np.sort(values)
    fewer = right if 2 * int(np.count_nonzero(right)) < n else ~right
    some = values[np.flatnonzero(fewer)]  # which takes a third of the time of [fewer]
    some.sort()
    starts = np.ones(n + 1, dtype=bool)  # and the end
    np.not_equal(distinct[1:], distinct[:-1], out=starts[1:-1])
    if starts.all():
        size = np.ones(n, dtype=np.int64)
    else:
        places = np.flatnonzero(starts)
        distinct, size = distinct[places[:-1]], np.diff(places)
        del places
    counted = np.bincount(distinct.searchsorted(some), minlength=len(distinct))
    rest = np.subtract(size, counted, out=size)
    return Counts(distinct, rest, counted) if fewer is right else Counts(distinct, counted, rest)


def sweep(ranking: Ranking, positive: str) -> tuple[Tensor, Tensor]:
    """Positives and negatives, [G] each; scores that are called positive first come first.

    Errors are detected from the least confident score up, right predictions from the top down.
    """
    if positive == "errors":
        return ranking.errors, ranking.correct
    if positive == "correct":
        return ranking.correct.flip(0), ranking.errors.flip(0)
    raise ValueError(f'positive must be "errors" or "correct", got {positive!r}')


def fraction(name: str, value: float, *, zero: bool) -> None:
    """Raise a ValueError for a `value` outside (0, 1], or [0, 1] with `zero`, and for NaN."""
    if not (0 < value <= 1 or (zero and value == 0)):
        raise ValueError(f"{name} must be a fraction in {'[' if zero else '('}0, 1], got {value!r}")


def _weights(value: object, n: int) -> Tensor:
    w = _tensor("weights", value).cpu()
    if not (w.is_floating_point() or w.dtype in _INTEGERS):
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
    s = s if s.device.type in {"cpu", "cuda"} else s.cpu()
    if not (s.is_floating_point() or s.dtype in _INTEGERS):
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
            "score must not contain NaN, which has no place in a ranking, got "
            f"{missing} among {len(score)}"
        )


def _tensor(name: str, value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach()
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
