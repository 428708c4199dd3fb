"""A check that an exported classifier decides in another runtime as the original does."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from rrfast._checks import check_number, check_path, describe
from rrfast.engine import check_input
from rrfast.selective.classifier import Selection, SelectiveClassifier

#: Maps x to prediction, confidence and accept.
Run = Callable[[Tensor], Sequence[Tensor]]


def check_arguments(
    x: Tensor, path: str | os.PathLike[str], tolerance: float
) -> tuple[Tensor, Path]:
    """`x`, to compare on, and the path to write to; before the export, which takes long.

    Raises:
        FileNotFoundError: The folder of `path` does not exist.
        IsADirectoryError: `path` is a folder.
        TypeError: An argument is of another type.
        ValueError: `x` is empty, or `tolerance` negative or not finite.
    """
    check_path("path", path)
    check_number("tolerance", tolerance, least=0)
    path, x = Path(path), check_input(x)
    if path.is_dir():  # also an empty path
        raise IsADirectoryError(f"path must be a file, and {str(path)!r} is a folder")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path must be in a folder that exists, got {str(path)!r}")
    if x.numel() == 0:
        raise ValueError(f"x must have at least one input to compare on, got {describe(x)}")
    return x, path


def agreement(
    run: Run, classifier: SelectiveClassifier, x: Tensor, tolerance: float, runtime: str
) -> float:
    """The largest relative difference of a confidence between `run` and `classifier`.

    Compared on x, on another number of inputs, and on two with a NaN. A confidence below the mean
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
    # The first and the last element: maxima of a runtime may drop the one and keep the other.
    with_nan = x[:1].expand(2, *x.shape[1:]).clone(memory_format=torch.contiguous_format)
    with_nan[0].view(-1)[0] = with_nan[1].view(-1)[-1] = math.nan
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
