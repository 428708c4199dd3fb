"""The networks of ACET against loops in float64, layer by layer as its code has them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

import rrfast
from rrfast.data import digits
from rrfast.models import fashion_cnn, lenet, load_model, preresnet20, resnet18
from rrfast.models.he_normal import he_normal_

Array = npt.NDArray[np.float64]
Weights = dict[str, Array]


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def conv(x: Array, kernel: Array, stride: int = 1) -> Array:
    """[C, H, W] with zeros around it: [outputs, ceil(H / stride), ceil(W / stride)]."""
    reach = kernel.shape[-1] // 2
    around = np.pad(x, ((0, 0), (reach, reach), (reach, reach)))
    result = np.zeros((len(kernel), *(math.ceil(side / stride) for side in x.shape[1:])))
    for row in range(result.shape[1]):
        for column in range(result.shape[2]):
            top, left = row * stride, column * stride
            window = around[:, top : top + 2 * reach + 1, left : left + 2 * reach + 1]
            result[:, row, column] = (kernel * window).sum((1, 2, 3))
    return result


def pool(x: Array, of: Callable[..., Any]) -> Array:
    """Over 2 x 2 pixels, and what there is of them at the ends."""
    result = np.zeros((len(x), *(math.ceil(side / 2) for side in x.shape[1:])))
    for row in range(result.shape[1]):
        for column in range(result.shape[2]):
            window = x[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            result[:, row, column] = of(window, axis=(1, 2))
    return result


def relu(x: Array) -> Array:
    return np.where(x > 0, x, 0)


def weights_of(model: nn.Module) -> Weights:
    return {name: value.double().numpy() for name, value in model.state_dict().items()}


def unlike_at_the_start(model: nn.Module) -> nn.Module:
    """In float64, with biases and BatchNorms that are not 0 and 1."""
    model.double()
    for tensor in model.state_dict().values():
        if tensor.dim() == 1:
            tensor.uniform_(0.5, 1.5)
    return model.eval()


@pytest.mark.parametrize("size", [1, 5, 6, 8])
def test_lenet_against_the_loop(size: int) -> None:
    model = unlike_at_the_start(lenet(classes=7, channels=2, size=size, seed=1))
    x = torch.rand(3, 2, size, size, dtype=torch.float64)
    w, logits = weights_of(model), model(x).detach().numpy()
    for image, got in zip(x.numpy(), logits, strict=True):
        v = pool(relu(conv(image, w["0.weight"]) + w["0.bias"][:, None, None]), np.max)
        v = pool(relu(conv(v, w["3.weight"]) + w["3.bias"][:, None, None]), np.max).ravel()
        hidden = relu(w["7.weight"] @ v + w["7.bias"])
        expected = w["9.weight"] @ hidden + w["9.bias"]
        # Sums of at most 2 x 25, 32 x 25, 256 and 1024 products, each of two summations; what they
        # sum is as large as |w| |v|.
        size_of_terms = np.abs(w["9.weight"]) @ (np.abs(w["7.weight"]) @ v + w["7.bias"])
        bound = 2 * (50 + 800 + 256 + 1024) * np.finfo(float).eps * size_of_terms.max()
        assert np.abs(got - expected).max() <= bound


@pytest.mark.parametrize("size", [1, 5, 8])
def test_preresnet_against_the_loop(size: int) -> None:
    model = unlike_at_the_start(preresnet20(classes=7, channels=2, seed=1))
    x = torch.rand(2, 2, size, size, dtype=torch.float64)
    w, logits = weights_of(model), model(x).detach().numpy()

    def active(x: Array, norm: str) -> Array:
        mean, var, weight, bias = (
            w[f"{norm}.{name}"][:, None, None]
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        return relu((x - mean) / np.sqrt(var + 1e-5) * weight + bias)

    for image, got in zip(x.numpy(), logits, strict=True):
        v, largest = conv(image, w["conv.weight"]), 0.0
        for unit in range(9):
            begin = active(v, f"units.{unit}.norm1")
            shortcut = begin if unit in (0, 3, 6) else v
            halved = unit in (3, 6)
            if halved:
                more = len(v) // 2
                shortcut = np.pad(pool(shortcut, np.mean), ((more, more), (0, 0), (0, 0)))
            inner = conv(begin, w[f"units.{unit}.conv1.weight"], 2 if halved else 1)
            v = shortcut + conv(
                active(inner, f"units.{unit}.norm2"), w[f"units.{unit}.conv2.weight"]
            )
            largest = max(largest, np.abs(v).max(), np.abs(inner).max())
        features = active(v, "norm").mean((1, 2))
        expected = w["output.weight"] @ features + w["output.bias"]
        # Twenty layers, each a sum of at most 9 x 64 products as large as the largest value, whose
        # rounding the layers behind it pass on as they do the value.
        assert np.abs(got - expected).max() <= 20 * 576 * np.finfo(float).eps * largest


def test_resnet18_against_imagenet_s_with_another_first_layer() -> None:
    pytest.importorskip("pytorchcv")
    model = unlike_at_the_start(resnet18(classes=7, channels=2, seed=1))
    other = load_model("pytorchcv:resnet18", classes=7).double()
    first = nn.Sequential(nn.Conv2d(2, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU())
    other.features.init_block = first.double()
    other.features.final_pool = nn.AdaptiveAvgPool2d(1)
    mine, theirs = model.state_dict(), other.state_dict()
    assert [v.shape for v in mine.values()] == [v.shape for v in theirs.values()]
    other.load_state_dict(dict(zip(theirs, mine.values(), strict=True)))
    x = torch.rand(2, 2, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(model(x), other.eval()(x), rtol=1e-12, atol=0)


def test_what_is_in_them() -> None:
    """By hand: weights and biases of the layers, and two numbers per channel of a BatchNorm."""
    hidden = {28: 64 * 7 * 7, 8: 64 * 2 * 2, 30: 64 * 8 * 8}
    for size, inputs in hidden.items():
        expected = (25 * 32 + 32) + (25 * 32 * 64 + 64) + 1025 * 10 + (inputs + 1) * 1024
        assert parameters(lenet(size=size)) == expected
    convs = 27 * 16 + 9 * (6 * 16 * 16 + 16 * 32 + 5 * 32 * 32 + 32 * 64 + 5 * 64 * 64)
    norms = 2 * (6 * 16 + (16 + 5 * 32) + (32 + 5 * 64) + 64)
    assert parameters(preresnet20()) == convs + norms + 65 * 10 == 269_722
    assert parameters(lenet()) == 3_274_634
    assert parameters(resnet18()) == 11_173_962
    nets = (lenet(), preresnet20())
    assert not any(isinstance(m, nn.Conv2d) and m.bias is not None for m in nets[1].modules())
    assert all(m.momentum == 0.01 for m in nets[1].modules() if isinstance(m, nn.BatchNorm2d))
    assert all(net.training for net in nets)


@pytest.mark.parametrize("name", ["lenet", "preresnet20", "resnet18"])
def test_by_name(name: str) -> None:
    build: Any = {"lenet": lenet, "preresnet20": preresnet20, "resnet18": resnet18}[name]
    state = torch.get_rng_state()
    model = load_model(f"rrfast.models:{name}", classes=7, seed=3)
    same, other = build(classes=7, seed=3), build(classes=7, seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    pairs = list(zip(model.parameters(), same.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not any(torch.equal(a, c) for a, _, c in pairs if a.dim() > 1)
    x = torch.rand(3, 1 if name == "lenet" else 3, 28, 28)
    assert model(x).shape == (3, 7)
    assert model(x[:0]).shape == (0, 7)


@pytest.mark.parametrize(
    "build", [lambda: lenet(size=8), lambda: preresnet20(channels=1)], ids=["lenet", "preresnet20"]
)
def test_the_digits_are_learnt_and_have_radii(build: Callable[[], nn.Module]) -> None:
    model, (train, validation, _) = build(), digits()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(2):
        order = torch.randperm(400, generator=torch.Generator().manual_seed(epoch))
        for batch in order.split(50):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(train.x[batch]), train.y[batch]).backward()
            optimiser.step()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            # 16 steps at a momentum of 0.01 are too few to know the statistics.
            module.reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        model(train.x)
    model.eval()
    right = (model(validation.x).argmax(1) == validation.y).double().mean()
    assert right > 0.5  # chance is 0.1; 0.71 and 0.80 were measured
    radius = rrfast.radius(model, validation.x[:8])
    assert bool((radius > 0).all())


def test_the_initial_weights() -> None:
    """He's variance, in convolutions cut at two standard deviations; nothing else is touched."""
    model = nn.Sequential(nn.Conv2d(50, 400, 3), nn.BatchNorm2d(400), nn.Linear(300, 700))
    nn.init.constant_(model[1].weight, 3)  # type: ignore[arg-type]
    assert he_normal_(model) is model
    # Of N(0, 1) within (-2, 2): 1 - 4 phi(2) / P(|N| < 2).
    cut = 1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2))
    for weight, fan_in, share in ((model[0].weight, 450, cut), (model[2].weight, 300, 1.0)):
        assert isinstance(weight, Tensor)
        squares = weight.detach().double().square() * fan_in / 2
        # Five standard errors; a square of N(0, 1) has variance 2, of the cut one less.
        assert abs(float(squares.mean()) - share) < 5 * math.sqrt(2 / squares.numel())
        assert (float(squares.max()) <= 4 * (1 + 1e-6)) == (share < 1)  # float32's two deviations
    assert not model[0].bias.any()  # type: ignore[operator, union-attr]
    assert not model[2].bias.any()  # type: ignore[operator, union-attr]
    assert bool((model[1].weight == 3).all())


@pytest.mark.parametrize(
    ("build", "arguments", "sentence"),
    [
        (lenet, {"classes": 1}, "classes must be an integer of at least 2, got 1"),
        (lenet, {"channels": 0}, "channels must be an integer of at least 1, got 0"),
        (lenet, {"size": 2.5}, "size must be an integer of at least 1, got 2.5"),
        (preresnet20, {"classes": 1}, "classes must be an integer of at least 2, got 1"),
        (preresnet20, {"channels": 0}, "channels must be an integer of at least 1, got 0"),
    ],
)
def test_bad_arguments(build: Any, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build(**arguments)


@pytest.mark.parametrize("build", [fashion_cnn, lenet, preresnet20, resnet18])
def test_a_seed_that_is_none(build: Any) -> None:
    with pytest.raises(TypeError, match=r"seed must be an integer, got 0\.5"):
        build(seed=0.5)
    with pytest.raises(ValueError, match=r"seed must be from -2\*\*63 to 2\*\*64 - 1, got"):
        build(seed=2**64)
