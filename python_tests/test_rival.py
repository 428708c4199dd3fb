"""The class on the other side: what a radius says the prediction changes to."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rrfast
from rrfast import RadiusEstimator, ops
from rrfast.methods import METHODS
from rrfast.scores import Radius

#: Few passes where the defaults take hundreds.
SHORT: dict[str, dict[str, Any]] = {
    "pgd": {"steps": 4, "radii": 20},
    "fab": {"steps": 5},
    "fmn": {"steps": 10},
    "refined": {"classes": 4},
}
#: Those that look beyond the boundary; the others extrapolate.
SEARCHES = tuple(name for name in METHODS if name not in ("fast", "grad"))


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    return request.param


def result_of(model: Any, x: Tensor, method: str, **options: Any) -> rrfast.RadiusResult:
    return rrfast.radius(
        model, x, method=method, full_output=True, **{**SHORT.get(method, {}), **options}
    )


def curved(classes: int = 5) -> nn.Sequential:
    """A network whose classes meet in bends, in float64."""
    return nn.Sequential(nn.Linear(6, 24), nn.SiLU(), nn.Linear(24, classes)).double()


def lines(classes: int) -> tuple[nn.Linear, Tensor, Tensor, Tensor, Tensor]:
    """A linear model, x, the prediction, h_y - h_i with infinity at y, and w_i - w_y."""
    model, x = nn.Linear(40, classes).double(), torch.randn(32, 40, dtype=torch.float64)
    h = model(x).detach()
    y = h.argmax(dim=1)
    gap = (h.gather(1, y[:, None]) - h).scatter(1, y[:, None], math.inf)
    weight = model.weight.detach()
    return model, x, y, gap, weight[None] - weight[y][:, None]


@pytest.mark.parametrize("temperature", [0.0, 1.0, 5.0])
@pytest.mark.parametrize("classes", [2, 5, 200])
@pytest.mark.parametrize("method", ["fast", "bs", "search"])
def test_of_lines_it_is_the_first_on_the_ray(method: str, classes: int, temperature: float) -> None:
    model, x, _, gap, rise = lines(classes)
    if temperature:
        share = torch.softmax(-gap / temperature, dim=1)
    else:
        share = torch.zeros_like(gap).scatter(1, gap.argmin(dim=1)[:, None], 1.0)
    direction = torch.einsum("bk,bkn->bn", share, rise).sign()
    speed = torch.einsum("bkn,bn->bk", rise, direction)
    first = torch.where(speed > 0, gap / speed, math.inf).argmin(dim=1)
    # So close to the boundary that no second class is between.
    exact = {"bs": {"budget": 60}, "search": {"tol": 1e-6}}.get(method, {})
    result = result_of(model, x, method, temperature=temperature, **exact)
    assert torch.equal(result.rival, first)
    assert classes == 2 or len(first.unique()) > 2


@pytest.mark.parametrize("classes", [2, 5])
def test_of_lines_it_is_the_nearest_plane_or_the_runner_up(classes: int) -> None:
    model, x, _, gap, rise = lines(classes)
    assert torch.equal(result_of(model, x, "grad").rival, gap.argmin(dim=1))
    nearest = (gap / rise.abs().sum(dim=2)).argmin(dim=1)
    assert torch.equal(result_of(model, x, "refined", classes=classes - 1).rival, nearest)
    # On the way of DeepFool and FAB beyond the plane no other class is met, if it is short.
    little: dict[str, Any] = {"deepfool": {"overshoot": 1e-9}, "fab": {"eta": 1 + 1e-9}}
    for method, options in little.items():
        assert torch.equal(result_of(model, x, method, **options).rival, nearest), method


class Watched(nn.Module):
    """A model that records its inputs and its predictions."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.asked: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.model(x)
        self.asked.append((x.detach().clone(), h.detach().clone()))
        return h


@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
@pytest.mark.parametrize("method", SEARCHES)
def test_it_is_what_the_model_says_at_the_upper_end(
    method: str, bounds: tuple[float, float] | None
) -> None:
    """The nearest flipping point of all points at which a search called the model."""
    model = Watched(curved())
    found = []
    for _ in range(12):
        x = torch.rand(1, 6, dtype=torch.float64)
        model.asked.clear()
        result = result_of(model, x, method, bounds=bounds)
        if not result.found:
            assert result.rival.item() == -1
            continue
        said = {}
        for z, h in model.asked:
            if h.argmax() != result.prediction:
                said[float((z - x).abs().max())] = int(h.argmax())
        nearest = min(said)
        assert nearest == pytest.approx(result.upper.item(), rel=1e-9)
        assert result.rival.item() == said[nearest]
        found.append(said[nearest])
    assert len(found) >= 6
    assert len(set(found)) > 1


@pytest.mark.parametrize(("method", "options"), [("bs", {"budget": 60}), ("search", {"tol": 1e-6})])
def test_it_is_predicted_just_beyond_the_radius(method: str, options: dict[str, Any]) -> None:
    model, x = curved(8), torch.randn(64, 6, dtype=torch.float64)
    result = result_of(model, x, method, **options)
    z = x.clone().requires_grad_()
    h = model(z)
    prediction, _, seed, *_ = ops.direction_seed(h.detach())
    (gradient,) = torch.autograd.grad(h, z, seed)
    beyond = x + (result.radius * (1 + 2e-6))[:, None] * gradient.sign()
    assert result.found.sum() >= 48
    assert (result.rival != prediction)[result.found].all()
    assert torch.equal(model(beyond).argmax(dim=1)[result.found], result.rival[result.found])


# ----------------------------------------------------------------------------------- doubtful cases


def added(h: list[float]) -> Callable[[Tensor], Tensor]:
    """A model whose logits are its inputs, and some numbers."""
    return lambda x: x + torch.tensor(h).to(x)


def test_at_a_tie_it_is_the_lowest_of_the_others_that_tie(method: str) -> None:
    x = torch.tensor([[0.0, 1.0, 0.5, 1.0, 1.0], [1.0, 1.0, 0.0, 0.0, 1.0]])
    result = result_of(added([0.0] * 5), x, method)
    assert result.radius.tolist() == [0.0, 0.0]
    assert result.prediction.tolist() == [1, 0]
    assert result.rival.tolist() == [3, 1]
    assert result_of(added([0.0] * 2), torch.ones(1, 2), method).rival.tolist() == [1]


@pytest.mark.filterwarnings("ignore:the radius of every sample is infinite because every gradient")
def test_where_no_radius_is_found_it_is_no_class(method: str) -> None:
    dead = result_of(lambda x: 0 * x + torch.tensor([1.0, 0.0]), torch.rand(3, 2), method)
    assert dead.rival.tolist() == [-1, -1, -1]
    x = torch.tensor([[0.5, 0.25], [math.nan, 0.25], [0.5, math.nan], [math.inf, 0.0]])
    result = result_of(added([0.0, 0.0]), x, method)
    assert result.radius.isfinite().tolist() == [True, False, False, False]
    assert result.rival.tolist() == [1, -1, -1, -1]
    assert result.rival.dtype == torch.int64


def test_a_masked_class_is_nobodys_rival(method: str) -> None:
    result = result_of(added([-math.inf, 0.0, 0.0]), torch.tensor([[9.0, 1.0, 0.5]]), method)
    assert (result.prediction.item(), result.rival.item()) == (1, 2)


def test_the_released_code_puts_a_number_where_nobody_gains() -> None:
    model, x = nn.Linear(4, 3), torch.randn(64, 4)
    for options in ({"method": "fast"}, {"method": "bs", "bounds": (0, 1)}):
        result = rrfast.radius(
            model, x.sigmoid(), compat="released", full_output=True, temperature=0.2, **options
        )
        known = result.rival >= 0
        assert known.any()
        assert (result.rival != result.prediction).all()
        if options["method"] == "bs":
            assert torch.equal(known, result.found)
        else:
            assert (result.radius[~known] == 1).all()


# ------------------------------------------------------------------------------ whatever carries it


def test_it_goes_with_batches_and_copies_and_scores() -> None:
    model, x = curved().float(), torch.randn(10, 6)
    whole = rrfast.radius(model, x, full_output=True)
    assert torch.equal(RadiusEstimator(model)(x, full_output=True).rival, whole.rival)
    for start in range(10):  # whoever else is in the batch
        alone = rrfast.radius(model, x[start : start + 1], full_output=True)
        assert torch.equal(alone.rival, whole.rival[start : start + 1])
    measured = Radius().measure(model, x, ({}, {"temperature": 3.0}))
    assert measured.rival is not None
    assert torch.equal(measured.rival[0], whole.rival)
    warm = rrfast.radius(model, x, temperature=3.0, full_output=True)
    assert torch.equal(measured.rival[1], warm.rival)
    both = Radius().measure(model, x, ({"temperature": 1.0}, {"temperature": 3.0}))
    assert both.rival is not None
    assert torch.equal(both.rival, measured.rival)


@pytest.mark.parametrize("score", ["msr", "margin", "msr+eps", "odin"])
def test_of_a_score_of_the_logits_it_is_the_runner_up(score: str) -> None:
    model, x = curved().float(), torch.randn(10, 6)
    second = model(x).topk(2, dim=1).indices[:, 1]
    found = rrfast.predict(model, [x[:7], x[7:]], score)
    assert torch.equal(found.rival, second)
    grid = rrfast.predict(model, [x], "entropy", points=[{"temperature": t} for t in (1.0, 2.0)])
    assert torch.equal(grid.rival, second.expand(2, -1))
    assert rrfast.predict(model, [x[:0], x], score).rival.shape == (10,)


def test_the_runner_up_among_equals_and_where_there_is_none() -> None:
    nan, inf = math.nan, math.inf
    rows = [[1, 2, 1, 1], [3, 3, 0, 3], [1, -inf, -inf, -inf], [1, nan, 0, 0], [1, inf, 0, 0]]
    h = torch.tensor([*rows, [-inf] * 4])
    found = rrfast.predict(nn.Identity(), [h], "msr")
    assert found.rival.tolist() == [0, 1, -1, -1, -1, -1]
