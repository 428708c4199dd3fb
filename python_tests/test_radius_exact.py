"""Radii on models whose radius is known in closed form, and the search step for step."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import rrfast
from rrfast import reference
from rrfast.methods import METHODS

CLASSES = (2, 10, 1000)
FEATURES = 40


def linear(classes: int, dtype: torch.dtype = torch.float64) -> tuple[nn.Linear, Tensor]:
    return nn.Linear(FEATURES, classes).to(dtype), torch.randn(32, FEATURES, dtype=dtype)


def gaps(model: nn.Linear, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Prediction, h_y - h_i, and w_i - w_y; in float64."""
    weight, bias = model.weight.detach().double(), model.bias.detach().double()
    h = x.double() @ weight.T + bias
    y = h.argmax(dim=1)
    return y, h.gather(1, y[:, None]) - h, weight[None] - weight[y][:, None]


def radius_along(model: nn.Linear, x: Tensor, temperature: float) -> Tensor:
    """The true radius on the ray: min_i (h_y - h_i) / ((w_i - w_y) . d), d of that temperature."""
    y, gap, rise = gaps(model, x)
    weights = torch.softmax((-gap).scatter(1, y[:, None], -math.inf) / temperature, dim=1)
    d = (weights[:, None] @ rise).squeeze(1).sign()
    speed = (rise @ d[:, :, None]).squeeze(2)
    return (
        torch.where(speed > 0, gap / speed, math.inf).scatter(1, y[:, None], math.inf).amin(dim=1)
    )


def runner_up_distance(model: nn.Linear, x: Tensor) -> Tensor:
    """(h_y - h_2) / ||w_y - w_2||_1."""
    y, gap, rise = gaps(model, x)
    second = gap.scatter(1, y[:, None], math.inf).argmin(dim=1)
    rows = torch.arange(len(x))
    return gap[rows, second] / rise[rows, second].abs().sum(dim=1)


def distance(model: nn.Linear, x: Tensor) -> Tensor:
    """min_i (h_y - h_i) / ||w_y - w_i||_1: the exact L-infinity radius of a linear model."""
    y, gap, rise = gaps(model, x)
    return (gap / rise.abs().sum(dim=2)).scatter(1, y[:, None], math.inf).amin(dim=1)


def first_order(model: nn.Linear, x: Tensor) -> Tensor:
    """(h_y - h_2) / ||g||_1, g the gradient that the direction is the sign of."""
    y, gap, rise = gaps(model, x)
    others = gap.scatter(1, y[:, None], math.inf)
    gradient = torch.softmax(-others, dim=1)[:, None] @ rise
    return others.amin(dim=1) / gradient.squeeze(1).abs().sum(dim=1)


def rounding(model: nn.Linear, x: Tensor, alpha: Tensor) -> Tensor:
    """Bound on the relative error of `fast`.

    Logits are sums of FEATURES products, off by up to FEATURES u sum |w x|; the slope is a
    difference of four of them over alpha times the speed along the ray, at least the radius' own.
    """
    unit = torch.finfo(x.dtype).eps / 2
    sums = (
        x.double().abs() + alpha[:, None]
    ) @ model.weight.detach().double().abs().T + model.bias.detach().double().abs()
    y, gap, _ = gaps(model, x)
    smallest_gap = gap.scatter(1, y[:, None], math.inf).amin(dim=1)
    logit_error = 4 * FEATURES * unit * sums.amax(dim=1)
    radius = radius_along(model, x, 1.0)
    return logit_error / smallest_gap + logit_error * radius / (alpha * smallest_gap)


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("precision", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("alpha", [None, 0.01])
def test_fast_is_exact_to_rounding(
    classes: int, precision: torch.dtype, alpha: float | None
) -> None:
    model, x = linear(classes, precision)
    step = first_order(model, x).clamp(max=0.01) if alpha is None else torch.full((32,), alpha)
    expected = radius_along(model, x, 1.0)
    error = (rrfast.radius(model, x, method="fast", alpha=alpha).double() / expected - 1).abs()
    assert (error <= rounding(model, x, step)).all()


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("temperature", [0.2, 1.0, 1000.0])
def test_fast_at_every_temperature(classes: int, temperature: float) -> None:
    model, x = linear(classes)
    r = rrfast.radius(model, x, method="fast", temperature=temperature)
    torch.testing.assert_close(r, radius_along(model, x, temperature), rtol=1e-9, atol=0)


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("precision", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_grad_is_exact_to_rounding(classes: int, precision: torch.dtype) -> None:
    model, x = linear(classes, precision)
    unit = torch.finfo(precision).eps / 2
    y, gap, _ = gaps(model, x)
    margin = gap.scatter(1, y[:, None], math.inf).amin(dim=1)
    sums = (
        x.double().abs() @ model.weight.detach().double().abs().T
        + model.bias.detach().double().abs()
    )
    bound = 4 * FEATURES * unit * (sums.amax(dim=1) / margin + 1)
    error = (
        rrfast.radius(model, x, method="grad").double() / runner_up_distance(model, x) - 1
    ).abs()
    assert (error <= bound).all()


@pytest.mark.parametrize("classes", CLASSES)
def test_the_radius_lies_in_the_bracket_of_bs(classes: int) -> None:
    model, x = linear(classes)
    result = rrfast.radius(model, x, method="bs", full_output=True)
    expected = radius_along(model, x, 1.0)
    assert result.found.all()
    assert (result.lower <= expected).all()
    assert (expected <= result.upper).all()
    assert ((result.upper - result.lower) / result.upper < 0.05).all()
    assert torch.equal(result.radius, (result.lower + result.upper) / 2)


def test_with_two_classes_every_method_finds_the_distance() -> None:
    model, x = linear(2)
    expected = distance(model, x)
    for method in ("fast", "grad"):
        torch.testing.assert_close(
            rrfast.radius(model, x, method=method), expected, rtol=1e-9, atol=0
        )
    result = rrfast.radius(model, x, method="bs", budget=60, full_output=True)
    torch.testing.assert_close(result.radius, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("classes", CLASSES)
def test_no_method_finds_less_than_the_distance(classes: int) -> None:
    model, x = linear(classes)
    for method in METHODS:
        # FAB's steps are through all classes: seconds for each ten, and a bound at each.
        few = {"steps": 4} if (method, classes) == ("fab", 1000) else {}
        upper = rrfast.radius(model, x, method=method, full_output=True, **few)
        found = upper.upper if method == "bs" else upper.radius
        assert (found >= distance(model, x) * (1 - 1e-9)).all()


# ---------------------------------------------------------------------------------------------- box


def radius_in_box(model: nn.Linear, x: Tensor) -> Tensor:
    """The first t at which x + t d, clamped to [0, 1], flips a two-class model, by bisection."""
    w = (model.weight[1] - model.weight[0]).detach()
    radii = []
    for sample in x:
        y = int(model(sample).argmax())
        d = w.sign() * (1 if y == 0 else -1)
        low, high = 0.0, 1.0
        if int(model((sample + high * d).clamp(0, 1)).argmax()) == y:
            radii.append(math.inf)
            continue
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (
                (middle, high)
                if int(model((sample + middle * d).clamp(0, 1)).argmax()) == y
                else (low, middle)
            )
        radii.append(high)
    return torch.tensor(radii, dtype=x.dtype)


@pytest.mark.parametrize(("lead", "reachable"), [(2.0, True), (8.0, False)])
def test_grad_solves_for_the_box(lead: float, reachable: bool) -> None:
    model = nn.Linear(FEATURES, 2).double()
    model.bias.data = torch.tensor([lead, 0.0], dtype=torch.float64)
    x = torch.rand(64, FEATURES, dtype=torch.float64)
    x[:8] = x[:8].round()  # on the faces
    expected = radius_in_box(model, x)
    assert expected.isfinite().all() if reachable else expected.isinf().all()
    assert (expected > distance(model, x) * 1.01).any()  # the box matters
    torch.testing.assert_close(
        rrfast.radius(model, x, method="grad", bounds=(0, 1)), expected, rtol=1e-9, atol=0
    )


def test_grad_with_a_box_far_away_is_grad_without() -> None:
    model, x = linear(10)
    scale = torch.linspace(0.5, 2, FEATURES, dtype=torch.float64)
    torch.testing.assert_close(
        rrfast.radius(model, x, method="grad", bounds=(-1e6, 1e6), scale=scale),
        rrfast.radius(model, x, method="grad", scale=scale),
        rtol=1e-9,
        atol=0,
    )


# ------------------------------------------------------------------------------------ step for step


class Recorder(nn.Module):
    """Two logits of a one-pixel image, and every input it is shown."""

    def __init__(self, boundary: float) -> None:
        super().__init__()
        self.boundary = boundary
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach().clone())
        pixel = x.flatten(1)
        return torch.cat((torch.zeros_like(pixel), pixel - self.boundary), dim=1)


@pytest.mark.parametrize("distance_to_boundary", [1e-7, 1.5e-6, 1e-4, 0.0137, 0.3, 0.74])
def test_bs_takes_the_published_steps(distance_to_boundary: float) -> None:
    start = 0.25
    model = Recorder(start + distance_to_boundary)
    x = torch.full((1, 1, 1, 1), start, dtype=torch.float64)
    result = rrfast.radius(model, x, method="bs", bounds=(0, 1), full_output=True)

    lower, upper, expected = 1e-6, math.inf, [start]
    for _ in range(24):
        radius = min((lower + upper) / 2, 2 * lower)
        expected.append(min(start + radius, 1.0))
        if expected[-1] > model.boundary:
            upper = radius
        else:
            lower = radius

    assert [seen.item() for seen in model.seen] == expected
    assert (result.forwards, result.backwards) == (25, 1)
    assert result.radius.item() == (lower + upper) / 2
    assert result.upper.item() == upper
    assert result.lower.item() == (lower if lower > 1e-6 else 0.0)


def test_bs_never_flipped() -> None:
    model = Recorder(2.0)  # beyond the box
    x = torch.full((1, 1, 1, 1), 0.25, dtype=torch.float64)
    result = rrfast.radius(model, x, method="bs", bounds=(0, 1), full_output=True)
    assert result.radius.item() == math.inf
    assert not result.found.item()
    assert (result.lower.item(), result.upper.item()) == (1e-6 * 2**24, math.inf)
    released = rrfast.radius(model, x, method="bs", bounds=(0, 1), compat="released")
    assert released.item() == pytest.approx(16.777216)


@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
def test_agrees_with_the_reference_sample_by_sample(bounds: tuple[float, float] | None) -> None:
    model = (
        nn.Sequential(nn.Conv2d(1, 8, 3), nn.SiLU(), nn.Flatten(), nn.Linear(288, 10))
        .double()
        .eval()
    )
    x = torch.rand(24, 1, 8, 8, dtype=torch.float64)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    radius, rival = reference.radius_fast(model, x, temperature=0.7, bounds=bounds)
    fast = rrfast.radius(model, x, temperature=0.7, alpha=0.01, bounds=bounds, full_output=True)
    torch.testing.assert_close(fast.radius, radius, rtol=1e-10, atol=0)
    assert torch.equal(fast.rival, rival)
    radius, lower, upper, rival = reference.radius_bs(model, x, temperature=0.7, bounds=bounds)
    result = rrfast.radius(model, x, method="bs", temperature=0.7, bounds=bounds, full_output=True)
    assert torch.equal(result.radius, radius)
    assert torch.equal(result.lower, lower)
    assert torch.equal(result.upper, upper)
    assert torch.equal(result.rival, rival)
