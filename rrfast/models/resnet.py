"""Residual networks for small images: ACET's with pre-activation, and ResNet-18."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from rrfast._checks import check_count
from rrfast._seeds import weights_by
from rrfast.models.he_normal import he_normal_

#: Channels of the groups of `preresnet20`, and units in each.
PRE_WIDTHS, PRE_UNITS = (16, 32, 64), 3
#: The same for `resnet18`.
WIDTHS, UNITS = (64, 128, 256, 512), 2


class PreResNet(nn.Module):
    """A pre-activation ResNet for small images; made by `preresnet20`.

    Args:
        classes: Logits per image.
        channels: Channels of the images.
    """

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.conv = _conv(channels, PRE_WIDTHS[0])
        units, inputs = [], PRE_WIDTHS[0]
        for width in PRE_WIDTHS:
            for place in range(PRE_UNITS):
                units.append(_PreUnit(inputs, width, first=place == 0))
                inputs = width
        self.units = nn.Sequential(*units)
        self.norm = _norm(inputs)
        self.output = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, H, W] in [0, 1] to logits [n, classes]."""
        features = F.relu(self.norm(self.units(self.conv(x))))
        logits: Tensor = self.output(features.mean(dim=(2, 3)))
        return logits


class _PreUnit(nn.Module):
    """x + conv(relu(norm(conv(relu(norm(x)))))); in the first of a group x is relu(norm(x))."""

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
            # An odd last row or column is pooled by itself, because the convolution uses it too.
            shortcut = F.avg_pool2d(shortcut, 2, ceil_mode=True)
            before = self.widened // 2
            shortcut = F.pad(shortcut, (0, 0, 0, 0, before, self.widened - before))
        result: Tensor = self.conv2(F.relu(self.norm2(self.conv1(active)))) + shortcut
        return result


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)


def _norm(width: int) -> nn.BatchNorm2d:
    # TensorFlow's momentum of 0.99 is the weight of the old value, torch's that of the new one.
    return nn.BatchNorm2d(width, eps=1e-5, momentum=0.01)


def preresnet20(classes: int = 10, channels: int = 3, *, seed: int = 0) -> PreResNet:
    """The ResNet that ACET trains on SVHN, CIFAR-10 and CIFAR-100.

    A 3 x 3 convolution, three groups of three units with 16, 32 and 64 channels, BatchNorm, ReLU,
    the mean over all pixels and a linear layer. A unit is

        x + conv(relu(norm(conv(relu(norm(x))))))

    with 3 x 3 convolutions without biases. In the first unit of each group the shortcut starts
    after the first ReLU, relu(norm(x)) in place of x. The first units of the second and the third
    group halve the image; their shortcuts are means over 2 x 2 pixels, with equal numbers of zero
    channels before and after, so that no shortcut has weights. It takes pixels in [0, 1] without
    normalisation.

    It differs from pytorchcv's preresnet20_cifar10, which has convolutions in its shortcuts. ACET's
    code halves with a convolution at the odd pixels, torch at the even ones, so that its weights do
    not fit.

    Args:
        classes: Logits per image, at least 2.
        channels: Channels of the images, which may have any size.
        seed: Decides the initial weights, by `he_normal_`. The global random state is restored.

    Returns:
        A module in training mode, [n, channels, H, W] to logits [n, classes], with 269,722
        parameters by default.

    Raises:
        ValueError: An argument is not an integer, or too small.

    Source: ACET, appendix F ("a ResNet architecture"), specified by its released code
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


class _Unit(nn.Module):
    """relu(norm(conv(relu(norm(conv(x))))) + shortcut(x)), the shortcut x or norm(conv 1x1(x))."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != width:
            conv = nn.Conv2d(inputs, width, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(inner + self.shortcut(x))


def resnet18(classes: int = 10, channels: int = 3, *, seed: int = 0) -> nn.Sequential:
    """The usual ResNet-18 for 32 x 32 images: that of ImageNet with a small first layer.

        conv 3x3 - BatchNorm - ReLU - 4 x 2 units of 64, 128, 256, 512 channels - mean - linear

    A unit is relu(norm(conv(relu(norm(conv(x))))) + shortcut(x)) with 3 x 3 convolutions; the first
    of the second, third and fourth group halves the image, with a 1 x 1 convolution and BatchNorm
    for its shortcut. ImageNet's has a 7 x 7 convolution of stride 2 and a pooling at the beginning,
    which would reduce 32 x 32 images to a single pixel.

    Args:
        classes: Logits per image, at least 2.
        channels: Channels of the images, which may have any size.
        seed: Decides the initial weights, torch's defaults. The global random state is restored.

    Returns:
        A module in training mode, [n, channels, H, W] to logits [n, classes], with 11,173,962
        parameters by default.

    Raises:
        ValueError: An argument is not an integer, or too small.

    Source: IRAT, 4.1 ("ResNet-18 (He et al., 2016)"), which does not specify the first layers; this
    is the version of the adversarial trainings that it builds on. He et al. (2016), "Deep Residual
    Learning for Image Recognition".

    Example:
        >>> import torch
        >>> resnet18(classes=100)(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 100])
    """
    check_count("classes", classes, least=2)
    check_count("channels", channels)
    with weights_by(seed):
        first, inputs = WIDTHS[0], WIDTHS[0]
        layers: list[nn.Module] = [
            nn.Conv2d(channels, first, 3, padding=1, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(),
        ]
        for width in WIDTHS:
            for place in range(UNITS):
                halves = place == 0 and width != first
                layers.append(_Unit(inputs, width, stride=2 if halves else 1))
                inputs = width
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes)]
        return nn.Sequential(*layers)
