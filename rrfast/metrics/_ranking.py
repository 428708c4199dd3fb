"""What every metric starts from: checked input, and errors and right answers counted per score."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


class Ranking(NamedTuple):
    """Counts per distinct score, from the least confident to the most; G of them, int64."""

    errors: Tensor  #: [G] wrong predictions
    correct: Tensor  #: [G] right predictions


def check(score: object, correct: object) -> tuple[Tensor, Tensor]:
    """`score` [n] and `correct` [n] as tensors on the CPU, n > 0, no NaN.

    Raises:
        TypeError: `score` is not real numbers, or `correct` is not boolean.
        ValueError: Not one score per answer in one dimension, none at all, or NaN among the scores.
    """
    # On the CPU, because not every device sorts, counts and divides in 64 bits.
    s, c = _tensor("score", score), _tensor("correct", correct)
    if not (s.is_floating_point() or s.dtype in _INTEGERS):
        raise TypeError(f"score must be real numbers, larger = more confident, got {_dtype(s)}")
    if c.numel() and c.dtype != torch.bool:
        raise TypeError(
            f"correct must be boolean, True where the prediction is right, got {_dtype(c)}; "
            "make it with prediction == label"
        )
    for name, value in (("score", s), ("correct", c)):
        if value.dim() != 1:
            raise ValueError(f"{name} must have one dimension [n], got shape {list(value.shape)}")
    if len(s) != len(c):
        raise ValueError(
            f"score and correct must have the same length, got {len(s)} scores and {len(c)} answers"
        )
    if len(s) == 0:
        raise ValueError("score and correct must hold at least one sample, got none")
    nan = int(s.isnan().sum())
    if nan:
        raise ValueError(
            f"score must not contain NaN, which has no place in a ranking, got {nan} among {len(s)}"
        )
    return s, c


def rank(score: object, correct: object) -> Ranking:
    """Checks as `check`, then one sort, and errors and right answers counted per distinct score.

    Scores are compared in their own dtype: nothing is rounded into a tie or out of one.
    """
    s, c = check(score, correct)
    s, order = s.sort()
    # Neighbours are compared, not subtracted: inf - inf is NaN.
    starts = torch.cat([s.new_ones(1, dtype=torch.bool), s[1:] != s[:-1]])
    group = starts.cumsum(0) - 1
    groups = int(group[-1]) + 1
    size = torch.bincount(group, minlength=groups)
    right = torch.bincount(group[c[order]], minlength=groups)
    return Ranking(errors=size - right, correct=right)


def _tensor(name: str, value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    try:
        # Through NumPy, which keeps a list of floats in float64, where torch would round it to
        # float32 and make ties; a copy, because torch reads no negative strides.
        return torch.from_numpy(np.array(value, order="C"))
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"{name} must be a tensor, an array or a sequence of numbers, "
            f"got {type(value).__name__}: {error}"
        ) from error


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
