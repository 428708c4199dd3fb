"""Linear regions of ReLU networks: V, a and Q(x) of ACET's App. D, and Lemma 3.1 on rays."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from rrfast.engine import logits
from rrfast.evaluate.ood.linear_region import last_region, linear_region
from rrfast.evaluate.ood.scaling import confidence_scaling
from rrfast.models import Normalize

B, K = 6, 4


def mlp() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(5, 12),
        nn.ReLU(),
        nn.Sequential(nn.Linear(12, 12), nn.LeakyReLU(0.1)),
        nn.Linear(12, K),
    )
    return model.double(), torch.randn(B, 5, dtype=torch.float64)


def cnn() -> tuple[nn.Module, Tensor]:
    """In training mode, with statistics of BatchNorm that are not those it starts with."""
    torch.manual_seed(1)
    model = nn.Sequential(
        Normalize([0.3, 0.4], [0.2, 0.5]),
        *(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(2)),
        *(nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, K)),
    ).double()
    model(torch.rand(50, 2, 4, 4, dtype=torch.float64))
    return model, torch.rand(B, 2, 4, 4, dtype=torch.float64)


Made = Callable[[], tuple[nn.Module, Tensor]]
MADE: list[Made] = [mlp, cnn]


@pytest.mark.parametrize("make", MADE)
def test_the_network_is_affine_in_its_region(make: Made) -> None:
    model, x = make()
    region = linear_region(model, x)
    assert region.slope.shape == (B, K, x[0].numel())
    assert bool(region.contains(x).all())
    inside = outside = 0
    for width in (1e-3, 0.03, 0.1, 0.3, 1.0):
        for _ in range(20):
            z = x + width * torch.randn_like(x)
            within = region.contains(z)
            off = (region.logits(z) - logits(model, z)).abs().amax(dim=1)
            assert bool((off[within] < 1e-12).all())
            inside, outside = inside + int(within.sum()), outside + int((off > 1e-6).sum())
    assert min(inside, outside) > 50
    # V is the Jacobian, by another way.
    model.eval()
    jacobian = torch.autograd.functional.jacobian(lambda z: model(z).sum(dim=0), x)
    torch.testing.assert_close(jacobian.transpose(0, 1).flatten(2), region.slope)


@pytest.mark.parametrize("make", MADE)
def test_lemma_31_a_ray_ends_in_one_region(make: Made) -> None:
    model, x = make()
    x = x - x.mean()
    found = last_region(model, x)
    assert model.training
    alpha = found.alpha.reshape(-1, *[1] * (x.dim() - 1))
    assert bool((alpha > 0).all())
    last = linear_region(model, 1e6 * alpha * x)
    for factor in (1 + 1e-9, 1.5, 10.0, 1e3):
        z = factor * alpha * x
        assert bool(last.contains(z).all())
        here = linear_region(model, z)
        torch.testing.assert_close(here.slope, last.slope, rtol=1e-9, atol=1e-12)
        line = factor * found.alpha[:, None] * found.slope + found.offset
        torch.testing.assert_close(line, logits(model, z), rtol=1e-9, atol=1e-9)
    # And not before.
    assert not bool(last.contains((1 - 1e-6) * alpha * x).any())
    torch.testing.assert_close(found.offset, last.offset, rtol=1e-9, atol=1e-9)


def test_theorem_31_the_class_and_the_factor() -> None:
    """Eq. 5 to 7: the class with the largest V x wins, and the odds there are a sum to solve."""
    model, x = mlp()
    found = last_region(model, x)
    assert torch.equal(logits(model, 1e9 * x).argmax(dim=1), found.slope.argmax(dim=1))
    sure = confidence_scaling(model, x, 1 - 1e-9, budget=64).alpha
    far = sure > found.alpha
    assert bool(far.any())
    at = (sure[:, None] * found.slope + found.offset).softmax(dim=1).amax(dim=1)
    torch.testing.assert_close(1 - at[far], torch.full_like(at[far], 1e-9), rtol=1e-4, atol=0)


def test_units_that_never_turn() -> None:
    """Without biases the regions are cones; at 0 only the offsets say which units are on."""
    model, x = mlp()
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.bias)
    assert torch.equal(last_region(model, x).alpha, torch.zeros(B, dtype=torch.float64))
    model, x = mlp()
    still = last_region(model, 0 * x)
    assert torch.equal(still.alpha, torch.zeros(B, dtype=torch.float64))
    torch.testing.assert_close(still.offset, logits(model, 0 * x))
    assert linear_region(nn.Linear(3, 2), torch.rand(2, 3)).normals.shape == (2, 0, 3)
    assert last_region(model, x[:0]).alpha.shape == (0,)
    assert linear_region(model, x[:0]).slope.shape == (0, K, 5)


def test_other_layers_are_refused() -> None:
    for layer in (nn.MaxPool2d(2), nn.Tanh(), nn.Bilinear(2, 2, 2)):
        with pytest.raises(TypeError, match=f"affine layers, .* got {type(layer).__name__}"):
            linear_region(nn.Sequential(nn.Sequential(layer)), torch.rand(1, 1, 2, 2))
        with pytest.raises(TypeError, match=f"got {type(layer).__name__}"):
            last_region(nn.Sequential(layer), torch.rand(1, 1, 2, 2))
