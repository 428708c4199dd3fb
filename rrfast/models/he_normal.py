"""The initial weights of ACET's networks."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


def he_normal_(model: M) -> M:
    """Redraw the weights of a ReLU network in place, from torch's default generator.

    They are normal with mean 0 and variance 2 / fan_in, where fan_in is the number of inputs of a
    neuron; those of convolutions are cut at two standard deviations, like TensorFlow's truncated
    normal. Biases are 0. BatchNorm is not changed.

    Args:
        model: Any module with `nn.Conv2d` and `nn.Linear` layers.

    Returns:
        `model`.

    Source: He et al. (2015), "Delving Deep into Rectifiers", Eq. 10; the cut is from ACET's code.

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
