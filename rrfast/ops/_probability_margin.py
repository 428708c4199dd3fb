"""`probability_margin`: the quantities that instance-reweighted training weighs samples by."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rrfast._checks import check_logits, check_per_sample
from rrfast.ops._define import define
from rrfast.ops._out import Out, check_out
from rrfast.ops.layout import accumulate_dtype
from rrfast.ops.logits import is_undefined


def reference(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The quantities behind IRAT's instance weights; see `rrfast.ops.probability_margin`.

    Unlike the op it is differentiable in `logits` by autograd; at a tie of the best other classes
    it takes the subgradient of the lowest index.

    With p = softmax(h), h_2 = max_{k != y} h_k, d = h_y - h_2, a_k = h_k - h_2 <= 0 and the sums
    over k != y

        S = sum e^a_k,    W = sum |a_k| e^a_k,    Q = sum e^2a_k,

    nothing overflows in t = e^-|d|, and only terms of one sign are added:

        top2_ratio = 1 / S
        where d >= 0:  margin = expm1(-d) / (1 + t S)
                       similarity = t sqrt(Q / (1 + t^2 Q))
                       entropy = log1p(t S) + t (d S + W) / (1 + t S)
        where d < 0:   margin = -expm1(d) / (S + t)
                       similarity = sqrt(Q / (Q + t^2))
                       entropy = log1p(S - 1 + t) + (W + |d| t) / (S + t)

    S - 1 is the sum without the best class's own 1. So the relative error is of the order of K
    roundings, and |d| more where t is a factor of the result, because h_y - h_2 is rounded.
    """
    h = logits.to(accumulate_dtype(logits.dtype))
    known = (labels >= 0) & (labels < h.shape[1])
    label = labels.clamp(0, h.shape[1] - 1)[:, None]
    others = h.scatter(1, label, -math.inf)
    second = others.argmax(dim=1, keepdim=True)
    h_y, h_2 = h.gather(1, label), others.gather(1, second)
    away = h_2 - others
    gone = ~(away < math.inf)  # the label's own column, and masked classes
    away = away.masked_fill(gone, 0.0)
    weights = torch.exp(-away).masked_fill(gone, 0.0).scatter(1, second, 0.0)
    rest = weights.sum(dim=1, keepdim=True)
    spread = (away * weights).sum(dim=1, keepdim=True)
    total, squares = 1 + rest, 1 + weights.square().sum(dim=1, keepdim=True)

    d = h_y - h_2
    ahead = d >= 0
    gap = torch.where(ahead, d, -d)  # not d.abs(), whose gradient at a tie is neither branch's
    t = torch.exp(-gap)
    lost = torch.where(gap < math.inf, gap, 0.0) * t
    mass = torch.where(ahead, 1 + t * total, total + t)
    margin = torch.expm1(-gap) / mass
    margin = torch.where(ahead, margin, -margin)
    length = torch.where(ahead, 1 + squares * t.square(), squares + t.square())
    similarity = torch.where(ahead, t, 1.0) * (squares / length).sqrt()
    entropy = torch.log1p(torch.where(ahead, t * total, rest + t))
    entropy = entropy + torch.where(ahead, lost * total + t * spread, lost + spread) / mass

    undefined = is_undefined(h) | ~known
    results = (margin, 1 / total, similarity, entropy)
    margin, ratio, similarity, entropy = (
        value.squeeze(1).masked_fill(undefined, math.nan) for value in results
    )
    return margin, ratio, similarity, entropy


def fake(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    samples, dtype = logits.shape[0], accumulate_dtype(logits.dtype)
    return (
        logits.new_empty(samples, dtype=dtype),
        logits.new_empty(samples, dtype=dtype),
        logits.new_empty(samples, dtype=dtype),
        logits.new_empty(samples, dtype=dtype),
    )


_op = define(
    "probability_margin",
    """(Tensor logits, Tensor labels)
        -> (Tensor margin, Tensor top2_ratio, Tensor similarity, Tensor entropy)""",
    reference,
    fake,
)


def probability_margin(
    logits: Tensor, labels: Tensor, *, out: Out | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The quantities that instance-reweighted adversarial training weighs samples by.

    With p = softmax(logits), y the label and p' = p with p_y set to 0:

        margin     = max_{k != y} p_k - p_y, in [-1, 1]: larger = worse
        top2_ratio = max_{k != y} p_k / (1 - p_y), in [1 / (K - 1), 1]
        similarity = <p, p'> / (|p| |p'|) = sqrt(sum_{k != y} p_k^2 / sum_k p_k^2), in [0, 1]
        entropy    = -sum_k p_k log p_k, in nats, in [0, log K]

    All keep a small relative error when p_y is within rounding of 0 or 1, because no probability is
    subtracted from another. `rrfast.reference.probability_margin` has the formulas, and is
    differentiable, for weights that are not detached.

    Args:
        logits: [B, K], K >= 2. A class at -infinity is masked: its probability is 0.
        labels: y, [B] int64.
        out: None, or the four tensors to write the results into; see `rrfast.ops`.

    Returns:
        margin, top2_ratio, similarity, entropy, each [B], accumulation dtype. All four are NaN if a
        logit is NaN or +infinity, all are -infinity, or y is not a class. If every class but y is
        masked, top2_ratio is 1 and the similarity 0.

    Raises:
        TypeError, ValueError: An argument has a wrong type, dtype, shape or device.

    Source: IRAT Eq. 4 (errata 14), Eq. 6 to 8, Eq. 11 and 12 (errata 18); the entropy is EWAT's.
    Errata 15 and 16 are about the weights computed from these. Cost: reads B * K once, writes 4 *
    B.

    Example:
        >>> logits, labels = torch.tensor([[0.5, 0.25, 0.25]]).log(), torch.tensor([1])
        >>> margin, top2_ratio, similarity, entropy = probability_margin(logits, labels)
        >>> margin.item(), round(top2_ratio.item(), 4), round(similarity.item(), 4)
        (0.25, 0.6667, 0.9129)
        >>> round(entropy.item(), 4)  # 1.5 bits
        1.0397
    """
    check_logits("logits", logits)
    check_per_sample("labels", labels, torch.int64, "logits", logits)
    if out is not None:
        results = ("margin", "top2_ratio", "similarity", "entropy")
        each = labels, accumulate_dtype(logits.dtype)
        check_out(out, (logits, labels), **dict.fromkeys(results, each))
    return _op(logits, labels, out=out)
