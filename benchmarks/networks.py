"""Small networks of other kinds than the papers': what takes milliseconds at batch 1."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rrfast.models import resnet18


def tiny() -> nn.Module:
    return nn.Linear(16, 4)


def mlp(classes: int) -> nn.Module:
    hidden = (nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU())
    return nn.Sequential(*hidden, nn.Linear(256, classes))


def conv1d() -> nn.Module:
    """A stack of convolutions on a signal of 4,000 values."""
    layers: list[nn.Module] = []
    inputs = 1
    for outputs, stride in ((32, 4), (64, 4), (128, 4), (128, 2)):
        convolution = nn.Conv1d(inputs, outputs, 9, stride, 4)
        layers += [convolution, nn.BatchNorm1d(outputs), nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(inputs, 12))


def separable() -> nn.Module:
    """MobileNet's depthwise separable convolutions on 32 x 32 images."""
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32)]
    inputs = 32
    for outputs, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
        layers += [
            nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
            nn.BatchNorm2d(inputs),
            nn.ReLU6(),
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU6(),
        ]
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 100))


class VisionTransformer(nn.Module):
    """Six blocks of width 192 on 4 x 4 patches of 32 x 32 images."""

    def __init__(self, classes: int = 10, width: int = 192, blocks: int = 6) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.place = nn.Parameter(torch.randn(1, 64, width) * 0.02)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, 3, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(blocks)
        )
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, classes))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.place
        for block in self.blocks:
            tokens = block(tokens)
        logits: Tensor = self.head(tokens.mean(dim=1))
        return logits


#: By name: the network, and the shape of an input.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "tiny": (tiny, (16,)),
    "mlp1000": (lambda: mlp(1000), (256,)),
    "mlp21841": (lambda: mlp(21841), (256,)),
    "conv1d": (conv1d, (1, 4000)),
    "separable": (separable, (3, 32, 32)),
    "resnet18": (resnet18, (3, 32, 32)),
    "vit": (VisionTransformer, (3, 32, 32)),
}


def make(name: str, batch: int, device: torch.device) -> tuple[nn.Module, Tensor]:
    """A network in eval mode without gradients of its own, and a batch."""
    build, shape = NETWORKS[name]
    network = build().to(device).eval().requires_grad_(False)
    return network, torch.rand(batch, *shape, device=device)
