"""Models for `rrfast bench --model benchmarks/models.py:NAME` that no zoo offers by name."""

from __future__ import annotations

from torch import nn


def wrn16_4() -> nn.Module:
    """WideResNet-16-4 for 32 x 32 images of 10 classes, built from pytorchcv's parts."""
    from pytorchcv.models.wrn_cifar import get_wrn_cifar

    model: nn.Module = get_wrn_cifar(
        num_classes=10, blocks=16, width_factor=4, model_name="wrn16_4_cifar10"
    )
    return model
