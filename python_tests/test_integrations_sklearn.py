"""`RejectingClassifier` in scikit-learn and skorch gives `SelectiveClassifier`'s numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rrfast
from rrfast.data import digits

sklearn = pytest.importorskip("sklearn", minversion="1.6", reason="needs scikit-learn 1.6")

from sklearn.base import clone, is_classifier  # noqa: E402
from sklearn.exceptions import NotFittedError  # noqa: E402
from sklearn.frozen import FrozenEstimator  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.metrics import accuracy_score  # noqa: E402
from sklearn.model_selection import cross_val_score  # noqa: E402

from rrfast.integrations.sklearn import RejectingClassifier  # noqa: E402

DATA = digits()
X, Y = (part.numpy() for part in DATA.validation)
TEST_X, TEST_Y = (part.numpy() for part in DATA.test)
NAMES = np.array([f"digit {i}" for i in range(10)])


@pytest.mark.parametrize("score", ["msr", "radius_grad", rrfast.methods.Fast(alpha=0.01)])
@pytest.mark.parametrize("aim", [{"coverage": 0.8}, {"target_risk": 0.07, "confidence": 0.9}])
def test_a_module_has_the_selective_classifiers_numbers(trained: nn.Module, score, aim) -> None:
    classifier = RejectingClassifier(trained, score, **aim, batch_size=64).fit(X.astype(float), Y)
    known = rrfast.SelectiveClassifier(trained, score)
    known.fit(zip(DATA.validation.x.split(64), DATA.validation.y.split(64), strict=True), **aim)
    assert classifier.threshold_ == float(known.threshold)
    assert classifier.selective_.provenance == known.provenance
    found = rrfast.predict(trained, DATA.test.x.split(64), score)
    accept = (found.confidence.double() >= known.threshold).numpy()
    assert 0 < accept.sum() < len(accept)
    assert np.array_equal(classifier.decision_function(TEST_X), found.confidence.double().numpy())
    assert np.array_equal(classifier.accepts(TEST_X), accept)
    prediction = classifier.predict(TEST_X)
    assert np.array_equal(prediction[accept], found.prediction.numpy()[accept])
    assert (prediction[~accept] == -1).all()
    assert classifier.score(TEST_X, TEST_Y) == accuracy_score(TEST_Y, prediction)


def test_a_given_threshold_and_names_of_classes(trained: nn.Module) -> None:
    """As `FixedThresholdClassifier`: the threshold is not chosen."""
    named = {"threshold": 0.7, "classes": NAMES, "reject_label": "unsure"}
    classifier = RejectingClassifier(trained, **named).fit(X, NAMES[Y])
    confidence = classifier.decision_function(TEST_X)
    prediction = classifier.predict(TEST_X)
    assert classifier.threshold_ == 0.7
    assert np.array_equal(prediction == "unsure", confidence < 0.7)
    assert (prediction == NAMES[TEST_Y]).mean() > 0.7
    again = RejectingClassifier(trained, coverage=0.8, classes=NAMES).fit(X, NAMES[Y])
    plain = RejectingClassifier(trained, coverage=0.8).fit(X, Y)
    assert again.threshold_ == plain.threshold_


def test_nan_is_rejected(trained: nn.Module) -> None:
    classifier = RejectingClassifier(trained, threshold=-1.0).fit(X, Y)
    x = TEST_X[:3].copy()
    x[1] = np.nan
    assert classifier.accepts(x).tolist() == [True, False, True]
    assert classifier.predict(x)[1] == -1


def test_scikit_learn_can_clone_and_cross_validate_it(trained: nn.Module) -> None:
    classifier = RejectingClassifier(trained, coverage=0.9)
    assert is_classifier(classifier)
    assert clone(classifier).get_params()["coverage"] == 0.9
    with pytest.raises(NotFittedError, match="not fitted yet"):
        clone(classifier.fit(X, Y)).predict(X)
    scores = cross_val_score(classifier, X, Y, cv=3)
    assert scores.shape == (3,)
    assert scores.min() > 0.7


class Network(nn.Module):
    """Logits, or probabilities as skorch's default criterion takes them."""

    def __init__(self, probabilities: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        self.probabilities = probabilities

    def forward(self, x: Tensor) -> Tensor:
        h = self.layers(x)
        return h.softmax(dim=1) if self.probabilities else h


@pytest.mark.parametrize("probabilities", [False, True])
def test_a_net_of_skorch(probabilities: bool) -> None:
    skorch = pytest.importorskip("skorch", reason="needs skorch")
    criterion = nn.NLLLoss if probabilities else nn.CrossEntropyLoss
    net = skorch.NeuralNetClassifier(
        Network(probabilities),
        criterion=criterion,
        optimizer=torch.optim.Adam,
        lr=0.01,
        max_epochs=5,
        train_split=None,
        verbose=0,
    )
    with pytest.raises(NotFittedError, match=r"trained, and is not; .*FrozenEstimator\(net\)"):
        RejectingClassifier(net, coverage=0.8).fit(X, Y)
    net.fit(DATA.train.x.numpy(), DATA.train.y.numpy())
    for estimator in (net, FrozenEstimator(net)):
        classifier = RejectingClassifier(estimator, "msr", coverage=0.8).fit(X, Y)
        # MSR is the log-odds of the largest of the net's own probabilities.
        own = torch.from_numpy(net.predict_proba(TEST_X).max(axis=1)).double()
        confidence = torch.from_numpy(classifier.decision_function(TEST_X))
        torch.testing.assert_close(confidence.sigmoid(), own, rtol=1e-5, atol=0)
        accept = classifier.accepts(TEST_X)
        assert 0.5 < accept.mean() < 1
        prediction = classifier.predict(TEST_X)
        assert np.array_equal(prediction, np.where(accept, net.predict(TEST_X), -1))
    # The radius is that of the logits, whichever of the two the module returns.
    radius = RejectingClassifier(net, "radius_grad", coverage=0.8).fit(X, Y)
    expected = rrfast.radius(net.module_.layers, DATA.test.x, method="grad").double()
    values = torch.from_numpy(radius.decision_function(TEST_X))
    torch.testing.assert_close(values, expected, rtol=1e-3, atol=1e-6)
    assert (
        cross_val_score(RejectingClassifier(FrozenEstimator(net), coverage=0.8), X, Y).min() > 0.5
    )


def test_logits_with_nll_loss_get_a_sentence() -> None:
    """skorch takes a module's outputs for probabilities there, and so the logits were wrong."""
    skorch = pytest.importorskip("skorch", reason="needs skorch")
    net = skorch.NeuralNetClassifier(Network(), train_split=None, verbose=0)
    net.initialize()
    with pytest.raises(ValueError, match="must return probabilities with NLLLoss"):
        RejectingClassifier(net, coverage=0.8).fit(X, Y)


@pytest.mark.parametrize(
    ("given", "error", "sentence"),
    [
        ({}, ValueError, "fit needs exactly one of target_risk, coverage and reject_errors"),
        ({"threshold": 0.5, "coverage": 0.5}, ValueError, "threshold must be None with an aim"),
        ({"threshold": "0.5"}, TypeError, "threshold must be a number, got "),
        ({"threshold": 0.5, "batch_size": 0}, ValueError, "batch_size must be an integer"),
        ({"coverage": 0.5, "reject_label": 3}, ValueError, "reject_label must be no class, got 3"),
        ({"coverage": 0.5, "classes": NAMES[:3]}, ValueError, "classes must be 10 different"),
        ({"coverage": 0.5, "classes": NAMES}, ValueError, "y must hold labels of classes"),
        ({"coverage": 0.5, "confidence_score": "mrs"}, ValueError, "did you mean msr"),
    ],
)
def test_bad_settings_get_a_sentence(trained: nn.Module, given, error, sentence) -> None:
    with pytest.raises(error, match=sentence):
        RejectingClassifier(trained, **given).fit(X, Y)


def test_what_is_no_network_gets_a_sentence(trained: nn.Module) -> None:
    with pytest.raises(TypeError, match=r"must be a skorch .*, got LogisticRegression"):
        RejectingClassifier(LogisticRegression(), coverage=0.5).fit(X, Y)
    with pytest.raises(TypeError, match="X must be floating point, got "):
        RejectingClassifier(trained, coverage=0.5).fit((255 * X).astype(np.uint8), Y)
