"""The loss that an attack increases, and its gradient with respect to the logits.

Of the losses of `rrfast.attacks.loss` one fused op gives both, so that a step needs no second
graph. Of a user's own function they are taken by autograd.
"""

from __future__ import annotations

from functools import partial
from types import FunctionType

import torch
from torch import Tensor

from rrfast.attacks import loss as losses
from rrfast.attacks.loss import Loss
from rrfast.ops import LOSS_KINDS, check_enough_classes, unchecked

#: The kinds of `rrfast.ops.loss_seed` by their functions, which have the same names.
_KINDS = {getattr(losses, kind): kind for kind in LOSS_KINDS}


def ascent(loss: Loss, logits: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    """The loss of each sample [B], and its gradient with respect to the logits [B, K].

    The gradient has the dtype of the logits and is what autograd gives, where that is of use; see
    `rrfast.ops.loss_seed`. Both are NaN where a logit is, or where all are -infinity.

    Args:
        loss: One of `rrfast.attacks.loss`, a `functools.partial` of one, or a function like them.
        logits: [B, K].
        labels: [B], or None for a loss that has no use for them.

    Example:
        >>> ascent(losses.cw, torch.tensor([[3.0, 2.0, 0.0]]), torch.tensor([0]))
        (tensor([-1.]), tensor([[-1.,  1.,  0.]]))
    """
    function, options = loss, {}
    if isinstance(loss, partial) and not loss.args:
        function, options = loss.func, loss.keywords
    # An object with a `__call__` need not be hashable.
    kind = _KINDS.get(function) if isinstance(function, FunctionType) else None
    if kind is None or options.keys() != ({"targets"} if kind == "dlr_targeted" else set()):
        return _by_autograd(loss, logits, labels)
    check_enough_classes(kind, logits.shape[1])
    return unchecked.loss_seed(logits, labels, options.get("targets"), LOSS_KINDS.index(kind))


def _by_autograd(loss: Loss, logits: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        h = logits.detach().requires_grad_(True)
        value = loss(h, labels)
        (seed,) = torch.autograd.grad(value.sum(), h)
    return value.detach().clone(), seed  # it may be a view of the logits
