"""The initial weights of ACET's networks."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


def he_normal_(model: M) -> M:
    """Draw the weights of a ReLU network anew, in place, from torch's default generator.

    Each is normal with mean 0 and variance 2 / fan_in, fan_in being what a neuron has inputs;
    those of convolutions are cut at two standard deviations, as TensorFlow's truncated normal is.
    Biases are 0. BatchNorm is left as it is.

    Args:
        model: Any, with `nn.Conv2d` and `nn.Linear` in it.

    Returns:
        `model`.

    Source: He et al. (2015), "Delving Deep into Rectifiers", Eq. 10; the cut is of ACET's code.

    Example:
        >>> round(float(he_normal_(nn.Linear(200, 1000)).weight.detach().std()), 2)
        0.1
    """
    for module in model.modules():
        if not isinstance(module, (nn.Conv2d, nn.Linear)):
            continue
        std = (2 / module.weight[0].numel()) ** 0.5
        if isinstance(module, nn.Conv2d):
            nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
        else:
            nn.init.normal_(module.weight, std=std)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    return model
