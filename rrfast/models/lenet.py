"""The LeNet of ACET, for MNIST and its kin."""

from __future__ import annotations

from torch import nn

from rrfast._checks import check_count
from rrfast._seeds import weights_by
from rrfast.models.he_normal import he_normal_


def lenet(classes: int = 10, channels: int = 1, size: int = 28, *, seed: int = 0) -> nn.Sequential:
    """Two 5 x 5 convolutions of 32 and 64 channels, a hidden layer of 1024, no BatchNorm.

        conv 5x5, 32 - ReLU - max 2x2 - conv 5x5, 64 - ReLU - max 2x2 - linear 1024 - ReLU - linear

    Convolutions keep the size of the image, and pooling halves it and rounds up. It takes pixels
    in [0, 1] as they are. Initial weights are normal with variance 2 / (inputs of a neuron), in
    convolutions cut at two standard deviations, and biases 0, as in ACET's code.

    Args:
        classes: Logits per image, at least 2.
        channels: Of the images.
        size: Their height and width, in pixels; 8 for `rrfast.data.digits`.
        seed: Decides the initial weights. Global random state is left as it was.

    Returns:
        A module in training mode, [n, channels, size, size] to logits [n, classes], with 3,274,634
        parameters by default.

    Raises:
        ValueError: An argument is no integer that large.

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
    side = -(-size // 4)  # rounded up, as half of the half is
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
