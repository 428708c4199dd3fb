"""What an attack climbs: functions of a sample's logits, each larger the better the attack.

`LOSSES` names them; a new one is a function and a line there.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from rrfast.reference import accumulate_dtype

#: Of logits [B, K] and labels [B], or None where it has no use for them: [B], differentiable.
Loss = Callable[[Tensor, Tensor | None], Tensor]


def ce(logits: Tensor, labels: Tensor | None) -> Tensor:
    """The odds against the label, which grow with its cross-entropy.

        logsumexp_{k != y} h_k - h_y = log((1 - p_y) / p_y)

    The cross-entropy is log(1 + e^this): the same order, and a gradient that points the same way,
    but does not vanish where p_y rounds to 1 (errata 4).

    Example:
        >>> h = torch.tensor([[80.0, 0.0, 0.0]])
        >>> ce(h, torch.tensor([0])), torch.nn.functional.cross_entropy(h, torch.tensor([0]))
        (tensor([-79.3069]), tensor(0.))
    """
    h, y = _widened(logits, labels)
    return _others(h, y).logsumexp(dim=1) - h.gather(1, y).squeeze(1)


def cw(logits: Tensor, labels: Tensor | None) -> Tensor:
    """The margin of Carlini & Wagner: max_{k != y} h_k - h_y, above 0 where the label has lost."""
    h, y = _widened(logits, labels)
    return _others(h, y).amax(dim=1) - h.gather(1, y).squeeze(1)


def confidence(logits: Tensor, labels: Tensor | None) -> Tensor:
    """The odds for the prediction, which grow with its probability.

        h_y - logsumexp_{k != y} h_k = log(p_y / (1 - p_y)),    y = argmax_k h_k

    log max_k p_k, the L_pout of ACET and the objective of distal examples, is -log(1 + e^-this):
    the same order, and a gradient that points the same way, but does not vanish where p_y rounds
    to 1 (errata 19, 21). Labels are not used.
    """
    del labels
    return -ce(logits, logits.argmax(dim=1))


def other(logits: Tensor, labels: Tensor | None) -> Tensor:
    """The odds for the best class that is not the label, which grow with its probability.

        h_j - logsumexp_{k != j} h_k = log(p_j / (1 - p_j)),    j = argmax_{k != y} h_k

    The objective of CCAT's attack is p_j itself: the same order.
    """
    h, y = _widened(logits, labels)
    return -ce(h, _others(h, y).argmax(dim=1))


LOSSES: dict[str, Loss] = {"ce": ce, "cw": cw, "confidence": confidence, "other": other}
#: Those that have no use for labels.
UNLABELLED = frozenset({"confidence"})


def ascent(loss: Loss, logits: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    """The loss of each sample [B], and its gradient with respect to the logits [B, K].

    The gradient is of the dtype of the logits. The loss is NaN where a logit is.
    """
    with torch.enable_grad():
        h = logits.detach().requires_grad_(True)
        value = loss(h, labels)
        (seed,) = torch.autograd.grad(value.sum(), h)
    return value.detach(), seed


def _widened(logits: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    """The logits as they are computed with, and the labels as a column."""
    assert labels is not None  # `Attack` has looked
    return logits.to(accumulate_dtype(logits.dtype)), labels.view(-1, 1)


def _others(h: Tensor, y: Tensor) -> Tensor:
    return h.scatter(1, y, -math.inf)
