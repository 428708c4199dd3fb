"""Scores: the contract of all of them, and what each one is."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import rrfast
from rrfast.data import digits_cnn
from rrfast.scores import SCORES, msr


@pytest.fixture
def model():
    return digits_cnn(seed=0).double().eval()


@pytest.fixture
def x():
    return torch.rand(5, 1, 8, 8, dtype=torch.float64)


# -------------------------------------------------------------------------------- the contract


@pytest.mark.parametrize("name", SCORES)
def test_one_number_per_sample(name, model, x):
    score = SCORES[name](model, x)
    assert score.shape == (5,)
    assert score.is_floating_point()
    assert not score.requires_grad
    assert score.isfinite().all()


@pytest.mark.parametrize("name", SCORES)
def test_larger_is_more_confident(name):
    """On linear logits x and -x, confidence grows with |x|."""
    model = nn.Linear(1, 2, bias=False, dtype=torch.float64)
    model.weight.data.copy_(torch.tensor([[1.0], [-1.0]]))
    score = SCORES[name](model, torch.tensor([[0.1], [-0.5], [2.0], [-4.0]], dtype=torch.float64))
    assert (score.diff() > 0).all()


@pytest.mark.parametrize("name", SCORES)
def test_the_model_and_the_input_stay_as_they_were(name):
    model, x = digits_cnn(seed=0), torch.rand(5, 1, 8, 8)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    copy, state = x.clone(), torch.get_rng_state()
    SCORES[name](model, x)
    assert torch.equal(x, copy)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", SCORES)
def test_samples_do_not_influence_each_other(name, model, x):
    alone = torch.cat([SCORES[name](model, sample[None]) for sample in x])
    torch.testing.assert_close(SCORES[name](model, x), alone, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", SCORES)
def test_integer_input(name, model):
    with pytest.raises(TypeError, match="x must be a floating-point tensor"):
        SCORES[name](model, torch.zeros(2, 1, 8, 8, dtype=torch.uint8))


@pytest.mark.parametrize("name", SCORES)
def test_nan_logits_give_nan(name):
    model = nn.Linear(2, 3)
    score = SCORES[name](model, torch.tensor([[math.nan, 0.0], [1.0, 0.0]]))
    assert score.isnan().tolist() == [True, False]


@pytest.mark.parametrize("method", ["fast", "bs", "grad"])
def test_the_radius_is_a_score(method, model, x):
    expected = rrfast.radius(model, x, method=method)
    assert torch.equal(SCORES[f"radius_{method}"](model, x), expected)


# ------------------------------------------------------------------------------------------ MSR


def test_msr_is_the_probability_of_the_prediction():
    logits = torch.tensor([[math.log(3), 0.0], [0.0, 0.0], [math.log(2), math.log(6)]])
    expected = torch.tensor([0.75, 0.5, 0.75], dtype=torch.float64)
    torch.testing.assert_close(msr(nn.Identity(), logits), expected, rtol=1e-7, atol=0)


def test_msr_does_not_saturate_where_float32_does():
    margins = torch.tensor([17.0, 18.0, 20.0, 25.0, 30.0, 36.0])
    logits = torch.stack([margins, torch.zeros_like(margins)], dim=1)
    assert logits.softmax(dim=1).amax(dim=1)[1:].eq(1).all()
    score = msr(nn.Identity(), logits)
    assert (score.diff() > 0).all()
    assert (score < 1).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_msr_is_float64_whatever_the_model(dtype):
    logits = torch.tensor([[4.0, 1.0, 0.5]], dtype=dtype)
    score = msr(nn.Identity(), logits)
    assert score.dtype == torch.float64
    assert torch.equal(score, logits.double().softmax(dim=1).amax(dim=1))


def test_msr_shifts_and_infinities():
    h = torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(msr(nn.Identity(), h + 100), msr(nn.Identity(), h))
    never = torch.tensor([[1.0, -math.inf], [math.inf, 0.0]])
    assert msr(nn.Identity(), never)[0] == 1
    assert msr(nn.Identity(), never)[1].isnan()
