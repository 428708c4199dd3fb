"""The ResNet of ACET, for SVHN and CIFAR: pre-activation, 20 layers, shortcuts without weights."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from rrfast._checks import check_count
from rrfast._seeds import weights_by
from rrfast.models.he_normal import he_normal_

#: Of the three groups of units.
WIDTHS = (16, 32, 64)
UNITS = 3


class PreResNet(nn.Module):
    """A pre-activation ResNet for small images; made by `preresnet20`.

    Args:
        classes: Logits per image.
        channels: Of the images.
    """

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.conv = _conv(channels, WIDTHS[0])
        units, inputs = [], WIDTHS[0]
        for width in WIDTHS:
            for place in range(UNITS):
                units.append(_Unit(inputs, width, first=place == 0))
                inputs = width
        self.units = nn.Sequential(*units)
        self.norm = _norm(inputs)
        self.output = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, H, W] in [0, 1] to logits [n, classes]."""
        features = F.relu(self.norm(self.units(self.conv(x))))
        logits: Tensor = self.output(features.mean(dim=(2, 3)))
        return logits


class _Unit(nn.Module):
    """x + conv(relu(norm(conv(relu(norm(x)))))); the first of a group begins at relu(norm(x))."""

    def __init__(self, inputs: int, width: int, *, first: bool) -> None:
        super().__init__()
        self.first = first
        self.widened = width - inputs
        self.norm1 = _norm(inputs)
        self.conv1 = _conv(inputs, width, stride=2 if self.widened else 1)
        self.norm2 = _norm(width)
        self.conv2 = _conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.norm1(x))
        shortcut = active if self.first else x
        if self.widened:
            # An odd last row or column is pooled by itself, as the convolution sees it too.
            shortcut = F.avg_pool2d(shortcut, 2, ceil_mode=True)
            before = self.widened // 2
            shortcut = F.pad(shortcut, (0, 0, 0, 0, before, self.widened - before))
        result: Tensor = self.conv2(F.relu(self.norm2(self.conv1(active)))) + shortcut
        return result


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)


def _norm(width: int) -> nn.BatchNorm2d:
    # TensorFlow's momentum of 0.99 is what is kept, torch's what is not.
    return nn.BatchNorm2d(width, eps=1e-5, momentum=0.01)


def preresnet20(classes: int = 10, channels: int = 3, *, seed: int = 0) -> PreResNet:
    """The ResNet that ACET trains on SVHN, CIFAR-10 and CIFAR-100.

    A 3 x 3 convolution, three groups of three units with 16, 32 and 64 channels, BatchNorm, ReLU,
    the mean over all pixels and a linear layer. A unit is

        x + conv(relu(norm(conv(relu(norm(x))))))

    with 3 x 3 convolutions without biases. In the first unit of each group the shortcut begins
    behind the first ReLU, relu(norm(x)) in place of x. The first units of the second and the third
    group halve the image; their shortcuts are means over 2 x 2 pixels, with as many channels of
    zeros before as behind, and so no shortcut has weights. It takes pixels in [0, 1] as they are.

    It is none of pytorchcv's: preresnet20_cifar10 has convolutions in its shortcuts. And the code
    halves with a convolution at the odd pixels, torch at the even ones: its weights do not fit.

    Args:
        classes: Logits per image, at least 2.
        channels: Of the images, whose size is any.
        seed: Decides the initial weights, those of `he_normal_`. Global random state is left as it
            was.

    Returns:
        A module in training mode, [n, channels, H, W] to logits [n, classes], with 269,722
        parameters by default.

    Raises:
        ValueError: An argument is no integer that large.

    Source: ACET, appendix F ("a ResNet architecture"); which one, its released code says
    (https://github.com/max-andr/relu_networks_overconfident, resnet_small). He et al. (2016),
    "Identity Mappings in Deep Residual Networks".

    Example:
        >>> import torch
        >>> preresnet20(classes=100)(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 100])
    """
    check_count("classes", classes, least=2)
    check_count("channels", channels)
    with weights_by(seed):
        return he_normal_(PreResNet(classes, channels))
