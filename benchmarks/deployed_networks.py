"""Networks to deploy: what convolutional networks and transformers are built of, in small."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Convolutions(nn.Sequential):
    """Every kind of convolution, of pooling, and of activations: [n, 3, 33, 33] to logits."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, (3, 5), padding=(2, 1), dilation=(2, 1), groups=4),
            nn.GELU(),
            nn.MaxPool2d(3, 2, 1),
            nn.Conv2d(8, 12, 2, stride=2, padding="valid"),
            nn.SiLU(),
            nn.Conv2d(12, 12, 3, padding="same", padding_mode="reflect"),
            nn.Hardswish(),
            nn.AvgPool2d(2, 1, 1, count_include_pad=False),
            nn.Conv2d(12, 16, 1),
            nn.GELU(approximate="tanh"),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(),
            nn.Linear(64, 5),
        )


class Residual(nn.Module):
    """A block of a ResNet."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        project = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.skip = (
            nn.Identity() if stride == 1 else nn.Sequential(project, nn.BatchNorm2d(outputs))
        )

    def forward(self, x: Tensor) -> Tensor:
        return (self.branch(x) + self.skip(x)).relu()


class ResNet(nn.Sequential):
    """[n, 3, 16, 16] to logits."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 8, 3, 1, 1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            Residual(8, 8, 1),
            Residual(8, 16, 2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(16, 5),
        )


class Attention(nn.Module):
    """A block of a vision transformer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.projections, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, width))

    def forward(self, x: Tensor) -> Tensor:
        parts = self.projections(self.before(x)).unflatten(2, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(self.between(x))


class ViT(nn.Module):
    """[n, 3, 16, 16] to logits."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 4, 4)
        self.first, self.places = (nn.Parameter(torch.randn(1, n, 32)) for n in (1, 17))
        self.blocks = nn.Sequential(Attention(32, 4), Attention(32, 4))
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        h = torch.cat((self.first.expand(x.shape[0], -1, -1), patches), dim=1) + self.places
        return self.head(self.norm(self.blocks(h))[:, 0])


class Recurrent(nn.Module):
    """[n, 6, 8] to logits."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.LSTM(8, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][:, -1])


class Encoder(nn.Module):
    """[n, 6, 8] to logits, by torch's own layer, which has a fast path."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.layers, self.head = nn.TransformerEncoder(layer, 1), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(x).mean(1))
