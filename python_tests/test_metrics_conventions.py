"""Each convention against its own words, in loops; and the sentences that name them."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from sklearn.metrics import roc_curve
from test_metrics import EVERY, SAMPLES, draw, same, unhurried

from rrfast.metrics import (
    METRICS,
    aurc,
    convention,
    detection_error,
    e_aurc,
    fpr_at_tpr,
    mean_confidence,
    rank,
)

FPR = (
    "rat",
    "relative-uncertainty",
    "openmix",
    "fd-shifts",
    "torch-uncertainty",
    "torch-uncertainty-0.12",
)
AURC = ("rat", "openmix", "fd-shifts", "rat_released", "torch-uncertainty")


def columns(samples):
    return (list(column) for column in zip(*samples, strict=True))


def rates(score, correct, positive):
    """(TPR, FPR) from nothing flagged to everything; None where a class is empty."""
    flagged = [-s if positive == "errors" else s for s in score]
    hit = [c == (positive == "correct") for c in correct]
    if len(set(hit)) < 2:
        return None
    points = [(Fraction(0), Fraction(0))]
    for t in sorted(set(flagged), reverse=True):
        on = [h for f, h in zip(flagged, hit, strict=True) if f >= t]
        points.append((Fraction(sum(on), sum(hit)), Fraction(on.count(False), hit.count(False))))
    return points


def literal_fpr(score, correct, name, tpr=Fraction(95, 100)):
    points = rates(score, correct, "correct" if name in {"openmix", "fd-shifts"} else "errors")
    if points is None:
        return math.nan
    if name == "openmix":
        return float(min(points, key=lambda p: (abs(p[0] - tpr), p[0]))[1])
    if name == "torch-uncertainty-0.12":
        swept = points[1 : 2 + [t == 1 for t, _ in points[1:]].index(True)]
        near = np.float32(tpr)
        return float(min(reversed(swept), key=lambda p: abs(np.float32(p[0]) - near))[1])
    least = Fraction(9495, 10000) if name == "fd-shifts" else tpr
    return float(min(f for t, f in points if t >= least))


@pytest.mark.parametrize("name", FPR)
@unhurried
@given(samples=SAMPLES)
def test_fpr_at_tpr(name, samples):
    score, correct = columns(samples)
    ours = fpr_at_tpr(score, correct, convention=name)
    assert same(ours, literal_fpr(score, correct, name))


def test_the_two_of_torch_uncertainty():
    # Computed with its releases 0.12.1 and 0.13.0; half of the errors lie below both others.
    score, correct = [0.0, 0.1, 0.2], [False, True, False]
    assert fpr_at_tpr(score, correct, 0.5, convention="torch-uncertainty") == 0.0
    assert fpr_at_tpr(score, correct, 0.5, convention="torch-uncertainty-0.12") == 1.0


@pytest.mark.parametrize("levels", [0, 1, 10])
def test_fpr_at_tpr_from_scikit_learn(levels):
    score, correct = draw(5000, levels)
    fpr, tpr, _ = roc_curve(correct, score, drop_intermediate=False)
    nearest = fpr[np.argmin(np.abs(tpr - 0.95))]
    assert fpr_at_tpr(score, correct, convention="openmix") == nearest
    assert fpr_at_tpr(score, correct, convention="fd-shifts") == np.min(fpr[tpr >= 0.9495])
    first = np.argmax(tpr >= 0.95)
    assert fpr_at_tpr(score, correct, positive="correct") == fpr[first]
    odin = detection_error(score, correct, convention="odin")
    assert odin == pytest.approx((1 - tpr[first] + fpr[first]) / 2, rel=1e-12)


def literal_aurc(score, correct, name):
    """In the order of the data within ties, which Python's sorts keep."""
    n = len(score)
    down = sorted(range(n), key=lambda i: -score[i])
    risk = {0: None}  # of the i most confident
    for i in range(1, n + 1):
        risk[i] = Fraction(sum(not correct[j] for j in down[:i]), i)
    if name == "openmix":
        return sum(risk[i] for i in range(1, n + 1)) / n
    if name == "torch-uncertainty":
        if n == 1:
            return math.nan
        return sum((risk[i] + risk[i + 1]) / 2 for i in range(1, n)) / (n - 1)
    if name == "fd-shifts":
        ends = [i for i in range(1, n + 1) if i == n or score[down[i - 1]] != score[down[i]]]
        area = risk[ends[0]] * ends[0]
        for a, b in itertools.pairwise(ends):
            area += (risk[a] + risk[b]) / 2 * (b - a)
        return area / n
    # As released: samples leave upwards, ties in the order of the data.
    up = sorted(range(n), key=lambda i: score[i])
    left, points = list(up), [(n, Fraction(sum(not correct[i] for i in up), n))]
    for place in range(n - 1):
        left.pop(0)
        if place == 0 or score[up[place]] != score[up[place - 1]]:
            points.append((len(left), Fraction(sum(not correct[i] for i in left), len(left))))
    area = sum((p[1] + q[1]) / 2 * (p[0] - q[0]) for p, q in itertools.pairwise(points))
    since = points[-1][0] - 1  # samples that left since the last point; the last never leaves
    return (area + points[-1][1] * since) / n


@pytest.mark.parametrize("name", AURC[1:])
@unhurried
@given(samples=SAMPLES)
def test_aurc(name, samples):
    score, correct = columns(samples)
    ours = aurc(score, correct, convention=name)
    assert same(ours, float(literal_aurc(score, correct, name)), tolerance=1e-12)


def test_aurc_of_a_constant_score_in_the_order_of_the_data():
    """What field measurements found: the order of the data alone decides."""
    correct = [True] * 90 + [False] * 10
    for turned, expected in ((correct, 0.005), (correct[::-1], 0.33)):
        assert aurc([0.5] * 100, turned, convention="openmix") == pytest.approx(expected, abs=5e-3)
        assert aurc([0.5] * 100, turned) == pytest.approx(0.1, rel=1e-14)
        assert aurc([0.5] * 100, turned, convention="fd-shifts") == pytest.approx(0.1, rel=1e-14)


def test_aurc_conventions_agree_without_ties():
    score, correct = draw(8000, 0)
    values = [aurc(score, correct, convention=name) for name in AURC]
    assert max(values) - min(values) < 5e-5
    assert values[0] == pytest.approx(values[1], rel=1e-13)


@pytest.mark.parametrize("name", ["openmix", "rat_released", "torch-uncertainty"])
def test_the_order_of_the_data_is_in_neither_weights_nor_a_ranking(name):
    score, correct = [0.1, 0.2], [True, False]
    with pytest.raises(ValueError, match=f'"{name}" depends on the order of the data'):
        aurc(rank(score, correct), None, convention=name)
    with pytest.raises(ValueError, match=f'"{name}" depends on the order of the data'):
        aurc(score, correct, convention=name, weights=[1, 1])


@unhurried
@given(samples=SAMPLES)
def test_odins_detection_error_is_never_below_the_minimum(samples):
    score, correct = columns(samples)
    least, odin = (detection_error(score, correct, convention=name) for name in ("rat", "odin"))
    points = rates(score, correct, "correct")
    if points is None:
        assert math.isnan(least)
        assert math.isnan(odin)
        return
    assert least <= odin
    t, f = next(p for p in points if p[0] >= Fraction(95, 100))
    assert odin == pytest.approx(float((1 - t + f) / 2), abs=1e-15)


def test_the_closed_form_of_the_least_aurc():
    correct = torch.arange(1000) >= 100
    score = correct.double()
    r = 0.1
    limit = r + (1 - r) * math.log(1 - r)
    assert e_aurc(score, correct, convention="geifman") == pytest.approx(
        aurc(score, correct) - limit, rel=1e-12
    )
    # Its distance from the exact sum, to first order in 1/n.
    assert e_aurc(score, correct, convention="geifman") == pytest.approx(r / 2000, rel=1e-2)
    assert e_aurc([0.1], [False], convention="geifman") == 0


@pytest.mark.parametrize(
    ("metric", "names"),
    [(fpr_at_tpr, FPR), (aurc, AURC), (detection_error, ("rat", "odin")), (e_aurc, ("geifman",))],
)
def test_every_convention_has_a_sentence(metric, names):
    for name in names:
        sentence = convention(metric, name)
        assert sentence == convention(metric.__name__, name)
        assert len(sentence) > 20
        assert not sentence.endswith(".")
        assert isinstance(metric([0.1, 0.2], [True, False], convention=name), float)
    with pytest.raises(ValueError, match=f"convention of {metric.__name__} must be one of rat"):
        metric([0.1, 0.2], [True, False], convention="ours")
    with pytest.raises(ValueError, match="got 'rats'; did you mean rat"):
        convention(metric, "rats")


@pytest.mark.parametrize("name", EVERY)
def test_every_metric_has_the_default(name):
    assert convention(name)


def test_there_is_no_such_metric():
    with pytest.raises(ValueError, match=r"metric must be one of .*, got 'loss'"):
        convention("loss")
    assert convention(METRICS["mean_confidence"]) == convention(mean_confidence)
