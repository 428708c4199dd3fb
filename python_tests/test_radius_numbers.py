"""Where numbers end: logits that overflow or nearly do, and inputs that are large."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import Tensor, nn

import rrfast
from rrfast.methods import METHODS

INF = math.inf
#: Few passes, where the defaults are many.
OPTIONS = {"pgd": {"radii": 20, "steps": 4}, "fab": {"steps": 10}, "fmn": {"steps": 10}}


def radius(model: object, x: Tensor, method: str, **options: object) -> Tensor:
    return rrfast.radius(model, x, method=method, **{**OPTIONS.get(method, {}), **options})


@pytest.fixture
def x() -> Tensor:
    torch.manual_seed(0)
    return torch.rand(4, 6)


def net(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).to(dtype)


class At(nn.Module):
    """The net with something added to its logits: at x, or only at a distance from it."""

    def __init__(self, x: Tensor, added: list[float], *, away: bool) -> None:
        super().__init__()
        self.net, self.x, self.away = net(), x, away
        self.added = torch.tensor(added)

    def forward(self, z: Tensor) -> Tensor:
        h = self.net(z)
        if not self.away:
            return h + self.added
        far = torch.cdist(z.detach(), self.x, p=INF).amin(dim=1, keepdim=True) > 1e-6
        return torch.where(far, h + self.added, h)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("added", [[0, 0, INF, 0], [INF] * 4, [-INF] * 4, [math.nan, 0, 0, 0]])
def test_an_overflowed_logit_is_no_confidence(x: Tensor, method: str, added: list[float]) -> None:
    assert radius(At(x, added, away=False), x, method).isnan().all()
    there = radius(At(x, added, away=True), x, method)
    assert there.isnan().all() or method == "grad"  # which looks at x alone
    whole = rrfast.radius(At(x, added, away=False), x, method=method, full_output=True)
    assert not whole.found.any()


@pytest.mark.parametrize("compat", ["paper", "released"])
def test_overflow_has_no_released_number(x: Tensor, compat: str) -> None:
    for away in (False, True):
        model = At(x, [0, INF, 0, 0], away=away)
        assert radius(model, x, "fast", compat=compat).isnan().all()


@pytest.mark.parametrize("method", METHODS)
def test_a_masked_class_is_as_good_as_none(x: Tensor, method: str) -> None:
    model = net()
    last = model(x).argmin(dim=1)  # of each sample by itself
    for i, k in enumerate(last.tolist()):
        kept = [j for j in range(4) if j != k]
        added = [0.0 if j != k else -INF for j in range(4)]
        masked = radius(At(x, added, away=False), x[i : i + 1], method)
        without = radius(lambda z, kept=kept: model(z)[:, kept], x[i : i + 1], method)
        torch.testing.assert_close(masked, without, rtol=2e-5, atol=0)


def test_overflow_of_16_bits() -> None:
    def model(z: Tensor) -> Tensor:
        return (z @ torch.tensor([[1.0, 0, 0.2], [0, 1, 0.3], [0.1, 0.2, 0]]) * 70000).half()

    x = torch.tensor([[0.2, 0.5, 0.1], [0.1, 0.99, 0.3]])  # the second has a logit of 73500
    assert model(x).isinf().any(dim=1).tolist() == [False, True]
    for method in METHODS:
        assert radius(model, x, method).isnan().tolist() == [False, True], method


@pytest.mark.parametrize("method", ["grad", "refined", "deepfool", "fab", "fmn"])
@pytest.mark.parametrize(
    ("dtype", "factor"),
    [
        *((torch.float32, factor) for factor in (1e-38, 1e-20, 1e20, 1e37, 3e38)),
        *((torch.float64, factor) for factor in (1e-308, 1e300, 1.5e308)),
    ],
)
def test_logits_at_the_ends_of_their_range(
    x: Tensor, method: str, dtype: torch.dtype, factor: float
) -> None:
    """The radius does not depend on their unit; where it cannot be had it is NaN."""
    model, x = net(dtype), x.to(dtype)
    one = radius(model, x, method)
    other = radius(lambda z: model(z) * factor, x, method)
    if method == "grad" and factor in (3e38, 1.5e308):  # the sum of the gradient overflows
        other = torch.where(other.isnan(), one, other)
    # Of subnormal logits, 1e-38 and 1e-308, digits are missing.
    torch.testing.assert_close(other, one, rtol=1e-3 if factor < 1e-30 else 1e-4, atol=0)


@pytest.mark.parametrize("factor", [1.0, 1e-38, 1e38, 3e38])
def test_fast_at_the_ends_of_the_range(factor: float) -> None:
    """Lines, with differences of differences that overflow."""
    w = torch.tensor([[0.9, -0.9], [-0.9, 0.9]])
    x = torch.tensor([[0.9, 0.1], [0.2, 0.25]])
    expected = torch.tensor([0.4, 0.025])  # both elements move
    found = radius(lambda z: z @ (w * factor), x, "fast")
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("away", [1e3, 1e5, 2e5, 3e6])
@pytest.mark.parametrize("features", ["all", "one"])
@pytest.mark.parametrize("bounds", [None, (-1e7, 1e7)])
def test_alpha_next_to_large_inputs(
    away: float, features: str, bounds: tuple[float, float] | None
) -> None:
    """Of two classes and lines "grad" is exact, and needs no step."""
    torch.manual_seed(0)
    w = torch.randn(4, 2)
    centre = torch.full((4,), away) if features == "all" else torch.tensor([away, 0, 0, 0])

    def model(z: Tensor) -> Tensor:
        return (z - centre) @ w

    x = centre + torch.rand(20, 4) * 100
    for found in (
        radius(model, x, "fast", bounds=bounds),
        radius(model, x, "fast", scale=2.0) * 2,
        torch.cat([radius(model, row[None], "fast", bounds=bounds) for row in x]),
        rrfast.RadiusEstimator(model, "fast")(x),
    ):
        if features == "all" and away == 3e6:
            assert found.isnan().all()  # 0.01 is nothing there
        else:
            # Logits near 100, whose differences over alpha keep 2^-24 * 100 / 0.01 of themselves.
            torch.testing.assert_close(found, radius(model, x, "grad"), rtol=5e-3, atol=0)


def test_small_inputs_keep_their_bits_beside_large_ones(x: Tensor) -> None:
    model = net()
    together = radius(model, torch.cat([x, x + 1e6]), "fast")
    assert torch.equal(together[:4], radius(model, x, "fast"))


@pytest.mark.parametrize("method", METHODS)
def test_a_model_without_a_gradient_is_said(x: Tensor, method: str) -> None:
    model = net()
    with pytest.warns(RuntimeWarning, match="because every gradient is 0: the model rounds"):
        assert radius(lambda z: model((z * 255).round() / 255), x, method).isinf().all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        radius(model, x, method)
        saturated = At(x[:1], [1e9, 0, 0, 0], away=False)
        radius(saturated, x[:1], method)  # one sample says nothing of a model


def test_probabilities_in_place_of_logits(x: Tensor) -> None:
    """As docs/radius says: too long, infinite where the softmax saturates; by log_softmax right."""
    model, few = net(), ("fast", "grad", "search", "bs")
    one, far = (lambda z, gain=gain: gain * model(z) for gain in (20, 2000))
    for method in few:
        right = radius(one, x, method)
        torch.testing.assert_close(
            radius(lambda z: one(z).log_softmax(1), x, method), right, rtol=1e-3, atol=0
        )
    for method in ("fast", "grad"):
        assert (radius(lambda z: one(z).softmax(1), x, method) > radius(one, x, method)).all()
    assert radius(far, x, "search").isfinite().all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # that there is no gradient
        assert all(radius(lambda z: far(z).softmax(1), x, name).isinf().all() for name in few)
