"""Scores: the contract of all of them, and the literal formula of each."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import nn

import rrfast
from rrfast.engine import Engine
from rrfast.models import digits_cnn
from rrfast.scores import (
    EPSILONS,
    MSR,
    ODIN,
    SCORES,
    TEMPERATURES,
    DoctorAlpha,
    DoctorBeta,
    Energy,
    Entropy,
    LogitScore,
    Margin,
    MaxLogit,
    Radius,
    RelU,
)
from rrfast.scores.relu import Seen
from rrfast.train.settings import Training


@pytest.fixture
def model():
    return digits_cnn(seed=0).double().eval()


@pytest.fixture
def x():
    return torch.rand(5, 1, 8, 8, dtype=torch.float64)


def ready(name: str, classes: int = 10):
    """The score of that name, fitted: without an error, RelU is Gini's index."""
    score = SCORES[name]
    if score.fitted:
        return score
    h = torch.eye(classes, dtype=torch.float64)
    return score.fit(nn.Identity(), [(h, torch.arange(classes))])


# -------------------------------------------------------------------------------- the contract


@pytest.mark.parametrize("name", SCORES)
def test_one_number_per_sample(name, model, x):
    score = ready(name)(model, x)
    assert score.shape == (5,)
    assert score.is_floating_point()
    assert not score.requires_grad
    assert score.isfinite().all()


@pytest.mark.parametrize("name", SCORES)
def test_larger_is_more_confident(name):
    """On linear logits x and -x, confidence grows with |x|."""
    model = nn.Linear(1, 2, bias=False, dtype=torch.float64)
    model.weight.data.copy_(torch.tensor([[1.0], [-1.0]]))
    score = ready(name, 2)(model, torch.tensor([[0.1], [-0.5], [2.0], [-4.0]], dtype=torch.float64))
    assert (score.diff() > 0).all()


@pytest.mark.parametrize("name", SCORES)
def test_the_model_and_the_input_stay_as_they_were(name):
    model, x = digits_cnn(seed=0), torch.rand(5, 1, 8, 8)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    copy, state = x.clone(), torch.get_rng_state()
    ready(name)(model, x)
    assert torch.equal(x, copy)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", SCORES)
def test_samples_do_not_influence_each_other(name, model, x):
    score = ready(name)
    alone = torch.cat([score(model, sample[None]) for sample in x])
    torch.testing.assert_close(score(model, x), alone, rtol=1e-9, atol=0)
    torch.testing.assert_close(score(model, x.flip(0)), alone.flip(0), rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", SCORES)
def test_integer_input(name, model):
    with pytest.raises(TypeError, match="x must be a floating-point tensor"):
        ready(name)(model, torch.zeros(2, 1, 8, 8, dtype=torch.uint8))


@pytest.mark.parametrize("name", SCORES)
def test_nan_logits_give_nan(name):
    model = nn.Linear(2, 3)
    score = ready(name, 3)(model, torch.tensor([[math.nan, 0.0], [1.0, 0.0]]))
    assert score.isnan().tolist() == [True, False]


@pytest.mark.parametrize("method", ["fast", "bs", "grad"])
def test_the_radius_is_a_score(method, model, x):
    expected = rrfast.radius(model, x, method=method)
    assert torch.equal(SCORES[f"radius_{method}"](model, x), expected)


@pytest.mark.parametrize("name", SCORES)
def test_an_empty_batch_takes_no_pass(name):
    def never(x):
        raise AssertionError("the model should not run")

    score = ready(name)(never, torch.zeros(0, 1, 8, 8))
    assert score.shape == (0,)
    assert score.is_floating_point()


@pytest.mark.parametrize("name", SCORES)
def test_one_class_is_no_classification(name):
    with pytest.raises(ValueError, match="at least two classes"):
        ready(name)(nn.Linear(4, 1), torch.zeros(2, 4))


@pytest.mark.parametrize("name", SCORES)
def test_a_frozen_dataclass_and_replace(name):
    score = SCORES[name]
    with pytest.raises(dataclasses.FrozenInstanceError):
        score.temperature = 2.0
    with pytest.raises(TypeError, match=f"{type(score).__name__} has no hyper-parameter 'colour'"):
        score.at(colour=1.0)
    assert set(score.grids) <= {field.name for field in dataclasses.fields(score)}
    for hyper_parameter, values in score.grids.items():
        for value in values:
            assert getattr(score.at(**{hyper_parameter: value}), hyper_parameter) == value


@pytest.mark.parametrize("kind", [MSR, Entropy, Energy, DoctorAlpha, DoctorBeta, RelU, ODIN])
def test_temperature_out_of_range(kind):
    for wrong in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="temperature must be finite and greater than 0"):
            kind(temperature=wrong)
    with pytest.raises(TypeError, match="temperature must be a number"):
        kind(temperature="hot")


def test_the_grids_are_those_of_b1():
    assert len(TEMPERATURES) == 15
    assert len(EPSILONS) == 12
    assert sorted(TEMPERATURES) == list(TEMPERATURES)
    assert sorted(EPSILONS) == list(EPSILONS)
    assert EPSILONS[0] == 0
    assert SCORES["msr"].grids == {}
    assert set(SCORES["odin"].grids) == {"temperature", "eps"}
    assert set(SCORES["radius_bs"].grids) == {"temperature"}
    assert SCORES["radius_grad"].grids == {}


def test_radius_options():
    score = Radius("search", temperature=0.5, options={"budget": 9, "bounds": (0, 1)})
    model, x = digits_cnn(seed=0), torch.rand(3, 1, 8, 8)
    expected = rrfast.radius(model, x, method="search", temperature=0.5, budget=9, bounds=(0, 1))
    assert torch.equal(score(model, x), expected)
    with pytest.raises(TypeError, match="no option 'colour'"):
        Radius("bs", options={"colour": 1})
    with pytest.raises(ValueError, match="method must be one of"):
        Radius("guess")
    with pytest.raises(TypeError, match="field of its own"):
        Radius("bs", options={"temperature": 1.0})
    with pytest.raises(TypeError, match="temperature must be one number"):
        Radius("bs", temperature=[1.0, 2.0])


# ------------------------------------------------------------------------------ the formulas

LOGIT_SCORES = [name for name, score in SCORES.items() if isinstance(score, LogitScore)]


def softmax(h, T):
    e = [math.exp(value / T) for value in h]
    return [value / sum(e) for value in e]


def literal(name, h, T):
    """What the paper prints, in plain Python, larger = more confident."""
    p = softmax(h, T)
    g, top = sum(value * value for value in p), max(p)
    second, first = sorted(h)[-2:]
    return {
        "msr": top,
        "max_logit": first,
        "max_logit_pnorm": max(softmax(h, 1.0)),  # MSR; with a norm in test_max_logit_pnorm.py
        "margin": first - second,
        "entropy": sum(value * math.log(value) for value in p),
        "energy": T * math.log(sum(math.exp(value / T) for value in h)),
        "doctor_alpha": -(1 - g) / g,
        "doctor_beta": -(1 - top) / top,
    }[name]


#: From what is returned to what is printed.
PRINTED = {
    "msr": torch.sigmoid,
    "max_logit": lambda s: s,
    "max_logit_pnorm": torch.sigmoid,
    "margin": lambda s: s,
    "entropy": lambda s: -torch.exp(-s),
    "energy": lambda s: s,
    "doctor_alpha": lambda s: -torch.exp(-s),
    "doctor_beta": lambda s: -torch.exp(-s),
    "relu": lambda s: -torch.exp(-s),
}


def at(name, T, classes=10):
    score = ready(name, classes)
    fields = {field.name for field in dataclasses.fields(score)}
    return score.at(temperature=T) if "temperature" in fields else score


@pytest.mark.parametrize("T", [0.5, 1.0, 3.0, 1000.0])
@pytest.mark.parametrize("name", [name for name in LOGIT_SCORES if name != "relu"])
def test_the_literal_formula(name, T):
    h = torch.randn(50, 10, dtype=torch.float64)
    expected = torch.tensor([literal(name, row, T) for row in h.tolist()], dtype=torch.float64)
    # 1 - g and 1 - p of the literal cancel: at these margins, 2 + 4 / T of a standard normal or so,
    # what is left is above 1e-6 of what is subtracted, so at least 9 of 16 digits are right.
    printed = PRINTED[name](at(name, T).of_logits(h))
    torch.testing.assert_close(printed, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", LOGIT_SCORES)
def test_saturated_logits_do_not_tie(name):
    """Margins far beyond where softmax is 1, over other classes that are not all alike."""
    margins = torch.tensor([30.0, 36.0, 38.0, 50.0, 51.0, 700.0, 750.0, 1000.0, 1001.0])
    h = torch.tensor([[0.0, -1.0, -2.0]]).repeat(len(margins), 1).double()
    score = at(name, 1.0, 3).of_logits(torch.cat([margins[:, None].double(), h], dim=1)[:, :3])
    assert score.isfinite().all()
    assert (score.diff() > 0).all()


@pytest.mark.parametrize("name", ["doctor_alpha", "entropy", "relu"])
def test_saturated_logits_rank_as_the_formula_by_the_rest(name):
    """At one log u, D and H differ by how u is spread: on one class or on two."""
    for margin in (50.0, 1000.0):
        one = torch.tensor([[margin, 0.0, -800.0]], dtype=torch.float64)
        two = torch.tensor([[margin, -math.log(2), -math.log(2)]], dtype=torch.float64)
        difference = at(name, 1.0, 3).of_logits(one) - at(name, 1.0, 3).of_logits(two)
        # log u is the same, and so is D_alpha, 2u + O(u^2), Gini's likewise: u is below 1e-21.
        # H is u (1 - log u + H(q)). The logarithms, up to 1000, are rounded to 1e-13.
        expected = math.log1p(math.log(2) / (1 + margin)) if name == "entropy" else 0.0
        assert difference.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", LOGIT_SCORES)
def test_shift_of_all_logits(name):
    h = torch.randn(4, 10, dtype=torch.float64)
    change = at(name, 2.0).of_logits(h + 100) - at(name, 2.0).of_logits(h)
    by = 100.0 if name in ("max_logit", "energy") else 0.0
    torch.testing.assert_close(change, torch.full_like(change, by), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", LOGIT_SCORES)
def test_infinite_logits(name):
    inf, nan = math.inf, math.nan
    h = torch.tensor(
        [[1, -inf, 0], [1, -inf, -inf], [inf, 0, 0], [-inf, -inf, -inf], [nan, 0, 0], [inf, nan, 0]]
    )
    score = at(name, 1.0, 3).of_logits(h)
    assert not score[:2].isnan().any()
    assert score[2:].isnan().all()
    assert score[0].isfinite()
    if name not in ("max_logit", "energy"):
        assert score[1] == inf
    seed = at(name, 1.0, 3).cotangent(h)
    assert seed[:2].isfinite().all()
    assert seed[2:].isnan().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", LOGIT_SCORES)
def test_float64_whatever_the_model(name, dtype):
    h = torch.tensor([[4.0, 1.0, 0.5], [60.0, 1.0, 0.5]], dtype=dtype)
    score = at(name, 1.0, 3)
    value = score(nn.Identity(), h)
    assert value.dtype == torch.float64
    assert torch.equal(value, score.of_logits(h.double()))
    assert score.cotangent(h).dtype == dtype


@pytest.mark.parametrize("name", SCORES)
def test_under_autocast(name, trained, images):
    score, x = ready(name), images[:20]
    with torch.autocast("cpu", torch.bfloat16):
        coarse = score(trained, x)
    assert not coarse.isnan().any()
    if isinstance(score, LogitScore):
        assert coarse.dtype == torch.float64
        with torch.autocast("cpu", torch.bfloat16), Engine(trained) as engine:
            logits = engine.forward(x)
        assert logits.dtype == torch.bfloat16
        assert torch.equal(coarse, score.of_logits(logits))


# ------------------------------------------------------------------------------ the gradients


@pytest.mark.parametrize("T", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("name", LOGIT_SCORES)
def test_the_cotangent_is_the_formulas_gradient(name, T):
    """Against float64 autograd of what the papers print, at logits where that is accurate."""
    h = torch.randn(30, 6, dtype=torch.float64).mul(T).requires_grad_()
    p = (h / T).softmax(dim=1)
    g, top = p.square().sum(dim=1), p.amax(dim=1)
    score = at(name, T, 6)
    first, second = torch.topk(h, 2, dim=1).values.unbind(dim=1)
    printed = {
        "msr": top.log,
        "max_logit": lambda: first,
        "max_logit_pnorm": lambda: h.softmax(dim=1).amax(dim=1).log(),
        "margin": lambda: first - second,
        "entropy": lambda: (p * p.log()).sum(dim=1),
        "energy": lambda: T * (h / T).logsumexp(dim=1),
        "doctor_alpha": lambda: -((1 - g) / g).log(),
        "doctor_beta": lambda: -((1 - top) / top).log(),
        "relu": lambda: -((p @ score.matrix) * p).sum(dim=1).log(),
    }[name]()
    (gradient,) = torch.autograd.grad(printed.sum(), h)
    gradient = gradient / gradient.abs().amax(dim=1, keepdim=True)
    # Both sides cancel digits where the largest entry is small beside its terms: fewer than six.
    torch.testing.assert_close(score.cotangent(h), gradient, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", LOGIT_SCORES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_cotangent_does_not_underflow(name, dtype):
    for margin in (20.0, 50.0, 1000.0):
        h = torch.tensor([[margin, 0.0, -0.5]], dtype=dtype)
        seed = at(name, 1.0, 3).cotangent(h)
        assert seed.abs().max() == 1
        if name not in ("max_logit", "energy"):
            assert seed[0, 0] > 0.5
            assert seed[0, 1] < -0.3
            # A shift of all logits changes nothing, up to the rounding of three numbers up to 1.
            assert abs(seed.double().sum()) < 3 * torch.finfo(dtype).eps


def test_msr_goes_against_the_radius_direction():
    h = torch.randn(20, 10, dtype=torch.float64)
    seed = rrfast.ops.direction_seed(h, 1.5)[2]
    for score in (MSR(1.5), DoctorBeta(1.5)):
        torch.testing.assert_close(score.cotangent(h), -seed, rtol=1e-12, atol=1e-15)
    assert torch.equal(Margin().cotangent(h), -rrfast.ops.direction_seed(h, 0.0)[2])
    assert MaxLogit().cotangent(h).sum(dim=1).eq(1).all()


# ------------------------------------------------------------------------------------- RelU


def relu_matrix(h, correct, T, lam):
    """The paper's matrix, entry by entry."""
    K, p = h.shape[1], [softmax(row, T) for row in h.tolist()]
    D = torch.zeros(K, K, dtype=torch.float64)
    for i in range(K):
        for j in range(K):
            wrong = [row[i] * row[j] for row, right in zip(p, correct, strict=True) if not right]
            right = [row[i] * row[j] for row, right in zip(p, correct, strict=True) if right]
            if i != j:
                of_wrong = lam * sum(wrong) / max(len(wrong), 1)
                of_right = (1 - lam) * sum(right) / max(len(right), 1)
                D[i, j] = max(of_wrong - of_right, 0.0)
    if not (D > 0).any():
        D = 1 - torch.eye(K, dtype=torch.float64)
    return D / D.square().sum().sqrt()


@pytest.mark.parametrize("lam", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("T", [0.5, 1.0, 3.0])
def test_relu_matrix_and_form(T, lam):
    h, y = torch.randn(40, 5, dtype=torch.float64), torch.randint(5, (40,))
    loader = [(h[:25], y[:25]), (h[25:25], y[25:25]), (h[25:], y[25:])]
    score = RelU(temperature=T, lam=lam).fit(nn.Identity(), loader)
    D = relu_matrix(h, h.argmax(dim=1) == y, T, lam)
    torch.testing.assert_close(score.matrix, D, rtol=1e-10, atol=1e-14)
    test = torch.randn(20, 5, dtype=torch.float64)
    form = torch.tensor(
        [
            sum(p[i] * p[j] * D[i, j].item() for i in range(5) for j in range(5))
            for p in (softmax(row, T) for row in test.tolist())
        ],
        dtype=torch.float64,
    )
    torch.testing.assert_close((-score.of_logits(test)).exp(), form, rtol=1e-9, atol=1e-14)


def test_relu_fitted_once_serves_all_temperatures_and_lambdas(trained, images):
    y = rrfast.data.digits().test.y[:100]
    score = RelU().fit(trained, [(images, y)])
    assert score.fitted
    other = dataclasses.replace(score, temperature=2.0, lam=0.7)
    directly = RelU(temperature=2.0, lam=0.7).fit(trained, [(images, y)])
    assert torch.equal(other.matrix, directly.matrix)
    assert not torch.equal(other.matrix, score.matrix)
    assert "fitted to 100 samples" in repr(score)


def test_relu_computes_its_matrix_once(trained, images):
    """Not once a batch: a score at no other point is itself, and keeps what it computed."""
    score = RelU().fit(trained, [(images, torch.zeros(len(images), dtype=torch.int64))])
    score(trained, images[:2])
    assert "matrix" in vars(score)
    assert score.at() is score


def test_relu_without_errors_or_without_right_answers():
    h = torch.randn(10, 4, dtype=torch.float64)
    y = h.argmax(dim=1)
    gini = (1 - torch.eye(4, dtype=torch.float64)) / math.sqrt(12)
    torch.testing.assert_close(RelU().fit(nn.Identity(), [(h, y)]).matrix, gini)
    wrong = RelU().fit(nn.Identity(), [(h, (y + 1) % 4)]).matrix
    p = h.softmax(dim=1)
    expected = (p.T @ p).fill_diagonal_(0)
    torch.testing.assert_close(wrong, expected / expected.norm())


def test_relu_says_what_is_wrong(trained, images):
    with pytest.raises(ValueError, match="RelU must be fitted before it is used"):
        SCORES["relu"](trained, images)
    y = torch.zeros(100, dtype=torch.int64)
    with pytest.raises(ValueError, match="labels of 10 classes"):
        RelU().fit(trained, [(images, y + 10)])
    with pytest.raises(ValueError, match="at least one sample"):
        RelU().fit(trained, [])
    with pytest.raises(TypeError, match="pairs of tensors"):
        RelU().fit(trained, [images])
    with pytest.raises(ValueError, match="one integer label per sample"):
        RelU().fit(trained, [(images, y[:3])])
    with pytest.raises(ValueError, match="NaN or infinity on 100 of 100"):
        RelU().fit(trained, [(images * math.nan, y)])
    with pytest.raises(ValueError, match="the 10 classes that RelU was fitted to"):
        RelU().fit(trained, [(images, y)]).of_logits(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="lam must be from 0 to 1"):
        RelU(lam=2.0)
    with pytest.raises(TypeError, match="lam must be a number"):
        RelU(lam="half")


def test_relu_made_by_hand():
    seen = Seen(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([True, False]))
    assert RelU(seen=seen).matrix[0, 1] == pytest.approx(math.sqrt(0.5))


def test_only_a_score_that_is_ready_validates_training():
    with pytest.raises(ValueError, match="validation_score must be one of msr"):
        Training(epochs=1, validation_score="relu")
