"""Labelled batches, checked, where the model is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rrfast import engine
from rrfast._checks import check_labels, describe
from rrfast.engine import Model, check_input
from rrfast.engine.modules_inside import device_of

if TYPE_CHECKING:
    from rrfast.scores.score import Scored


def labelled(model: Model, loader: Iterable[Any]) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of a loader on the model's device; empty ones are left out.

    Args:
        model: Its first parameter or buffer says where to; a plain function gets them as they come.
        loader: Yields (x [B, ...], y [B] integers).

    Raises:
        TypeError: `loader` yields something else.
        ValueError: x and y differ in length, a label is negative, or there is not one sample.

    Example:
        >>> [(x, y)] = labelled(torch.nn.Linear(4, 3), [(torch.rand(2, 4), torch.tensor([0, 2]))])
        >>> x.shape, y
        (torch.Size([2, 4]), tensor([0, 2]))
    """
    device, samples = device_of(model), 0
    for batch in loader:
        pair = isinstance(batch, (tuple, list)) and len(batch) == 2
        if not pair or not all(isinstance(part, Tensor) for part in batch):
            raise TypeError(
                f"loader must yield pairs of tensors (x [B, ...], y [B]), got {describe(batch)}"
            )
        x, y = batch
        x = check_input(x)
        if y.dim() != 1 or y.is_floating_point() or len(y) != len(x):
            raise ValueError(
                f"loader must yield one integer label per sample of x, {len(x)} of them, got "
                f"{describe(y)}"
            )
        y = y.long() if y.dtype == torch.bool else y
        check_labels("y", y, None)
        if len(x):
            samples += len(x)
            yield (x, y) if device is None else (x.to(device), y.to(device))
    if not samples:
        raise ValueError(
            "loader must yield at least one sample, and it yielded none; a generator can be read "
            "only once"
        )


def right_of(scored: Scored, model: Model, x: Tensor, y: Tensor) -> Tensor:
    """Whether each prediction is right, [B] bool, on the CPU, of labels that are classes.

    Args:
        scored: Of the batch.
        model: As of `labelled`.
        x: A batch, as `labelled` gives it.
        y: Its labels.

    Raises:
        ValueError: A label is no class of the model: it would count as an error.

    Cost: 1 forward, where the score does not say how many classes there are and no prediction is as
    high as the highest label.
    """
    classes = scored.classes
    if classes is None:
        # Of a score that is not ours.
        classes = int(scored.prediction.amax()) + 1
        if int(y.amax()) >= classes:
            classes = engine.logits(model, x).shape[1]
    check_labels("y", y, classes)
    return (scored.prediction == y).cpu()
