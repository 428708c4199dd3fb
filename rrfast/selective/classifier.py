"""`SelectiveClassifier`: model, score, temperature and threshold in one module."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from rrfast._checks import (
    check_fraction,
    check_path,
    check_risk,
    check_share,
    describe,
    is_number,
)
from rrfast._digest import digest_of
from rrfast.engine import check_input
from rrfast.methods import Method
from rrfast.scores import DEFAULT, Score, as_score, tune
from rrfast.scores.batches import labelled
from rrfast.scores.predictions import predict
from rrfast.scores.score import Scored
from rrfast.selective.guarantee import guaranteed_risk
from rrfast.selective.score_state import Unpacked, pack, tensors_of, unpack
from rrfast.selective.state_file import read_state, write_state
from rrfast.selective.threshold import (
    coverage_threshold,
    error_threshold,
    risk_threshold,
    with_room,
)

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on


#: Before the number of a score's tensor in a state_dict.
TENSORS = "score_tensors."


class Selection(NamedTuple):
    """What a `SelectiveClassifier` says of a batch."""

    prediction: Tensor  #: [B] int64
    confidence: Tensor  #: [B], the score; larger = more to be trusted
    accept: Tensor  #: [B] bool; never where the confidence is NaN


class SelectiveClassifier(nn.Module):
    """A model that says when not to trust it.

        prediction, confidence, accept = classifier(x),    accept = confidence >= threshold

    The model is a submodule and left as it is. `state_dict` holds its weights, the threshold, and
    where they come from: the score, how the threshold was chosen, on how many samples, with which
    bound, and the hash of the weights it was chosen for. All of it is tensors, so that `torch.save`
    and safetensors both take it, and none of it is pickled.

    `load_state_dict` brings back the very score, whatever score the classifier was built with: its
    kind, hyper-parameters, a score within `Preprocessed`, `options` of a radius, tensors, and what
    RelU has seen, bit for bit and on the device of the threshold. `_extra_state` is their text, in
    JSON, and `score_tensors.0` and so on are the tensors; RelU's are N K numbers, copied in every
    `state_dict()`. A class of yours that is not among `rrfast.scores` is found in the score that
    the classifier was built with. `save` and `load` do the same with a file.

    Args:
        model: Maps [B, ...] to logits [B, K >= 2], or to an object with such `.logits`.
        score: A `rrfast.scores.Score`, fitted if it needs to be, a name in
            `rrfast.scores.SCORES`, or a method of the radius. MSR unless told otherwise:
            `rrfast.compare` says what finds the errors of a model of yours better.

    Attributes:
        model: As given.
        score: The score; `fit(tune=True)` changes its hyper-parameters.
        threshold: Scalar float64 buffer; NaN before `fit`, so that nothing is accepted.
        provenance: What `fit` did, for JSON; empty before.

    Raises:
        TypeError: `model` is no module, or `score` no score.
        ValueError: `score` is no known name, or must be fitted first.

    Example:
        >>> from rrfast.data import digits
        >>> from rrfast.models import digits_cnn
        >>> data = digits()
        >>> classifier = SelectiveClassifier(digits_cnn(), "radius_grad")
        >>> loader = zip(data.validation.x.split(100), data.validation.y.split(100))
        >>> _ = classifier.fit(loader, coverage=0.8)
        >>> prediction, confidence, accept = classifier(data.test.x)
        >>> accept.shape, 0.6 < accept.double().mean() < 1
        (torch.Size([1197]), tensor(True))
    """

    threshold: Tensor

    def __init__(self, model: nn.Module, score: str | Score | Method = DEFAULT) -> None:
        super().__init__()
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module, got {describe(model)}")
        score = as_score(score)
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
        return self.selection(self.score.measure(self.model, check_input(x), ({},)))

    def selection(self, scored: Scored) -> Selection:
        """What the classifier says of inputs that its score was measured of, at one point."""
        confidence = scored.values[0]
        # A comparison with NaN is False on either side.
        return Selection(scored.prediction, confidence, confidence.double() >= self.threshold)

    def fit(
        self,
        loader: Iterable[Any],
        *,
        target_risk: float | None = None,
        coverage: float | None = None,
        reject_errors: float | None = None,
        confidence: float | None = None,
        tune_on: Iterable[Any] | None = None,
    ) -> Self:
        """Choose the threshold on labelled data that nothing else was done with.

        Exactly one of:

        target_risk: at most this share of what is accepted is wrong. With `confidence`, with that
            probability over the draw of the data, whatever the data
            (`rrfast.selective.guaranteed_risk`); without it, among the samples seen.
        coverage: at least this share is accepted.
        reject_errors: at least this share of the errors is rejected.

        Of the samples that are seen the aim decides which are accepted. The threshold is halfway
        between the least confident of them and the most confident of the others, so that rounding
        does not decide where the same scores are computed by other means (`export`, another batch
        size, a GPU). Only with `confidence` it is just above the latter, and its score falls on
        either side then: the bound is proved for thresholds that depend on no accepted sample.

        Args:
            loader: Yields (x [B, ...], y [B]); not what the model was trained on or the score was
                fitted or tuned on, or what is promised does not hold.
            target_risk: In (0, 1).
            coverage: In (0, 1].
            reject_errors: In (0, 1].
            confidence: In (0, 1), for `target_risk`; None for no guarantee.
            tune_on: Other labelled data of the same form, on which the score's hyper-parameters
                (`Score.grids`: T, eps) are chosen by AURC first; None leaves them.

        Returns:
            The classifier itself.

        Raises:
            NoThresholdError: No threshold keeps the guaranteed risk.
            TypeError, ValueError: Not exactly one aim; as the score and the thresholds; a score is
                NaN; a label is no class of the model.

        Cost: of the score per sample, and of its grid for `tune_on`.

        Source: Geifman & El-Yaniv (2017), for the guaranteed risk.
        """
        aims = {"target_risk": target_risk, "coverage": coverage, "reject_errors": reject_errors}
        given = {name: _number(name, value) for name, value in aims.items() if value is not None}
        if len(given) != 1:
            raise ValueError(
                "fit needs exactly one of target_risk, coverage and reject_errors, got "
                f"{', '.join(given) or 'none'}"
            )
        if confidence is not None:
            if target_risk is None:
                raise ValueError("confidence needs target_risk: it is that of a bound on the risk")
            confidence = _number("confidence", confidence)
            check_fraction("confidence", confidence)
            check_fraction("target_risk", target_risk)
        for name, value in given.items():  # before the scoring, which may take hours
            check_risk(name, value) if name == "target_risk" else check_share(name, value)
        score = self.score if tune_on is None else tune(self.score, self.model, tune_on).score
        shapes: set[tuple[int, ...]] = set()
        seen = _noting_shapes(labelled(self.model, loader), shapes)
        found = predict(self.model, seen, score, progress=False)
        values, correct = found.confidence.double(), found.correct
        threshold, bound = _chosen(values, correct, confidence=confidence, **given)
        accepted = values >= threshold
        self.score = score
        self.threshold.fill_(threshold)
        self.provenance = {
            "aim": {**given, **({} if confidence is None else {"confidence": confidence})},
            "bound": bound,
            "samples": len(values),
            # Of one input, where all have the same: the threshold is that of inputs like them.
            "shape": list(shapes.pop()) if len(shapes) == 1 else None,
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
        device = self.threshold.device
        # `to_empty` leaves "meta", where there was no number to keep.
        nothing = torch.full_like(threshold, torch.nan, device=device)
        self.threshold = nothing if threshold.is_meta else threshold.to(device)
        return self

    @property
    def score_tensors(self) -> SimpleNamespace:
        """The tensors of the score, by the names that they have in `state_dict`."""
        return SimpleNamespace(**tensors_of(self.score))

    def get_extra_state(self) -> Tensor:
        """Score, provenance and threshold for `state_dict`, as JSON in uint8: safetensors asks it.

        The SHA-256 of all of it and of the score's tensors is in it: `load_state_dict` compares.
        """
        threshold = None if self.threshold.is_meta else float(self.threshold)
        return pack(self.score, self.provenance, threshold)[0]

    def set_extra_state(self, state: object) -> None:
        """What `get_extra_state` gave, of a score without tensors; or what `unpack` made of it.

        Raises:
            ValueError: It is damaged or something else, or its score is of a class that neither
                rrfast nor the score of this classifier has.
        """
        unpacked = state if isinstance(state, Unpacked) else self._unpacked(state, {})
        self.score, self.provenance, _ = unpacked

    def _unpacked(self, text: object, tensors: dict[str, Tensor]) -> Unpacked:
        device = self.threshold.device
        return unpack(text, tensors, self.score, None if device.type == "meta" else device)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name, tensor in vars(self.score_tensors).items():
            destination[f"{prefix}{TENSORS}{name}"] = tensor

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        # Read before the threshold is: with one score and another's threshold it would accept.
        extra, start = f"{prefix}_extra_state", f"{prefix}{TENSORS}"
        if extra in state_dict:
            names = [name for name in state_dict if name.startswith(start)]
            tensors = {name.removeprefix(start): state_dict.pop(name) for name in names}
            state_dict[extra] = self._unpacked(state_dict[extra], tensors)
            _check_threshold(state_dict.get(f"{prefix}threshold"), state_dict[extra].threshold)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `state_dict()` to a file, whole or not at all.

        Args:
            path: Ending in .safetensors it is written as such, else with `torch.save`. Its folder
                exists.

        Raises:
            ImportError: It ends in .safetensors, and safetensors is not installed.
            TypeError: `path` is none; or it ends in .safetensors and the model's state_dict has
                something that is no tensor.

        Example:
            >>> import tempfile
            >>> classifier = SelectiveClassifier(nn.Linear(4, 3), "odin")
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     classifier.save(f"{folder}/classifier.pt")
            ...     SelectiveClassifier.load(f"{folder}/classifier.pt", nn.Linear(4, 3)).score
            ODIN(temperature=1000.0, eps=0.0014, bounds=None, scale=None, compat='paper')
        """
        check_path("path", path)
        write_state(Path(path), self.state_dict())

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], model: nn.Module, score: str | Score | Method = DEFAULT
    ) -> Self:
        """The classifier that `save` wrote.

        Args:
            path: The file.
            model: Built as the one that was saved; gets its weights, on the device that it is on.
            score: Only for a score whose class is not in `rrfast.scores`: any of that class.

        Raises:
            ImportError: As `save`.
            OSError: The file cannot be opened.
            RuntimeError: The model is another one: `torch.nn.Module.load_state_dict` says where.
            TypeError: As the class; or `path` is none.
            ValueError: As the class; the file is damaged, truncated or another one: any flipped bit
                that would change what is read is found; or as `set_extra_state`. Nothing of that is
                a protection from who changes the file on purpose.
        """
        check_path("path", path)
        classifier = cls(model, score)
        classifier.load_state_dict(read_state(Path(path)))
        return classifier

    def intact(self) -> bool:
        """Whether the weights are those the threshold was chosen for; False before `fit`."""
        return self.provenance.get("weights") == weights_hash(self.model)

    def extra_repr(self) -> str:
        """The score and the threshold."""
        return f"score={self.score!r}, threshold={float(self.threshold):.6g}"


def _noting_shapes(
    batches: Iterable[tuple[Tensor, Tensor]], shapes: set[tuple[int, ...]]
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches as they come; `shapes` gets those of single inputs."""
    for x, y in batches:
        shapes.add(tuple(x.shape[1:]))
        yield x, y


def _check_threshold(given: object, packed: float | None) -> None:
    """Raise unless the threshold of a state is, bit for bit, the one its other bytes name."""
    if not isinstance(given, Tensor) or given.is_meta or packed is None:
        return
    if given.numel() != 1 or struct.pack("d", float(given)) != struct.pack("d", packed):
        raise ValueError(
            f"the threshold of the state must be {packed!r}, as its score and provenance say, got "
            f"{given}: it is damaged, or was changed. Set another one in the classifier, after it "
            "is loaded"
        )


def _number(name: str, value: object) -> float:
    """Python's own, as JSON takes it for the provenance."""
    if not is_number(value):
        raise TypeError(f"{name} must be a number, got {describe(value)}")
    return float(value)


def _chosen(
    values: Tensor,
    correct: Tensor,
    *,
    target_risk: float | None = None,
    coverage: float | None = None,
    reject_errors: float | None = None,
    confidence: float | None = None,
) -> tuple[float, float | None]:
    """The threshold for the one aim that is given, and the bound where there is one."""
    if target_risk is not None and confidence is not None:
        chosen = guaranteed_risk(values, correct, target_risk, confidence)
        return chosen.threshold, chosen.bound
    if target_risk is not None:
        threshold = risk_threshold(values, correct, target_risk)
    elif coverage is not None:
        threshold = coverage_threshold(values, coverage)
    else:
        assert reject_errors is not None
        threshold = error_threshold(values, correct, reject_errors)
    return with_room(values, threshold), None


def weights_hash(model: nn.Module) -> str:
    """SHA-256 of all parameters and buffers in the state_dict, names, dtypes and shapes included.

    Of a model that `fully_shard` has sharded it is that of the whole model, which all processes
    have to ask for together.

    Example:
        >>> model = nn.Linear(2, 2)
        >>> before = weights_hash(model)
        >>> _ = model.weight.data.add_(1)
        >>> weights_hash(model) == before
        False
    """
    state = model.state_dict().items()
    return digest_of((name, value) for name, value in state if isinstance(value, Tensor))
