"""`rrfast.compare`: names the score that is best, the cheaper of equals, and claims no more."""

from __future__ import annotations

import io
import math
import sys
from collections import UserDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import rrfast
from rrfast.metrics import METRICS
from rrfast.scores import MSR, SCORES, Energy, RelU, Score, tune
from rrfast.scores.comparison import COMPARED, DECIDING
from rrfast.scores.registry import as_score, score_named
from rrfast.scores.score import Scored

QUIET: dict[str, Any] = {"timing": False, "progress": False}


class Gain(nn.Module):
    """Logits (u e^s, 0): the distance to the boundary is |u|, whatever the gain does to them."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x[:, 0] * x[:, 1].exp(), torch.zeros_like(x[:, 0])], dim=1)


def gained(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Inputs of `Gain`, and labels that are wrong the more often the nearer the boundary is."""
    generator = torch.Generator().manual_seed(seed)
    x = 2 * torch.randn(n, 2, generator=generator)
    wrong = torch.rand(n, generator=generator) < 0.5 * (-x[:, 0].abs()).exp()
    return x, ((x[:, 0] < 0) ^ wrong).long()


class First(nn.Module):
    """The first columns are the logits; the rest is for scores of the test."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :2]


@dataclass(frozen=True, eq=False)
class Column(Score):
    """A column of the input as a score, at a price."""

    column: int
    price: float = 1.0

    def measure(self, model: Any, x: Tensor, points: Sequence[Any]) -> Scored:
        values = x[:, self.column].double().expand(len(points), -1)
        return Scored(values, model(x).argmax(dim=1), self.price, 0.0)


def columns(n: int, scores: int, seed: int, noise: float = 1.0) -> tuple[Tensor, Tensor]:
    """A tenth of errors; MSR and columns 2, 3, ... are equally good: one signal, noise of each."""
    generator = torch.Generator().manual_seed(seed)
    correct = torch.rand(n, generator=generator) > 0.1
    signal = torch.randn(n, generator=generator) + 1.5 * correct
    drawn = signal[:, None] + noise * torch.randn(n, scores + 1, generator=generator)
    logit = nn.functional.softplus(drawn[:, :1])  # class 0 is predicted, and ranked as it was drawn
    return torch.cat([logit, torch.zeros(n, 1), drawn[:, 1:]], dim=1), (~correct).long()


@pytest.fixture(scope="module")
def network() -> tuple[nn.Module, Tensor, Tensor]:
    """A small network, and labels that it gets wrong where two logits are close."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 24), nn.Tanh(), nn.Linear(24, 4)).eval()
    x = 2 * torch.randn(300, 6)
    with torch.no_grad():
        y = torch.distributions.Categorical(logits=8 * model(x)).sample()
    return model, x, y


def batches(x: Tensor, y: Tensor, size: int = 64) -> Any:
    """A generator, which can be read only once."""
    return zip(x.split(size), y.split(size), strict=True)


# --------------------------------------------------------------------------- what it is to show


def test_the_best_that_is_known_by_construction_is_named():
    """The radius is |u| / (1 + |u|), what decides an error; the softmax sees it times a gain."""
    model, (x, y) = Gain(), gained(1200)
    result = rrfast.compare(model, batches(x, y, 300), **QUIET)
    rows = {row.name: row for row in result.table}
    assert result.name == "radius_grad"
    assert rows["msr"].beaten
    assert not rows["radius_grad"].beaten
    assert rows["radius_grad"].less_msr["aurc"].high < 0 < rows["radius_grad"].less_msr["auroc"].low
    classifier = rrfast.SelectiveClassifier(model, result.best)
    assert classifier.fit(batches(*gained(200, 1)), coverage=0.8).score is result.best


def test_where_more_is_better_the_most_is_first():
    x, y = gained(1200)
    result = rrfast.compare(Gain(), [(x, y)], ["radius_grad"], metric="auroc", **QUIET)
    assert [row.name for row in result.table] == ["radius_grad", "msr"]
    assert [row.beaten for row in result.table] == [False, True]
    assert "the highest AUROC %" in result.sentence


def test_on_ties_the_cheaper_is_named():
    x, y = columns(800, 2, seed=0)
    x[:, 2] += 3 * (y == 0)  # better than MSR by far
    x[:, 3] = x[:, 2]
    costly, cheap = Column(2, price=9.0), Column(3, price=2.0)
    result = rrfast.compare(First(), batches(x, y), {"costly": costly, "cheap": cheap}, **QUIET)
    assert result.name == "cheap"
    assert [row.beaten for row in result.table] == [False, False, True]
    # Equal to MSR, which takes one pass.
    x[:, 2] = x[:, 0]
    result = rrfast.compare(First(), batches(x, y), {"costly": costly}, **QUIET)
    assert result.name == "msr"
    assert result.table[1].less_msr["aurc"] == (0, 0, 0)


def test_of_equal_passes_the_one_with_less_to_tune_is_named(network):
    model, x, y = network
    result = rrfast.compare(model, batches(x, y), ["entropy", "margin"], **QUIET)
    assert not any(row.beaten for row in result.table)
    assert result.name == "msr"


def test_equal_scores_are_told_apart_in_at_most_one_comparison_of_twenty():
    """300 test sets, and all pairs of scores: by each metric, at level 95 %."""
    compared = {f"column {i}": Column(2 + i) for i in range(4)}
    decided, apart = 0, dict.fromkeys(DECIDING, 0)
    for seed in range(300):
        loader = [columns(400, 4, seed)]
        result = rrfast.compare(First(), loader, compared, draws=200, seed=seed, **QUIET)
        decided += any(row.beaten for row in result.table)
        for metric in apart:
            found = [row.less_msr[metric] for row in result.table if row.name != "msr"]
            apart[metric] += any(low > 0 or high < 0 for _, low, high in found)
    # 5 % of 300, and three standard deviations of so many draws.
    most = 15 + 3 * math.sqrt(300 * 0.05 * 0.95)
    assert decided <= most
    assert max(apart.values()) <= most, apart


# ---------------------------------------------------------------------------------- what is whose


def test_what_tunes_does_not_test(network):
    """The numbers are of one half, the hyper-parameters what `tune` finds on the other."""
    model, x, y = network
    result = rrfast.compare(model, batches(x, y), ["doctor_alpha", "radius_fast"], **QUIET)
    everything = MSR()(model, x)
    place = [row.name for row in result.table].index("msr")
    tests = torch.isin(everything, result.confidence[place])
    assert (int(tests.sum()), result.tuned_on) == (len(result.correct), 300 - int(tests.sum()))
    correct = model(x).argmax(dim=1) == y
    assert abs(int((~correct[tests]).sum()) - int((~correct[~tests]).sum())) <= 1
    for row in result.table:
        score, right = row.score(model, x[tests]), correct[tests]
        for metric in ("aurc", "auroc", "fpr_at_tpr", "augrc"):
            assert getattr(row, metric) == METRICS[metric](score, right)
        if row.name == "msr":
            continue
        tuned = tune(SCORES[row.name], model, [(x[~tests], y[~tests])])
        own = METRICS["aurc"](SCORES[row.name](model, x[~tests]), correct[~tests])
        assert row.hyperparameters == (tuned.best.point if tuned.best.metric < own else {})
        assert row.hyperparameters  # or this test would see nothing


def test_tune_on_is_other_data_and_all_of_the_loader_tests(network):
    model, x, y = network
    loader, other = batches(x[:200], y[:200]), batches(x[200:], y[200:])
    result = rrfast.compare(model, loader, ["energy"], tune_on=other, **QUIET)
    assert (len(result.correct), result.tuned_on) == (200, 100)
    row = next(row for row in result.table if row.name == "energy")
    tuned = tune(Energy(), model, [(x[200:], y[200:])])
    assert row.hyperparameters == tuned.best.point
    right = model(x[:200]).argmax(dim=1) == y[:200]
    assert row.aurc == METRICS["aurc"](tuned.score(model, x[:200]), right)
    both = [(x, y)]
    data = torch.utils.data.TensorDataset(x, y)
    one, two = (torch.utils.data.DataLoader(data, batch_size=size) for size in (50, 60))
    for same in ((both, both), (one, two)):
        with pytest.raises(ValueError, match="tune_on must be other data than loader, which is te"):
            rrfast.compare(model, same[0], tune_on=same[1])
    halves = [
        torch.utils.data.DataLoader(data, batch_size=50, sampler=range(i, len(data), 2))
        for i in (0, 1)
    ]
    assert rrfast.compare(model, halves[0], tune_on=halves[1], scores=["msr"], **QUIET).best


def test_samples_that_are_tuned_and_tested_on_are_seen_by_their_content(network):
    model, x, y = network

    def compared(tested, tuned):
        loader, tune_on = (batches(x[rows].clone(), y[rows]) for rows in (tested, tuned))
        return rrfast.compare(model, loader, ["energy"], tune_on=tune_on, **QUIET)

    order = torch.randperm(100)
    with pytest.raises(ValueError, match="tested on, but both have the same 100 samples"):
        compared(torch.arange(100), order)
    with pytest.warns(UserWarning, match="30 of the 200 samples of loader, which is tested on, ar"):
        compared(torch.arange(200), torch.arange(170, 300))
    compared(torch.arange(200), torch.arange(200, 300))  # warnings are errors here


@pytest.mark.parametrize("rows", [100, 1])  # the strides of one mean nothing
def test_samples_are_seen_by_their_content_in_any_form(rows):
    x = torch.randn(rows, 1)

    def model(x):
        return torch.cat([x.to_dense(), -x.to_dense()], dim=1)

    for other in (x.to_sparse(), x.as_strided((rows, 1), (1, 100))):
        loader, tune_on = ([(each, torch.zeros(rows, dtype=int))] for each in (x, other))
        with pytest.raises(ValueError, match=f"both have the same {rows} samples"):
            rrfast.compare(model, loader, ["energy"], tune_on=tune_on, **QUIET)


def test_a_score_that_is_fitted_here_is_tuned_and_tested_on_other_samples(network):
    model, x, y = network
    result = rrfast.compare(model, batches(x, y), ["relu"], **QUIET)
    relu = next(row.score for row in result.table if row.name == "relu")
    assert relu.fitted
    assert len(relu.seen.correct) == pytest.approx(len(x) / 4, abs=2)
    place = [row.name for row in result.table].index("msr")
    tests = result.confidence[place]
    assert not torch.isin(MSR().of_logits(relu.seen.logits), tests).any()
    rrfast.SelectiveClassifier(model, relu)
    already = RelU().fit(model, [(x[:50], y[:50])])
    result = rrfast.compare(model, batches(x[50:], y[50:]), {"mine": already}, **QUIET)
    assert next(row.score for row in result.table if row.name == "mine").seen is already.seen
    with pytest.raises(ValueError, match=r"relu\+eps must be fitted before it is compared"):
        rrfast.compare(model, batches(x, y), ["relu+eps"])


class Counting(nn.Module):
    """Counts samples that go forwards and backwards."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.forwards, self.backwards = model, 0, 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += len(x)
        h = self.model(x)
        if h.requires_grad:
            h.register_hook(self._count)
        return h

    def _count(self, grad: Tensor) -> None:
        self.backwards += len(grad)


def test_the_passes_are_those_that_are_said(network):
    """As the docstring says, and each score's once more on the first batch, whose cost is shown."""
    model, x, y = network
    counting = Counting(model)
    result = rrfast.compare(counting, batches(x, y), **QUIET)
    once = [sum(getattr(row, kind) for row in result.table) for kind in ("forwards", "backwards")]
    assert {row.name for row in result.table} == set(COMPARED)
    assert (counting.forwards - 64 * once[0]) / 300 == 102
    assert (counting.backwards - 64 * once[1]) / 300 == 33
    counting.forwards = counting.backwards = 0
    rrfast.compare(counting, batches(x, y), tune_on=batches(-x[:9], y[:9]), **QUIET)
    assert (counting.forwards - 64 * once[0] - 9 * 102) / 300 == 10
    assert (counting.backwards - 64 * once[1] - 9 * 33) / 300 == 3


def test_the_same_seed_gives_the_same_numbers(network):
    model, x, y = network
    state = torch.get_rng_state()
    one, other, third = (
        rrfast.compare(model.train(), batches(x, y), ["energy"], seed=s, **QUIET) for s in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    model.eval()
    assert str(one) == str(other)
    assert torch.equal(one.confidence, other.confidence)
    assert not torch.equal(one.confidence, third.confidence)


# --------------------------------------------------------------------------------- degenerate data


@pytest.mark.parametrize(("label", "kind"), [(0, "right"), (1, "wrong")])
@pytest.mark.parametrize("n", [1, 2, 60])
def test_all_right_and_all_wrong(label: int, kind: str, n: int):
    x = torch.rand(n, 2) + torch.tensor([1.0, 0.0])
    loader = [(x, torch.full((n,), label))]
    result = rrfast.compare(nn.Identity(), loader, ["radius_fast", "energy"], **QUIET)
    assert result.sentence == (
        f"Nothing to compare: all {n - n // 2} tested predictions are {kind}; msr is the cheapest "
        "score."
    )
    assert [row.aurc for row in result.table] == [label] * 3
    assert all(math.isnan(row.auroc) for row in result.table)
    # Nothing to tune by: they stay what they were.
    assert not any(row.hyperparameters or row.beaten for row in result.table)
    assert "–" in str(result)
    assert "With only" not in str(result)  # nothing is compared, so nothing is rough
    result.plot()


def test_one_error_is_tested_and_decides_nothing():
    x = torch.rand(40, 2) + torch.tensor([1.0, 0.0])
    y = torch.zeros(40, dtype=torch.int64)
    y[x[:, 0].argmax()] = 1
    result = rrfast.compare(nn.Identity(), [(x, y)], ["max_logit", "radius_fast"], **QUIET)
    assert int((~result.correct).sum()) == 1
    assert result.name == "msr"
    assert not any(row.beaten for row in result.table)
    assert "With only 1 error, only large differences show" in " ".join(str(result).split())


def test_a_score_that_is_nan_somewhere_is_not_named():
    x, y = columns(200, 1, seed=0)
    x[:, 2] += 9 * (y == 0)  # by far the best, but for one sample
    x[::3, 2] = torch.nan
    result = rrfast.compare(First(), [(x, y)], {"column": Column(2, price=0.5)}, **QUIET)
    assert result.name == "msr"
    row = result.table[-1]
    assert (row.name, row.nan > 0, row.beaten) == ("column", True, False)
    assert math.isnan(row.aurc)
    assert f"are NaN on some images: column ({row.nan})." in str(result)
    result.plot()


BAD = {
    "nan logits": (
        [(torch.full((4, 2), torch.nan), torch.zeros(4).long())],
        {},
        "without NaN whose largest",
    ),
    "nothing": ([], {}, "at least one sample"),
    "no labels": ([torch.zeros(4, 2)], {}, r"pairs of .*; give \[\(x, y\)\] for data in one batch"),
    "mappings": (
        [UserDict(pixel_values=torch.eye(2), labels=torch.zeros(2).long())],
        {},
        r"got UserDict with the keys 'pixel_values', 'labels'; give \(\(b\['image'\], b\['label'",
    ),
    "a data set": (
        TensorDataset(torch.eye(2), torch.zeros(2).long()),
        {},
        r"got an int64 tensor of shape \[\]; for a data set give torch\.utils\.data\.DataLoader\(",
    ),
    "a data set of numbers": ([(torch.zeros(2), 0)], {}, "int 0; for a data set give torch"),
    "no class": ([(torch.eye(3), torch.tensor([0, 3, 1]))], {}, "from 0 to 2, and has 3 in row 1"),
    "one name": (None, {"scores": "msr"}, "several names or scores, got str 'msr'"),
    "unknown": (None, {"scores": ["mrs"]}, "did you mean msr"),
    "a class": (None, {"scores": [MSR]}, "score must be a name, a rrfast.scores.Score or a method"),
    "twice": (None, {"scores": ["energy", Energy()]}, "energy is there twice"),
    "not MSR": (None, {"scores": {"msr": Energy()}}, "named msr must be MSR"),
    "metric": (None, {"metric": "fpr_at_tpr"}, "metric must be one of aurc, augrc, auroc"),
    "draws": (None, {"draws": 1}, "draws must be an integer of at least 2"),
    "level": (None, {"level": 95}, r"level must be greater than 0 and less than 1, got 95"),
    "seed": (None, {"seed": 0.5}, "seed must be an integer, got 0.5"),
    "name": (None, {"scores": {1: Energy()}}, "scores must have text as keys, .*, got int 1"),
    "too few to fit": (None, {"scores": ["relu"]}, "relu must be fitted to one half .*, got 0 of"),
    "timing": (None, {"timing": "no"}, "timing must be a bool, got str 'no'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_a_sentence(case: str):
    loader, options, message = BAD[case]
    if loader is None:
        loader = [(torch.eye(2), torch.zeros(2).long())]
    with pytest.raises((TypeError, ValueError), match=message):
        rrfast.compare(nn.Identity(), loader, **QUIET | options)


# ----------------------------------------------------------------------------------------- as read


def test_names_of_scores(network):
    model, x, y = network
    scores = ["msr+eps", MSR(temperature=2.0), Energy(), score_named("odin")]
    result = rrfast.compare(model, batches(x, y), scores, **QUIET)
    assert {row.name for row in result.table} == {
        *("msr", "msr+eps", "MSR(temperature=2.0)", "energy", "odin")
    }
    # A method's name, with options too.
    assert repr(as_score("fast:alpha=0.01")) == repr(score_named("radius_fast:alpha=0.01"))
    assert as_score("bs").method == "bs"


def test_printed_it_is_read_at_80_columns(network):
    model, x, y = network
    result = rrfast.compare(model, batches(x, y), progress=False)
    lines = str(result).splitlines()
    assert max(map(len, lines)) <= 80
    assert " ".join(str(result).split()).startswith(result.sentence)
    assert all(row.milliseconds > 0 for row in result.table)
    assert sum(line.startswith("→ " + result.name) for line in lines) == 2
    assert result.best is result.chosen.score
    page = result._repr_markdown_()
    assert page.count(f"| **{result.name}** |") == 2


def test_the_figure_draws_what_differs():
    result = rrfast.compare(Gain(), [gained(1200)], ["margin", "radius_grad"], **QUIET)
    labels = {line.get_label().split(",")[0] for line in result.plot().axes[0].lines}
    # margin is what MSR is with two classes.
    assert labels == {"msr", "radius_grad"}
    own = rrfast.compare(Gain(), [gained(1200)], {"_mine": "radius_grad"}, **QUIET)
    texts = own.plot().axes[0].get_legend().get_texts()
    assert {text.get_text().split(",")[0] for text in texts} == {"msr", "_mine"}


def test_the_bar_waits(monkeypatch: pytest.MonkeyPatch):
    """Nothing is shown on a terminal for work of less than two seconds."""
    from rich.progress import Progress

    from rrfast import _progress

    started: list[float] = []
    clock = iter([0.0, 1.0, 1.9, 2.1])
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(_progress, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(Progress, "start", lambda self: started.append(self.tasks[0].completed))
    with _progress.batches_bar(range(3), True, after=2.0) as advance:
        for _ in range(3):
            advance(10, 1)
    assert started == [3]
