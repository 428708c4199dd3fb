"""The root search: how exact, against bisection in float64 on the same ray; what it promises."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

import rrfast
from rrfast import ops
from rrfast.data import digits
from rrfast.engine import Engine
from rrfast.methods import Search
from rrfast.models import digits_cnn


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, Tensor]:
    train, _, test = digits(seed=0)
    model = digits_cnn(seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    for _ in range(15):
        for part in torch.randperm(len(train.x), generator=generator).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(train.x[part]), train.y[part]).backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        assert (model(test.x).argmax(dim=1) == test.y).double().mean() > 0.85
    return model, test.x[:600]


def direction(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    with Engine(model) as engine:
        clean = engine.forward_backward(x, 1.0)
    return clean.prediction, clean.grad.sign()


def bisected(model: nn.Module, x: Tensor) -> Tensor:
    """The radius along the same ray by 60 bisections in float64, after doubling from 1e-6."""
    prediction, sign = direction(model, x)
    model, x, sign = copy.deepcopy(model).double().eval(), x.double(), sign.double()
    lower = torch.full((len(x),), 1e-6, dtype=torch.float64)
    upper = torch.full_like(lower, math.inf)
    for _ in range(24 + 60):
        radius = torch.minimum((lower + upper) / 2, 2 * lower)
        with torch.no_grad():
            moved = x + radius[:, None, None, None] * sign
            flipped = model(moved).argmax(dim=1) != prediction
        lower, upper = torch.where(flipped, lower, radius), torch.where(flipped, radius, upper)
    return torch.where(upper.isinf(), upper, (lower + upper) / 2)


def test_six_forwards_against_sixty_bisections_in_float64(
    trained: tuple[nn.Module, Tensor],
) -> None:
    model, x = trained
    exact = bisected(model, x)
    result = rrfast.radius(model, x, method="search", full_output=True)
    assert (result.forwards, result.backwards) == (6, 1)
    known = exact.isfinite()
    assert known.double().mean() > 0.95
    error = ((result.radius - exact) / exact).abs()[known]
    median, most = torch.quantile(error, torch.tensor([0.5, 0.95], dtype=torch.float64)).tolist()
    # What the method is asked for, in float32, whose logits alone are uncertain to about 1e-7.
    assert median <= 1e-5
    assert most <= 1e-3


def test_lower_keeps_and_upper_flips(trained: tuple[nn.Module, Tensor]) -> None:
    model, x = trained
    prediction, sign = direction(model, x)
    for budget in (2, 3, 4, 6):
        result = rrfast.radius(model, x, method="search", full_output=True, budget=budget)
        for radius, flips in ((result.lower, False), (result.upper, True)):
            probed = (radius > 0) & radius.isfinite()
            moved = ops.perturb(x, sign.to(torch.int8), radius.nan_to_num(posinf=0.0))
            with torch.no_grad():
                flipped = model(moved).argmax(dim=1) != prediction
            assert torch.equal(flipped[probed], torch.full_like(flipped[probed], flips))
        found = result.found
        assert torch.equal(found, result.upper.isfinite())
        assert (result.lower <= result.radius).all()
        assert (result.radius <= result.upper).all()
        assert result.radius[~found].isinf().all()


@pytest.mark.parametrize("tol", [1e-2, 1e-3, 1e-6])
def test_tol_is_kept_by_every_sample_that_is_found(
    trained: tuple[nn.Module, Tensor], tol: float
) -> None:
    model, x = trained
    rough = rrfast.radius(model, x, method="search", full_output=True)
    fine = rrfast.radius(model, x, method="search", full_output=True, tol=tol)
    width = (fine.upper - fine.lower)[fine.found]
    assert (width <= tol * fine.upper[fine.found]).all()
    assert torch.equal(fine.found, rough.found)
    assert ((fine.lower <= fine.radius) & (fine.radius <= fine.upper))[fine.found].all()
    # The part of the batch that goes on is all that is paid for.
    assert 6 < fine.forwards < 12


def test_exact_where_the_logits_are_lines() -> None:
    torch.manual_seed(1)
    model = nn.Linear(16, 2).double()
    x = torch.randn(64, 16, dtype=torch.float64)
    with torch.no_grad():
        gap = (model(x)[:, 0] - model(x)[:, 1]).abs()
        expected = gap / (model.weight[0] - model.weight[1]).abs().sum()
    for scale in (None, 0.25):
        result = rrfast.radius(model, x, method="search", scale=scale, full_output=True)
        torch.testing.assert_close(result.radius, expected / (scale or 1), rtol=1e-9, atol=0)


def test_many_classes_on_lines_agree_with_bisection() -> None:
    torch.manual_seed(2)
    model, x = nn.Linear(32, 10).double(), torch.randn(256, 32, dtype=torch.float64)
    fine = rrfast.radius(model, x, method="search", tol=1e-6)
    exact = rrfast.radius(model, x, method="bs", budget=80)
    torch.testing.assert_close(fine, exact, rtol=1e-6, atol=0)


@pytest.mark.filterwarnings("ignore:the radius of every sample is infinite because every gradient")
def test_a_prediction_that_never_changes_is_not_found() -> None:
    class Stubborn(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack((2 + x.sum(dim=1).sigmoid(), x.sum(dim=1).sigmoid()), dim=1)

    result = rrfast.radius(Stubborn(), torch.zeros(3, 4), method="search", full_output=True)
    assert result.radius.isinf().all()
    assert result.upper.isinf().all()
    assert not result.found.any()
    assert (result.lower > 0).all()
    # Without a slope there is no direction; the search starts somewhere all the same.
    flat = rrfast.radius(
        lambda x: 0 * x + torch.tensor([1.0, 0.0]), torch.rand(2, 2), method="search"
    )
    assert flat.isinf().all()


def test_a_box_that_ends_before_the_boundary() -> None:
    model = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.eye(2))
    x = torch.tensor([[0.9, 0.05], [0.6, 0.4]])
    inside = rrfast.radius(model, x, method="search", bounds=(0, 1), tol=1e-6)
    torch.testing.assert_close(inside, torch.tensor([0.425, 0.1]), rtol=1e-5, atol=0)
    # The first element alone meets its face: 0.9 - 0.1 stands, and 0.05 + r has to come up to it.
    faces = torch.tensor([[0.8, 0.0], [1.0, 1.0]])
    one_face = rrfast.radius(model, x[:1], method="search", bounds=faces, tol=1e-6)
    torch.testing.assert_close(one_face, torch.tensor([0.75]), rtol=1e-5, atol=0)
    never = torch.tensor([[0.8, 0.0], [1.0, 0.3]])
    assert rrfast.radius(model, x[:1], method="search", bounds=never).isinf().all()


def test_a_jump_next_to_x_ends_the_tail() -> None:
    def jumping(x: Tensor) -> Tensor:
        h = x.sum(dim=1)
        return torch.stack((1 - h, 5.0 * (h > 0)), dim=1)

    result = rrfast.radius(jumping, torch.zeros(2, 1), method="search", tol=1e-3, full_output=True)
    assert result.found.all()
    assert (result.upper < 1e-40).all()


def test_graphs_can_capture_all_but_the_tail() -> None:
    assert Search().capturable
    assert not Search(tol=1e-3).capturable


@pytest.mark.parametrize("tol", [1e-7, 1.0, 0])
def test_tol_out_of_range(tol: float) -> None:
    with pytest.raises(ValueError, match="tol must be"):
        Search(tol=tol)
