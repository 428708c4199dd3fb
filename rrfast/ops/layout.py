"""The dtype that the ops compute in, and the layout of their results."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor


def accumulate_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which the ops compute: float64 for float64, float32 for the others."""
    return torch.float64 if dtype == torch.float64 else torch.float32


@cache
def coarse_eps(dtype: torch.dtype) -> float:
    """The eps of the dtype, but float32's for float64: a model may compute in float32."""
    return max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)


def memory_format(x: Tensor) -> torch.memory_format:
    """The layout of an elementwise op's result: channels-last if `x` is, else contiguous."""
    if not x.is_contiguous():
        if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
            return torch.channels_last
        if x.dim() == 5 and x.is_contiguous(memory_format=torch.channels_last_3d):
            return torch.channels_last_3d
    return torch.contiguous_format


def per_channel(values: Tensor, x: Tensor) -> Tensor:
    """[C] or [1] values shaped so that they broadcast over dimension 1 of `x`."""
    return values.reshape(1, -1, *[1] * (x.dim() - 2)) if x.dim() > 1 else values


def empty_like(x: Tensor, dtype: torch.dtype) -> Tensor:
    """An empty result of an elementwise op, with the shape and layout of `x`."""
    return torch.empty(x.shape, dtype=dtype, device=x.device, memory_format=memory_format(x))
