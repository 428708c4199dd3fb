"""Losses that attacks maximise.

`LOSSES` has them by name; a new one is a function and a line there. `rrfast.attacks.ascent` has
their gradients in closed form, or computes them by autograd. In all but `confidence` a logit of
+infinity is the largest number: a class that overflows wins, as it does in a running model, and if
two overflow neither is ahead.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from rrfast._checks import check_one_of
from rrfast.ops import accumulate_dtype, best_other, check_enough_classes, is_undefined
from rrfast.ops.logits import capped, largest

#: Maps logits [B, K] and labels [B], or None if it does not use them, to [B]; differentiable.
Loss = Callable[[Tensor, Tensor | None], Tensor]


class TargetedLoss(Protocol):
    """A loss towards a class."""

    def __call__(self, logits: Tensor, labels: Tensor | None, targets: Tensor) -> Tensor:
        """Maps logits [B, K], labels [B] and target classes [B] to [B]."""


def ce(logits: Tensor, labels: Tensor | None) -> Tensor:
    """The log-odds against the label, which increase with its cross-entropy.

        logsumexp_{k != y} h_k - h_y = log((1 - p_y) / p_y)

    The cross-entropy is log(1 + e^this): the order and the direction of the gradient are the same,
    but this gradient does not vanish where p_y rounds to 1 (errata 4).

    Example:
        >>> h = torch.tensor([[80.0, 0.0, 0.0]])
        >>> ce(h, torch.tensor([0])), torch.nn.functional.cross_entropy(h, torch.tensor([0]))
        (tensor([-79.3069]), tensor(0.))
    """
    h, y = _widened(logits, labels)
    return _others(h, y).logsumexp(dim=1) - h.gather(1, y).squeeze(1)


def cw(logits: Tensor, labels: Tensor | None) -> Tensor:
    """The margin of Carlini & Wagner: max_{k != y} h_k - h_y, above 0 for errors."""
    h, y = _widened(logits, labels)
    return _others(h, y).amax(dim=1) - h.gather(1, y).squeeze(1)


def confidence(logits: Tensor, labels: Tensor | None) -> Tensor:
    """The log-odds of the prediction, which increase with its probability.

        h_y - logsumexp_{k != y} h_k = log(p_y / (1 - p_y)),    y = argmax_k h_k

    log max_k p_k, the L_pout of ACET and the objective of distal examples, is -log(1 + e^-this):
    the order and the direction of the gradient are the same, but this gradient does not vanish
    where p_y rounds to 1 (errata 19, 21). Labels are not used. NaN if the largest logit is infinite
    (overflow), as for the radius and scores.

    Example:
        >>> confidence(torch.tensor([[1.0, 0.0], [math.inf, 0.0]]), None)
        tensor([1., nan])
    """
    del labels
    return (-ce(logits, logits.argmax(dim=1))).masked_fill(is_undefined(logits), math.nan)


def other(logits: Tensor, labels: Tensor | None) -> Tensor:
    """The log-odds of the best class other than the label, which increase with its probability.

        h_j - logsumexp_{k != j} h_k = log(p_j / (1 - p_j)),    j = argmax_{k != y} h_k

    CCAT's attack maximises p_j itself, which has the same order.
    """
    h, y = _widened(logits, labels)
    return -ce(h, best_other(h, y.squeeze(1)))


def dlr(logits: Tensor, labels: Tensor | None) -> Tensor:
    """The difference of logits ratio, which does not change if logits are scaled or shifted.

        -(h_y - max_{k != y} h_k) / (h_(1) - h_(3)),    h_(1) >= h_(2) >= h_(3) >= ...

    Within [-1, 1] if the label is among the three largest; above 0 for errors; 1, with a zero
    gradient, if the label is the third. If the three largest are equal, the ratio is undefined and
    the numerator is returned, which is 0 if y is among them.

    Raises:
        ValueError: There are fewer than three classes.

    Source: Croce & Hein, ICML 2020 (AutoAttack), DLR.

    Example:
        >>> dlr(torch.tensor([[4.0, 3.0, 0.0], [400.0, 300.0, 0.0]]), torch.tensor([0, 0]))
        tensor([-0.2500, -0.2500])
    """
    check_enough_classes("dlr", logits.shape[1])
    h, y = _widened(logits, labels)
    top, _ = largest(h, 3)
    ahead = _others(h, y).amax(dim=1) - h.gather(1, y).squeeze(1)
    return _ratio(ahead, top[:, 0] - top[:, 2])


def dlr_targeted(logits: Tensor, labels: Tensor | None, targets: Tensor) -> Tensor:
    """The difference of logits ratio towards a class t.

        -(h_y - h_t) / (h_(1) - (h_(3) + h_(4)) / 2)

    If the four largest are equal, the numerator is returned, as in `dlr`.

    Args:
        logits: [B, K >= 4].
        labels: y, [B].
        targets: t, [B].

    Raises:
        ValueError: There are fewer than four classes.

    Source: Croce & Hein, ICML 2020 (AutoAttack), targeted DLR.

    Example:
        >>> h, y, t = torch.tensor([[4.0, 3.0, 1.0, 1.0]]), torch.tensor([0]), torch.tensor([1])
        >>> dlr_targeted(h, y, t)
        tensor([-0.3333])
    """
    check_enough_classes("dlr_targeted", logits.shape[1])
    h, y = _widened(logits, labels)
    top, _ = largest(h, 4)
    ahead = (h.gather(1, targets.view(-1, 1)) - h.gather(1, y)).squeeze(1)
    return _ratio(ahead, top[:, 0] - (top[:, 2] + top[:, 3]) / 2)


LOSSES: dict[str, Loss] = {
    "ce": ce,
    "cw": cw,
    "confidence": confidence,
    "other": other,
    "dlr": dlr,
}
#: Losses with a form towards a target class.
TARGETED: dict[str, TargetedLoss] = {"dlr": dlr_targeted}
#: Losses that do not use labels.
UNLABELLED = frozenset({"confidence"})


def check_loss(loss: object) -> None:
    """Raise a ValueError unless `loss` is in `LOSSES` or a function."""
    if not callable(loss):
        check_one_of("loss, unless it is a function,", loss, LOSSES)


def _widened(logits: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    """The logits in the accumulation dtype, and the labels as a column."""
    assert labels is not None  # checked by `Attack`
    return capped(logits.to(accumulate_dtype(logits.dtype))), labels.view(-1, 1)


def _others(h: Tensor, y: Tensor) -> Tensor:
    return h.scatter(1, y, -math.inf)


def _ratio(ahead: Tensor, spread: Tensor) -> Tensor:
    """The ratio, or the numerator if the spread is 0 or infinite: 0/0 and inf/inf are NaN."""
    return ahead / torch.where((spread == 0) | spread.isinf(), 1.0, spread)
