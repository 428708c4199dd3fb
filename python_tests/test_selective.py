"""`SelectiveClassifier`: what it accepts, what it promises, and what it keeps."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rrfast import engine
from rrfast.data import digits, digits_cnn
from rrfast.scores import MSR, SCORES, DoctorAlpha, Entropy, Preprocessed, Radius, RelU
from rrfast.selective import (
    NoThresholdError,
    SelectiveClassifier,
    coverage_threshold,
    risk_threshold,
    tpr_threshold,
)


@pytest.fixture(scope="module")
def data() -> Any:
    return digits()


def batches(split: Any, size: int = 100) -> list[tuple[Tensor, Tensor]]:
    return list(zip(split.x.split(size), split.y.split(size), strict=True))


# ----------------------------------------------------------------------------------- the thresholds


def test_coverage_counts_samples() -> None:
    score = [0.1, 0.2, 0.3, 0.4, 0.5]
    thresholds = [coverage_threshold(score, share / 5) for share in range(1, 6)]
    assert thresholds == [0.5, 0.4, 0.3, 0.2, 0.1]
    assert coverage_threshold(score, 0.41) == 0.3
    assert coverage_threshold([1, 1, 1, 2], 0.5) == 1  # ties together: all of them


def test_tpr_counts_errors() -> None:
    score = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5])
    correct = torch.tensor([False, True, False, True, False])
    for tpr, rejected in ((0.33, 1), (1 / 3, 1), (0.34, 3), (2 / 3, 3), (0.67, 5), (1.0, 5)):
        assert (score < tpr_threshold(score, correct, tpr)).sum() == rejected
    with pytest.raises(ValueError, match="there is nothing to reject"):
        tpr_threshold([0.1], [True], 0.5)


def test_risk_is_that_of_the_accepted() -> None:
    score = [0.1, 0.2, 0.3, 0.4, 0.5]
    correct = [False, True, False, True, True]
    for risk, threshold in ((0.4, 0.1), (0.39, 0.2), (0.25, 0.2), (0.24, 0.4), (0.0, 0.4)):
        assert risk_threshold(score, correct, risk) == threshold
    with pytest.raises(ValueError, match=r"no threshold has a risk of at most 0\.2 on these 2"):
        risk_threshold([0.1, 0.2], [True, False], 0.2)


# ----------------------------------------------------------------------------------- the classifier


@pytest.mark.parametrize("score", ["msr", "radius_fast", "radius_grad", "odin"])
def test_it_is_the_score_and_the_prediction(trained: nn.Module, data: Any, score: str) -> None:
    classifier = SelectiveClassifier(trained, score)
    prediction, confidence, accept = classifier(data.test.x[:50])
    assert torch.equal(prediction, engine.logits(trained, data.test.x[:50]).argmax(dim=1))
    assert torch.equal(confidence, SCORES[score](trained, data.test.x[:50]))
    assert not accept.any()  # no threshold yet


def test_the_aims_are_met(trained: nn.Module, data: Any) -> None:
    loader = batches(data.validation)
    classifier = SelectiveClassifier(trained, "radius_grad")
    x, y = data.validation

    def accepted() -> tuple[Tensor, Tensor]:
        prediction, _, accept = classifier(x)
        return accept, prediction == y

    accept, correct = classifier.fit(loader, coverage=0.7) and accepted()
    assert accept.sum() == 140
    assert classifier.provenance["coverage"] == pytest.approx(0.7)
    accept, correct = classifier.fit(loader, tpr=0.8) and accepted()
    assert (~accept & ~correct).sum() >= 0.8 * (~correct).sum()
    assert (~accept & ~correct).sum() - 1 < 0.8 * (~correct).sum()
    accept, correct = classifier.fit(loader, target_risk=0.01) and accepted()
    assert (~correct[accept]).double().mean() <= 0.01
    assert classifier.provenance["bound"] is None
    test = batches(data.test)
    classifier.fit(test, target_risk=0.03, confidence=0.9)
    told = classifier.provenance
    assert told["risk"] < told["bound"] <= 0.03
    assert told["aim"] == {"target_risk": 0.03, "confidence": 0.9}
    assert told["samples"] == 1197
    with pytest.raises(NoThresholdError):
        classifier.fit(loader, target_risk=1e-4, confidence=0.95)


def test_tuned_on_other_data(trained: nn.Module, data: Any) -> None:
    classifier = SelectiveClassifier(trained, DoctorAlpha(temperature=1000.0))
    classifier.fit(batches(data.test), coverage=0.9, tune_on=batches(data.validation))
    assert classifier.score.temperature != 1000.0
    assert classifier.provenance["tuned"]


def test_nan_is_never_accepted(trained: nn.Module, data: Any) -> None:
    for score in ("msr", "radius_fast"):
        classifier = SelectiveClassifier(trained, score)
        classifier.fit(batches(data.validation), coverage=1.0)
        classifier.threshold.fill_(-math.inf)  # accepts whatever is a number
        x = data.test.x[:4].clone()
        x[1, 0, 0, 0] = math.nan
        accept = classifier(x).accept
        assert accept.tolist() == [True, False, True, True]


def test_it_leaves_the_model_as_it_was(trained: nn.Module, data: Any) -> None:
    trained.train()
    SelectiveClassifier(trained, "radius_fast")(data.test.x[:4])
    assert trained.training


def test_an_empty_batch(trained: nn.Module, data: Any) -> None:
    prediction, confidence, accept = SelectiveClassifier(trained, "msr")(data.test.x[:0])
    assert len(prediction) == len(confidence) == len(accept) == 0


# ------------------------------------------------------------------------------------ what it keeps


@pytest.mark.parametrize("form", ["torch", "safetensors"])
def test_saved_and_loaded(trained: nn.Module, data: Any, tmp_path: Path, form: str) -> None:
    classifier = SelectiveClassifier(trained, Radius("fast", temperature=2.0))
    classifier.fit(batches(data.validation), coverage=0.8)
    path = tmp_path / "classifier"
    if form == "torch":
        torch.save(classifier.state_dict(), path)
        state = torch.load(path, weights_only=True)
    else:
        safetensors = pytest.importorskip("safetensors.torch")
        safetensors.save_file(classifier.state_dict(), path)
        state = safetensors.load_file(path)
    other = SelectiveClassifier(digits_cnn(seed=5), "radius_fast")
    other.load_state_dict(state)
    for mine, theirs in zip(other(data.test.x), classifier(data.test.x), strict=True):
        assert torch.equal(mine, theirs)
    assert other.score.temperature == 2.0
    assert other.provenance == classifier.provenance
    assert json.dumps(other.provenance)
    assert other.intact()
    with torch.no_grad():
        next(other.model.parameters()).add_(1e-3)
    assert not other.intact()
    with pytest.raises(
        ValueError, match="of a classifier with the score Radius, and this one has MSR"
    ):
        SelectiveClassifier(digits_cnn(), "msr").load_state_dict(state)


def test_what_cannot_be_brought_back_is_compared(trained: nn.Module, data: Any) -> None:
    """A score of other parts would give other numbers under the same threshold."""
    loader = batches(data.validation)
    halves = loader[:1], loader[1:]
    relu = [RelU().fit(trained, half) for half in halves]
    for saved, same, other in (
        (Radius("search", options={"tol": 1e-3}),) * 2 + (Radius("search"),),
        (
            Preprocessed(Entropy(2.0), 0.01),
            Preprocessed(Entropy(2.0), 0.5),
            Preprocessed(MSR(), 0.01),
        ),
        (
            Preprocessed(Entropy(2.0), 0.01),
            Preprocessed(Entropy(2.0), 0.5),
            Preprocessed(Entropy(), 0.01),
        ),
        (relu[0], relu[0], relu[1]),
    ):
        classifier = SelectiveClassifier(trained, saved).fit(loader, coverage=0.8)
        state = classifier.state_dict()
        again = SelectiveClassifier(digits_cnn(), same)
        again.load_state_dict(state)
        assert torch.equal(
            again(data.test.x[:9]).confidence, classifier(data.test.x[:9]).confidence
        )
        with pytest.raises(ValueError, match=r"whose score has another (options|score|seen)"):
            SelectiveClassifier(digits_cnn(), other).load_state_dict(state)


def test_the_threshold_keeps_its_bits(trained: nn.Module, data: Any) -> None:
    classifier = SelectiveClassifier(trained, "msr").fit(batches(data.validation), coverage=0.5)
    before = classifier.threshold.clone()
    classifier.half()
    assert classifier.threshold.dtype == torch.float64
    assert torch.equal(classifier.threshold, before)
    assert next(classifier.model.parameters()).dtype == torch.float16


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda: SelectiveClassifier(lambda x: x), TypeError, "model must be a torch.nn.Module"),
        (lambda: SelectiveClassifier(nn.Identity(), "mrs"), ValueError, "score must be one of"),
        (lambda: SelectiveClassifier(nn.Identity(), 3), TypeError, "score must be a rrfast.scores"),
        (lambda: SelectiveClassifier(nn.Identity(), RelU()), ValueError, "score must be fitted"),
        (
            lambda: SelectiveClassifier(nn.Identity(), MSR()).fit([], coverage=0.5, tpr=0.5),
            ValueError,
            "exactly one of target_risk, coverage and tpr, got coverage, tpr",
        ),
        (
            lambda: SelectiveClassifier(nn.Identity(), MSR()).fit([], coverage=0.5, confidence=0.9),
            ValueError,
            "confidence needs target_risk",
        ),
        (lambda: coverage_threshold([1.0], 0), ValueError, "coverage must be above 0"),
    ],
)
def test_wrong_arguments(make: Any, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        make()
