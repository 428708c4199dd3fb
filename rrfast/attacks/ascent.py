"""The loss that an attack increases, and its gradient with respect to the logits.

The losses of `rrfast.attacks.loss` have that gradient in closed form here, so that a step needs no
second graph. Of a user's own function it is taken by autograd.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from rrfast._reading import is_on_host
from rrfast.attacks import loss as losses
from rrfast.attacks.loss import Loss
from rrfast.ops import accumulate_dtype, is_undefined

#: The loss [B] and its gradient [B, K], of logits in the dtype that is computed with.
Ascent = Callable[..., tuple[Tensor, Tensor]]


def ascent(loss: Loss, logits: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    """The loss of each sample [B], and its gradient with respect to the logits [B, K].

    The gradient has the dtype of the logits and is what autograd gives. The loss is NaN where a
    logit is, or where all are -infinity.

    Args:
        loss: One of `rrfast.attacks.loss`, a `functools.partial` of one, or a function like them.
        logits: [B, K].
        labels: [B], or None for a loss that has no use for them.

    Example:
        >>> ascent(losses.cw, torch.tensor([[3.0, 2.0, 0.0]]), torch.tensor([0]))
        (tensor([-1.]), tensor([[-1.,  1.,  0.]]))
    """
    own: Any = loss
    function = getattr(own, "func", own)
    # An object with a `__call__` need not be hashable.
    closed = _CLOSED.get(function) if isinstance(function, FunctionType) else None
    if closed is None:
        return _by_autograd(loss, logits, labels)
    wide = logits.detach().to(accumulate_dtype(logits.dtype))
    column = None if labels is None else labels.view(-1, 1)
    if loss is losses.confidence or _finite(wide):  # the confidence is NaN at infinity
        value, seed = closed(wide, column, **getattr(own, "keywords", {}))
    else:
        h = losses.capped(wide)
        value, seed = closed(h, column, **getattr(own, "keywords", {}))
        seed.masked_fill_(h != wide, 0.0)
    return value, seed.to(logits.dtype)


def slope(loss: Loss, logits: Tensor, labels: Tensor | None) -> Tensor:
    """The gradient of `ascent` alone, up to rounding; that of `ce` costs a third without its loss.

    Example:
        >>> slope(losses.ce, torch.tensor([[3.0, 1.0, 1.0]]), torch.tensor([0]))
        tensor([[-1.0000,  0.5000,  0.5000]])
    """
    wide = logits.detach().to(accumulate_dtype(logits.dtype))
    if loss is not losses.ce or labels is None or not _finite(wide):
        return ascent(loss, logits, labels)[1]
    column = labels.view(-1, 1)
    seed = wide.scatter(1, column, -math.inf).softmax(dim=1).scatter_(1, column, -1.0)
    return seed.to(logits.dtype)


def _finite(h: Tensor) -> bool:
    """Whether no logit is +infinity or NaN, where that is known without waiting."""
    return is_on_host(h) and h.amax().item() < math.inf


def _by_autograd(loss: Loss, logits: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        h = logits.detach().requires_grad_(True)
        value = loss(h, labels)
        (seed,) = torch.autograd.grad(value.sum(), h)
    return value.detach().clone(), seed  # it may be a view of the logits


def _ce(h: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The softmax of the others, less 1 at the label."""
    others = h.scatter(1, y, -math.inf)
    total = others.logsumexp(dim=1, keepdim=True)
    seed = others.sub_(total).exp_().scatter_(1, y, -1.0)
    return (total - h.gather(1, y)).squeeze(1), seed


def _cw(h: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """1 at the largest of the others, in equal parts where several are, and -1 at the label."""
    others = h.scatter(1, y, -math.inf)
    top = others.amax(dim=1, keepdim=True)
    seed = (others == top).to(h.dtype)
    seed.div_(seed.sum(dim=1, keepdim=True)).scatter_(1, y, -1.0)
    return (top - h.gather(1, y)).squeeze(1), seed


def _confidence(h: Tensor, _: Tensor | None) -> tuple[Tensor, Tensor]:
    value, seed = _ce(h, h.argmax(dim=1, keepdim=True))
    undefined = is_undefined(h)
    seed.mul_(undefined.to(h.dtype).sub_(1)[:, None])
    return value.neg_().masked_fill_(undefined, math.nan), seed


def _other(h: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    value, seed = _ce(h, h.scatter(1, y, -math.inf).argmax(dim=1, keepdim=True))
    return value.neg_(), seed.neg_()


def _dlr(h: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    top, at = losses.largest(h, 3, "dlr")
    return _quotient(*_cw(h, y), top[:, 0] - top[:, 2], at[:, [0, 2]], (1.0, -1.0))


def _dlr_targeted(h: Tensor, y: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    top, at = losses.largest(h, 4, "dlr towards targets")
    t = targets.view(-1, 1)
    one = torch.ones_like(top[:, :1])
    seed = torch.zeros_like(h).scatter_add_(1, t, one).scatter_add_(1, y, -one)
    ahead = (h.gather(1, t) - h.gather(1, y)).squeeze(1)
    spread = top[:, 0] - (top[:, 2] + top[:, 3]) / 2
    return _quotient(ahead, seed, spread, at[:, [0, 2, 3]], (1.0, -0.5, -0.5))


def _quotient(
    ahead: Tensor, seed: Tensor, spread: Tensor, at: Tensor, parts: tuple[float, ...]
) -> tuple[Tensor, Tensor]:
    """Of ahead / spread, where the spread is the sum of `parts` times the logits `at` them."""
    usable = (spread > 0) & spread.isfinite()
    spread = torch.where(usable, spread, 1.0)
    value = ahead / spread
    slope = torch.where(usable, -value / spread, 0.0)[:, None]
    seed = seed.div_(spread[:, None]).scatter_add_(1, at, slope * slope.new_tensor(parts))
    return value, seed


_CLOSED: dict[Any, Ascent] = {
    losses.ce: _ce,
    losses.cw: _cw,
    losses.confidence: _confidence,
    losses.other: _other,
    losses.dlr: _dlr,
    losses.dlr_targeted: _dlr_targeted,
}
