"""Optimizer and learning rate: a linear warm-up, then a cosine to 0 or steps at milestones."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    SequentialLR,
)

from rrfast.train.settings import Training


def make_optimizer(model: nn.Module, training: Training) -> Optimizer:
    """The optimizer of all parameters that require a gradient."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("model must have parameters that require a gradient, got none")
    groups = _by_decay(parameters, training)
    if training.optimizer == "sgd":
        momentum, nesterov = training.momentum, training.nesterov
        return SGD(groups, training.learning_rate, momentum=momentum, nesterov=nesterov)
    optimizer = Adam if training.optimizer == "adam" else AdamW
    return optimizer(groups, training.learning_rate)


def _by_decay(parameters: list[nn.Parameter], training: Training) -> list[dict[str, Any]]:
    """Parameter groups: with weight decay, and without."""
    spared = [p for p in parameters if training.weight_decay_on == "weights" and p.ndim < 2]
    decayed = [p for p in parameters if training.weight_decay_on == "all" or p.ndim >= 2]
    groups = [(decayed, training.weight_decay), (spared, 0.0)]
    return [{"params": group, "weight_decay": decay} for group, decay in groups if group]


def make_schedule(optimizer: Optimizer, training: Training, steps_per_epoch: int) -> LRScheduler:
    """The schedule, to be stepped after every step of the optimizer."""
    steps = training.epochs * steps_per_epoch
    epochs = training.warmup_epochs
    if epochs is None:
        epochs = min(5, training.epochs / 10)
    warmup = max(min(round(epochs * steps_per_epoch), steps - 1), 0)
    after = _after_warmup(optimizer, training, steps_per_epoch, warmup)
    if warmup < 1:
        return after
    # The first step is already one of `warmup` equal increments above 0.
    rise = LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
    return SequentialLR(optimizer, [rise, after], milestones=[warmup])


def _after_warmup(
    optimizer: Optimizer, training: Training, steps_per_epoch: int, warmup: int
) -> LRScheduler:
    if training.schedule == "cosine":
        return CosineAnnealingLR(optimizer, training.epochs * steps_per_epoch - warmup)
    milestones = training.milestones
    if milestones is None:
        milestones = tuple(range(1, training.epochs))

    def factor(step: int) -> float:
        over = (step + warmup) // steps_per_epoch  # epochs
        return training.milestone_factor ** bisect_right(milestones, over)

    return LambdaLR(optimizer, factor)
