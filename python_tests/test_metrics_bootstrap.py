"""Bootstrap intervals against the same draws of the samples themselves."""

from __future__ import annotations

import functools
import math
import warnings

import numpy as np
import pytest
import torch
from scipy import stats
from test_metrics import EVERY, METRICS, draw

from rrfast.metrics import aurc, bootstrap, fpr_at_tpr, paired_bootstrap

NAN = math.nan


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("levels", [0, 2])
def test_literal(name, levels):
    """Every metric of samples drawn one by one, in the order the counts are laid out."""
    score, correct = (torch.tensor(column) for column in draw(80, levels, error_rate=0.3))
    wrong, right = score[~correct].sort().values, score[correct].sort().values
    score = torch.cat([wrong, right])
    correct = torch.cat([torch.zeros(len(wrong)), torch.ones(len(right))]).bool()
    generator = torch.Generator().manual_seed(3)
    values = []
    for _ in range(200):
        drawn = torch.randint(80, (80,), generator=generator)
        values.append(EVERY[name](score[drawn], correct[drawn]))
    values.sort()
    value, low, high = bootstrap(EVERY[name], score, correct, draws=200, level=0.9, seed=3)
    assert value == EVERY[name](score, correct)
    # (1 - 0.9)/2 of 199 is 9.95.
    assert low == pytest.approx(values[9], rel=1e-14)
    assert high == pytest.approx(values[-10], rel=1e-14)


def test_the_interval_of_an_accuracy_is_the_binomial_one():
    stats = pytest.importorskip("scipy.stats")
    correct = torch.arange(400) < 320
    value, low, high = bootstrap("accuracy", torch.zeros(400), correct, draws=4000)
    binomial = stats.binom(400, 0.8)
    assert value == 0.8
    # 4 standard errors of 0.25 %, which is sqrt(0.025 * 0.975 / 4000), around 2.5 and 97.5 %.
    assert binomial.ppf(0.0150) / 400 <= low <= binomial.ppf(0.0350) / 400
    assert binomial.ppf(0.9650) / 400 <= high <= binomial.ppf(0.9850) / 400


def test_the_seed_decides():
    score, correct = draw(200, 0)
    a, b, c = (bootstrap("auroc", score, correct, draws=50, seed=seed) for seed in (0, 0, 1))
    assert a == b
    assert a != c
    assert a.low < a.value < a.high


def test_options_are_given_with_partial():
    score, correct = draw(200, 0)
    half = functools.partial(fpr_at_tpr, tpr=0.5)
    assert bootstrap(half, score, correct, draws=50).value == fpr_at_tpr(score, correct, 0.5)
    with pytest.raises(ValueError, match="depends on the order of the data"):
        bootstrap(functools.partial(aurc, convention="openmix"), score, correct, draws=5)


def test_draws_without_errors_are_left_out_and_said():
    score, correct = [0.1, 0.2, 0.3, 0.4, 0.5], [False, True, True, True, True]
    # Without the error: (4/5)^5 = 33 % of the draws.
    with pytest.warns(RuntimeWarning, match=r"leaves out 3\d\d of 1000 draws, in which the metric"):
        interval = bootstrap("auroc", score, correct)
    assert interval == (1, 1, 1)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("answer", [True, False])
def test_all_right_and_all_wrong(name, answer):
    """No warning: what is undefined on all samples is undefined, and says so itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value, low, high = bootstrap(name, [0.5] * 4, [answer] * 4, draws=20)
    expected = METRICS[name]([0.5] * 4, [answer] * 4)
    assert [value, low, high] == pytest.approx([expected] * 3, nan_ok=True)


def test_one_draw_and_one_sample():
    assert bootstrap("accuracy", [0.1], [True], draws=1) == (1, 1, 1)


def test_infinite_scores():
    score = [math.inf, 1.0, -1.0, 2.0]
    value, low, high = bootstrap("mean_confidence", score, [True] * 4, draws=200)
    assert (value, high) == (math.inf, math.inf)
    assert low < math.inf


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"metric": "auroo"}, "function, must be one of auroc, .*'auroo'; did you mean auroc"),
        ({"draws": 0}, "draws must be an integer of at least 1, got 0"),
        ({"draws": 2.5}, "draws must be an integer of at least 1, got 2.5"),
        ({"level": 1.0}, "level must be greater than 0 and less than 1, got 1.0"),
        ({"level": NAN}, "level must be greater than 0 and less than 1, got nan"),
        ({"score": []}, "score and correct must have the same length"),
        ({"score": [NAN]}, "NaN"),
    ],
)
def test_invalid(options, sentence):
    arguments = {"metric": "auroc", "score": [0.1], "correct": [True]} | options
    with pytest.raises(ValueError, match=sentence):
        bootstrap(**arguments)


# ------------------------------------------------------------------------------ several, in pairs


@pytest.mark.parametrize("levels", [0, 3])
@pytest.mark.parametrize("scale", [1.0, math.inf])
@pytest.mark.parametrize("error_rate", [0.3, 0.03])
def test_paired_draws_are_the_metrics_of_the_same_samples(levels, scale, error_rate):
    """Every metric, difference and interval again, draw by draw and pair by pair."""
    one, correct = (torch.tensor(column) for column in draw(60, levels, error_rate=error_rate))
    other = draw(60, levels, error_rate=error_rate, seed=1)[0]
    scores = [one, torch.tensor(other) * scale, -one.float(), torch.zeros(60).long()]
    if scale == math.inf:
        scores[1][scores[1].isnan()] = 0.0
    found = paired_bootstrap(scores, correct, draws=40, level=0.8, seed=5)
    generator = torch.Generator().manual_seed(5)
    drawn = torch.randint(60, (60, 40), generator=generator).T
    for name, got in found.items():
        value = torch.tensor([EVERY[name](s, correct) for s in scores], dtype=torch.float64)
        again = torch.tensor(
            [[EVERY[name](s[i], correct[i]) for i in drawn] for s in scores], dtype=torch.float64
        )
        assert torch.allclose(got.value, value, rtol=0, atol=1e-15)
        if got.draws < 40:
            assert name in {"auroc", "fpr_at_tpr"}  # undefined in a draw without an error
            continue
        moved = again[:, None] - again
        spread = moved.std(dim=2)
        off = (moved - (value[:, None] - value)[..., None]).abs() / spread[..., None]
        c = (
            off[~off.isnan().any(dim=2)].amax(dim=0).sort().values[32]
        )  # of 40, the first above 80 %
        m = min(int(correct.sum()), int((~correct).sum()))
        t = stats.t.ppf(stats.norm.cdf(c.item()), m - 1) * math.sqrt(m / (m - 1))
        assert m == 3 if error_rate == 0.03 else m > 12
        # The last digits of a probability near 1, as `t` is computed from.
        assert torch.allclose(got.high - got.difference, t * spread, rtol=1e-9, atol=1e-12)
        assert torch.equal(got.low, -got.high.T)


def test_pairs_that_rank_alike_do_not_differ():
    score, correct = (torch.tensor(column) for column in draw(200, 0, error_rate=0.2))
    found = paired_bootstrap([score, score.exp(), score / 3 + 1], correct, draws=100)
    for each in found.values():
        assert not each.difference.any()
        assert not each.low.any()
        assert not each.high.any()


def test_what_pairs_cannot_tell():
    """All right; one error, of which no spread is known; one score; one sample."""
    right = paired_bootstrap([[0.1, 0.2], [0.2, 0.1]], [True, True], draws=20)
    assert right["aurc"].high.tolist() == [[0, 0], [0, 0]]
    assert right["auroc"].value.isnan().all()
    assert right["auroc"].high.isnan().all()
    single = paired_bootstrap([[0.1, 0.2, 0.3], [0.3, 0.2, 0.1]], [False, True, True], draws=50)
    assert single["aurc"].low[0, 1] == -math.inf
    alone = paired_bootstrap([[0.3]], [True], draws=5)
    assert alone["augrc"].high.tolist() == [[0]]


@pytest.mark.parametrize(
    ("scores", "options", "message"),
    [
        ([], {}, "at least one score"),
        ([[0.1, 0.2]], {"draws": 1}, "draws must be an integer of at least 2"),
        ([[0.1, 0.2]], {"level": 1.0}, "level must be greater than 0 and less than 1"),
        ([[0.1, 0.2]], {"seed": 2**64}, r"seed must be from -2\*\*63"),
        ([[0.1, NAN]], {}, "must not contain NaN"),
        ([[0.1, 0.2], [0.1]], {}, "the same length"),
    ],
)
def test_bad_pairs(scores, options, message):
    with pytest.raises(ValueError, match=message):
        paired_bootstrap(scores, [True, False], **options)


@pytest.mark.parametrize("seed", [1.5, "0", None])
def test_a_seed_is_an_integer_also_numpys(seed):
    right = [False, True]
    for draws in (
        lambda seed: bootstrap("aurc", [0.1, 0.2], right, draws=4, seed=seed),
        lambda seed: paired_bootstrap([[0.1, 0.2]], right, draws=4, seed=seed)["aurc"].low.tolist(),
    ):
        with pytest.raises(TypeError, match="seed must be an integer, got"):
            draws(seed)
        assert draws(np.int64(7)) == draws(7)
    with pytest.raises(TypeError, match=r"level must be a number, got str '0\.9'"):
        bootstrap("aurc", [0.1, 0.2], right, level="0.9")
