"""`direction_seed`: prediction, margin, and the cotangent of the worst-case direction."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rrfast._checks import check_logits, check_number
from rrfast.ops._define import define
from rrfast.ops._out import Out, check_out
from rrfast.ops.layout import accumulate_dtype, coarse_eps
from rrfast.ops.logits import best_other, is_undefined

#: Prediction, margin, seed, runner-up, and the margin that is clear of rounding.
Seed = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]

#: The least margin that is clear of rounding, in eps of the largest logit. Found by trial on a
#: network in bfloat16: with half of it the radius of RR-Fast ranks worse, with more no better.
CLEAR = 32


def reference(logits: Tensor, temperature: float) -> Seed:
    """Prediction, margins, cotangent (errata 4) and runner-up; see `rrfast.ops.direction_seed`."""
    h = logits.to(accumulate_dtype(logits.dtype))
    prediction = h.argmax(dim=1, keepdim=True)
    second = best_other(h, prediction.squeeze(1))
    others = h.scatter(1, prediction, -math.inf)
    best = others.amax(dim=1, keepdim=True)
    finfo = torch.finfo(h.dtype)
    if temperature <= finfo.tiny * finfo.eps / 2:  # 0 in that precision; torch.compile reads this
        one_hot = torch.zeros_like(h).scatter(1, second[:, None], 1.0)
        weights = one_hot.masked_fill(best.isnan(), math.nan)
    else:
        weights = torch.exp((others - best) / temperature)
    seed = (weights / weights.sum(dim=1, keepdim=True)).scatter(1, prediction, -1.0)
    margin = h.gather(1, prediction) - best
    margin = torch.where(best > -math.inf, margin.clamp(max=finfo.max), margin).squeeze(1)
    margin = margin.masked_fill(is_undefined(h), math.nan)
    largest = h.gather(1, prediction).squeeze(1).abs()
    clear = torch.maximum(margin, largest * (CLEAR * coarse_eps(logits.dtype)))
    return prediction.squeeze(1), margin, seed.to(logits.dtype), second, clear


def naive_direction_seed(logits: Tensor, temperature: float) -> Seed:
    """The same from the cross-entropy at the predicted label: RAT Eq. 3 and the released code.

    In floating point its term 1 - p of the prediction vanishes from a margin of about 17 in
    float32 and 10 in bfloat16, and the direction is then wrong (errata 4). Kept for comparison and
    for `compat="released"`.
    """
    prediction, margin, _, runner_up, clear = reference(logits, temperature)
    h = logits / temperature
    seed = torch.softmax(h, dim=1)
    seed = seed - torch.nn.functional.one_hot(prediction, h.shape[1]).to(seed.dtype)
    return prediction, margin, seed, runner_up, clear


def fake(logits: Tensor, temperature: float) -> Seed:
    samples = logits.shape[0]
    margin = logits.new_empty(samples, dtype=accumulate_dtype(logits.dtype))
    return (
        logits.new_empty(samples, dtype=torch.int64),
        margin,
        logits.new_empty(logits.shape),
        logits.new_empty(samples, dtype=torch.int64),
        torch.empty_like(margin),
    )


_op = define(
    "direction_seed",
    """(Tensor logits, float temperature)
        -> (Tensor prediction, Tensor margin, Tensor seed, Tensor runner_up, Tensor clear)""",
    reference,
    fake,
)


def direction_seed(logits: Tensor, temperature: float = 1.0, *, out: Out | None = None) -> Seed:
    """Prediction, margin, the cotangent whose backward is the worst-case direction, and runner-up.

    With y = argmax_k h_k, the cotangent is that of logsumexp_{k != y}(h_k / T) - h_y / T, times T:

        seed_k = exp(h_k / T) / sum_{j != y} exp(h_j / T)  for k != y,    seed_y = -1.

    Its input gradient is the cross-entropy's at the predicted label times 1 / (1 - p_y) > 0: the
    same direction in exact arithmetic, and never lost to rounding (errata 4). T -> 0 puts all
    weight on the runner-up.

    Args:
        logits: [B, K], K >= 2.
        temperature: T >= 0.
        out: None, or the five tensors to write the results into; see `rrfast.ops`.

    Returns:
        prediction [B] int64, the lowest index among equals, NaN above all, as `torch.argmax`;
        margin [B], h_y - max_{k != y} h_k in the accumulation dtype, at most its largest number;
        seed [B, K] in the dtype of `logits`; runner_up [B] int64, the class with the second largest
        logit, by the same order; clear [B], like the margin, which it is where that is more than
        32 eps of h_y, else these 32 eps (of float32 for float64, because the model may compute in
        float32): a step for so much is clear of rounding. Both are NaN for undefined logits (one is
        NaN or +infinity, or all are -infinity), and infinite if all but one are -infinity.

    Raises:
        TypeError: `logits` is not a floating-point tensor, `temperature` not a number.
        ValueError: `logits` is not [B, K >= 2], `temperature` is negative or not finite.

    Source: RAT Eq. 3; errata 4. Cost: reads and writes B * K once.

    Example:
        >>> prediction, margin, seed, second, _ = direction_seed(torch.tensor([[1.0, 3.0, 1.0]]))
        >>> prediction.item(), margin.item(), seed.tolist(), second.item()
        (1, 2.0, [[0.5, -1.0, 0.5]], 0)
    """
    check_logits("logits", logits)
    check_number("temperature", temperature, least=0)
    if out is not None:
        each, dtype = logits[:, 0], accumulate_dtype(logits.dtype)
        check_out(
            out,
            (logits,),
            prediction=(each, torch.int64),
            margin=(each, dtype),
            seed=(logits, logits.dtype),
            runner_up=(each, torch.int64),
            clear=(each, dtype),
        )
    return _op(logits, temperature, out=out)
