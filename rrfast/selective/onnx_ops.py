"""Operations that ONNX lacks, or defines otherwise for NaN, written in others."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._decomp import decomposition_table
from torch.fx.experimental.proxy_tensor import decompose

aten = torch.ops.aten


def convolution_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    _bias_sizes: object,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    _output_padding: object,
    groups: int,
    output_mask: Sequence[bool],
) -> Any:
    """The gradient at `x`: a transposed convolution, and of a transposed one a convolution.

    Along a dimension a convolution of stride s maps up to s neighbouring sizes to the same one; the
    output padding says which it was.
    """
    if any(output_mask[1:]):
        return NotImplemented
    sizes = x.shape[2:]
    steps, edges, holes = (_each(v, len(sizes)) for v in (stride, padding, dilation))
    lost = [0] * len(sizes)
    if not transposed:
        windows = zip(sizes, grad.shape[2:], weight.shape[2:], steps, edges, holes, strict=True)
        lost = [n + 2 * p - d * (k - 1) - 1 - (m - 1) * s for n, m, k, s, p, d in windows]
    found = aten.convolution.default(
        grad, weight, None, steps, edges, holes, not transposed, lost, groups
    )
    # A transposed convolution may pad its output by more than its stride.
    for dim, size in enumerate(sizes, start=2):
        found = found.narrow(dim, 0, size)
    return found, None, None


def max_pool_backward(grad: Tensor, x: Tensor, *rest: Any) -> Tensor:
    """The gradient of each window goes to its largest element; `indices` come last."""
    flat = torch.zeros_like(x).flatten(2)
    return flat.scatter_add(2, rest[-1].flatten(2), grad.flatten(2)).reshape(x.shape)


def avg_pool_backward(
    grad: Tensor,
    x: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Tensor:
    """A mean over a window is a mean along each dimension, one after the other."""
    sizes = x.shape[2:]
    windows = (_each(v, len(sizes)) for v in (kernel_size, stride or kernel_size, padding))
    matrices = []
    for size, kernel, step, edge in zip(sizes, *windows, strict=True):
        means = torch.nn.functional.avg_pool1d(
            _units(size, x), kernel, step, edge, ceil_mode, count_include_pad
        )
        matrices.append(means if divisor_override is None else (means > 0).to(x.dtype))
    found = _transposed(matrices, grad)
    return found if divisor_override is None else found / divisor_override


def avg_pool(op: Any) -> Callable[..., Any]:
    """Average-pooling by a divisor, which torch.onnx leaves out."""

    def pool(
        x: Tensor,
        kernel_size: Sequence[int],
        stride: Sequence[int] = (),
        padding: Sequence[int] = (0,),
        ceil_mode: bool = False,
        _count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Any:
        if divisor_override is None or ceil_mode:
            return NotImplemented
        window = math.prod(_each(kernel_size, x.dim() - 2))
        mean = _as_is(op, x, kernel_size, stride, padding)
        return mean * (window / divisor_override)

    return pool


def adaptive_avg_pool_backward(grad: Tensor, x: Tensor) -> Tensor:
    """Likewise, with windows of several sizes."""
    mean = torch.nn.functional.adaptive_avg_pool1d
    sizes = zip(x.shape[2:], grad.shape[2:], strict=True)
    return _transposed([mean(_units(n, x), m) for n, m in sizes], grad)


def replication_pad_backward(grad: Tensor, x: Tensor, padding: Sequence[int]) -> Tensor:
    """Padding repeats along each dimension, one after the other; of the last dimension first."""
    pad = torch.nn.functional.pad
    edges = list(zip(padding[::2], padding[1::2], strict=True))[::-1]
    sizes = zip(x.shape[-len(edges) :], edges, strict=True)
    return _transposed([pad(_units(n, x)[None], e, mode="replicate")[0] for n, e in sizes], grad)


def upsample_backward(forward: Any) -> Callable[..., Tensor]:
    """Interpolation is linear along each dimension, one after the other."""
    corners = any(argument.name == "align_corners" for argument in forward._schema.arguments)

    def backward(
        grad: Tensor, output_size: Sequence[int], input_size: Sequence[int], *options: Any
    ) -> Tensor:
        align, scales = options[:corners], options[corners:]  # scales are left out where none is
        dims = len(output_size)
        matrices = []
        for dim, (n, m) in enumerate(zip(input_size[2:], output_size, strict=True)):
            units, size = [1, n, *[1] * dims], [1] * dims
            units[2 + dim], size[dim] = n, m
            kept = [scale if d == dim else None for d, scale in enumerate(scales)]
            found = forward(_units(n, grad).reshape(units), size, *align, *kept)
            matrices.append(found.reshape(n, m))
        return _transposed(matrices, grad)

    return backward


def _each(values: Sequence[int], dims: int) -> list[int]:
    return list(values) * dims if len(values) == 1 else list(values)


def _units(size: int, like: Tensor) -> Tensor:
    return torch.eye(size, dtype=like.dtype, device=like.device)


def _transposed(matrices: Sequence[Tensor], grad: Tensor) -> Tensor:
    """A gradient [B, C, ...] behind maps [n, m] of its dimensions: in front of them."""
    for dim, matrix in enumerate(matrices, start=2):
        grad = (grad.movedim(dim, -1) @ matrix.t()).movedim(-1, dim)
    return grad


# onnxruntime's maxima pass over NaN, and its ArgMax over the NaN that torch finds.


def amax(x: Tensor, dim: Sequence[int] = (), keepdim: bool = False) -> Tensor:
    """`torch.amax`, NaN where a NaN is."""
    return _with_nan(aten.amax.default, x, dim, keepdim)


def amin(x: Tensor, dim: Sequence[int] = (), keepdim: bool = False) -> Tensor:
    """`torch.amin`, NaN where a NaN is."""
    return _with_nan(aten.amin.default, x, dim, keepdim)


def _with_nan(op: Any, x: Tensor, dim: Sequence[int], keepdim: bool) -> Tensor:
    dim = tuple(dim) or tuple(range(x.dim()))  # torch.onnx asks for it
    found: Tensor = _as_is(op, x, dim, keepdim)
    if not x.is_floating_point():
        return found
    return torch.where(x.isnan().any(dim, keepdim), math.nan, found)


def argmax(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """`torch.argmax`, for which NaN is above all."""
    largest = x.masked_fill(x.isnan(), math.inf) if x.is_floating_point() else x
    index: Tensor = _as_is(aten.argmax.default, largest, dim, keepdim)
    return index


def argmin(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """`torch.argmin`, for which NaN is below all."""
    smallest = x.masked_fill(x.isnan(), -math.inf) if x.is_floating_point() else x
    index: Tensor = _as_is(aten.argmin.default, smallest, dim, keepdim)
    return index


def max_dim(x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """`torch.max` along a dimension."""
    return x.amax(dim, keepdim), x.argmax(dim, keepdim)


def min_dim(x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """`torch.min` along a dimension."""
    return x.amin(dim, keepdim), x.argmin(dim, keepdim)


def max_pool(op: Any) -> Callable[..., tuple[Tensor, Tensor]]:
    """Max-pooling that gives NaN for a window with NaN."""

    def pool(x: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
        largest, indices = _as_is(op, x, *options)
        nan, _ = _as_is(op, x.isnan().to(x.dtype), *options)
        return torch.where(nan > 0, math.nan, largest), indices

    return pool


def adaptive_max_pool(op: Any) -> Callable[..., Any]:
    """Adaptive max-pooling into windows of one size, as max-pooling."""

    def pool(x: Tensor, output_size: Sequence[int]) -> Any:
        sizes = list(zip(x.shape[-len(output_size) :], output_size, strict=True))
        if any(n % m for n, m in sizes):
            return NotImplemented
        return op(x, [n // m for n, m in sizes])

    return pool


def _as_is(op: Any, *args: Any) -> Any:
    with decompose({other: plain for other, plain in ONNX_OPS.items() if other is not op}):
        return op(*args)


#: For `make_fx`: what torch can write in other operations, and the above.
ONNX_OPS: dict[Any, Callable[..., Any]] = {
    **{op: plain for op, plain in decomposition_table.items() if "backward" in str(op)},
    aten.convolution_backward.default: convolution_backward,
    aten.max_pool2d_with_indices.default: max_pool(aten.max_pool2d_with_indices.default),
    aten.max_pool3d_with_indices.default: max_pool(aten.max_pool3d_with_indices.default),
    aten.adaptive_max_pool2d.default: adaptive_max_pool(aten.max_pool2d_with_indices.default),
    aten.adaptive_max_pool3d.default: adaptive_max_pool(aten.max_pool3d_with_indices.default),
    aten.max_pool2d_with_indices_backward.default: max_pool_backward,
    aten.max_pool3d_with_indices_backward.default: max_pool_backward,
    aten.adaptive_max_pool2d_backward.default: max_pool_backward,
    aten.adaptive_max_pool3d_backward.default: max_pool_backward,
    aten.avg_pool2d.default: avg_pool(aten.avg_pool2d.default),
    aten.avg_pool3d.default: avg_pool(aten.avg_pool3d.default),
    aten.avg_pool2d_backward.default: avg_pool_backward,
    aten.avg_pool3d_backward.default: avg_pool_backward,
    aten._adaptive_avg_pool2d_backward.default: adaptive_avg_pool_backward,
    aten._adaptive_avg_pool3d_backward.default: adaptive_avg_pool_backward,
    aten.replication_pad1d_backward.default: replication_pad_backward,
    aten.replication_pad2d_backward.default: replication_pad_backward,
    aten.replication_pad3d_backward.default: replication_pad_backward,
    **{
        getattr(aten, f"{name}_backward").default: upsample_backward(getattr(aten, name).default)
        for name in (
            "upsample_nearest1d",
            "upsample_nearest2d",
            "upsample_nearest3d",
            "upsample_linear1d",
            "upsample_bilinear2d",
            "upsample_bicubic2d",
            "upsample_trilinear3d",
        )
    },
    aten.amax.default: amax,
    aten.amin.default: amin,
    aten.argmax.default: argmax,
    aten.argmin.default: argmin,
    aten.max.dim: max_dim,
    aten.min.dim: min_dim,
}
