"""The re-aimed rays: exact where one can know, nearer than one ray, and beside FAB.

What holds for every method, ties, NaN and zero gradients among it, is in test_radius.py.
"""

from __future__ import annotations

import math
from typing import Any

import networks
import pytest
import torch
from peers import distance_of, peer
from test_boundary import SCALE, Seen, exact_radius, linear
from torch import Tensor, nn

import rrfast
from rrfast.ops import _redirect, unchecked


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
@pytest.mark.parametrize("scale", [None, SCALE], ids=["", "scale"])
def test_exact_on_linear_models(
    classes: int, bounds: tuple[float, float] | None, scale: Tensor | None
) -> None:
    model, x = linear(classes)
    expected = exact_radius(model, x, bounds, scale)
    radius = rrfast.radius(
        model, x, method="refined", classes=classes - 1, bounds=bounds, scale=scale
    )
    torch.testing.assert_close(radius, expected, rtol=1e-9, atol=0)


class Turning(nn.Module):
    """Two logits whose difference is even - sum_i f_i(x_i), where half of the f change direction.

    f(t) = t / 2 for even i, and t^3 - t / 100 for odd: at 0 these lead down, and from 0.1 on, up.
    """

    def forward(self, x: Tensor) -> Tensor:
        lead = 2 - (x[:, ::2] / 2).sum(dim=1) - (x[:, 1::2] ** 3 - x[:, 1::2] / 100).sum(dim=1)
        return torch.stack((lead, torch.zeros_like(lead)), dim=1)


def test_what_the_direction_at_x_cannot_see() -> None:
    """With 8 of each kind the nearest change of mind is where 8 (r^3 + 0.49 r) = 2."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if 8 * (middle**3 + 0.49 * middle) < 2 else (low, middle)
    x = torch.zeros(3, 16, dtype=torch.float64)
    radius = rrfast.radius(Turning(), x, method="refined")
    torch.testing.assert_close(radius, torch.full_like(radius, high), rtol=1e-6, atol=0)
    along = rrfast.radius(Turning(), x, method="search", tol=1e-6)
    assert (along > 1.5 * high).all()  # the third powers lead the other way there


def test_upper_is_the_smallest_step_that_flipped_on_any_ray(
    trained: nn.Module, images: Tensor
) -> None:
    trained = trained.double()
    on_another_ray = 0
    for x in images[:40].double().split(1):
        model = Seen(trained)
        result = rrfast.radius(
            model, x, method="refined", bounds=(0, 1), scale=0.5, full_output=True
        )
        points = torch.cat([point for point, _ in model.seen])
        logits = torch.cat([logits for _, logits in model.seen])
        assert points.min() >= 0
        assert points.max() <= 1
        beyond = logits.argmax(dim=1) != result.prediction
        # Some elements may have been short of the step, at the box, but not all of the image.
        distance = (points - x).abs().flatten(1).amax(dim=1) / 0.5
        assert result.upper.item() == pytest.approx(distance[beyond].min().item(), rel=1e-12)
        assert result.found
        assert result.lower <= result.radius <= result.upper
        if result.lower > 0:
            kept = distance[~beyond].tolist()
            assert any(math.isclose(result.lower.item(), d, rel_tol=1e-12) for d in kept)
        else:
            on_another_ray += 1
    assert on_another_ray < 4


def tanh_network() -> tuple[nn.Module, Tensor]:
    """Boundaries that bend."""
    layers = (nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
    return nn.Sequential(*layers).double(), torch.randn(500, 20, dtype=torch.float64)


@pytest.mark.parametrize("network", ["dense", "convolutional", "steep", "linear", "tanh"])
@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
def test_the_radius_is_the_references_but_for_the_order_of_sums(
    network: str, bounds: tuple[float, float] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Off by no more than errors of the inner products as large as TestRedirect.check derives.

    What such errors do to a radius is measured: each round's sums are those of the reference, moved
    by that much, once up and once down. The logits are off by as much of the largest, which moves
    a root by that over their slope, and the slope is the margin over the radius.
    """
    model, x = {
        "dense": lambda: (networks.dense(5), networks.batch((40, 6), 5)[0]),
        "convolutional": lambda: (networks.convolutional(5), networks.batch((40, 1, 8, 8), 5)[0]),
        "steep": lambda: (networks.steep(6, 5), networks.batch((40, 6), 5)[0]),
        "linear": lambda: (networks.linear(5), networks.images(40)),
        "tanh": tanh_network,
    }[network]()
    x = x if bounds is None else x.clamp(*bounds)
    terms = 30 + (x[0].numel() if x.dtype == torch.float64 else 0)
    error = terms * torch.finfo(x.dtype).eps / 2
    first, second = model.eval()(x).detach().topk(2, dim=1).values.unbind(dim=1)
    steepness = model(x).detach().abs().amax(dim=1) / (first - second)

    def radius() -> Tensor:
        return rrfast.radius(model, x, method="refined", bounds=bounds)

    def by_reference(moved: float) -> Tensor:
        def inner(a: Tensor, b: Tensor) -> Tensor:
            terms = (a.double() * b.double()).reshape(len(a), -1)
            return (terms.sum(dim=1) + moved * terms.abs().sum(dim=1)).to(a.dtype)

        with monkeypatch.context() as patch:
            patch.setattr(_redirect, "_inner", inner)
            patch.setattr(unchecked, "redirect_", _redirect.reference)
            return radius()

    exact, low, high = by_reference(0.0), by_reference(-error), by_reference(error)
    assert exact.isfinite().any()
    off = (high - exact).abs() + (low - exact).abs() + error * steepness * exact
    found = radius()
    assert ((found == exact) | ((found - exact).abs() <= off)).all(), (found - exact).abs() / off


@pytest.mark.parametrize("of_x", [torch.float64, torch.float32])
def test_one_of_x_and_logits_may_be_in_float32_alone(of_x: torch.dtype) -> None:
    """To float32's rounding of the logits, as above."""
    model, x = tanh_network()
    of_logits = torch.float32 if of_x == torch.float64 else torch.float64

    def mixed(z: Tensor) -> Tensor:
        return model(z.double()).to(of_logits)

    x = x.float().double()
    expected = rrfast.radius(model, x, method="refined", full_output=True)
    found = rrfast.radius(mixed, x.to(of_x), method="refined", full_output=True)
    assert found.radius.dtype == found.upper.dtype == torch.float64
    first, second = model(x).detach().topk(2, dim=1).values.unbind(dim=1)
    off = 30 * 2.0**-24 * model(x).detach().abs().amax(dim=1) / (first - second)
    near = (found.radius - expected.radius).abs() <= off * expected.radius
    assert near.all()
    assert (found.lower <= found.radius).all()
    assert (found.radius <= found.upper).all()


def test_the_bracket_is_in_order_and_upper_near() -> None:
    model, x = tanh_network()
    result = rrfast.radius(model, x, method="refined", full_output=True)
    assert result.found.all()
    assert (result.lower <= result.radius).all()
    assert (result.radius <= result.upper).all()
    assert (result.lower == 0).any()  # a step on another ray was nearer
    model, x = linear(10)
    result = rrfast.radius(model, x, method="refined", full_output=True)
    assert (result.upper <= 1.02 * result.radius).all()


def test_every_flip_counts_that_was_seen() -> None:
    model, x = tanh_network()
    seen = Seen(model)
    result = rrfast.radius(seen, x, method="refined", full_output=True)
    nearest = torch.full_like(result.upper, math.inf)
    for points, logits in seen.seen:
        distance = (points - x).abs().amax(dim=1)
        flips = logits.argmax(dim=1) != result.prediction
        nearest = torch.where(flips, nearest.minimum(distance), nearest)
    torch.testing.assert_close(result.upper, nearest, rtol=1e-9, atol=0)


def test_a_flat_spot_at_x_is_left() -> None:
    """Without a slope at x the first probe is 0.01 along no direction; z has a slope of its own."""

    class Kink(torch.autograd.Function):
        """The sum of x, whose gradient is lost in the first backward."""

        calls = 0

        @staticmethod
        def forward(context: Any, x: Tensor) -> Tensor:
            return x.sum(dim=1)

        @staticmethod
        def backward(context: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
            Kink.calls += 1
            return torch.full((3, 4), float(Kink.calls > 1), dtype=grad.dtype) * grad[:, None]

    def model(x: Tensor) -> Tensor:
        h = Kink.apply(x)
        return torch.stack((1 - h, h), dim=1)

    x = torch.zeros(3, 4, dtype=torch.float64)
    radius = rrfast.radius(model, x, method="refined")
    torch.testing.assert_close(radius, torch.full_like(radius, 1 / 8), rtol=1e-6, atol=0)


def test_a_gradient_that_is_nan_later_on_leaves_what_was_seen() -> None:
    """The first ray flips; the gradient at its end is NaN, and so are all points after it."""

    class Broken(torch.autograd.Function):
        calls = 0

        @staticmethod
        def forward(context: Any, x: Tensor) -> Tensor:
            context.save_for_backward(x)
            return x.sum(dim=1)

        @staticmethod
        def backward(context: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
            Broken.calls += 1
            slope = 2.0 if Broken.calls == 1 else math.nan  # too steep: the step falls short
            return torch.full((1, 4), 1 / slope, dtype=grad.dtype) * grad[:, None]

    def model(x: Tensor) -> Tensor:
        h = Broken.apply(x)
        return torch.stack((1 - h, h), dim=1)

    x = torch.zeros(1, 4, dtype=torch.float64)
    result = rrfast.radius(model, x, method="refined", full_output=True)
    # At half the slope the plane seems twice as far: 1/4 flips, and the crossing is at 1/8.
    assert result.found.all()
    assert result.upper.item() <= 0.25
    assert 0 < result.radius.item() <= result.upper.item()


def test_nearer_than_the_ray_it_begins_with(trained: nn.Module, images: Tensor) -> None:
    along = rrfast.radius(trained, images, method="search", bounds=(0, 1))
    refined = rrfast.radius(trained, images, method="refined", bounds=(0, 1))
    assert (refined <= along * (1 + 1e-4)).double().mean() > 0.95
    assert (refined / along).median() < 0.95


def test_passes(trained: nn.Module, images: Tensor) -> None:
    for options, passes in (
        ({"rounds": 1, "final_search": 1, "classes": 1}, (3, 2)),
        ({"rounds": 3}, (8, 5)),
        ({"classes": 90}, (10, 14)),
    ):
        result = rrfast.radius(trained, images[:3], method="refined", full_output=True, **options)
        assert (result.forwards, result.backwards) == passes


def test_a_sixth_of_the_passes_of_fab_and_no_larger_a_radius(
    trained: nn.Module, images: Tensor
) -> None:
    """Measured: 0.99 of it in the median, by the steps that were seen to flip."""
    fab = rrfast.radius(
        trained, images, method="fab", steps=10, final_search=0, bounds=(0, 1), full_output=True
    )
    refined = rrfast.radius(trained, images, method="refined", bounds=(0, 1), full_output=True)
    passes = [r.forwards + r.backwards for r in (fab, refined)]
    assert 6 * passes[1] < passes[0] == 110
    assert refined.radius.median() <= fab.radius.median()
    assert (refined.upper / fab.radius).median() <= 1


def test_beside_fab_of_adv_lib(trained: nn.Module, images: Tensor) -> None:
    attacks = peer("adv_lib.attacks")
    labels = trained(images).argmax(dim=1)
    points = attacks.fab(trained, images, labels, norm=math.inf, n_iter=10)
    theirs = distance_of(trained, images, points)
    ours = rrfast.radius(trained, images, method="refined", bounds=(0, 1), full_output=True)
    assert ours.radius.median() <= theirs.median()
    assert (ours.upper / theirs).median() <= 1


@pytest.mark.parametrize("option", ["rounds", "classes", "final_search"])
@pytest.mark.parametrize("value", [0, 1.5, True])
def test_mistakes_get_a_sentence(option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{option} must be an integer of at least 1"):
        rrfast.radius(nn.Linear(4, 3), torch.rand(2, 4), method="refined", **{option: value})
