"""How far an input has to be scaled up until the model is sure of it (ACET Table 2)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from rrfast import ops
from rrfast.attacks.loss import confidence as odds_of
from rrfast.checks import check_budget, check_number
from rrfast.engine import Engine, check_input
from rrfast.radius.search import before_probes
from rrfast.reference import accumulate_dtype, per_channel

if TYPE_CHECKING:
    from rrfast.engine import Model

#: log(alpha) of the first probe, and the largest, which float32 still holds times a pixel.
FIRST, LAST = 0.05, 80.0


class Scaling(NamedTuple):
    """The factor at which each input reaches the confidence."""

    alpha: Tensor  #: [B] float64, >= 1; infinite where no probe reached it
    lower: Tensor  #: [B] float64, the largest factor seen to stay below
    upper: Tensor  #: [B] float64, the smallest seen to reach it
    confidence: Tensor  #: [B] float64, the largest of any probe

    @property
    def found(self) -> Tensor:
        """[B] bool: some factor reaches the confidence."""
        return self.upper.isfinite()


def confidence_scaling(
    model: Model,
    x: Tensor,
    confidence: float = 0.999,
    *,
    budget: int = 32,
    bounds: ops.Bounds | None = None,
) -> Scaling:
    """The factor alpha >= 1 from which on the model is that confident of alpha x.

        max_k softmax(f(alpha x))_k = confidence

    A ReLU network becomes arbitrarily confident along almost every ray (Theorem 3.1), so that
    without `bounds` there is one for almost every x. It is a root on a ray, as the robust radius
    is, and found by the same op: `rrfast.ops.search_step_` on log alpha, with the odds of the
    confidence in place of the margin. Where the confidence goes up and down along the ray any of
    the crossings may be the one that is found, and one between two probes may be missed.

    Args:
        model: Maps [B, ...] to logits [B, K >= 2]. Runs in eval mode, and is left as it was.
        x: [B, ...], floating point; ACET takes uniform noise in [0, 1].
        confidence: In (1/2, 1): 0.999 in the first row of Table 2, 0.95 in the second.
        budget: Forwards, at least 2; 32 bracket any alpha up to e^80 and leave 16 for the root.
        bounds: The box into which alpha x is put back, as in the second row; None for none. See
            `rrfast.ops.channel_bounds`.

    Returns:
        Scaling(alpha, lower, upper, confidence); NaN where a logit is NaN.

    Raises:
        TypeError, ValueError: `x` is not floating point, or a number is out of range.

    Cost: `budget` forwards; nothing waits for the device.

    Source: ACET Theorem 3.1, App. B and F, Table 2.

    Example:
        >>> model = torch.nn.Linear(2, 2, bias=False)
        >>> _ = model.weight.data.copy_(torch.eye(2))
        >>> found = confidence_scaling(model, torch.tensor([[1.0, 0.0]]))
        >>> round(float(found.alpha), 3), round(math.log(0.999 / 0.001), 3)
        (6.907, 6.907)
    """
    check_number("confidence", confidence)
    if not 0.5 < confidence < 1:
        raise ValueError(f"confidence must be between 1/2 and 1, got {confidence!r}")
    check_budget(budget)
    x = check_input(x)
    wanted = math.log(confidence / (1 - confidence))
    box = ops.channel_bounds(bounds, x)
    with Engine(model) as engine:

        def missing(log_alpha: Tensor | None) -> Tensor:
            """What the odds lack at these factors, [B]; at x itself for None."""
            z = x
            if log_alpha is not None:
                alpha = log_alpha.clamp(max=LAST).exp().view(-1, *[1] * (x.dim() - 1))
                z = (x * alpha).to(x.dtype)
            if box is not None:
                lower, upper = (per_channel(end, x).to(x.dtype) for end in box)
                z = torch.clamp(z, lower, upper)
            return wanted - odds_of(engine.forward(z), None).to(accumulate_dtype(x.dtype))

        lack = missing(None)
        least = lack
        prediction = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        # One that is confident as it is has its crossing at alpha = 1: a tie, for the search.
        state = before_probes(lack.clamp(min=0), torch.full_like(lack, FIRST))
        for _ in range(budget - 1):
            lack = missing(state[5])
            least = torch.fmin(least, lack)
            logits = torch.stack((lack, torch.zeros_like(lack)), dim=1)
            ops.search_step_(logits, prediction, state)
    lower, upper = (state[row].double().clamp(max=LAST).exp() for row in (0, 1))
    reached = state[1].isfinite() | state[1].isnan()
    root = state[5].double().clamp(max=LAST).exp()
    return Scaling(
        torch.where(reached, root, math.inf),
        lower,
        torch.where(reached, upper, math.inf),
        (wanted - least.double()).sigmoid(),
    )
