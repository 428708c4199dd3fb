"""Numbers on the network itself: its accuracy on training images, and its gradients."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rrfast._processes import shared
from rrfast.data.splits import chosen
from rrfast.engine import Engine, logits
from rrfast.metrics import auroc

if TYPE_CHECKING:
    from rrfast.data.loader import Data
    from rrfast.evaluate.misd.appraisal import EvaluationData


def train_accuracy(on: EvaluationData, train: Data, batch: int) -> float:
    """Accuracy on training images without augmentation, at most as many as there are test images.

    Args:
        on: The network.
        train: The images that it was trained on.
        batch: Images per forward.

    Cost: 1 forward per image.
    """
    learned = chosen(train, len(on.correct))
    right = shared(
        lambda _, b: (logits(on.model, b[0]).argmax(dim=1) == b[1]).cpu(),
        learned.batches(batch, on.device),
    )
    return torch.cat(right).double().mean().item()


def gradient_auroc(on: EvaluationData, batch: int) -> float:
    """AUROC of minus ||grad_x (h_y - h_2)||_1 for right predictions, on the test part.

    A radius is a margin divided by that norm: below 1/2, the division makes the ranking worse. NaN
    without a right prediction or an error, or if a gradient is NaN.

    Args:
        on: The network, its data and its errors.
        batch: Images per forward.

    Cost: 1 forward and 1 backward per image.
    """

    def one(_: int, batch: tuple[Tensor, Tensor]) -> Tensor:
        with Engine(on.model) as engine:
            gradient = engine.forward_backward(batch[0], temperature=0.0).grad
        norm: Tensor = gradient.flatten(1).double().norm(1, dim=1).cpu()
        return norm

    norm = torch.cat(shared(one, on.division.test.batches(batch, on.device)))
    errors = int((~on.correct).sum())
    both = 0 < errors < len(norm) and not bool(norm.isnan().any())
    return auroc(-norm, on.correct) if both else math.nan
