"""Optimizer and learning rate: a linear warm-up, then a cosine to 0, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR

if TYPE_CHECKING:
    from torch import nn

    from rrfast.train.settings import Training


def make_optimizer(model: nn.Module, training: Training) -> Optimizer:
    """Over every parameter of the model that requires a gradient."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("model must have parameters that require a gradient, got none")
    if training.optimizer == "adamw":
        return AdamW(parameters, training.learning_rate, weight_decay=training.weight_decay)
    return SGD(
        parameters,
        training.learning_rate,
        momentum=training.momentum,
        nesterov=training.nesterov,
        weight_decay=training.weight_decay,
    )


def make_schedule(optimizer: Optimizer, training: Training, steps_per_epoch: int) -> LRScheduler:
    """To be stepped after every step of the optimizer."""
    steps = training.epochs * steps_per_epoch
    epochs = training.warmup_epochs
    if epochs is None:
        epochs = min(5, training.epochs / 10)
    warmup = min(round(epochs * steps_per_epoch), steps - 1)
    cosine = CosineAnnealingLR(optimizer, steps - max(warmup, 0))
    if warmup < 1:
        return cosine
    # The first step is one of warmup equal rises above 0.
    rise = LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
    return SequentialLR(optimizer, [rise, cosine], milestones=[warmup])
