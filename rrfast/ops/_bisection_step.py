"""`bisection_step_`: one step of RR-BS, doubling and bisection."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rrfast._checks import check_in_place, check_logits, check_per_sample
from rrfast.ops._define import define, nothing
from rrfast.ops.layout import accumulate_dtype
from rrfast.ops.logits import is_undefined


def reference(
    logits: Tensor,
    prediction: Tensor,
    lower: Tensor,
    upper: Tensor,
    radius: Tensor,
    rival: Tensor | None = None,
) -> None:
    """One step of RR-BS (RAT Algorithm 1, errata 5); see `rrfast.ops.bisection_step_`."""
    first = logits.argmax(dim=1)
    flipped = first != prediction
    undefined = is_undefined(logits) | radius.isnan()
    new_lower = torch.where(flipped, lower, radius).masked_fill(undefined, math.nan)
    new_upper = torch.where(flipped, radius, upper).masked_fill(undefined, math.nan)
    if rival is not None:
        rival.copy_(torch.where(new_upper < upper, first, rival))
    lower.copy_(new_lower)
    upper.copy_(new_upper)
    radius.copy_(torch.minimum((lower + upper) / 2, 2 * lower))


_op = define(
    "bisection_step_",
    """(Tensor logits, Tensor prediction, Tensor(a!) lower, Tensor(b!) upper,
        Tensor(c!) radius, Tensor(d!)? rival=None) -> ()""",
    reference,
    nothing,
)


def bisection_step_(
    logits: Tensor,
    prediction: Tensor,
    lower: Tensor,
    upper: Tensor,
    radius: Tensor,
    rival: Tensor | None = None,
) -> None:
    """One step of RR-BS for every sample at once, in place: the bracket and the next radius to try.

    A sample that still predicts y at `radius` gets lower = radius, one that flipped gets upper =
    radius; then radius = min((lower + upper) / 2, 2 * lower): doubling until the sample flips, then
    bisection.

    Args:
        logits: Logits at x + radius * direction, [B, K].
        prediction: y, [B] int64.
        lower: Largest radius seen to keep the prediction, [B], accumulation dtype of `logits`.
            Changed in place.
        upper: Smallest radius seen to change it, infinite if none, likewise.
        radius: The radius just tried, then the next one, likewise.
        rival: None, or [B] int64, the class predicted at `upper`: changed in place where `upper`
            has decreased.

    Undefined logits (one is NaN or +infinity, or all are -infinity) make a sample's three numbers
    NaN from then on.

    Raises:
        TypeError, ValueError: An argument has a wrong type, dtype, shape, device or layout.

    Source: RAT Algorithm 1; errata 5. Cost: reads B * K once; returns nothing to the host.

    Example:
        >>> lower, upper, radius = torch.tensor([[1.0], [torch.inf], [2.0]])
        >>> flipped, rival = torch.tensor([[0.0, 5.0]]), torch.tensor([-1])
        >>> bisection_step_(flipped, torch.tensor([0]), lower, upper, radius, rival)
        >>> lower.item(), upper.item(), radius.item(), rival.item()
        (1.0, 2.0, 1.5, 1)
    """
    check_logits("logits", logits)
    check_per_sample("prediction", prediction, torch.int64, "logits", logits)
    for name, value in (("lower", lower), ("upper", upper), ("radius", radius)):
        check_per_sample(name, value, accumulate_dtype(logits.dtype), "logits", logits)
        check_in_place(name, value)
    if rival is not None:
        check_per_sample("rival", rival, torch.int64, "logits", logits)
        check_in_place("rival", rival)
    _op(logits, prediction, lower, upper, radius, rival)
