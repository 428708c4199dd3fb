"""Small networks without shortcuts: for the tasks of `rrfast.data`, and the LeNet of ACET."""

from __future__ import annotations

from torch import nn

from rrfast._checks import check_count
from rrfast._seeds import weights_by
from rrfast.models.he_normal import he_normal_

#: Channels of the three convolutions of `fashion_cnn`, each of which halves the image.
FASHION_WIDTHS = (32, 64, 128)


def _block(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU()]


def digits_cnn(seed: int = 0, classes: int = 10) -> nn.Sequential:
    """A small CNN for `rrfast.data.digits`: two 3x3 convolutions with BatchNorm, two linear layers.

    Args:
        seed: Decides the initial weights. The global random state is restored.
        classes: Logits per image.

    Returns:
        A module in training mode, [n, 1, 8, 8] to logits [n, classes], with 13,754 parameters for
        ten of them.

    Example:
        >>> import torch
        >>> digits_cnn()(torch.rand(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    with weights_by(seed):
        return nn.Sequential(
            *(*_block(1, 16), nn.MaxPool2d(2)),
            *(*_block(16, 32), nn.MaxPool2d(2)),
            nn.Flatten(),
            nn.Linear(128, 64),
            nn.ReLU(),
            nn.Linear(64, classes),
        )


def synthetic_cnn(seed: int = 0, classes: int = 10) -> nn.Sequential:
    """A small CNN for `rrfast.data.synthetic`: three convolutions with BatchNorm, one linear layer.

    Args:
        seed: Decides the initial weights. The global random state is restored.
        classes: Logits per image.

    Returns:
        A module in training mode, [n, 3, H, W] to logits [n, classes].

    Example:
        >>> import torch
        >>> synthetic_cnn()(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    with weights_by(seed):
        layers: list[nn.Module] = []
        for inputs, outputs in ((3, 16), (16, 32), (32, 64)):
            layers += [*_block(inputs, outputs), nn.MaxPool2d(2)]
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes)]
        return nn.Sequential(*layers)


def fashion_cnn(classes: int = 10, channels: int = 1, *, seed: int = 0) -> nn.Sequential:
    """Three strided 3 x 3 convolutions with BatchNorm, and a linear layer on all their pixels.

        3 x (conv 3x3, stride 2 - BatchNorm - ReLU) - flatten - linear

    It is fast to train: an epoch of 60,000 images takes about ten seconds on one core. Yet it
    memorises all of them in thirty epochs, after which errors are hard to find.

    Args:
        classes: Logits per image, at least 2.
        channels: Channels of the images, which have 28 x 28 pixels.
        seed: Decides the initial weights. The global random state is restored.

    Returns:
        A module in training mode, [n, channels, 28, 28] to logits [n, classes], with 113,386
        parameters by default.

    Raises:
        ValueError: An argument is not an integer, or too small.

    Example:
        >>> import torch
        >>> fashion_cnn()(torch.rand(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """
    check_count("classes", classes, least=2)
    check_count("channels", channels)
    with weights_by(seed):
        layers: list[nn.Module] = []
        inputs = channels
        for width in FASHION_WIDTHS:
            layers += _block(inputs, width, stride=2)
            inputs = width
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(FASHION_WIDTHS[-1] * 4 * 4, classes))


def lenet(classes: int = 10, channels: int = 1, size: int = 28, *, seed: int = 0) -> nn.Sequential:
    """Two 5 x 5 convolutions of 32 and 64 channels, a hidden layer of 1024, no BatchNorm.

        conv 5x5, 32 - ReLU - max 2x2 - conv 5x5, 64 - ReLU - max 2x2 - linear 1024 - ReLU - linear

    Convolutions keep the size of the image; pooling halves it, rounded up. It takes pixels in [0,
    1] without normalisation. As in ACET's code, initial weights are normal with variance 2 /
    (inputs of a neuron), cut at two standard deviations in convolutions, and biases are 0.

    Args:
        classes: Logits per image, at least 2.
        channels: Channels of the images.
        size: Their height and width, in pixels; 8 for `rrfast.data.digits`.
        seed: Decides the initial weights. The global random state is restored.

    Returns:
        A module in training mode, [n, channels, size, size] to logits [n, classes], with 3,274,634
        parameters by default.

    Raises:
        ValueError: An argument is not an integer, or too small.

    Source: ACET, appendix F, and its released code
    (https://github.com/max-andr/relu_networks_overconfident); the network is that of Madry et al.
    (2018), "Towards Deep Learning Models Resistant to Adversarial Attacks", section 5.

    Example:
        >>> import torch
        >>> lenet()(torch.rand(2, 1, 28, 28)).shape
        torch.Size([2, 10])
        >>> lenet(size=8)(torch.rand(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    check_count("classes", classes, least=2)
    check_count("channels", channels)
    check_count("size", size)
    side = -(-size // 4)  # rounded up in both halvings
    with weights_by(seed):
        model = nn.Sequential(
            nn.Conv2d(channels, 32, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(32, 64, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Flatten(),
            nn.Linear(64 * side * side, 1024),
            nn.ReLU(),
            nn.Linear(1024, classes),
        )
        return he_normal_(model)
