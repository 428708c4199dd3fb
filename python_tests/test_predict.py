"""`rrfast.predict`: a loader's scores are those of its batches, with its labels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rrfast
from rrfast.methods import BS
from rrfast.scores import MSR, ODIN, Radius


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).requires_grad_(True)


X, Y = torch.randn(10, 4, generator=torch.Generator().manual_seed(1)), torch.arange(10) % 3


@pytest.mark.parametrize("score", ["msr", "radius_grad", "fast", MSR(2.0), BS(budget=6)], ids=str)
def test_it_is_the_score_of_every_batch(model: nn.Module, score: Any) -> None:
    found = rrfast.predict(model, zip(X.split(4), Y.split(4), strict=True), score, progress=False)
    with torch.no_grad():
        prediction = model(X).argmax(dim=1)
    expected = rrfast.scores.as_score(score)(model, X)
    torch.testing.assert_close(found.confidence, expected)
    assert torch.equal(found.prediction, prediction)
    assert torch.equal(found.correct, prediction == Y)
    assert model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_several_points_and_rivals(model: nn.Module) -> None:
    points = [{"temperature": 1.0}, {"temperature": 5.0}]
    found = rrfast.predict(model, X.split(3), Radius("fast"), points=points, progress=False)
    assert found.y is None
    assert found.rival is not None
    for i, point in enumerate(points):
        alone = rrfast.radius(model, X, full_output=True, **point)
        torch.testing.assert_close(found.confidence[i], alone.radius)
        assert torch.equal(found.rival[i], alone.rival)
    one = rrfast.predict(model, [X], ODIN(), points=points[:1], progress=False)
    assert one.confidence.shape == (1, 10)
    with pytest.raises(ValueError, match=r"loader must yield pairs \(x, y\)"):
        _ = found.correct


@pytest.mark.parametrize(
    ("loader", "error", "sentence"),
    [
        ([], ValueError, "loader must yield at least one sample"),
        ([X[:0]], ValueError, "loader must yield at least one sample"),
        ([(X, Y), X], ValueError, "loader must yield labels with every batch or with none"),
        ([(X, Y + 1)], ValueError, "y must be .*3"),
        ([(X, Y.float())], ValueError, "loader must yield one integer label per sample of x, 10"),
        ([(X, Y[:3])], ValueError, "loader must yield one integer label per sample of x, 10"),
        ([{"x": X}], TypeError, "loader must yield pairs of tensors"),
        ([(X, Y, Y)], TypeError, "loader must yield pairs of tensors"),
    ],
)
def test_bad_input_gets_a_sentence(
    model: nn.Module, loader: list[Tensor], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        rrfast.predict(model, loader, progress=False)
