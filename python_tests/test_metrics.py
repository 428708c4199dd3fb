"""Metrics against their literal definitions, against scikit-learn, and where they are undefined."""

from __future__ import annotations

import itertools
import math
import time
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from rrfast.metrics import METRICS, accuracy, aurc, auroc, fpr_at_tpr

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


def literal_aurc(score, correct):
    """The average over every order that the scores allow; for few samples."""
    areas = []
    for order in itertools.permutations(range(len(score))):
        if any(score[i] < score[j] for i, j in itertools.pairwise(order)):
            continue
        errors = itertools.accumulate(not correct[i] for i in order)
        area = sum(Fraction(e, i) for i, e in enumerate(errors, 1)) / len(order)
        areas.append(area)
    return float(sum(areas) / len(areas))


def literal_accuracy(score, correct):
    return sum(correct) / len(correct)


LITERAL = {
    "auroc": literal_auroc,
    "fpr_at_tpr": literal_fpr_at_tpr,
    "aurc": literal_aurc,
    "accuracy": literal_accuracy,
}


def same(a, b, tolerance=1e-14):
    return (math.isnan(a) and math.isnan(b)) or abs(a - b) <= tolerance


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


@pytest.mark.parametrize("name", ["auroc", "fpr_at_tpr", "accuracy"])
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
def test_scikit_learn(levels):
    score, correct = draw(5000, levels)
    # Errors are positive there when the detector is the negative confidence.
    assert auroc(score, correct) == pytest.approx(roc_auc_score(~correct, -score), rel=1e-13)
    fpr, tpr, _ = roc_curve(~correct, -score, drop_intermediate=False)
    assert fpr_at_tpr(score, correct) == fpr[np.argmax(tpr >= 0.95)]
    assert fpr_at_tpr(score, correct, tpr=0.5) == fpr[np.argmax(tpr >= 0.5)]


# ------------------------------------------------------------------------------- properties


@pytest.mark.parametrize("name", METRICS)
@unhurried
@given(samples=SAMPLES, seed=st.integers(0, 2**32 - 1))
def test_the_order_of_the_data_does_not_matter(name, samples, seed):
    score, correct = (np.array(column) for column in zip(*samples, strict=True))
    order = np.random.default_rng(seed).permutation(len(score))
    shuffled = METRICS[name](score[order], correct[order])
    assert shuffled == pytest.approx(METRICS[name](score, correct), rel=0, abs=0, nan_ok=True)


@pytest.mark.parametrize("name", METRICS)
@unhurried
@given(samples=SAMPLES)
def test_only_the_ranking_matters(name, samples):
    score, correct = (np.array(column) for column in zip(*samples, strict=True))
    ranks = np.unique(score, return_inverse=True)[1] - 7
    assert METRICS[name](ranks, correct) == pytest.approx(
        METRICS[name](score, correct), rel=0, abs=0, nan_ok=True
    )


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


def test_constant_scores():
    correct = [True] * 9 + [False]
    score = [0.5] * 10
    assert (auroc(score, correct), fpr_at_tpr(score, correct)) == (0.5, 1)
    assert aurc(score, correct) == pytest.approx(0.1, rel=1e-15)


# ------------------------------------------------------- degenerate cases crossed with metrics

DEGENERATE = {
    # score, correct, then what each metric gives in the order of METRICS
    "all right": ([0.1, 0.2, 0.3], [True, True, True], NAN, NAN, 0, 1),
    "all wrong": ([0.1, 0.2, 0.3], [False, False, False], NAN, NAN, 1, 0),
    "one right": ([0.1], [True], NAN, NAN, 0, 1),
    "one wrong": ([0.1], [False], NAN, NAN, 1, 0),
    "constant": ([0.5, 0.5], [True, False], 0.5, 1, 0.5, 0.5),
    "constant inf": ([INF, INF], [True, False], 0.5, 1, 0.5, 0.5),
    "perfect": ([1.0, 0.0], [True, False], 1, 0, 0.25, 0.5),
    "reversed": ([0.0, 1.0], [True, False], 0, 1, 0.75, 0.5),
    "inf is the most confident": ([INF, 1e300], [True, False], 1, 0, 0.25, 0.5),
    "-inf is the least": ([-1e300, -INF], [True, False], 1, 0, 0.25, 0.5),
    "-0.0 ties with 0.0": ([0.0, -0.0], [True, False], 0.5, 1, 0.5, 0.5),
    "subnormal": ([5e-324, 0.0], [True, False], 1, 0, 0.25, 0.5),
}


@pytest.mark.parametrize("case", DEGENERATE)
@pytest.mark.parametrize("position", range(4), ids=list(METRICS))
def test_degenerate(case, position):
    score, correct, *expected = DEGENERATE[case]
    value = list(METRICS.values())[position](score, correct)
    assert isinstance(value, float)
    assert same(value, expected[position], tolerance=0)


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


@pytest.mark.parametrize("case", INVALID)
@pytest.mark.parametrize("name", METRICS)
def test_invalid(name, case):
    score, correct, error, sentence = INVALID[case]
    with pytest.raises(error, match=sentence):
        METRICS[name](score, correct)


@pytest.mark.parametrize("tpr", [0, -0.1, 1.1, NAN])
def test_invalid_tpr(tpr):
    with pytest.raises(ValueError, match=r"tpr must be a fraction in \(0, 1\]"):
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
        (torch.tensor(score * 4).long(), torch.tensor(correct)),
        (torch.tensor(score, requires_grad=True), torch.tensor(correct)),
    ]:
        assert METRICS[name](s, c) == expected


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
