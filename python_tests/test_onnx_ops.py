"""`rrfast.selective.onnx_ops`: each operation is what torch computes, and none of them is left."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from rrfast.selective.onnx_ops import ONNX_OPS

IMAGES = (2, 6, 11, 10)

LAYERS = {
    "convolution": (nn.Conv2d(6, 4, 3), IMAGES),
    "of several strides": (nn.Conv2d(6, 4, (3, 2), (2, 3), (0, 1)), IMAGES),
    "dilated": (nn.Conv2d(6, 4, 3, 2, 3, dilation=2), IMAGES),
    "of groups": (nn.Conv2d(6, 12, 3, padding=1, groups=3), IMAGES),
    "depthwise": (nn.Conv2d(6, 6, 3, 2, groups=6), IMAGES),
    "same": (nn.Conv2d(6, 4, 5, padding="same", dilation=2), IMAGES),
    "one-dimensional": (nn.Conv1d(6, 4, 5, 3, 2), (2, 6, 17)),
    "three-dimensional": (nn.Conv3d(2, 4, 3, 2, 1), (2, 2, 5, 6, 7)),
    "transposed": (nn.ConvTranspose2d(6, 4, 3, 3, 1, 2, groups=2), IMAGES),
    "transposed, padded by more than its stride": (
        nn.ConvTranspose2d(6, 4, 2, 2, output_padding=2, dilation=3),
        IMAGES,
    ),
    "max": (nn.MaxPool2d(3, 2, 1), IMAGES),
    "max, ceiling": (nn.MaxPool2d((3, 2), (2, 3), ceil_mode=True, dilation=2), IMAGES),
    "max of one": (nn.MaxPool1d(3, 2), (2, 6, 17)),
    "max of three": (nn.MaxPool3d(2), (2, 2, 5, 6, 7)),
    "adaptive max": (nn.AdaptiveMaxPool2d((4, 3)), IMAGES),
    "adaptive max of equal windows": (nn.AdaptiveMaxPool2d((1, 5)), IMAGES),
    "average": (nn.AvgPool2d(3, 2, 1), IMAGES),
    "average, ceiling": (nn.AvgPool2d((3, 2), (2, 3), 1, True, False), IMAGES),
    "average, by a divisor": (nn.AvgPool2d(3, 2, 1, divisor_override=4), IMAGES),
    "average of three": (nn.AvgPool3d(2, padding=1, count_include_pad=False), (2, 2, 5, 6, 7)),
    "adaptive average": (nn.AdaptiveAvgPool2d((4, 3)), IMAGES),
    "adaptive average of three": (nn.AdaptiveAvgPool3d((2, 3, 4)), (2, 2, 5, 6, 7)),
    "global average": (nn.AdaptiveAvgPool2d(1), IMAGES),
    "bilinear": (nn.Upsample((17, 7), mode="bilinear"), IMAGES),
    "bilinear between corners": (nn.UpsamplingBilinear2d((17, 7)), IMAGES),
    "bilinear by a factor": (nn.Upsample(scale_factor=(1.7, 2), mode="bilinear"), IMAGES),
    "bicubic": (nn.Upsample((17, 12), mode="bicubic", align_corners=True), IMAGES),
    "trilinear": (nn.Upsample((4, 9, 7), mode="trilinear"), (2, 2, 5, 6, 7)),
    "linear": (nn.Upsample(9, mode="linear", align_corners=True), (2, 6, 17)),
    "nearest": (nn.Upsample(scale_factor=2.3), IMAGES),
    "replicated": (nn.ReplicationPad2d((1, 0, 3, 2)), IMAGES),
    "reflected": (nn.ReflectionPad2d((1, 0, 3, 2)), IMAGES),
    "softmax": (nn.Softmax(dim=1), IMAGES),
    "SiLU": (nn.SiLU(), IMAGES),
    "GELU": (nn.GELU(approximate="tanh"), IMAGES),
    "batch norm": (nn.BatchNorm2d(6), IMAGES),
    "layer norm": (nn.LayerNorm((11, 10)), IMAGES),
    "group norm": (nn.GroupNorm(2, 6), IMAGES),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_gradient_in_operations_of_the_forward(name: str) -> None:
    layer, shape = LAYERS[name]
    layer = layer.double().eval().requires_grad_(False)
    x = torch.randn(shape, dtype=torch.float64)
    cotangent = torch.randn_like(layer(x))

    def gradient(x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        return torch.autograd.grad(layer(x), x, cotangent)[0]

    graph = make_fx(gradient, decomposition_table=ONNX_OPS)(x)
    assert not [node for node in graph.graph.nodes if "backward" in str(node.target)]
    torch.testing.assert_close(graph(x), gradient(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.amax(dim=(1, 2), keepdim=True),
        lambda x: x.amin(dim=1),
        lambda x: x.amax(),
        lambda x: x.argmax(dim=2, keepdim=True),
        lambda x: x.argmin(dim=1),
        lambda x: torch.max(x, dim=2)[0],
        lambda x: torch.min(x, dim=1)[0],
        lambda x: torch.max(x, dim=2)[1],
        lambda x: torch.min(x, dim=1)[1],
        lambda x: (x > 0).int().argmax(dim=1),
        lambda x: (x * 10).nan_to_num().int().amax(dim=1),
        nn.MaxPool2d(2, 2),
        nn.MaxPool2d(3, 1, 1),
        nn.AdaptiveMaxPool2d((3, 2)),
    ],
)
def test_a_maximum_of_the_same_bits(function: Callable[[Tensor], Tensor], broken: float) -> None:
    x = torch.randn(3, 6, 8)
    x[1, 2, 3] = broken
    x = x.requires_grad_()  # max-pooling has another operation without a gradient
    graph = make_fx(function, decomposition_table=ONNX_OPS)(x)
    torch.testing.assert_close(graph(x), function(x), rtol=0, atol=0, equal_nan=True)
