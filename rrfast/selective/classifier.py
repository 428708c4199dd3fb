"""A classifier that rejects: model, score, temperature and threshold in one module."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from rrfast.checks import describe
from rrfast.engine import check_input
from rrfast.scores import SCORES, Score, tune
from rrfast.scores.labelled import labelled
from rrfast.selective.guarantee import guaranteed_risk
from rrfast.selective.threshold import coverage_threshold, risk_threshold, tpr_threshold

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on


class Selection(NamedTuple):
    """What a `SelectiveClassifier` says of a batch."""

    prediction: Tensor  #: [B] int64
    confidence: Tensor  #: [B], the score; larger = more to be trusted
    accept: Tensor  #: [B] bool; never where the confidence is NaN


class SelectiveClassifier(nn.Module):
    """A model that says when not to trust it.

        prediction, confidence, accept = classifier(x),    accept = confidence >= threshold

    The model is a submodule and left as it is. `state_dict` holds its weights, the threshold, and
    where they come from: the score with its hyper-parameters, how the threshold was chosen, on how
    many samples, with which bound, and the hash of the weights it was chosen for. All of it is
    tensors, so that `torch.save` and safetensors both take it. `load_state_dict` brings back
    numbers and names; what else the score is made of (a score within `Preprocessed`, `options` of a
    radius, what RelU has seen, tensors) must be given again, and is refused if it is another.

    Args:
        model: Maps [B, ...] to logits [B, K >= 2], or to an object with such `.logits`.
        score: A `rrfast.scores.Score`, fitted if it needs to be, or a name in
            `rrfast.scores.SCORES`.

    Attributes:
        model: As given.
        score: The score; `fit(tune=True)` changes its hyper-parameters.
        threshold: Scalar float64 buffer; NaN before `fit`, so that nothing is accepted.
        provenance: What `fit` did, for JSON; empty before.

    Raises:
        TypeError: `model` is no module, or `score` no score.
        ValueError: `score` is no known name, or must be fitted first.

    Example:
        >>> from rrfast.data import digits, digits_cnn
        >>> data = digits()
        >>> classifier = SelectiveClassifier(digits_cnn(), "radius_grad")
        >>> loader = zip(data.validation.x.split(100), data.validation.y.split(100))
        >>> _ = classifier.fit(loader, coverage=0.8)
        >>> prediction, confidence, accept = classifier(data.test.x)
        >>> accept.shape, 0.6 < accept.double().mean() < 1
        (torch.Size([1197]), tensor(True))
    """

    threshold: Tensor

    def __init__(self, model: nn.Module, score: Score | str = "radius_fast") -> None:
        super().__init__()
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module, got {describe(model)}")
        if isinstance(score, str):
            if score not in SCORES:
                raise ValueError(f"score must be one of {', '.join(SCORES)}, got {score!r}")
            score = SCORES[score]
        if not isinstance(score, Score):
            raise TypeError(f"score must be a rrfast.scores.Score or a name, got {describe(score)}")
        if not score.fitted:
            raise ValueError(
                f"score must be fitted first: give {type(score).__name__}().fit(model, loader)"
            )
        self.model = model
        self.score = score
        self.provenance: dict[str, Any] = {}
        self.register_buffer("threshold", torch.tensor(float("nan"), dtype=torch.float64))

    def forward(self, x: Tensor) -> Selection:
        """Prediction, confidence and whether to accept.

        Args:
            x: [B, ...], floating point.

        Cost: of the score.
        """
        scored = self.score.measure(self.model, check_input(x), ({},))
        confidence = scored.values[0]
        # A comparison with NaN is False on either side.
        return Selection(scored.prediction, confidence, confidence.double() >= self.threshold)

    def fit(
        self,
        loader: Iterable[Any],
        *,
        target_risk: float | None = None,
        coverage: float | None = None,
        tpr: float | None = None,
        confidence: float | None = None,
        tune_on: Iterable[Any] | None = None,
    ) -> Self:
        """Choose the threshold on labelled data that nothing else was done with.

        Exactly one of:

        target_risk: at most this share of what is accepted is wrong. With `confidence`, with that
            probability over the draw of the data, whatever the data
            (`rrfast.selective.guaranteed_risk`); without it, among the samples seen.
        coverage: at least this share is accepted.
        tpr: at least this share of the errors is rejected.

        Args:
            loader: Yields (x [B, ...], y [B]); not what the model was trained on or the score was
                fitted or tuned on, or what is promised does not hold.
            target_risk: In (0, 1).
            coverage: In (0, 1].
            tpr: In (0, 1].
            confidence: In (0, 1), for `target_risk`; None for no guarantee.
            tune_on: Other labelled data of the same form, on which the score's hyper-parameters
                (`Score.grids`: T, eps) are chosen by AURC first; None leaves them.

        Returns:
            The classifier itself.

        Raises:
            NoThresholdError: No threshold keeps the guaranteed risk.
            TypeError, ValueError: Not exactly one aim; as the score and the thresholds; a score is
                NaN.

        Cost: of the score per sample, and of its grid for `tune_on`.

        Source: Geifman & El-Yaniv (2017), for the guaranteed risk.
        """
        aims = {"target_risk": target_risk, "coverage": coverage, "tpr": tpr}
        given = {name: value for name, value in aims.items() if value is not None}
        if len(given) != 1:
            raise ValueError(
                "fit needs exactly one of target_risk, coverage and tpr, got "
                f"{', '.join(given) or 'none'}"
            )
        if confidence is not None and target_risk is None:
            raise ValueError("confidence needs target_risk: it is that of a bound on the risk")
        score = self.score if tune_on is None else tune(self.score, self.model, tune_on).score
        parts, right = [], []
        for x, y in labelled(self.model, loader):
            scored = score.measure(self.model, x, ({},))
            parts.append(scored.values[0].double().cpu())
            right.append((scored.prediction == y).cpu())
        values, correct = torch.cat(parts), torch.cat(right)
        threshold, bound = _chosen(values, correct, target_risk, coverage, tpr, confidence)
        accepted = values >= threshold
        self.score = score
        self.threshold.fill_(threshold)
        self.provenance = {
            "aim": {**given, **({} if confidence is None else {"confidence": confidence})},
            "bound": bound,
            "samples": len(values),
            "coverage": float(accepted.double().mean()),
            "risk": float((~correct[accepted]).double().mean()),
            "tuned": tune_on is not None,
            "weights": weights_hash(self.model),
            "rrfast": version("rrfast"),
            "torch": str(torch.__version__),
        }
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Moves with the model, and stays in float64: rounded, it would be another threshold."""
        threshold = self.threshold
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.threshold = threshold.to(self.threshold.device)
        return self

    def get_extra_state(self) -> Tensor:
        """Score and provenance for `state_dict`: JSON in bytes, a tensor, as safetensors asks."""
        state = {"score": _described(self.score), "provenance": self.provenance}
        return torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """What `get_extra_state` gave.

        Raises:
            ValueError: The threshold was chosen for another score.
        """
        told = json.loads(bytes(state.tolist()))
        here = _described(self.score)
        if told["score"]["kind"] != here["kind"]:
            raise ValueError(
                f"the state is of a classifier with the score {told['score']['kind']}, and this "
                f"one has {here['kind']}: build it with that score"
            )
        other = [k for k, v in told["score"]["given"].items() if here["given"].get(k) != v]
        if other:
            raise ValueError(
                f"the state is of a classifier whose score has another {', '.join(other)}: build "
                "it with the score that was saved"
            )
        self.score = self.score.at(**told["score"]["hyperparameters"])
        self.provenance = told["provenance"]

    def intact(self) -> bool:
        """Whether the weights are those the threshold was chosen for; False before `fit`."""
        return self.provenance.get("weights") == weights_hash(self.model)

    def extra_repr(self) -> str:
        """The score and the threshold."""
        return f"score={self.score!r}, threshold={float(self.threshold):.6g}"


def _chosen(
    values: Tensor,
    correct: Tensor,
    target_risk: float | None,
    coverage: float | None,
    tpr: float | None,
    confidence: float | None,
) -> tuple[float, float | None]:
    """The threshold for the one aim that is given, and the bound where there is one."""
    if target_risk is not None and confidence is not None:
        chosen = guaranteed_risk(values, correct, target_risk, confidence)
        return chosen.threshold, chosen.bound
    if target_risk is not None:
        return risk_threshold(values, correct, target_risk), None
    if coverage is not None:
        return coverage_threshold(values, coverage), None
    assert tpr is not None
    return tpr_threshold(values, correct, tpr), None


def weights_hash(model: nn.Module) -> str:
    """SHA-256 of all parameters and buffers in the state_dict, names, dtypes and shapes included.

    Example:
        >>> model = nn.Linear(2, 2)
        >>> before = weights_hash(model)
        >>> _ = model.weight.data.add_(1)
        >>> weights_hash(model) == before
        False
    """
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        if isinstance(value, Tensor):
            digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
            flat = value.detach().cpu().contiguous().flatten()
            digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _described(score: Score) -> dict[str, Any]:
    """Kind and plain hyper-parameters, and of all others what tells one from another."""
    plain = (str, int, float, bool, type(None))
    values = {field.name: getattr(score, field.name) for field in dataclasses.fields(score)}
    return {
        "kind": type(score).__name__,
        "hyperparameters": {name: v for name, v in values.items() if isinstance(v, plain)},
        "given": {name: _told(v) for name, v in values.items() if not isinstance(v, plain)},
    }


def _told(value: object) -> Any:
    if isinstance(value, Tensor):
        flat = value.detach().cpu().contiguous().flatten().view(torch.uint8)
        return [
            str(value.dtype),
            list(value.shape),
            hashlib.sha256(bytes(flat.tolist())).hexdigest(),
        ]
    if isinstance(value, (tuple, list)):
        return [_told(item) for item in value]
    return _described(value) if isinstance(value, Score) else repr(value)
