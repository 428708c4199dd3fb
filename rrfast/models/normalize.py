"""Input normalisation as a first layer, so that radii are in units of pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from rrfast._checks import check_floating, check_one_of, describe, is_number

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on


class Statistics(NamedTuple):
    """Statistics per channel of a data set's pixels in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


_CIFAR = Statistics((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
#: What published networks were trained with. Those for CIFAR-100 are as a rule given CIFAR-10's.
STATISTICS = {
    "cifar10": _CIFAR,
    "cifar100": _CIFAR,
    "imagenet": Statistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


class Normalize(nn.Module):
    """Subtract a mean from every channel and divide by a standard deviation: (x - mean) / std.

    In front of a model, `nn.Sequential(Normalize.of("cifar10"), model)`, it keeps the input in [0,
    1], and so everything in units of the input: eps, bounds, radii.

    It is one elementwise pass, x scale + shift with scale = 1 / std and shift = -mean / std, and
    keeps the memory format of x. The result differs from (x - mean) / std only by rounding: by less
    than 6 eps of the dtype for the statistics below and x in [0, 1].

    The statistics are buffers that follow the module's device and dtype. They are recomputed from
    Python's floats at every change, so that float16 and back to float64 loses nothing. They are not
    part of the state_dict: a file of weights holds only the model's weights, and cannot change the
    normalisation. Load weights that were trained without this module into the inner model
    (`wrapped[1].load_state_dict(...)`); those of the wrapped model have its keys (`1.conv.weight`).

    Args:
        mean: Mean per channel, for pixels in [0, 1].
        std: Standard deviation per channel, greater than 0.

    Attributes:
        mean: [C].
        std: [C].
        scale: [C], 1 / std.
        shift: [C], -mean / std.

    Raises:
        TypeError: `mean` or `std` is not a sequence of numbers; in a call, x is not a
            floating-point tensor.
        ValueError: They differ in length, are empty or not finite, or `std` is not greater than 0;
            in a call, x has another number of channels.

    Example:
        >>> model = nn.Sequential(Normalize.of("cifar10"), nn.Flatten(), nn.Linear(3072, 10))
        >>> model(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])
        >>> Normalize(mean=[0.5], std=[0.25])(torch.tensor([[0.0], [1.0]])).flatten().tolist()
        [-2.0, 2.0]
    """

    mean: Tensor
    std: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Iterable[float] | Tensor, std: Iterable[float] | Tensor) -> None:
        super().__init__()
        statistics = Statistics(_numbers("mean", mean), _numbers("std", std))
        if len(statistics.mean) != len(statistics.std):
            raise ValueError(
                "mean and std must have one number per channel each, got "
                f"{len(statistics.mean)} and {len(statistics.std)}"
            )
        if min(statistics.std) <= 0:
            raise ValueError(f"std must be greater than 0, got {list(statistics.std)}")
        self._statistics = statistics
        for name, values in self._values().items():
            self.register_buffer(name, torch.tensor(values), persistent=False)

    @classmethod
    def of(cls, name: str) -> Self:
        """The usual normalisation of networks for a data set.

        Args:
            name: "cifar10", "cifar100" or "imagenet". The first two are the same: published code
                gives CIFAR-10's statistics to both.

        Raises:
            ValueError: Any other name.

        Source: https://github.com/kuangliu/pytorch-cifar and code derived from it, the RAT paper's
        included; torchvision's "ImageNet" preset.

        Example:
            >>> Normalize.of("imagenet")
            Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
        """
        check_one_of("the name of a normalization", name, STATISTICS)
        return cls(*STATISTICS[name])

    def forward(self, x: Tensor) -> Tensor:
        """(x - mean) / std.

        Args:
            x: [B, C, ...] floating point, on the module's device.

        Returns:
            A new tensor with the shape and memory format of x, and the wider dtype of x and module.

        Cost: One read and one write of x; a backward takes two passes over its gradient.
        """
        check_floating("x", x)
        channels = self.scale.shape[0]
        if x.dim() < 2 or x.shape[1] != channels:
            raise ValueError(f"x must have shape [B, {channels}, ...], got {describe(x)}")
        shape = (channels, *(1,) * (x.dim() - 2))
        return torch.addcmul(self.shift.view(shape), x, self.scale.view(shape))

    def extra_repr(self) -> str:
        """The statistics."""
        return f"mean={list(self._statistics.mean)}, std={list(self._statistics.std)}"

    def _values(self) -> dict[str, list[float]]:
        """The buffers' values as Python's floats."""
        mean, std = self._statistics
        return {
            "mean": list(mean),
            "std": list(std),
            "scale": [1 / s for s in std],
            "shift": [-m / s for m, s in zip(mean, std, strict=True)],
        }

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Called by `to`, `half`, `cuda` and `to_empty`."""
        before = dict(self._buffers)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, values in self._values().items():
            moved = self.get_buffer(name)
            # Keep a tensor that did not move: a CUDA graph may hold its address.
            if moved is not before[name]:
                exact = torch.tensor(values, dtype=moved.dtype, device=moved.device)
                self.register_buffer(name, exact, persistent=False)
        return self


def _numbers(name: str, values: object) -> tuple[float, ...]:
    if isinstance(values, Tensor):
        values = values.tolist()
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a number per channel, got {describe(values)}")
    numbers = tuple(values)
    for number in numbers:
        if not is_number(number):
            raise TypeError(f"{name} must be a number per channel, got {describe(number)} in it")
    if not numbers or not all(math.isfinite(number) for number in numbers):
        raise ValueError(
            f"{name} must be a finite number per channel, of at least one, got {list(numbers)}"
        )
    return tuple(float(number) for number in numbers)
