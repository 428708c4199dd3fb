"""MaxLogit-pNorm: its formula, what it does not see, its ties, and the fallback to MSR."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from rrfast.metrics import aurc
from rrfast.scores import MSR, NORMS, MaxLogitPNorm, Preprocessed, tune

P = [*NORMS, 2.5, 40.0]
INF = math.inf
#: The first alone is above the mean.
ALONE = torch.tensor([[12.0, 1, 2, 3, 0, 1]], dtype=torch.float64)


def logits(n=50, classes=10):
    return 5 * torch.randn(n, classes, dtype=torch.float64)


def literal(row, p):
    """What the paper prints, in plain Python."""
    mean = math.fsum(row) / len(row)
    c = [value - mean for value in row]
    return max(c) / math.fsum(abs(value) ** p for value in c) ** (1 / p)


@pytest.mark.parametrize("p", P)
def test_the_literal_formula(p):
    h = logits()
    expected = torch.tensor([literal(row, p) for row in h.tolist()], dtype=torch.float64)
    # Centring cancels a digit of some, and p = 40 multiplies the rounding of a logarithm by 40.
    printed = MaxLogitPNorm(p).of_logits(h).sigmoid().pow(1 / p)
    torch.testing.assert_close(printed, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("p", P)
def test_neither_a_shift_nor_a_scale_is_seen(p):
    """Bit for bit where shift and scale are exact: whole numbers, and powers of two."""
    score = MaxLogitPNorm(p)
    h = logits().round()
    by_sample = torch.arange(len(h), dtype=torch.float64)[:, None]
    plain = score.of_logits(h)
    assert torch.equal(plain, score.of_logits(h + 1000 * by_sample))
    assert torch.equal(plain, score.of_logits(h * 2 ** (by_sample - 25)))
    for factor in (1e-200, 1e200):  # rounds every gap: the score by some p eps
        scaled = score.of_logits(h * factor)
        torch.testing.assert_close(plain, scaled, rtol=1e-13, atol=1e-15 * (p + 10))


@pytest.mark.parametrize("p", P)
def test_a_class_ruled_out_is_not_there(p):
    score, h = MaxLogitPNorm(p), logits(classes=4)
    more = torch.cat([h, torch.full((len(h), 2), -INF, dtype=torch.float64)], dim=1)
    # A sum over more columns may be grouped otherwise.
    values, seed = score.of_logits(more), score.cotangent(more)
    torch.testing.assert_close(values, score.of_logits(h), rtol=1e-13, atol=1e-15 * (p + 10))
    torch.testing.assert_close(seed[:, :4], score.cotangent(h), rtol=1e-12, atol=1e-12)
    assert (seed[:, 4:] == 0).all()


@pytest.mark.parametrize("p", P)
def test_the_ends(p):
    rows = [[0.1, 0.1, 0.1], [1, -INF, -INF], [INF, 0, 0], [-INF] * 3, [math.nan, 0, 0], [2, 2, 0]]
    score = MaxLogitPNorm(p)
    h = torch.tensor(rows, dtype=torch.float64)
    equal, alone, *overflown, twice = score.of_logits(h).tolist()
    assert (equal, alone) == (-INF, INF)
    assert all(math.isnan(value) for value in overflown)
    assert math.isfinite(twice)
    seed = score.cotangent(h)
    assert (seed[:2] == 0).all()
    assert seed[2:5].isnan().all()


def test_what_ties_in_the_formula_ties_in_float64():
    margins = torch.rand(200, 1, dtype=torch.float64).mul(12).exp()  # to 160,000
    shift = torch.randn(200, 1, dtype=torch.float64)
    two = torch.cat([shift, shift - margins], dim=1)
    masked = torch.cat([two, torch.full_like(shift, -INF)], dim=1)
    flat = torch.cat([shift, shift - margins, shift - margins], dim=1)  # one against the rest
    for p in P:
        for h in (two, masked, flat):
            score = MaxLogitPNorm(p)
            values = score.of_logits(h)
            assert (values == values[0]).all(), p
            assert (score.cotangent(h) == 0).all(), p  # no step raises it
    # With p = 1 wherever the prediction alone is above the mean.
    rest = -torch.rand(200, 5, dtype=torch.float64) - 1
    alone = torch.cat([torch.full_like(shift, 3.0), rest], dim=1)
    assert (MaxLogitPNorm(1.0).of_logits(alone) == 0).all()
    assert len(MaxLogitPNorm(2.0).of_logits(alone).unique()) == 200


@pytest.mark.parametrize("p", P[1:])
def test_where_the_printed_ratio_is_one_nothing_ties(p):
    """A thousand classes, the prediction ahead of two that differ: s is 1 from p = 8 or so on."""
    rest = torch.zeros(5, 998, dtype=torch.float64)
    ahead = torch.tensor([30.0, 100.0, 1000.0, 1001.0, 1e6], dtype=torch.float64)[:, None]
    h = torch.cat([ahead + 1, 0 * ahead + 1, rest], dim=1)
    values = MaxLogitPNorm(p).of_logits(h)
    assert (values.diff() > 0).all()
    assert p < 9 or values[-1].sigmoid() == 1


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, 9.0])
def test_the_cotangent_is_the_formulas_gradient(p):
    """Against float64 autograd of what the paper prints."""
    h = torch.cat([logits(30, 6), ALONE]).requires_grad_()
    c = h - h.mean(dim=1, keepdim=True)
    (c.amax(dim=1) / c.abs().pow(p).sum(dim=1).pow(1 / p)).sum().backward()
    expected = h.grad / h.grad.abs().amax(dim=1, keepdim=True)
    alone = (c > 0).sum(dim=1) == 1
    if p == 1:
        assert alone.any()
        expected[alone] = 0.0  # s is 1/2, whatever they are: autograd leaves rounding
    seed = MaxLogitPNorm(p).cotangent(h)
    torch.testing.assert_close(seed, expected, rtol=1e-9, atol=1e-12)


def test_a_step_raises_it(trained, images):
    for p in (2.0, 5.0):
        score = MaxLogitPNorm(p)
        raised = Preprocessed(score, 1e-3)(trained, images) > score(trained, images)
        assert raised.double().mean() >= 0.99  # measured: all


# ------------------------------------------------------------------------------- the fallback


def labelled(n=2000, classes=5):
    """Logits that are right as often as their softmax says."""
    h = 2 * torch.randn(n, classes, dtype=torch.float64)
    return h, torch.multinomial(h.softmax(dim=1), 1)[:, 0]


def test_without_p_it_is_msr():
    h, _ = labelled()
    assert torch.equal(MaxLogitPNorm().of_logits(h), MSR().of_logits(h))
    assert torch.equal(MaxLogitPNorm().cotangent(h), MSR().cotangent(h))


def test_tuned_on_logits_that_mean_what_they_say_it_is_msr():
    h, y = labelled()
    found = tune(MaxLogitPNorm(), nn.Identity(), [(h, y)])
    assert [row.point["p"] for row in found.table] == [None, *NORMS]
    assert found.best.point == {"p": None}
    assert torch.equal(found.score.of_logits(h), MSR().of_logits(h))


def test_tuned_on_logits_of_a_broken_scale_it_is_a_norm():
    """Every sample's logits times a factor of its own, as the paper finds in broken networks."""
    h, y = labelled()
    h = h * torch.randn(len(h), 1, dtype=torch.float64).mul(2).exp()
    found = tune(MaxLogitPNorm(), nn.Identity(), [(h[:1000], y[:1000])])
    assert found.best.point["p"] is not None
    correct = h.argmax(dim=1) == y
    tested = [aurc(score.of_logits(h[1000:]), correct[1000:]) for score in (found.score, MSR())]
    assert tested[0] < 0.9 * tested[1]


def test_of_equals_msr_stays():
    """No error: every p ranks alike."""
    h, _ = labelled()
    assert tune(MaxLogitPNorm(), nn.Identity(), [(h, h.argmax(dim=1))]).score.p is None


def test_what_is_said():
    for wrong in (0.0, 0.5, -1.0, math.nan, INF):
        with pytest.raises(ValueError, match="p must be finite and at least 1"):
            MaxLogitPNorm(wrong)
    for other in ("two", True, [2.0]):
        with pytest.raises(TypeError, match="p must be a number, got"):
            MaxLogitPNorm(other)
