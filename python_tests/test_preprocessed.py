"""Input pre-processing: its sign, its step, its passes."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import nn

import rrfast
from rrfast.models import digits_cnn
from rrfast.scores import (
    MSR,
    ODIN,
    SCORES,
    DoctorAlpha,
    DoctorBeta,
    LogitScore,
    Preprocessed,
    Radius,
    RelU,
)

LOGIT_SCORES = [name for name, score in SCORES.items() if isinstance(score, LogitScore)]


@pytest.fixture
def labels():
    return rrfast.data.digits().test.y[:100]


def fitted(name, model, images, labels):
    return SCORES[name].fit(model, [(images, labels)])


@pytest.mark.parametrize("name", LOGIT_SCORES)
def test_papers_signs_and_released_signs(name, trained, images, labels):
    """ODIN raises the confidence, DOCTOR and RelU lower it; released code the other way round."""
    score = fitted(name, trained, images, labels)
    plain = score(trained, images)
    paper = Preprocessed(score, eps=1e-3)(trained, images) - plain
    released = Preprocessed(score, eps=1e-3, compat="released")(trained, images) - plain
    sign = -1 if name in ("doctor_alpha", "doctor_beta", "relu") else 1
    # Measured: all 100 images, but one whose margin is so small that a step past 0 raises it again.
    assert (sign * paper > 0).double().mean() >= 0.99
    assert (sign * released < 0).double().mean() >= 0.99


def test_odin_is_msr_preprocessed(trained, images):
    odin = ODIN()(trained, images)
    assert torch.equal(odin, Preprocessed(MSR(1000.0), 0.0014)(trained, images))
    assert torch.equal(odin, SCORES["odin"](trained, images))
    changed = dataclasses.replace(SCORES["odin"], temperature=2.0, eps=0.0)
    assert torch.equal(changed(trained, images), MSR(2.0)(trained, images))
    with pytest.raises(ValueError, match="compat must be"):
        ODIN(compat="new")


def test_the_step_is_the_papers(trained, images):
    """By hand, in float64: x - eps sign(-grad log S), S literally the largest softmax."""
    model, x = trained.double(), images.double().requires_grad_()
    (model(x) / 2.0).softmax(dim=1).amax(dim=1).log().sum().backward()
    moved = x.detach() - 0.002 * torch.sign(-x.grad)
    expected = (model(moved) / 2.0).softmax(dim=1).amax(dim=1)
    score = ODIN(temperature=2.0, eps=0.002)(model, x.detach())
    # The signs are those of the same direction; an entry within rounding of 0 may have either.
    agree = (score.sigmoid() - expected).abs() < 1e-12
    assert agree.double().mean() >= 0.98  # measured: 1


def test_bounds_and_scale():
    model = nn.Linear(2, 2, bias=False, dtype=torch.float64)
    model.weight.data.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    x = torch.tensor([[0.9, 0.1]], dtype=torch.float64)
    score = Preprocessed(MSR(), eps=0.25)
    assert score(model, x).item() == pytest.approx(0.8 + 0.5)
    bounded = dataclasses.replace(score, bounds=(0, 1))
    assert bounded(model, x).item() == pytest.approx(1.0)
    scaled = dataclasses.replace(score, scale=torch.tensor([2.0, 1.0]))
    assert scaled(model, x).item() == pytest.approx(0.8 + 0.75)


def test_saturated_inputs_still_move():
    """At a margin of 1000 the plain gradient of log softmax is exactly 0."""
    model = nn.Linear(2, 2, bias=False)
    model.weight.data.copy_(torch.tensor([[1000.0, 0.0], [0.0, 1000.0]]))
    x = torch.tensor([[1.0, 0.0]])
    for score, sign in ((MSR(), 1), (DoctorAlpha(), -1), (DoctorBeta(), -1)):
        change = Preprocessed(score, eps=0.125)(model, x) - score(model, x)
        assert change.item() == pytest.approx(sign * 250.0)


@pytest.mark.parametrize(("eps", "passes"), [(0.0, (1.0, 0.0)), (1e-3, (2.0, 1.0))])
def test_passes(eps, passes):
    scored = Preprocessed(DoctorAlpha(), eps).measure(digits_cnn(), torch.rand(5, 1, 8, 8), [{}])
    assert (scored.forwards, scored.backwards) == passes
    assert scored.prediction.shape == (5,)


@pytest.mark.parametrize("name", LOGIT_SCORES)
def test_the_model_is_left_as_it_was(name, trained, images, labels):
    model, x = digits_cnn(seed=0), images.clone()
    score = Preprocessed(fitted(name, trained, images, labels), 1e-3)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.inference_mode():
        value = score(model, images)
    assert torch.equal(value, score(model, images))
    assert torch.equal(x, images)
    assert not value.requires_grad
    assert all(module.training for module in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_each_sample_alone(trained, images):
    model, x = trained.double(), images[:6].double()
    score = Preprocessed(DoctorAlpha(), 1e-3)
    alone = torch.cat([score(model, sample[None]) for sample in x])
    torch.testing.assert_close(score(model, x), alone, rtol=1e-9, atol=0)


def test_nan_and_empty():
    score = Preprocessed(MSR(), 1e-3)
    value = score(nn.Linear(2, 3), torch.tensor([[math.nan, 0.0], [1.0, 0.0]]))
    assert value.isnan().tolist() == [True, False]
    assert score(nn.Linear(2, 3), torch.zeros(0, 2)).shape == (0,)

    def overflows_here_alone(x):
        h = torch.stack([x[:, 0], -x[:, 0]], dim=1)
        return h.masked_fill(x[:, :1] == 1, math.nan)

    assert score(overflows_here_alone, torch.tensor([[1.0], [2.0]])).isnan().tolist() == [
        True,
        False,
    ]


def test_under_autocast(trained, images):
    with torch.autocast("cpu", torch.bfloat16):
        for score in (MSR(), DoctorAlpha()):
            assert Preprocessed(score, 1e-3)(trained, images).isfinite().all()


def test_what_is_said():
    with pytest.raises(TypeError, match="score must be a score of the logits"):
        Preprocessed(Radius("fast"), 1e-3)
    with pytest.raises(ValueError, match="eps must be finite and at least 0"):
        Preprocessed(MSR(), -1e-3)
    with pytest.raises(ValueError, match="compat must be"):
        Preprocessed(MSR(), 1e-3, compat="new")
    with pytest.raises(TypeError, match="MSR has no hyper-parameter 'lam'"):
        Preprocessed(MSR(), 1e-3).at(lam=0.5)
    unfitted = Preprocessed(RelU(), 1e-3)
    assert not unfitted.fitted
    with pytest.raises(ValueError, match="RelU must be fitted"):
        unfitted(nn.Linear(2, 3), torch.zeros(1, 2))


def test_hyper_parameters_reach_the_score_inside():
    score = Preprocessed(DoctorAlpha(), 1e-3).at(temperature=2.0, eps=1e-4)
    assert (score.eps, score.score.temperature) == (1e-4, 2.0)
    assert list(score.grids) == ["temperature", "eps"]
    assert list(Preprocessed(MSR(), 0.0).grids) == ["eps"]
