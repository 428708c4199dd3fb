"""Grids of hyper-parameters: the same numbers as one call per point, in as few passes as go."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

import rrfast
from rrfast.metrics import aurc, auroc, fpr_at_tpr
from rrfast.models import digits_cnn
from rrfast.scores import (
    EPSILONS,
    MSR,
    ODIN,
    ODIN_GRIDS,
    TEMPERATURES,
    DoctorAlpha,
    Energy,
    LogitScore,
    Margin,
    Preprocessed,
    Radius,
    RelU,
    score_grid,
    tune,
    tune_apart,
)

T, E = len(TEMPERATURES), len(EPSILONS)


class Counting(nn.Module):
    """Counts what really runs."""

    def __init__(self, model):
        super().__init__()
        self.model, self.forwards, self.backwards = model, 0, 0

    def forward(self, x):
        self.forwards += 1
        h = self.model(x)
        if h.requires_grad:
            h.register_hook(self._backward)
        return h

    def _backward(self, grad):
        self.backwards += 1


@pytest.mark.parametrize(
    ("score", "points", "forwards", "backwards"),
    [
        (MSR(), 1, 1, 0),
        (Margin(), 1, 1, 0),
        (Energy(), T, 1, 0),
        (DoctorAlpha(), T, 1, 0),
        (Preprocessed(MSR(), 0.0), E, E, 1),
        (Preprocessed(DoctorAlpha(), 0.0), T * E, 1 + T * (E - 1), T),
        (ODIN(), T * E, 1 + T * (E - 1), T),
        (Radius("fast"), T, T + 1, T),
        (Radius("grad"), 1, 1, 1),
    ],
    ids=repr,
)
def test_passes(score, points, forwards, backwards):
    model = Counting(digits_cnn(seed=0))
    grid = score_grid(score, model, torch.rand(4, 1, 8, 8))
    assert len(grid.points) == points
    assert grid.values.shape == (points, 4)
    assert (grid.forwards, grid.backwards) == (forwards, backwards)
    assert (model.forwards, model.backwards) == (forwards, backwards)


@pytest.mark.parametrize(
    "score",
    [Energy(), ODIN(), Preprocessed(DoctorAlpha(), 0.0, bounds=(0, 1)), Radius("fast"), RelU()],
    ids=lambda score: type(score).__name__,
)
def test_the_numbers_of_single_calls(score, trained, images):
    model, x = trained.double(), images[:20].double()
    score = score.fit(model, [(images.double(), rrfast.data.digits().test.y[:100])])
    grid = score_grid(score, model, x)
    for i in range(0, len(grid.points), 7):
        alone = score.at(**grid.points[i])(model, x)
        # A prediction shared is the same forward; the same kernels on the same numbers.
        torch.testing.assert_close(grid.values[i], alone, rtol=1e-12, atol=0)
    assert torch.equal(grid.prediction, model(x).argmax(dim=1))


def test_the_order_of_the_grid():
    points = score_grid(ODIN(), digits_cnn(), torch.zeros(0, 1, 8, 8)).points
    assert points[:2] == [{"temperature": 0.2, "eps": 0.0}, {"temperature": 0.2, "eps": 5e-5}]
    assert points[E] == {"temperature": 0.4, "eps": 0.0}


def test_tune_takes_the_least_aurc(trained, images):
    y = rrfast.data.digits().test.y[:100]
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, y), batch_size=32)
    best, table, _ = tune(DoctorAlpha(), trained, loader)
    correct = trained(images).argmax(dim=1) == y
    for row in table:
        # Batches of 32 and of 100 may round differently: a swap of two neighbours in AURC of 100.
        value = DoctorAlpha(**row.point)(trained, images)
        assert row.metric == pytest.approx(aurc(value, correct), abs=2e-4)
    assert [row.point["temperature"] for row in table] == list(TEMPERATURES)
    assert min(row.metric for row in table) == table[TEMPERATURES.index(best.temperature)].metric


def test_of_equals_the_first(trained, images):
    y = trained(images).argmax(dim=1)
    best, table, _ = tune(ODIN(), trained, [(images[:20], y[:20])])
    assert {row.metric for row in table} == {0.0}
    assert (best.temperature, best.eps) == (TEMPERATURES[0], EPSILONS[0])


def test_another_metric(trained, images):
    y = rrfast.data.digits().test.y[:100]
    best, table, _ = tune(
        Energy(), trained, [(images, y)], metric=lambda s, c: -rrfast.metrics.auroc(s, c)
    )
    worth = {row.point["temperature"]: row.metric for row in table}
    assert worth[best.temperature] == min(worth.values())


@dataclasses.dataclass(frozen=True, eq=False)
class Fragile(LogitScore):
    """NaN at the first temperature; good at the last."""

    temperature: float = 1.0
    all_nan: bool = False

    @property
    def grids(self):
        return {"temperature": (1.0, 2.0, 3.0)}

    def confidence(self, h):
        if self.all_nan or self.temperature == 1.0:
            return h[:, 0] * math.nan
        return h.amax(dim=1) * (1 if self.temperature == 3.0 else -1)

    def ascent(self, h):
        return h


def test_a_point_with_nan_is_not_chosen():
    h = torch.tensor([[3.0, 0.0], [1.0, 0.0]])
    best, table, _ = tune(Fragile(), nn.Identity(), [(h, torch.tensor([0, 1]))])
    assert math.isnan(table[0].metric)
    assert best.temperature == 3.0
    with pytest.raises(ValueError, match=r"one of the 3 points .* at each: 2 of 2 samples"):
        tune(Fragile(all_nan=True), nn.Identity(), [(h, torch.tensor([0, 1]))])


def test_it_is_said_how_many_logits_were_nan():
    h = torch.tensor([[3.0, 0.0], [math.nan, 0.0], [1.0, math.nan]])
    sentence = "2 of 3 samples are NaN at some point, 2 at all. A score is NaN where a logit is NaN"
    with pytest.raises(ValueError, match=sentence):
        tune(MSR(), nn.Identity(), [(h, torch.tensor([0, 1, 0]))])


def test_what_is_said(trained, images):
    with pytest.raises(TypeError, match="score must be a rrfast"):
        score_grid(rrfast.radius, trained, images)
    with pytest.raises(TypeError, match="score must be a rrfast"):
        tune("msr", trained, [])
    with pytest.raises(ValueError, match="at least one sample"):
        tune(MSR(), trained, [])
    with pytest.raises(ValueError, match="RelU must be fitted"):
        tune(RelU(), trained, [(images, torch.zeros(100, dtype=torch.int64))])
    with pytest.raises(ValueError, match="labels of at least 0"):
        tune(MSR(), trained, [(images, torch.full((100,), -1))])


# ---------------------------------------------------------------- one against another


def test_tune_apart_is_the_best_of_the_grid() -> None:
    """Every point again by hand: FPR at 95 % TPR with what is known positive."""
    generator = torch.Generator().manual_seed(1)
    model = nn.Linear(4, 3)
    inside, outside = torch.randn(70, 4, generator=generator).split([40, 30])
    inside *= 3
    found = tune_apart(
        ODIN(), model, [inside[:25], (inside[25:], None)], iter([outside]), grids=ODIN_GRIDS
    )
    assert len(found.table) == 10 * 21
    is_inside = torch.arange(70) < 40
    by_hand = [
        fpr_at_tpr(
            ODIN(**row.point)(model, torch.cat([inside, outside])), is_inside, positive="correct"
        )
        for row in found.table
    ]
    assert [row.metric for row in found.table] == by_hand
    assert found.best == found.table[by_hand.index(min(by_hand))]
    assert (found.score.temperature, found.score.eps) == tuple(found.best.point.values())


def test_tune_apart_of_bad_input() -> None:
    x = [torch.rand(3, 4)]
    model = nn.Linear(4, 3)
    with pytest.raises(ValueError, match="outside must yield at least one sample"):
        tune_apart(MSR(), model, x, [])
    with pytest.raises(ValueError, match="inside must yield at least one sample"):
        tune_apart(MSR(), model, [torch.rand(0, 4)], x)
    with pytest.raises(
        TypeError, match="outside must yield tensors, or tuples or lists that begin with one, got"
    ):
        tune_apart(MSR(), model, x, [["a"]])
    with pytest.raises(TypeError, match=r"score must be a rrfast\.scores\.Score"):
        tune_apart("msr", model, x, x)
    with pytest.raises(TypeError, match="MSR has no hyper-parameter 'eps'"):
        tune_apart(MSR(), model, x, x, grids={"eps": (0.0,)})
    unread = iter([torch.rand(3, 4)])
    for grids, error, sentence in (
        ([1.0], TypeError, r"grids must map names of hyper-parameters to values, got list \[1.0\]"),
        ({"temperature": 1.0}, TypeError, "grids must have several values for temperature, got fl"),
        ({"temperature": "12"}, TypeError, "grids must have several values for temperature, got s"),
        ({"temperature": ()}, ValueError, "grids must have at least one value for temperature"),
    ):
        with pytest.raises(error, match=sentence):
            tune_apart(MSR(), model, unread, unread, grids=grids)
    with pytest.raises(TypeError, match=r"metric must be a function .* got str 'aurc'"):
        tune_apart(MSR(), model, unread, unread, metric="aurc")
    with pytest.raises(TypeError, match=r"metric must be a function .* got NoneType"):
        tune(MSR(), model, unread, None)
    assert len(list(unread)) == 1
    found = tune_apart(MSR(), model, x, x, grids={"temperature": np.linspace(1, 2, 3)})
    assert len(found.table) == 3


def test_a_metric_that_is_nan_everywhere_is_told_from_a_score_that_is() -> None:
    data = [(torch.eye(3), torch.arange(3))]
    with pytest.raises(
        ValueError, match="metric must be a number at some point of the grids, but is"
    ):
        tune(MSR(), nn.Identity(), data, lambda score, correct: -auroc(score, correct))
    broken = [(torch.eye(3) * math.nan, torch.arange(3))]
    with pytest.raises(ValueError, match="score must be a number on all samples at one of"):
        tune(MSR(), nn.Identity(), broken)
