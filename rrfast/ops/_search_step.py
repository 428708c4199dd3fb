"""`search_step_`: one probe of the safeguarded root search."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rrfast._checks import (
    check_device,
    check_in_place,
    check_logits,
    check_number,
    check_per_sample,
    describe,
)
from rrfast.ops._define import define, nothing
from rrfast.ops.layout import accumulate_dtype
from rrfast.ops.logits import best_other, is_undefined


def reference(
    logits: Tensor,
    prediction: Tensor,
    state: Tensor,
    nudge: float = 0.0,
    rival: Tensor | None = None,
) -> None:
    """One probe of the safeguarded root search; see `rrfast.ops.search_step_`."""
    h = logits.to(state.dtype)
    known = (prediction >= 0) & (prediction < h.shape[1])
    first = h.argmax(dim=1)
    flipped = first != prediction
    ahead = torch.where(flipped, first, best_other(h, first))
    top = prediction.clamp(0, h.shape[1] - 1)[:, None]
    margin = (h.gather(1, top) - h.gather(1, ahead[:, None])).squeeze(1)

    old_lower, old_upper, old_lower_margin, old_upper_margin, old_side, radius = state.clone()
    undefined = is_undefined(h) | ~known | radius.isnan()
    side = torch.where(flipped, 1.0, -1.0).to(state.dtype)
    weight = torch.where(old_side == side, 0.5, 1.0).to(state.dtype)
    lower = torch.where(flipped, old_lower, radius)
    upper = torch.where(flipped, radius, old_upper)
    lower_margin = torch.where(flipped, weight * old_lower_margin, margin)
    upper_margin = torch.where(flipped, margin, weight * old_upper_margin)

    fall = old_lower_margin - margin
    secant = 1.05 * (lower + margin * (lower - old_lower) / fall)
    beyond = torch.where((fall > 0) & (secant < 2 * lower), secant, 2 * lower)
    beyond = torch.where(beyond > 1.02 * lower, beyond, 1.02 * lower)
    drop = lower_margin - upper_margin
    root = lower + (upper - lower) * (lower_margin / drop)
    inside = (drop < math.inf) & (root >= lower) & (root <= upper)
    between = torch.where(inside, root, (lower + upper) / 2)
    least, most = lower + nudge * upper, upper - nudge * upper
    between = torch.where(between < least, least, between)
    between = torch.where(between > most, most, between)
    found = torch.where(upper == math.inf, beyond, between)

    new = torch.stack((lower, upper, lower_margin, upper_margin, side, found))
    nan = torch.full_like(side, math.nan)
    new = torch.where(undefined, torch.stack((nan, nan, nan, nan, old_side, nan)), new)
    new = torch.where((old_upper <= old_lower) & ~undefined, state, new)
    if rival is not None:
        learned = (new[1] < old_upper) | (new[1] == math.inf)
        rival.copy_(torch.where(learned, ahead, rival))
    state.copy_(new)


_op = define(
    "search_step_",
    """(Tensor logits, Tensor prediction, Tensor(a!) state, float nudge=0.0,
        Tensor(b!)? rival=None) -> ()""",
    reference,
    nothing,
)


def search_step_(
    logits: Tensor,
    prediction: Tensor,
    state: Tensor,
    nudge: float = 0.0,
    rival: Tensor | None = None,
) -> None:
    """One probe of a safeguarded root search for every sample at once, in place.

    It looks for the root of margin(r) = h_y - max_{k != y} h_k along the ray. The state of a sample
    is

        lower, upper, lower_margin, upper_margin, side, radius:

    the bracket, the margins at its ends with the weights of the interpolation, the end that moved
    last (-1 lower, 1 upper, 0 none), and the radius just tried, replaced by the next one. The
    initial state is (0, infinity, the margin at 0, anything, 0, the first radius to try).

    A sample that still predicts y at `radius` gets lower = radius, one that flipped gets upper =
    radius. Until a sample flips, its next radius is 1.05 times the root of the secant through the
    last two probes, within [1.02, 2] lower. After that it is the root of regula falsi, where an end
    that stays for a second time counts half (Illinois), or the middle if a margin is not finite.

    Args:
        logits: Logits at x + radius * direction, [B, K].
        prediction: y, [B] int64.
        state: [6, B], accumulation dtype of `logits`, contiguous. Changed in place. An empty
            bracket (0, 0: a tie) does not change.
        nudge: In [0, 0.5): the next radius is at least lower + nudge * upper, and at most upper -
            nudge * upper, so that both ends move.
        rival: None, or [B] int64: the class predicted at `upper`, changed in place where `upper`
            has decreased; until a sample flips, its best other class at `radius`.

    Undefined logits (one is NaN or +infinity, or all are -infinity), or a y that is not a class,
    make a sample's numbers NaN from then on.

    Raises:
        TypeError, ValueError: An argument has a wrong type, dtype, shape, device or layout.

    Source: ours; Dowell & Jarratt 1971 for the weights. Cost: reads B * K once; returns nothing to
    the host.

    Example:
        >>> state = torch.tensor([[0.0], [torch.inf], [1.0], [0.0], [0.0], [2.0]])
        >>> h, rival = torch.tensor([[0.0, 3.0]]), torch.tensor([-1])
        >>> search_step_(h, torch.tensor([0]), state, rival=rival)
        >>> state.squeeze(1).tolist()  # from margin 1 at 0 to -3 at 2: the root is at 0.5
        [0.0, 2.0, 1.0, -3.0, 1.0, 0.5]
        >>> rival
        tensor([1])
    """
    check_logits("logits", logits)
    check_per_sample("prediction", prediction, torch.int64, "logits", logits)
    dtype = accumulate_dtype(logits.dtype)
    if not isinstance(state, Tensor) or state.dtype != dtype:
        raise TypeError(
            f"state must be a {str(dtype).removeprefix('torch.')} tensor, got {describe(state)}"
        )
    if state.shape != (6, logits.shape[0]):
        raise ValueError(
            f"state must have shape [6, B], [6, {logits.shape[0]}], got {describe(state)}"
        )
    check_device("state", state, "logits", logits)
    check_in_place("state", state)
    check_number("nudge", nudge, least=0, below=0.5)
    if rival is not None:
        check_per_sample("rival", rival, torch.int64, "logits", logits)
        check_in_place("rival", rival)
    _op(logits, prediction, state, nudge, rival)
