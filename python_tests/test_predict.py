"""`rrfast.predict`: a loader's scores are those of its batches, with its labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rrfast
from rrfast.methods import BS
from rrfast.scores import (
    MSR,
    ODIN,
    Preprocessed,
    Radius,
    RelU,
    score_named,
    tune,
    tune_apart,
)


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
        (
            [(X, Y.to(torch.complex64))],
            ValueError,
            "loader must yield one integer label .* complex",
        ),
        ([(X, Y.to_sparse())], ValueError, "loader must yield one integer label .* sparse_coo"),
        ([(X, Y[:3])], ValueError, "loader must yield one integer label per sample of x, 10"),
        ([{"x": X}], TypeError, "loader must yield pairs of tensors"),
        (
            [(X, Y, Y)],
            TypeError,
            r"loader must yield pairs .* tuple of 3: .* shape \[10, 4\], an int",
        ),
        ([(X, [0])], TypeError, r"loader must yield pairs .* a float32 .*, list \[0\]"),
        ([(X.numpy(), Y.numpy())], TypeError, "loader must .*; make tensors of arrays: torch.fr"),
    ],
)
def test_bad_input_gets_a_sentence(
    model: nn.Module, loader: list[Tensor], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        rrfast.predict(model, loader, progress=False)


def test_a_name_is_text() -> None:
    with pytest.raises(TypeError, match=r"score must be a name, got BS BS\("):
        score_named(BS())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "meant"), [("serch", "search"), ("radius_serch", "radius_search")]
)
def test_a_misspelt_method_is_recognised(model: nn.Module, name: str, meant: str) -> None:
    with pytest.raises(ValueError, match=rf"score must be one of msr, .*; did you mean {meant}\?"):
        rrfast.predict(model, [X], name)


#: Whatever reads a loader, and what it calls it.
DOORS: dict[str, Any] = {
    "loader of predict": rrfast.predict,
    "loader of compare": rrfast.compare,
    "tune_on of compare": lambda model, data: rrfast.compare(model, [(X, Y)], tune_on=data),
    "loader of fit": lambda model, data: rrfast.SelectiveClassifier(model).fit(
        data, coverage=0.5, tune_on=unread()
    ),
    "tune_on of fit": lambda model, data: rrfast.SelectiveClassifier(model, "energy").fit(
        [(X, Y)], coverage=0.5, tune_on=data
    ),
    "loader of tune": lambda model, data: tune(MSR(), model, data),
    "inside of tune_apart": lambda model, data: tune_apart(MSR(), model, data, [X]),
    "outside of tune_apart": lambda model, data: tune_apart(MSR(), model, unread(), data),
    "loader of RelU": lambda model, data: RelU().fit(model, data),
    "loader of Preprocessed": lambda model, data: Preprocessed(RelU(), 0.1).fit(model, data),
    "loader of radii": lambda model, data: rrfast.RadiusEstimator(model).predict(data),
}


def unread() -> Iterator[tuple[Tensor, Tensor]]:
    """A loader that nobody reads before the other one is checked."""
    pytest.fail("read")
    yield X, Y


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (5, "must be an iterable of batches, such as a torch.utils.data.DataLoader, got int 5$"),
        (unread, "must be an iterable of batches.*got function <function unread .*>; call it$"),
        (object(), "must be an iterable of batches.*got object <object object"),
        (X, r"must yield batches, and a tensor yields its rows; give x.split\(256\), got a float"),
    ],
    ids=["number", "function", "object", "tensor"],
)
def test_what_is_no_loader_is_told_by_its_name(
    model: nn.Module, door: str, data: object, sentence: str
) -> None:
    with pytest.raises(TypeError, match=f"^{door.split(maxsplit=1)[0]} {sentence}"):
        DOORS[door](model, data)


@pytest.mark.parametrize("points", [{"temperature": 1.0}, [1.0], 3])
def test_points_are_several_mappings(model: nn.Module, points: Any) -> None:
    with pytest.raises(
        TypeError, match="points must be a sequence of hyper-parameters, each a map"
    ):
        rrfast.predict(model, unread(), points=points)


def test_batches_are_told_by_the_name_of_their_loader(model: nn.Module) -> None:
    for door in ("tune_on of compare", "tune_on of fit"):
        for wrong, error in ((X, TypeError), ((X, Y[:3]), ValueError)):
            with pytest.raises(error, match=r"^tune_on must yield"):
                DOORS[door](model, [wrong])
        with pytest.raises(ValueError, match=r"^tune_on must yield at least one sample"):
            DOORS[door](model, [])
