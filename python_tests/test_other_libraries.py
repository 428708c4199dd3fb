"""Models of torchvision and timm, and the metrics of torch-uncertainty, where these are installed.

    pip install torch==2.14.1 torchvision==0.29.1 timm torch-uncertainty==0.13.0

torchvision must fit torch's build to a version, and the others need it: `test` does not install
them. docs/release.md runs this file beside another torch than that of the build.
"""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

import rrfast
from rrfast.models import load_model

MODELS = {
    "torchvision": ("resnet18", "mobilenet_v3_small", "convnext_tiny", "vit_b_16"),
    "timm": ("resnet18", "mobilenetv3_small_100", "convnext_atto", "vit_tiny_patch16_224"),
}


@pytest.mark.parametrize("name", [f"{zoo}:{name}" for zoo in MODELS for name in MODELS[zoo]])
def test_the_radius_of_a_model_of_a_zoo(name: str) -> None:
    """`grad` by hand, and `fast` next to a search along the same direction, in float64."""
    pytest.importorskip(name.partition(":")[0], exc_type=ImportError)
    model = load_model(name, classes=7, seed=0).double()
    for layer in model.modules():  # vit_b_16 begins with a head of zeros
        if isinstance(layer, nn.Linear) and not layer.weight.any():
            nn.init.normal_(layer.weight, std=0.02)
    x = torch.rand(2, 3, 224, 224, dtype=torch.float64)
    model.train()
    radius = rrfast.radius(model, x, method="grad")
    assert all(module.training for module in model.modules())

    leaf = x.clone().requires_grad_()
    top = model.eval()(leaf).topk(2).values
    margin = top[:, 0] - top[:, 1]
    (gradient,) = torch.autograd.grad(margin.sum(), leaf)
    expected = margin.detach() / gradient.abs().sum(dim=(1, 2, 3))
    torch.testing.assert_close(radius, expected, rtol=1e-9, atol=0)

    fast = rrfast.radius(model, x, method="fast")
    search = rrfast.radius(model, x, method="search", tol=1e-6)
    assert ((fast / search - 1).abs() < 0.2).all()


@pytest.mark.parametrize("decimals", [1, 9], ids=["with ties", "without"])
def test_the_metrics_of_torch_uncertainty(decimals: int) -> None:
    """Its own AURC and FPR95, of probabilities whose largest is the score."""
    pytest.importorskip("torch_uncertainty", exc_type=ImportError)
    from torch_uncertainty.metrics.classification import AURC, FPR95

    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(500, generator=generator, dtype=torch.float64)
    score = 0.5 + drawn.round(decimals=decimals) / 2
    correct = torch.rand(500, generator=generator) < score
    probabilities = torch.stack([score, 1 - score], dim=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about its memory
        aurc, fpr = AURC(), FPR95(pos_label=1)
    aurc.update(probabilities, (~correct).long())
    fpr.update(-score, (~correct).long())
    if len(score.unique()) == len(score):  # the order of ties is not defined in its AURC
        ours = rrfast.metrics.aurc(score, correct, convention="torch-uncertainty")
        assert ours == pytest.approx(aurc.compute().item(), rel=1e-5)
    ours = rrfast.metrics.fpr_at_tpr(score, correct, convention="torch-uncertainty")
    assert ours == pytest.approx(fpr.compute().item(), rel=1e-6)
