"""Numbers on the network itself: its accuracy on training images, and its gradients."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

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
    right = [
        (logits(on.model, x).argmax(dim=1) == y).cpu() for x, y in learned.batches(batch, on.device)
    ]
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
    norms = []
    for x, _ in on.division.test.batches(batch, on.device):
        with Engine(on.model) as engine:
            gradient = engine.forward_backward(x, temperature=0.0).grad
        norms.append(gradient.flatten(1).double().norm(1, dim=1).cpu())
    norm, errors = torch.cat(norms), int((~on.correct).sum())
    both = 0 < errors < len(norm) and not bool(norm.isnan().any())
    return auroc(-norm, on.correct) if both else math.nan
