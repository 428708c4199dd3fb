"""Whether what a runtime makes of an exported classifier decides as the classifier does."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rrfast._checks import check_number, describe
from rrfast.engine import check_input
from rrfast.selective.classifier import Selection, SelectiveClassifier

#: Maps x to prediction, confidence and accept.
Run = Callable[[Tensor], Sequence[Tensor]]


def check_example(x: Tensor, tolerance: float) -> Tensor:
    """`x`, to compare on; before the export, which takes long.

    Raises:
        TypeError: `x` is not a floating-point tensor, or `tolerance` not a number.
        ValueError: `x` is empty, or `tolerance` negative or not finite.
    """
    check_number("tolerance", tolerance, zero=True)
    x = check_input(x)
    if x.numel() == 0:
        raise ValueError(f"x must have at least one input to compare on, got {describe(x)}")
    return x


def agreement(
    run: Run, classifier: SelectiveClassifier, x: Tensor, tolerance: float, runtime: str
) -> float:
    """The largest relative difference of a confidence between `run` and `classifier`.

    Compared on x, on another number of inputs, and on one with a NaN. A confidence below the mean
    in size counts by the mean, since one near 0 may be mere rounding.

    Args:
        run: To compare.
        classifier: To compare with.
        x: [B, ...], B >= 1.
        tolerance: The largest difference to accept.
        runtime: Its name; begins the message.

    Raises:
        RuntimeError: A prediction or a decision differs, or a confidence by more than `tolerance`.
    """
    with_nan = x[:1].clone(memory_format=torch.contiguous_format)
    with_nan.view(-1)[-1] = math.nan
    fewer = x[: len(x) // 2] if len(x) > 1 else x.expand(2, *x.shape[1:]).contiguous()
    largest = 0.0
    for batch in (x, fewer, with_nan):
        wanted = Selection(*(value.cpu() for value in classifier(batch)))
        got = Selection(*(value.cpu() for value in run(batch)))
        difference = _difference(got.confidence.double(), wanted.confidence.double())
        defined = ~wanted.confidence.isnan()
        other = (got.prediction != wanted.prediction)[defined].sum().item()
        decided = (got.accept != wanted.accept).sum().item()
        if other or decided or difference > tolerance:
            raise RuntimeError(
                f"{runtime} must decide as the classifier does, and of {len(batch)} inputs has "
                f"another prediction for {other}, another decision for {decided}, and a confidence "
                f"that is off by a relative {difference:.2g}, where {tolerance:.2g} is accepted; "
                "no file was written"
            )
        largest = max(largest, difference)
    return largest


def _difference(got: Tensor, wanted: Tensor) -> float:
    """Infinite if one is NaN or infinite, and the other is not the same."""
    finite = wanted[wanted.isfinite()].abs()
    size = wanted.abs().clamp(min=float(finite.mean()) if len(finite) else 0.0)
    same = (got == wanted) | (got.isnan() & wanted.isnan())
    relative = ((got - wanted).abs() / size).nan_to_num(nan=math.inf, posinf=math.inf)
    return float(relative.masked_fill(same, 0.0).max())
