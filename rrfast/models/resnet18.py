"""The ResNet-18 for small images: of IRAT's tables, and of adversarial training at large."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from rrfast._checks import check_count
from rrfast._seeds import weights_by

#: Of the four groups of two units.
WIDTHS = (64, 128, 256, 512)
UNITS = 2


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
    """The ResNet-18 that is used for 32 x 32 images: that of ImageNet with a small first layer.

        conv 3x3 - BatchNorm - ReLU - 4 x 2 units of 64, 128, 256, 512 channels - mean - linear

    A unit is relu(norm(conv(relu(norm(conv(x))))) + shortcut(x)) with 3 x 3 convolutions; the first
    of the second, third and fourth group halves the image, with a 1 x 1 convolution and BatchNorm
    for its shortcut. ImageNet's has a 7 x 7 convolution of stride 2 and a pooling in front, which
    would leave a single pixel of 32 x 32 ones.

    Args:
        classes: Logits per image, at least 2.
        channels: Of the images, whose size is any.
        seed: Decides the initial weights, torch's own. Global random state is left as it was.

    Returns:
        A module in training mode, [n, channels, H, W] to logits [n, classes], with 11,173,962
        parameters by default.

    Raises:
        ValueError: An argument is no integer that large.

    Source: IRAT, 4.1 ("ResNet-18 (He et al., 2016)"), which does not say what it has in front; this
    is the one that the adversarial trainings it builds on have. He et al. (2016), "Deep Residual
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
