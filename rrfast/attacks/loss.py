"""Losses that attacks ascend.

`LOSSES` names them; a new one is a function and a line there. In all but `confidence` a logit of
+infinity is the largest number: a class that overflows has won, as it has where the model runs, and
of two that do none is ahead.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from rrfast.ops import accumulate_dtype, is_undefined

#: Of logits [B, K] and labels [B], or None where it has no use for them: [B], differentiable.
Loss = Callable[[Tensor, Tensor | None], Tensor]
#: Of logits [B, K], labels [B] and target classes [B].
TargetedLoss = Callable[[Tensor, Tensor | None, Tensor], Tensor]


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
    to 1 (errata 19, 21). Labels are not used. NaN where the largest logit is infinite, as of the
    radius and of scores: overflow is no confidence.

    Example:
        >>> confidence(torch.tensor([[1.0, 0.0], [math.inf, 0.0]]), None)
        tensor([1., nan])
    """
    del labels
    return (-ce(logits, logits.argmax(dim=1))).masked_fill(is_undefined(logits), math.nan)


def other(logits: Tensor, labels: Tensor | None) -> Tensor:
    """The odds for the best class that is not the label, which grow with its probability.

        h_j - logsumexp_{k != j} h_k = log(p_j / (1 - p_j)),    j = argmax_{k != y} h_k

    The objective of CCAT's attack is p_j itself: the same order.
    """
    h, y = _widened(logits, labels)
    return -ce(h, _others(h, y).argmax(dim=1))


def dlr(logits: Tensor, labels: Tensor | None) -> Tensor:
    """The difference of logits ratio, which scaling and shifting the logits leave as it is.

        -(h_y - max_{k != y} h_k) / (h_(1) - h_(3)),    h_(1) >= h_(2) >= h_(3) >= ...

    Within [-1, 1] where the label is among the three largest; above 0 where it has lost, and 1,
    with a gradient of zero, where it is the third. Where these three are equal the ratio has no
    value: it is the numerator then, 0 if y is among them.

    Raises:
        ValueError: There are fewer than three classes.

    Source: Croce & Hein, ICML 2020 (AutoAttack), DLR.

    Example:
        >>> dlr(torch.tensor([[4.0, 3.0, 0.0], [400.0, 300.0, 0.0]]), torch.tensor([0, 0]))
        tensor([-0.2500, -0.2500])
    """
    h, y = _widened(logits, labels)
    top = _largest(h, 3, "dlr")
    ahead = _others(h, y).amax(dim=1) - h.gather(1, y).squeeze(1)
    return _ratio(ahead, top[:, 0] - top[:, 2])


def dlr_targeted(logits: Tensor, labels: Tensor | None, targets: Tensor) -> Tensor:
    """The difference of logits ratio towards a class t.

        -(h_y - h_t) / (h_(1) - (h_(3) + h_(4)) / 2)

    Where the four largest are equal, as `dlr`.

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
    h, y = _widened(logits, labels)
    top = _largest(h, 4, "dlr towards targets")
    ahead = (h.gather(1, targets.view(-1, 1)) - h.gather(1, y)).squeeze(1)
    return _ratio(ahead, top[:, 0] - (top[:, 2] + top[:, 3]) / 2)


LOSSES: dict[str, Loss] = {
    "ce": ce,
    "cw": cw,
    "confidence": confidence,
    "other": other,
    "dlr": dlr,
}
#: Those that have a form towards a class.
TARGETED: dict[str, TargetedLoss] = {"dlr": dlr_targeted}
#: Those that have no use for labels.
UNLABELLED = frozenset({"confidence"})


def check_loss(loss: object) -> None:
    """Raise a ValueError unless `loss` is in `LOSSES` or a function."""
    if not callable(loss) and not (isinstance(loss, str) and loss in LOSSES):
        raise ValueError(f"loss must be one of {', '.join(LOSSES)} or a function, got {loss!r}")


def ascent(loss: Loss, logits: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    """The loss of each sample [B], and its gradient with respect to the logits [B, K].

    The gradient is of the dtype of the logits. The loss is NaN where a logit is, or all are
    -infinity.
    """
    with torch.enable_grad():
        h = logits.detach().requires_grad_(True)
        value = loss(h, labels)
        (seed,) = torch.autograd.grad(value.sum(), h)
    return value.detach(), seed


def _widened(logits: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    """The logits as they are computed with, and the labels as a column."""
    assert labels is not None  # `Attack` has looked
    h = logits.to(accumulate_dtype(logits.dtype))
    # Infinity less infinity would be NaN, which no attack takes for an error.
    return h.clamp(max=torch.finfo(h.dtype).max), labels.view(-1, 1)


def _others(h: Tensor, y: Tensor) -> Tensor:
    return h.scatter(1, y, -math.inf)


def _largest(h: Tensor, count: int, name: str) -> Tensor:
    if h.shape[1] < count:
        raise ValueError(
            f"loss {name} must have {count} classes at least, got logits of {h.shape[1]}; take "
            "loss='cw' or 'ce'"
        )
    return h.topk(count, dim=1).values


def _ratio(ahead: Tensor, spread: Tensor) -> Tensor:
    """With a spread of zero or without end the numerator: 0/0 and inf/inf would be NaN."""
    return ahead / torch.where((spread > 0) & spread.isfinite(), spread, 1.0)
