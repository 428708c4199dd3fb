"""What ops know of a row of logits: whether it is undefined, and its largest."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def is_undefined(logits: Tensor) -> Tensor:
    """Whether a row of logits is undefined, [B].

    That is: a logit is NaN, or has overflowed to +infinity, or all classes are masked with
    -infinity.

    Example:
        >>> is_undefined(torch.tensor([[1.0, math.inf], [1.0, -math.inf], [-math.inf, -math.inf]]))
        tensor([ True, False,  True])
    """
    return ~logits.amax(dim=1).isfinite()


def best_other(logits: Tensor, prediction: Tensor) -> Tensor:
    """The class with the largest logit besides the prediction, [B] int64: the lowest among equals.

    Example:
        >>> best_other(torch.tensor([[2.0, 1.0, 1.0], [0.0, 3.0, 0.0]]), torch.tensor([0, 1]))
        tensor([1, 0])
    """
    other = logits.scatter(1, prediction[:, None], -math.inf).argmax(dim=1)
    # If all others are masked with -inf, argmax gives class 0, which may be the prediction.
    return torch.where(other == prediction, 1, other)


def capped(logits: Tensor) -> Tensor:
    """The logits with the largest number in place of infinity, of which a difference is NaN."""
    return logits.clamp(max=torch.finfo(logits.dtype).max)


def largest(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """So many of the largest logits and their classes, the lower first among equals.

    Example:
        >>> values, classes = largest(torch.tensor([[1.0, 2.0, 1.0, 2.0]]), 3)
        >>> classes.tolist()
        [[1, 3, 0]]
    """
    values, classes = logits.sort(dim=1, descending=True, stable=True)
    return values[:, :count], classes[:, :count]
