"""Sample weights: proportions, repetition where they are integers, and what is refused."""

from __future__ import annotations

import functools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_metrics import CURVES, EVERY, draw, same, unhurried

from rrfast.metrics import aurc, e_aurc, fpr_at_tpr, rank
from rrfast.metrics.risk_coverage import _reciprocals

WEIGHTED = EVERY | {
    "fpr_at_tpr openmix": functools.partial(fpr_at_tpr, convention="openmix"),
    "aurc fd-shifts": functools.partial(aurc, convention="fd-shifts"),
    "e_aurc geifman": functools.partial(e_aurc, convention="geifman"),
}
COUNTED = st.lists(
    st.tuples(st.integers(-3, 3).map(float), st.booleans(), st.integers(0, 4)),
    min_size=1,
    max_size=40,
).filter(lambda samples: any(w for _, _, w in samples))


#: Those that depend on how many samples there are: they take the weights' number for it, which is
#: not that of repetition.
SIZED = {"aurc", "e_aurc", "e_aurc geifman"}


def of_repetition(name, score, correct, weights):
    """The metric with these weights, or of a set as large as repetition makes it."""
    if name not in SIZED:
        return WEIGHTED[name](score, correct, weights=weights)
    ranking = rank(score, correct, weights)._replace(samples=float(weights.sum()))
    return WEIGHTED[name](ranking, None)


@pytest.mark.parametrize("name", WEIGHTED)
@unhurried
@given(samples=COUNTED)
def test_a_weight_is_a_repetition(name, samples):
    score, correct, weights = (np.array(column) for column in zip(*samples, strict=True))
    repeated = WEIGHTED[name](score.repeat(weights), correct.repeat(weights))
    assert same(of_repetition(name, score, correct, weights), repeated, tolerance=1e-12)


@pytest.mark.parametrize("name", CURVES)
@unhurried
@given(samples=COUNTED)
def test_a_weight_is_a_repetition_in_curves(name, samples):
    score, correct, weights = (np.array(column) for column in zip(*samples, strict=True))
    repeated = CURVES[name](score.repeat(weights), correct.repeat(weights))
    for a, b in zip(CURVES[name](score, correct, weights=weights), repeated, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-15, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", WEIGHTED)
@pytest.mark.parametrize("levels", [0, 3])
def test_repetition_of_many(name, levels):
    score, correct = draw(3000, levels)
    weights = np.random.default_rng(1).integers(0, 6, 3000)
    repeated = WEIGHTED[name](score.repeat(weights), correct.repeat(weights))
    weighted = of_repetition(name, score, correct, weights)
    assert weighted == pytest.approx(repeated, rel=1e-12)
    shuffled = np.random.default_rng(2).permutation(3000)
    order = of_repetition(name, score[shuffled], correct[shuffled], weights[shuffled])
    assert order == pytest.approx(weighted, rel=1e-12)


@pytest.mark.parametrize("name", WEIGHTED)
@pytest.mark.parametrize("scale", [1 / 500, 1000, 1e-300, 1e307])
def test_only_the_proportions_of_weights_matter(name, scale):
    score, correct = draw(500, 3)
    weights = np.random.default_rng(1).random(500)
    scaled = WEIGHTED[name](score, correct, weights=weights * scale)
    assert scaled == pytest.approx(WEIGHTED[name](score, correct, weights=weights), rel=1e-12)
    equal = WEIGHTED[name](score, correct, weights=np.full(500, scale))
    assert equal == pytest.approx(WEIGHTED[name](score, correct), rel=1e-12)


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("scale", [1e-300, 1e307])
def test_only_the_proportions_of_weights_matter_in_curves(name, scale):
    score, correct = draw(500, 3)
    weights = np.random.default_rng(1).random(500)
    scaled = CURVES[name](score, correct, weights=weights * scale)
    for a, b in zip(scaled, CURVES[name](score, correct, weights=weights), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", WEIGHTED)
def test_a_weight_that_goes_to_0_goes_like_the_sample(name):
    score, correct = draw(200, 5)
    weights = np.random.default_rng(1).integers(1, 5, 200).astype(float)
    weights[::3] = 0
    tiny = WEIGHTED[name](score, correct, weights=np.where(weights > 0, weights, 1e-13))
    assert tiny == pytest.approx(WEIGHTED[name](score, correct, weights=weights), rel=1e-9)


def test_aurc_is_smooth_in_its_weights():
    score, correct = draw(200, 5)
    weights = np.random.default_rng(1).random(200) + 0.5
    near = aurc(score, correct, weights=weights * (1 + 1e-9))
    assert near == pytest.approx(aurc(score, correct, weights=weights), rel=1e-8)


@pytest.mark.parametrize("a", [0, 1, 7, 14, 15, 16, 100, 10**4, 10**7])
@pytest.mark.parametrize("m", [1, 2, 15, 500])
def test_sums_of_reciprocals(a, m):
    expected = float(sum(Fraction(1, a + i) for i in range(1, m + 1)))
    ours = _reciprocals(torch.tensor([float(a)]).double(), torch.tensor([float(m)]).double())
    # Below 16, digamma's own error of a few last places of numbers up to ln 516 = 6.2.
    assert ours.item() == pytest.approx(expected, rel=1e-14, abs=5e-15)


def test_the_first_term_of_the_series_left_out():
    assert 691 / 32760 / 16**12 < 1e-16


@pytest.mark.parametrize(
    ("weights", "error", "sentence"),
    [
        ([1.0], ValueError, r"weights must have shape \[2\], one per score, got \[1\]"),
        ([[1.0, 1.0]], ValueError, r"weights must have shape \[2\]"),
        ([1.0, -1.0], ValueError, r"weights must be finite and >= 0, got -1.0 to 1.0"),
        ([1.0, math.inf], ValueError, "weights must be finite"),
        ([1.0, math.nan], ValueError, "weights must be finite"),
        ([0, 0], ValueError, "weights must not all be 0"),
        ([True, True], TypeError, "weights must be real numbers, got bool"),
        ("ab", TypeError, "weights must be a tensor, an array or a sequence of numbers"),
    ],
)
@pytest.mark.parametrize("name", WEIGHTED | CURVES)
def test_invalid_weights(name, weights, error, sentence):
    with pytest.raises(error, match=sentence):
        (WEIGHTED | CURVES)[name]([0.1, 0.2], [True, False], weights=weights)


def test_a_sample_of_weight_0_is_none():
    ranking = rank([0.1, 0.2, 0.3], [True, False, True], weights=[1, 0, 2])
    assert ranking.score.tolist() == [0.1, 0.3]
    assert ranking.correct.tolist() == [0.25, 0.5]  # the largest in [1/2, 1)
    assert ranking.errors.tolist() == [0, 0]
    assert ranking.samples == pytest.approx(9 / 5)
    assert math.isnan(fpr_at_tpr([0.1, 0.2], [True, False], weights=[1, 0]))
