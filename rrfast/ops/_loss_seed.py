"""`loss_seed`: the loss that an attack raises, and its gradient with respect to the logits."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from rrfast._checks import check_logits, check_one_of, check_per_sample, describe
from rrfast.ops._define import define
from rrfast.ops._out import Out, check_out
from rrfast.ops.layout import accumulate_dtype
from rrfast.ops.logits import best_other, capped, is_undefined, largest

#: Losses that attacks raise, as in `rrfast.attacks.loss`. The kernels know them by their number.
LossKind = Literal["ce", "cw", "confidence", "other", "dlr", "dlr_targeted"]
LOSS_KINDS: tuple[LossKind, ...] = get_args(LossKind)
#: How many classes a loss has at least, where that is more than two.
LEAST_CLASSES: dict[str, int] = {"dlr": 3, "dlr_targeted": 4}

Two = tuple[Tensor, Tensor]


def reference(logits: Tensor, labels: Tensor | None, targets: Tensor | None, kind: int) -> Two:
    """The loss of each sample and its gradient; see `rrfast.ops.loss_seed`."""
    wide = logits.to(accumulate_dtype(logits.dtype))
    name, h = LOSS_KINDS[kind], capped(wide)
    undefined = is_undefined(wide) if name == "confidence" else wide.isnan().any(dim=1)
    y, t = h.argmax(dim=1), None
    if labels is not None and name != "confidence":
        y, unknown = _existing(labels, h.shape[1])
        undefined = undefined | unknown
    if targets is not None:
        t, unknown = _existing(targets, h.shape[1])
        undefined = undefined | unknown
    if name == "ce":
        loss, seed = _odds(h, y)
    elif name in ("confidence", "other"):
        loss, seed = (-part for part in _odds(h, y if name == "confidence" else best_other(h, y)))
    else:
        loss, seed = _margin(h, y, t)
        if name != "cw":
            loss, seed = _ratio(h, loss, seed, targeted=t is not None)
    loss = loss.masked_fill(undefined, math.nan)
    # A number that stands for infinity does not change with the logit.
    seed = seed.masked_fill(wide == math.inf, 0.0).masked_fill(loss.isnan()[:, None], math.nan)
    return loss, seed.to(logits.dtype)


def _existing(classes: Tensor, count: int) -> Two:
    """The classes, 0 in place of those that do not exist, and which do not."""
    unknown = (classes < 0) | (classes >= count)
    return classes.masked_fill(unknown, 0), unknown


def _odds(h: Tensor, c: Tensor) -> Two:
    """The log-odds against a class: the softmax of the others, and -1 at that class."""
    column = c[:, None]
    others = h.scatter(1, column, -math.inf)
    seed = others.softmax(dim=1).masked_fill(others == -math.inf, 0.0)
    return others.logsumexp(dim=1) - _at(h, c), seed.scatter(1, column, -1.0)


def _margin(h: Tensor, y: Tensor, t: Tensor | None) -> Two:
    """1 at the target, or at the best of the others in equal parts, and -1 at the label."""
    label, one = y[:, None], torch.ones_like(h[:, :1])
    if t is not None:
        seed = torch.zeros_like(h).scatter(1, t[:, None], one).scatter_add(1, label, -one)
        return _at(h, t) - _at(h, y), seed
    others = h.scatter(1, label, -math.inf)
    best = others.amax(dim=1, keepdim=True)
    equal = ((others == best) & (others > -math.inf)).to(h.dtype)
    seed = equal / equal.sum(dim=1, keepdim=True).clamp(min=1)
    return best.squeeze(1) - _at(h, y), seed.scatter(1, label, -one)


def _ratio(h: Tensor, ahead: Tensor, seed: Tensor, *, targeted: bool) -> Two:
    """The margin over the spread of the largest logits, or the margin if there is no spread."""
    top, at = largest(h, 4 if targeted else 3)
    low = (top[:, 2] + top[:, 3]) / 2 if targeted else top[:, 2]
    spread = top[:, 0] - low
    usable = (spread > 0) & spread.isfinite()
    spread = torch.where(usable, spread, 1.0)
    loss = ahead / spread
    slope = torch.where(usable, -loss / spread, 0.0)[:, None]
    parts = [slope, *([slope * -0.5] * 2 if targeted else [-slope])]
    at = torch.cat((at[:, :1], at[:, 2:]), dim=1)
    return loss, (seed / spread[:, None]).scatter_add(1, at, torch.cat(parts, dim=1))


def _at(h: Tensor, classes: Tensor) -> Tensor:
    return h.gather(1, classes[:, None]).squeeze(1)


def fake(logits: Tensor, labels: Tensor | None, targets: Tensor | None, kind: int) -> Two:
    loss = logits.new_empty(logits.shape[0], dtype=accumulate_dtype(logits.dtype))
    return loss, logits.new_empty(logits.shape)


_op = define(
    "loss_seed",
    "(Tensor logits, Tensor? labels, Tensor? targets, int kind) -> (Tensor loss, Tensor seed)",
    reference,
    fake,
)


def check_enough_classes(kind: str, count: int) -> None:
    """Raise a ValueError if a loss needs more classes."""
    least = LEAST_CLASSES.get(kind, 2)
    if count < least:
        raise ValueError(
            f"loss {kind} must have {least} classes at least, got logits of {count}; take "
            "loss='cw' or 'ce'"
        )


def loss_seed(
    logits: Tensor,
    labels: Tensor | None,
    kind: LossKind,
    targets: Tensor | None = None,
    *,
    out: Out | None = None,
) -> Two:
    """The loss that an attack raises, and its gradient with respect to the logits.

        ce            log sum_{k != y} e^h_k - h_y
        cw            max_{k != y} h_k - h_y
        confidence    -ce at the prediction, in place of the label
        other         -ce at the best class other than the label
        dlr           cw / (h_(1) - h_(3)),    h_(1) >= h_(2) >= ...
        dlr_targeted  (h_t - h_y) / (h_(1) - (h_(3) + h_(4)) / 2)

    The last two are the numerator if the denominator is 0 or infinite. Of equal logits the lower
    class ranks higher; the best others share a gradient in equal parts. In all but the confidence a
    logit of +infinity counts as the largest number, and its gradient is 0.

    Args:
        logits: h, [B, K]; K >= 3 for `dlr`, K >= 4 for `dlr_targeted`.
        labels: y, [B] int64; may be None for the confidence, which does not use them.
        kind: One of the names above.
        targets: t, [B] int64, for `dlr_targeted` alone.
        out: None, or the two tensors to write the results into; see `rrfast.ops`.

    Returns:
        loss, [B], accumulation dtype; and seed, [B, K], dtype of `logits`. A class at -infinity is
        masked: its gradient is 0, but -1 if it is the label. A row of both is NaN where a logit is
        NaN, all are -infinity, y or t is not a class, or, for the confidence, a logit is +infinity.

    Raises:
        TypeError, ValueError: An argument has a wrong type, dtype, shape or device; `labels` or
            `targets` is missing, or `targets` is not used; there are too few classes.

    Source: `rrfast.attacks.loss` has each loss, its source and its name there. Cost: reads and
    writes B * K once.

    Example:
        >>> h, y = torch.tensor([[3.0, 2.0, 0.0, 2.0]]), torch.tensor([0])
        >>> loss, seed = loss_seed(h, y, "cw")
        >>> loss.tolist(), seed.tolist()
        ([-1.0], [[-1.0, 0.5, 0.0, 0.5]])
    """
    check_logits("logits", logits)
    check_one_of("kind", kind, LOSS_KINDS)
    check_enough_classes(kind, logits.shape[1])
    if labels is not None or kind != "confidence":
        check_per_sample("labels", labels, torch.int64, "logits", logits)
    if kind == "dlr_targeted":
        check_per_sample("targets", targets, torch.int64, "logits", logits)
    elif targets is not None:
        raise ValueError(f"targets must be None for loss {kind}, got {describe(targets)}")
    if out is not None:
        each, dtype = logits[:, 0], accumulate_dtype(logits.dtype)
        inputs = logits, labels, targets
        check_out(out, inputs, loss=(each, dtype), seed=(logits, logits.dtype))
    return _op(logits, labels, targets, LOSS_KINDS.index(kind), out=out)
