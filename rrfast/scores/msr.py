"""Maximum softmax response: the probability of the predicted class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from rrfast import engine

if TYPE_CHECKING:
    from rrfast.engine import Model


def msr(model: Model, x: Tensor) -> Tensor:
    """Maximum softmax response, max_k softmax(h)_k, computed in float64.

    In float32 the softmax is exactly 1 from a logit margin of about 17, and all inputs beyond tie;
    in float64 that happens from about 37. A model that works in a coarser precision gives its
    logits in that precision; they are widened before the softmax.

    Args:
        model: Maps [B, ...] to logits [B, K >= 2], or to an object with such `.logits`. Runs in
            eval mode, without gradients, and is left as it was.
        x: Inputs [B, ...], floating point.

    Returns:
        [B] float64 in [1/K, 1], larger = more confident, detached; NaN where a logit is NaN or
        the largest is infinite.

    Raises:
        TypeError: `x` is not floating point, or the model returns no logits.
        ValueError: The logits are not [B, K >= 2].

    Cost: 1 forward.

    Source: Hendrycks & Gimpel 2017; RAT §2.

    Example:
        >>> import torch
        >>> model = torch.nn.Identity()
        >>> msr(model, torch.tensor([[20.0, 0.0], [0.0, 0.0]]))
        tensor([1.0000, 0.5000], dtype=torch.float64)
        >>> bool(msr(model, torch.tensor([[20.0, 0.0]])) == 1)  # as it would be in float32
        False
    """
    return engine.logits(model, x).double().softmax(dim=1).amax(dim=1)
