"""A classifier of scikit-learn's form that rejects, of a skorch net or a torch module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from rrfast import engine
from rrfast._checks import as_number, check_count, describe
from rrfast._errors import require
from rrfast.engine.modules_inside import device_of
from rrfast.scores import DEFAULT, Predictions, predict
from rrfast.selective import SelectiveClassifier

require("rrfast.integrations.sklearn", "sklearn", "scikit-learn")

from sklearn.base import BaseEstimator, ClassifierMixin  # noqa: E402 - after the message
from sklearn.exceptions import NotFittedError  # noqa: E402
from sklearn.frozen import FrozenEstimator  # noqa: E402
from sklearn.utils.validation import check_is_fitted  # noqa: E402

if TYPE_CHECKING:
    from typing_extensions import Self

    from rrfast.methods import Method
    from rrfast.scores import Score

__all__ = ["LogProbabilities", "RejectingClassifier"]

#: What `fit` can choose the threshold by, as `SelectiveClassifier.fit`.
AIMS = ("coverage", "reject_errors", "target_risk", "confidence")


class RejectingClassifier(ClassifierMixin, BaseEstimator):
    """A trained network that rejects inputs whose prediction it is not confident of.

    It is to `rrfast.SelectiveClassifier` what scikit-learn's `FixedThresholdClassifier` is to a
    classifier: `predict` gives `reject_label` where the confidence is below the threshold. `fit`
    does not train: it chooses the threshold on data that were used for nothing else, by one aim of
    `SelectiveClassifier.fit`, or takes the `threshold` given. The inherited `score` is the
    accuracy with a rejected sample counted as wrong.

    Args:
        estimator: A trained skorch `NeuralNetClassifier`, or a `torch.nn.Module` that maps
            [B, ...] to logits [B, K >= 2]. For `sklearn.base.clone` and what calls it, such as
            `cross_validate`, give `sklearn.frozen.FrozenEstimator(net)`, as a clone of a net is
            not trained. A net with skorch's default criterion, `NLLLoss`, returns probabilities:
            their logarithms are the logits. With any other criterion its outputs are the logits.
        confidence_score: A name in `rrfast.scores.SCORES`, a `rrfast.scores.Score` or a method of
            the radius.
        threshold: Accept where the confidence is at least this, in units of the score: MSR's is
            the log-odds of the largest probability, 0 at 1/2. Or one aim:
        coverage: As of `SelectiveClassifier.fit`.
        reject_errors: As of `SelectiveClassifier.fit`.
        target_risk: As of `SelectiveClassifier.fit`.
        confidence: As of `SelectiveClassifier.fit`.
        reject_label: What `predict` gives for a rejected sample; no class.
        classes: The label of each logit, [K]; None for 0 to K - 1.
        batch_size: Of a module; a net has its own.

    Attributes:
        classes_: The label of each logit, [K].
        threshold_: The threshold.
        selective_: The `rrfast.SelectiveClassifier`, with its `provenance`, to save for instance.

    Raises:
        ImportError: scikit-learn 1.6 or later is not installed.

    Cost: that of the score.

    Example:
        >>> from rrfast.data import digits
        >>> from rrfast.models import digits_cnn
        >>> data = digits()
        >>> X, y = data.validation.x.numpy(), data.validation.y.numpy()
        >>> classifier = RejectingClassifier(digits_cnn(), "radius_grad", coverage=0.8).fit(X, y)
        >>> prediction = classifier.predict(data.test.x.numpy())
        >>> prediction.shape, bool(0.6 < (prediction != -1).mean() < 1)
        ((1197,), True)
    """

    def __init__(
        self,
        estimator: Any,
        confidence_score: str | Score | Method = DEFAULT,
        *,
        threshold: float | None = None,
        coverage: float | None = None,
        reject_errors: float | None = None,
        target_risk: float | None = None,
        confidence: float | None = None,
        reject_label: Any = -1,
        classes: Any = None,
        batch_size: int = 256,
    ) -> None:
        self.estimator = estimator
        self.confidence_score = confidence_score
        self.threshold = threshold
        self.coverage = coverage
        self.reject_errors = reject_errors
        self.target_risk = target_risk
        self.confidence = confidence
        self.reject_label = reject_label
        self.classes = classes
        self.batch_size = batch_size

    def fit(self, X: Any, y: Any) -> Self:
        """Choose the threshold; the network is not trained.

        Args:
            X: [n, ...] numbers, an array or a tensor; for a net whatever its `predict` takes.
            y: [n] labels, each of `classes`.

        Raises:
            NotFittedError: The net is not trained.
            NoThresholdError: No threshold meets the guaranteed risk.
            TypeError, ValueError: Both or neither of `threshold` and an aim; a label is no class;
                `reject_label` is one; otherwise as `SelectiveClassifier.fit`.
        """
        check_count("batch_size", self.batch_size)
        aims = {name: getattr(self, name) for name in AIMS}
        if self.threshold is not None and any(value is not None for value in aims.values()):
            raise ValueError(f"threshold must be None with an aim, {', '.join(AIMS)}")
        if self.threshold is not None:
            as_number("threshold", self.threshold)
        selective = SelectiveClassifier(_model(self.estimator), self.confidence_score)
        self.classes_ = self._classes(selective.model, X)
        if self.threshold is None:
            selective.fit(self._batches(X, self._indices(y)), **aims)
        else:
            selective.threshold.fill_(self.threshold)
        self.selective_ = selective
        self.threshold_ = float(selective.threshold)
        return self

    def predict(self, X: Any) -> Any:
        """The label of each sample, or `reject_label`, [n]."""
        found = self._found(X)
        labels = self.classes_[found.prediction.numpy()]
        return np.where(self._accepted(found), labels, self.reject_label)

    def decision_function(self, X: Any) -> Any:
        """The confidence in the prediction of each sample, [n]: larger = more confident.

        A sample is accepted if it is at least `threshold_`.
        """
        confidence: Any = self._found(X).confidence.double().numpy()
        return confidence

    def accepts(self, X: Any) -> Any:
        """Whether each sample is accepted, [n] bool; False where the confidence is NaN."""
        return self._accepted(self._found(X))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "selective_")

    def _found(self, X: Any) -> Predictions:
        check_is_fitted(self)
        selective = self.selective_
        return predict(selective.model, self._batches(X, None), selective.score, progress=False)

    def _accepted(self, found: Predictions) -> Any:
        return (found.confidence.double() >= self.threshold_).numpy()

    def _classes(self, model: nn.Module, X: Any) -> Any:
        """The label of each logit; 1 forward of the first batch."""
        x = next(iter(self._batches(X, None)))
        device = device_of(model)
        logits = engine.logits(model, x if device is None else x.to(device))
        count = logits.shape[1]
        sums = logits.double().exp().sum(dim=1)
        if isinstance(model, LogProbabilities) and bool(((sums - 1).abs() > 0.05).any()):
            raise ValueError(
                "estimator must return probabilities with NLLLoss, as skorch expects, and their "
                "sum is not 1: end the module in a softmax, or train it with CrossEntropyLoss"
            )
        classes = np.arange(count) if self.classes is None else np.asarray(self.classes)
        if classes.shape != (count,) or len(np.unique(classes)) != count:
            raise ValueError(f"classes must be {count} different labels, one per logit")
        if self.reject_label in classes.tolist():
            raise ValueError(f"reject_label must be no class, got {self.reject_label!r}")
        return classes

    def _indices(self, y: Any) -> Any:
        """The logit of each label, [n] int64."""
        place = {label: i for i, label in enumerate(self.classes_.tolist())}
        labels = np.asarray(y).tolist()
        unknown = [label for label in labels if label not in place]
        if unknown:
            raise ValueError(f"y must hold labels of classes, and has {unknown[0]!r}")
        return np.array([place[label] for label in labels], dtype=np.int64)

    def _batches(self, X: Any, y: Any) -> Iterator[Any]:
        """Batches x, or pairs (x, y)."""
        net = _unfrozen(self.estimator)
        if isinstance(net, nn.Module):
            x = torch.as_tensor(X)
            if not x.is_floating_point():
                raise TypeError(f"X must be floating point, got {describe(x)}")
            dtypes = (tensor.dtype for tensor in net.parameters() if tensor.is_floating_point())
            parts = x.to(next(dtypes, x.dtype)).split(self.batch_size)
            labels = None if y is None else torch.as_tensor(y).split(self.batch_size)
            yield from parts if labels is None else zip(parts, labels, strict=True)
        else:
            for x, labels in net.get_iterator(net.get_dataset(X, y), training=False):
                yield x if y is None else (x, labels)


class LogProbabilities(nn.Module):
    """The logits of a module that returns probabilities: their logarithms.

    Their softmax is the probabilities again. 0 becomes the smallest positive number.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...] to [B, K]."""
        p: Tensor = self.module(x)
        return p.clamp_min(torch.finfo(p.dtype).tiny).log()


def _unfrozen(estimator: Any) -> Any:
    return estimator.estimator if isinstance(estimator, FrozenEstimator) else estimator


def _model(estimator: Any) -> nn.Module:
    """What maps inputs to logits."""
    net = _unfrozen(estimator)
    if isinstance(net, nn.Module):
        return net
    if not hasattr(net, "get_iterator"):
        raise TypeError(
            "estimator must be a skorch NeuralNetClassifier or a torch.nn.Module, or one of these "
            f"in a FrozenEstimator, got {type(net).__name__}"
        )
    if not getattr(net, "initialized_", False):
        raise NotFittedError(
            "estimator must be trained, and is not; a clone of a trained net is not trained: give "
            "sklearn.frozen.FrozenEstimator(net)"
        )
    module: nn.Module = net.module_
    return LogProbabilities(module) if isinstance(net.criterion_, nn.NLLLoss) else module
