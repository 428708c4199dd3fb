"""Metrics against their literal definitions, against scikit-learn, and where they are undefined."""

from __future__ import annotations

import functools
import itertools
import math
import time
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

import rrfast.metrics
from rrfast.metrics import (
    METRICS,
    accuracy,
    augrc,
    aupr_error,
    aupr_success,
    aurc,
    auroc,
    coverage_at_risk,
    detection_error,
    e_aurc,
    fpr_at_tpr,
    mean_confidence,
    rank,
    risk_at_coverage,
    risk_coverage_curve,
)

INF, NAN = math.inf, math.nan

# A busy machine is no failure.
unhurried = settings(deadline=None)

# ------------------------------------------------------------------------ literal definitions


def literal_auroc(score, correct):
    wrong = [s for s, c in zip(score, correct, strict=True) if not c]
    right = [s for s, c in zip(score, correct, strict=True) if c]
    if not wrong or not right:
        return NAN
    won = sum(Fraction(1) if w < r else Fraction(w == r, 2) for w in wrong for r in right)
    return float(won / (len(wrong) * len(right)))


def literal_fpr_at_tpr(score, correct, tpr=Fraction(95, 100)):
    wrong = [s for s, c in zip(score, correct, strict=True) if not c]
    right = [s for s, c in zip(score, correct, strict=True) if c]
    if not wrong or not right:
        return NAN
    for threshold in sorted(set(score)):
        if Fraction(sum(w <= threshold for w in wrong), len(wrong)) >= tpr:
            return sum(r <= threshold for r in right) / len(right)
    raise AssertionError("the largest score flags everything")


def over_orders(area):
    """The average over the orders allowed of `area(wrong among the i most confident, i = 1..n)`."""

    def literal(score, correct):
        areas = []
        for order in itertools.permutations(range(len(score))):
            if any(score[i] < score[j] for i, j in itertools.pairwise(order)):
                continue
            areas.append(area(list(itertools.accumulate(not correct[i] for i in order))))
        return sum(areas) / len(areas)

    return literal


@over_orders
def exact_aurc(errors):
    return sum(Fraction(e, i) for i, e in enumerate(errors, 1)) / len(errors)


def literal_aurc(score, correct):
    return float(exact_aurc(score, correct))


def literal_e_aurc(score, correct):
    perfect = [float(c) for c in correct]
    return float(exact_aurc(score, correct) - exact_aurc(perfect, correct))


@over_orders
def literal_augrc(errors):
    """The trapezoid over coverages 0, 1/n, ..., 1 of errors / n."""
    n = len(errors)
    return float(sum(Fraction(a + b, 2) for a, b in itertools.pairwise([0, *errors])) / n**2)


def literal_accuracy(score, correct):
    return sum(correct) / len(correct)


def literal_aupr(score, positive):
    """Over thresholds from the largest score down."""
    if not any(positive):
        return NAN
    area, recall = Fraction(0), Fraction(0)
    for threshold in sorted(set(score), reverse=True):
        called = [p for s, p in zip(score, positive, strict=True) if s >= threshold]
        reached = Fraction(sum(called), sum(positive))
        area += (reached - recall) * Fraction(sum(called), len(called))
        recall = reached
    return float(area)


def literal_detection_error(score, correct):
    wrong = [s for s, c in zip(score, correct, strict=True) if not c]
    right = [s for s, c in zip(score, correct, strict=True) if c]
    if not wrong or not right:
        return NAN
    return min(
        float(
            Fraction(sum(w > t for w in wrong), 2 * len(wrong))
            + Fraction(sum(r <= t for r in right), 2 * len(right))
        )
        for t in [-INF, *score]
    )


def literal_mean_confidence(score, correct):
    return sum(sorted(score)) / len(score)


LITERAL = {
    "auroc": literal_auroc,
    "fpr_at_tpr": literal_fpr_at_tpr,
    "aurc": literal_aurc,
    "accuracy": literal_accuracy,
    "aupr_error": lambda score, correct: literal_aupr(
        [-s for s in score], [not c for c in correct]
    ),
    "aupr_success": literal_aupr,
    "detection_error": literal_detection_error,
    "e_aurc": literal_e_aurc,
    "augrc": literal_augrc,
    "mean_confidence": literal_mean_confidence,
}

#: Also those that need a number more.
EVERY = METRICS | {
    "risk_at_coverage": functools.partial(risk_at_coverage, coverage=0.4),
    "coverage_at_risk": functools.partial(coverage_at_risk, risk=0.3),
}


def same(a, b, tolerance=1e-14):
    return (math.isnan(a) and math.isnan(b)) or a == b or abs(a - b) <= tolerance


def draw(n, levels, error_rate=0.2, seed=0):
    """Scores on few or many levels, lower where wrong, and answers."""
    generator = np.random.default_rng(seed)
    correct = generator.random(n) >= error_rate
    score = generator.normal(size=n) + correct
    return (np.round(score * levels) / levels if levels else score), correct


SMALL = st.lists(
    st.tuples(st.sampled_from([-INF, -1.0, 0.0, -0.0, 0.5, 1.0, INF]), st.booleans()),
    min_size=1,
    max_size=6,
)
SAMPLES = st.lists(
    st.tuples(st.one_of(st.integers(-3, 3).map(float), st.floats(allow_nan=False)), st.booleans()),
    min_size=1,
    max_size=60,
)


@pytest.mark.parametrize("name", METRICS)
@unhurried
@given(samples=SMALL)
def test_literal_definition_on_few_samples(name, samples):
    score, correct = zip(*samples, strict=True)
    assert same(METRICS[name](list(score), list(correct)), LITERAL[name](score, correct))


@pytest.mark.parametrize(
    "name", ["auroc", "fpr_at_tpr", "accuracy", "aupr_error", "aupr_success", "detection_error"]
)
@unhurried
@given(samples=SAMPLES)
def test_literal_definition_on_more_samples(name, samples):
    score, correct = zip(*samples, strict=True)
    assert METRICS[name](list(score), list(correct)) == pytest.approx(
        LITERAL[name](score, correct), abs=1e-15, nan_ok=True
    )


def test_aurc_of_ties_is_the_mean_over_all_orders_of_seven():
    score = [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5]
    correct = [True, False, True, True, False, False, True]
    assert aurc(score, correct) == pytest.approx(literal_aurc(score, correct), rel=1e-15)


def test_aurc_of_ties_is_the_mean_over_many_random_orders():
    score, correct = draw(300, levels=1)
    generator = np.random.default_rng(0)
    areas = []
    for _ in range(2000):
        order = np.lexsort((generator.random(300), -score))
        areas.append((np.cumsum(~correct[order]) / np.arange(1, 301)).mean())
    standard_error = np.std(areas) / math.sqrt(len(areas))
    assert abs(aurc(score, correct) - np.mean(areas)) < 5 * standard_error


@pytest.mark.parametrize("levels", [0, 1, 10])
def test_aurc_is_the_same_in_blocks_of_any_size(levels, monkeypatch):
    score, correct = draw(500, levels)
    whole = aurc(score, correct)
    for block in (1, 2, 7, 64):
        monkeypatch.setattr("rrfast.metrics.risks.BLOCK", block)
        assert aurc(score, correct) == whole


@pytest.mark.parametrize("levels", [0, 1, 10**5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_aurc_takes_40_bytes_a_score(levels, dtype):
    """With ties and without: of NumPy's memory, in which all of it is computed."""
    score, correct = draw(10**6, levels)
    score, correct = torch.from_numpy(score.astype(dtype)), torch.from_numpy(correct)
    tracemalloc.start()
    try:
        aurc(score, correct)
        assert tracemalloc.get_traced_memory()[1] <= 40 * len(score)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("levels", [0, 1, 10])
def test_scikit_learn(levels):
    score, correct = draw(5000, levels)
    # Errors are positive there when the detector is the negative confidence.
    assert auroc(score, correct) == pytest.approx(roc_auc_score(~correct, -score), rel=1e-13)
    fpr, tpr, _ = roc_curve(~correct, -score, drop_intermediate=False)
    assert fpr_at_tpr(score, correct) == fpr[np.argmax(tpr >= 0.95)]
    assert fpr_at_tpr(score, correct, tpr=0.5) == fpr[np.argmax(tpr >= 0.5)]
    error, success = (
        average_precision_score(~correct, -score),
        average_precision_score(correct, score),
    )
    assert aupr_error(score, correct) == pytest.approx(error, rel=1e-12)
    assert aupr_success(score, correct) == pytest.approx(success, rel=1e-12)
    assert detection_error(score, correct) == pytest.approx(np.min(1 - tpr + fpr) / 2, rel=1e-12)
    weights = np.random.default_rng(1).random(5000)
    for ours, theirs, positive, detector in [
        (auroc, roc_auc_score, ~correct, -score),
        (aupr_error, average_precision_score, ~correct, -score),
        (aupr_success, average_precision_score, correct, score),
    ]:
        expected = theirs(positive, detector, sample_weight=weights)
        assert ours(score, correct, weights=weights) == pytest.approx(expected, rel=1e-12)
    curve = rrfast.metrics.roc_curve(score, correct)
    np.testing.assert_allclose(curve.fpr, fpr[1:], rtol=1e-15)
    np.testing.assert_allclose(curve.tpr, tpr[1:], rtol=1e-15)
    right = rrfast.metrics.roc_curve(score, correct, positive="correct")
    fpr, tpr, threshold = roc_curve(correct, score, drop_intermediate=False)
    np.testing.assert_allclose(right.fpr, fpr[1:], rtol=1e-15)
    np.testing.assert_allclose(right.tpr, tpr[1:], rtol=1e-15)
    np.testing.assert_array_equal(right.threshold, threshold[1:])


# ------------------------------------------------------------------------------- properties


@pytest.mark.parametrize("name", EVERY)
@unhurried
@given(samples=SAMPLES, seed=st.integers(0, 2**32 - 1))
def test_the_order_of_the_data_does_not_matter(name, samples, seed):
    score, correct = (np.array(column) for column in zip(*samples, strict=True))
    order = np.random.default_rng(seed).permutation(len(score))
    shuffled = EVERY[name](score[order], correct[order])
    assert shuffled == pytest.approx(EVERY[name](score, correct), rel=0, abs=0, nan_ok=True)


@pytest.mark.parametrize("name", sorted(EVERY.keys() - {"mean_confidence"}))
@unhurried
@given(samples=SAMPLES)
def test_only_the_ranking_matters(name, samples):
    score, correct = (np.array(column) for column in zip(*samples, strict=True))
    ranks = np.unique(score, return_inverse=True)[1] - 7
    assert EVERY[name](ranks, correct) == pytest.approx(
        EVERY[name](score, correct), rel=0, abs=0, nan_ok=True
    )


@pytest.mark.parametrize("name", EVERY)
@unhurried
@given(samples=SAMPLES)
def test_a_ranking_gives_the_same(name, samples):
    score, correct = (np.array(column) for column in zip(*samples, strict=True))
    ranked = EVERY[name](rank(score, correct), None)
    assert ranked == pytest.approx(EVERY[name](score, correct), rel=0, abs=0, nan_ok=True)


def test_a_ranking_comes_alone():
    ranking = rank([0.1, 0.2], [True, False])
    with pytest.raises(TypeError, match="correct and weights must be None with a Ranking"):
        auroc(ranking, [True, False])
    with pytest.raises(TypeError, match="correct and weights must be None with a Ranking"):
        auroc(ranking, None, weights=[1, 1])


@unhurried
@given(samples=SAMPLES)
def test_auroc_is_the_same_for_either_class(samples):
    score, correct = (np.array(column) for column in zip(*samples, strict=True))
    assert same(auroc(score, correct), auroc(score, correct, positive="correct"), tolerance=0)


@unhurried
@given(samples=SAMPLES)
def test_errors_positive_is_correct_positive_of_the_opposite(samples):
    """Answers and scores turned round change the two classes' places."""
    score, correct = (np.array(column) for column in zip(*samples, strict=True))
    turned = fpr_at_tpr(-score, ~correct, positive="correct")
    assert same(fpr_at_tpr(score, correct), turned, tolerance=0)
    assert same(aupr_error(score, correct), aupr_success(-score, ~correct), tolerance=0)


@unhurried
@given(samples=SAMPLES)
def test_augrc_follows_from_auroc_and_the_error_rate(samples):
    score, correct = zip(*samples, strict=True)
    score, correct = list(score), list(correct)
    r, a = 1 - accuracy(score, correct), auroc(score, correct)
    expected = r**2 / 2 + (0 if math.isnan(a) else r * (1 - r) * (1 - a))
    assert augrc(score, correct) == pytest.approx(expected, rel=1e-12, abs=1e-15)


@unhurried
@given(samples=SAMPLES, coverage=st.floats(0.001, 1), risk=st.floats(0, 1))
def test_working_points_are_the_literal_ones(samples, coverage, risk):
    score, correct = zip(*samples, strict=True)
    points = []  # coverage, risk; most confident threshold first
    for threshold in sorted(set(score), reverse=True):
        kept = [c for s, c in zip(score, correct, strict=True) if s >= threshold]
        points.append((len(kept) / len(score), kept.count(False) / len(kept)))
    curve = risk_coverage_curve(list(score), list(correct))
    assert list(zip(curve.coverage.tolist(), curve.risk.tolist(), strict=True)) == points
    assert curve.threshold.tolist() == sorted(set(score), reverse=True)
    at = risk_at_coverage(list(score), list(correct), coverage)
    assert at == next(r for c, r in points if c >= coverage)
    at = coverage_at_risk(list(score), list(correct), risk)
    assert at == max((c for c, r in points if r <= risk), default=0)


@unhurried
@given(samples=SAMPLES)
def test_auroc_of_the_negative_score_is_the_complement(samples):
    score, correct = (np.array(column) for column in zip(*samples, strict=True))
    assert same(auroc(-score, correct), 1 - auroc(score, correct))


@unhurried
@given(samples=SAMPLES)
def test_a_perfect_score_is_best_and_its_reverse_worst(samples):
    score, correct = (np.array(column) for column in zip(*samples, strict=True))
    perfect = correct.astype(float)
    assert aurc(perfect, correct) <= aurc(score, correct) + 1e-14
    assert aurc(score, correct) <= aurc(-perfect, correct) + 1e-14
    if 0 < correct.sum() < len(correct):
        assert (auroc(perfect, correct), fpr_at_tpr(perfect, correct)) == (1, 0)
        assert (auroc(-perfect, correct), fpr_at_tpr(-perfect, correct)) == (0, 1)


@unhurried
@given(samples=SAMPLES, low=st.floats(0.01, 1), high=st.floats(0.01, 1))
def test_fpr_grows_with_tpr(samples, low, high):
    score, correct = zip(*samples, strict=True)
    low, high = sorted((low, high))
    a, b = (fpr_at_tpr(list(score), list(correct), tpr) for tpr in (low, high))
    assert a <= b or math.isnan(a)


@pytest.mark.parametrize(("caught", "errors"), [(19, 20), (7, 100), (95, 100), (29, 50), (3, 10)])
def test_a_tpr_that_is_reached_exactly_is_reached(caught, errors):
    """Errors at scores 0, 1, 2, ... and one right prediction just above the last that counts."""
    score = [*range(errors), caught - 0.5]
    correct = [False] * errors + [True]
    assert fpr_at_tpr(score, correct, tpr=caught / errors) == 0
    assert fpr_at_tpr(score, correct, tpr=math.nextafter(caught / errors, 1)) == 1


@pytest.mark.parametrize("n", [10, 19, 49])
def test_a_coverage_and_a_risk_that_are_reached_exactly_are_enough(n):
    """n distinct scores, of which the least confident half are wrong."""
    score, correct = [*range(n)], [i >= n // 2 for i in range(n)]
    for accepted in range(1, n + 1):
        wrong = max(0, accepted - (n - n // 2))
        assert risk_at_coverage(score, correct, accepted / n) == wrong / accepted
        if wrong:
            assert coverage_at_risk(score, correct, wrong / accepted) == accepted / n


def test_constant_scores():
    correct = [True] * 9 + [False]
    score = [0.5] * 10
    assert (auroc(score, correct), fpr_at_tpr(score, correct)) == (0.5, 1)
    assert aurc(score, correct) == pytest.approx(0.1, rel=1e-15)
    assert (aupr_error(score, correct), aupr_success(score, correct)) == (0.1, 0.9)
    assert (detection_error(score, correct), augrc(score, correct)) == (0.5, 0.05)


@unhurried
@given(samples=SAMPLES)
def test_excess_is_0_for_a_perfect_ranking_and_never_below(samples):
    score, correct = (np.array(column) for column in zip(*samples, strict=True))
    assert e_aurc(correct.astype(float), correct) == 0
    assert e_aurc(score, correct) >= -1e-15
    untied = np.argsort(np.argsort(correct, kind="stable"))
    assert e_aurc(untied, correct) == 0


# ------------------------------------------------------- degenerate cases crossed with metrics

CONSTANT = (0.5, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25)
PERFECT = (1, 0, 0.25, 0.5, 1, 1, 0, 0, 0.125)

DEGENERATE = {
    # score, correct, the mean score, then what the other metrics give in the order of METRICS
    "all right": ([0.25, 0.5, 0.75], [True] * 3, 0.5, NAN, NAN, 0, 1, NAN, 1, NAN, 0, 0),
    "all wrong": ([0.25, 0.5, 0.75], [False] * 3, 0.5, NAN, NAN, 1, 0, 1, NAN, NAN, 0, 0.5),
    "one right": ([0.1], [True], 0.1, NAN, NAN, 0, 1, NAN, 1, NAN, 0, 0),
    "one wrong": ([0.1], [False], 0.1, NAN, NAN, 1, 0, 1, NAN, NAN, 0, 0.5),
    "constant": ([0.5, 0.5], [True, False], 0.5, *CONSTANT),
    "constant inf": ([INF, INF], [True, False], INF, *CONSTANT),
    "perfect": ([1.0, 0.0], [True, False], 0.5, *PERFECT),
    "reversed": ([0.0, 1.0], [True, False], 0.5, 0, 1, 0.75, 0.5, 0.5, 0.5, 0.5, 0.5, 0.375),
    "inf is the most confident": ([INF, 1e300], [True, False], INF, *PERFECT),
    "-inf is the least": ([-1e300, -INF], [True, False], -INF, *PERFECT),
    "both infinities": ([INF, -INF], [True, False], NAN, *PERFECT),
    "-0.0 ties with 0.0": ([0.0, -0.0], [True, False], 0, *CONSTANT),
    "subnormal": ([5e-324, 0.0], [True, False], 0, *PERFECT),
    "integers": ([2, 1], [True, False], 1.5, *PERFECT),
    "float16": (torch.tensor([1, 0.5]).half(), [True, False], 0.75, *PERFECT),
}


@pytest.mark.parametrize("case", DEGENERATE)
@pytest.mark.parametrize("weights", [None, 1.0], ids=["counted", "weighted"])
@pytest.mark.parametrize("position", range(len(METRICS)), ids=list(METRICS))
def test_degenerate(case, position, weights):
    score, correct, mean, *expected = DEGENERATE[case]
    metric = list(METRICS.values())[position]
    if weights is not None:
        metric = functools.partial(metric, weights=[weights] * len(score))
    value = metric(score, correct)
    assert isinstance(value, float)
    # Weighted AURC goes through digamma.
    assert same(value, [*expected, mean][position], tolerance=0 if weights is None else 1e-15)


@pytest.mark.parametrize("case", DEGENERATE)
def test_degenerate_curves(case):
    score, correct, *_ = DEGENERATE[case]
    groups = len({float(s) for s in score})
    curve = risk_coverage_curve(score, correct)
    assert [len(x) for x in curve] == [groups] * 3
    assert (curve.coverage[-1], curve.risk[-1]) == (1, correct.count(False) / len(correct))
    roc = rrfast.metrics.roc_curve(score, correct)
    assert [len(x) for x in roc] == [groups] * 3
    assert same(roc.tpr[-1].item(), 1 if False in correct else NAN)
    assert same(roc.fpr[-1].item(), 1 if True in correct else NAN)
    assert risk_at_coverage(score, correct, 1) == correct.count(False) / len(correct)
    assert coverage_at_risk(score, correct, 1) == 1


INVALID = {
    "NaN": ([0.1, NAN, NAN], [True, False, True], ValueError, "NaN.*got 2 among 3"),
    "empty": ([], [], ValueError, "at least one sample, got none"),
    "lengths": ([0.1, 0.2], [True], ValueError, "same length, got 2 scores and 1 answers"),
    "two dimensions": ([[0.1], [0.2]], [True, False], ValueError, r"score .*shape \[2, 1\]"),
    "scalar": (0.1, [True], ValueError, r"score .*shape \[\]"),
    "answers in two": ([0.1, 0.2], [[True, False]], ValueError, r"correct .*shape \[1, 2\]"),
    "labels": ([0.1, 0.2], [1, 0], TypeError, "correct must be boolean.*prediction == label"),
    "float answers": ([0.1], torch.ones(1), TypeError, "correct must be boolean.*got float32"),
    "bool scores": ([True, False], [True, False], TypeError, "score must be real.*got bool"),
    "complex": (torch.ones(1, dtype=torch.cfloat), [True], TypeError, "score .*got complex64"),
    "strings": (["a"], [True], TypeError, "score must be a tensor, an array or a sequence"),
    "None": (None, [True], TypeError, "score must be a tensor.*NoneType"),
    "ragged": ([[0.1], [0.2, 0.3]], [True, False], TypeError, "score must be a tensor"),
}


CURVES = {"risk_coverage_curve": risk_coverage_curve, "roc_curve": rrfast.metrics.roc_curve}


@pytest.mark.parametrize("case", INVALID)
@pytest.mark.parametrize("name", EVERY | CURVES)
def test_invalid(name, case):
    score, correct, error, sentence = INVALID[case]
    with pytest.raises(error, match=sentence):
        (EVERY | CURVES)[name](score, correct)


@pytest.mark.parametrize("value", [-0.1, 1.1, NAN])
def test_invalid_working_points(value):
    with pytest.raises(ValueError, match="risk must be from 0 to 1"):
        coverage_at_risk([0.1, 0.2], [True, False], value)
    with pytest.raises(ValueError, match="coverage must be greater than 0 and at most 1"):
        risk_at_coverage([0.1, 0.2], [True, False], value)


def test_invalid_positive():
    for metric in (auroc, fpr_at_tpr, rrfast.metrics.roc_curve):
        with pytest.raises(
            ValueError, match="positive must be one of errors, correct, got 'wrong'"
        ):
            metric([0.1, 0.2], [True, False], positive="wrong")


@pytest.mark.parametrize("tpr", [0, -0.1, 1.1, NAN])
def test_invalid_tpr(tpr):
    with pytest.raises(ValueError, match="tpr must be greater than 0 and at most 1"):
        fpr_at_tpr([0.1, 0.2], [True, False], tpr)


# ------------------------------------------------------------------------ what may be passed


@pytest.mark.parametrize("name", METRICS)
def test_everything_array_like_gives_the_same(name):
    score, correct = draw(50, levels=4)
    expected = METRICS[name](torch.tensor(score), torch.tensor(correct))
    frozen = score.copy()
    frozen.flags.writeable = False
    for s, c in [
        (score, correct),
        (frozen, correct),
        (score[::-1].copy()[::-1], correct[::-1].copy()[::-1]),
        (score.tolist(), correct.tolist()),
        (tuple(score), tuple(correct)),
        (torch.tensor(score).half(), torch.tensor(correct)),  # quarters are exact
        (torch.tensor(score).bfloat16(), torch.tensor(correct)),
        (torch.tensor(score, requires_grad=True), torch.tensor(correct)),
    ]:
        assert METRICS[name](s, c) == expected
    # Only the mean confidence has the score's unit.
    quarters = METRICS[name](torch.tensor(score * 4).long(), torch.tensor(correct))
    assert quarters == (4 * expected if name == "mean_confidence" else expected)


@pytest.mark.parametrize(
    "close", [[1.0, 1.0 + 1e-12], [2**53, 2**53 + 1]], ids=["float64", "int64"]
)
def test_no_score_is_rounded_into_a_tie(close):
    assert auroc(close, [False, True]) == 1


@pytest.mark.parametrize("name", METRICS)
def test_arguments_are_not_modified(name):
    score, correct = draw(50, levels=4)
    s, c = torch.tensor(score), torch.tensor(correct)
    METRICS[name](s, c)
    METRICS[name](score, correct)
    assert torch.equal(s, torch.tensor(score))
    assert torch.equal(c, torch.tensor(correct))


@pytest.mark.parametrize("levels", [0, 100])
def test_a_million_scores(levels):
    """Quadratic time or a loop would take minutes; the bound leaves room for a busy machine."""
    score, correct = (torch.tensor(column) for column in draw(10**6, levels))
    started = time.perf_counter()
    values = [metric(score, correct) for metric in METRICS.values()]
    assert time.perf_counter() - started < 20
    # auroc of N(1, 1) against N(0, 1): Phi(1 / sqrt 2)
    assert values[0] == pytest.approx(0.7602, abs=3e-3)
    assert values[3] == accuracy(score, correct) == pytest.approx(0.8, abs=3e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", EVERY)
def test_a_cuda_tensor_stays_there_and_gives_the_same(name):
    score, correct = (torch.tensor(column) for column in draw(1000, levels=4))
    assert rank(score.cuda(), correct).errors.is_cuda
    # Means of 1000 float64 numbers, summed in another order.
    assert EVERY[name](score.cuda(), correct.cuda()) == pytest.approx(
        EVERY[name](score, correct), rel=1e-12
    )


def test_mean_confidence_of_probabilities():
    logits = torch.randn(100, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    score = logits.softmax(1).amax(1)
    expected = score.mean().item()
    assert mean_confidence(score, score > 0.5) == pytest.approx(expected, rel=1e-14)
