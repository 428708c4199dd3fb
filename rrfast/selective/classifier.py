"""`SelectiveClassifier`: model, score, temperature and threshold in one module."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from rrfast._checks import (
    as_number,
    check_module,
    check_number,
    check_path,
)
from rrfast._checksummed import read_state, write_state
from rrfast._digest import digest_of
from rrfast.engine import check_input
from rrfast.methods import Method
from rrfast.scores import DEFAULT, Score, as_score, tune
from rrfast.scores.apart import Apart, Noting
from rrfast.scores.predictions import measured
from rrfast.scores.score import Scored
from rrfast.selective.guarantee import guaranteed_risk
from rrfast.selective.score_state import Unpacked, pack, tensors_of, unpack
from rrfast.selective.threshold import (
    coverage_threshold,
    error_threshold,
    risk_threshold,
    with_room,
)

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on


#: Prefix of the names of a score's tensors in a state_dict.
TENSORS = "score_tensors."


class Selection(NamedTuple):
    """The result of a `SelectiveClassifier` for a batch."""

    prediction: Tensor  #: [B] int64
    confidence: Tensor  #: [B], the score; larger = more confident
    accept: Tensor  #: [B] bool; False where the confidence is NaN


class SelectiveClassifier(nn.Module):
    """A model that rejects inputs whose prediction it is not confident of.

        prediction, confidence, accept = classifier(x),    accept = confidence >= threshold

    The model is an unchanged submodule. `state_dict` holds its weights, the threshold, the score,
    and the provenance: how the threshold was chosen, on how many samples, with which bound, and the
    hash of the weights it was chosen for. All entries are tensors, so that both `torch.save` and
    safetensors can write it, and nothing is pickled.

    `load_state_dict` restores the saved score, whatever score the classifier was built with: its
    class, hyper-parameters, a score within `Preprocessed`, `options` of a radius, tensors, and
    RelU's data, bit for bit and on the device of the threshold. `_extra_state` is JSON text, and
    `score_tensors.0` and so on are the tensors; RelU's are N K numbers, copied in every
    `state_dict()`. For your own score class, build the classifier with a score of that class.
    `save` and `load` do the same with a file.

    Args:
        model: Maps [B, ...] to logits [B, K >= 2], or to an object with such `.logits`.
        score: A `rrfast.scores.Score`, fitted if it must be, a name in `rrfast.scores.SCORES`, or a
            method of the radius. MSR by default; `rrfast.compare` finds the best score for your
            model.

    Attributes:
        model: As given.
        score: The score; `fit(tune_on=...)` changes its hyper-parameters.
        threshold: Scalar float64 buffer; NaN before `fit`, so that nothing is accepted.
        provenance: A record of `fit`, ready for JSON; empty before it.

    Raises:
        TypeError: `model` is not a module, or `score` not a score.
        ValueError: `score` is not a known name, or must be fitted first.

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
        check_module(model)
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

        Cost: that of the score.
        """
        return self.selection(self.score.measure(self.model, check_input(x), ({},)))

    def selection(self, scored: Scored) -> Selection:
        """The classifier's result from measured scores, at one point."""
        confidence = scored.values[0]
        # A comparison with NaN is False.
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
        """Choose the threshold on labelled data that were used for nothing else.

        Exactly one of:

        target_risk: at most this share of the accepted is wrong. With `confidence` this holds for
            new samples, with that probability over the draw of the data, for any distribution
            (`rrfast.selective.guaranteed_risk`); without it, only among the given samples.
        coverage: at least this share is accepted.
        reject_errors: at least this share of the errors is rejected.

        The aim decides which of the given samples are accepted. The threshold lies halfway between
        the least confident accepted and the most confident rejected sample, so that rounding
        decides nothing if the same scores are computed in another way (`export`, another batch
        size, a GPU). Only with `confidence` it lies just above the most confident rejected sample,
        which rounding may then move to either side: the bound is proved for thresholds that do not
        depend on accepted samples.

        Args:
            loader: Yields (x [B, ...], y [B]); not the data on which the model was trained or the
                score fitted or tuned, else the promise does not hold.
            target_risk: In (0, 1).
            coverage: In (0, 1].
            reject_errors: In (0, 1].
            confidence: In (0, 1), for `target_risk`; None for no guarantee.
            tune_on: Other labelled data of the same form, on which the score's hyper-parameters
                (`Score.grids`: T, eps) are tuned by AURC first; None: no tuning.

        Returns:
            The classifier itself.

        Raises:
            NoThresholdError: No threshold meets the guaranteed risk.
            TypeError, ValueError: Not exactly one aim; an error of the score, the thresholds or
                a loader; a score is NaN; a label is not a class of the model; `tune_on` is
                `loader` or has the same samples. If some are in both, there is a warning.

        Cost: that of the score per sample, and of its grid for `tune_on`.

        Source: Geifman & El-Yaniv (2017), for the guaranteed risk.
        """
        aims = {"target_risk": target_risk, "coverage": coverage, "reject_errors": reject_errors}
        # Python's numbers, for the JSON of the provenance.
        given = {name: float(as_number(name, v)) for name, v in aims.items() if v is not None}
        if len(given) != 1:
            raise ValueError(
                "fit needs exactly one of target_risk, coverage and reject_errors, got "
                f"{', '.join(given) or 'none'}"
            )
        if confidence is not None:
            if target_risk is None:
                raise ValueError("confidence needs target_risk: it belongs to a bound on the risk")
            check_number("confidence", confidence, below=1)
            check_number("target_risk", target_risk, below=1)
            confidence = float(confidence)
        for name, value in given.items():  # before the scoring, which may take hours
            check_number(name, value, least=0 if name == "target_risk" else None, most=1)
        apart = Apart(loader, tune_on, "which chooses the threshold")
        two = apart.two()
        score = self.score
        if two:
            score = tune(score, self.model, apart.data["tune_on"], name="tune_on").score
        shapes: set[tuple[int, ...]] = set()

        def note(x: Tensor) -> None:
            if x.numel():
                shapes.add(tuple(x.shape[1:]))

        noting = Noting(apart.data["loader"], note)
        found = measured(self.model, noting, score, pairs=True)
        apart.check()
        apart.warn()
        values, correct = found.confidence.double(), found.correct
        threshold, bound = _chosen(values, correct, confidence=confidence, **given)
        accepted = values >= threshold
        self.score = score
        self.threshold.fill_(threshold)
        self.provenance = {
            "aim": {**given, **({} if confidence is None else {"confidence": confidence})},
            "bound": bound,
            "samples": len(values),
            # The shape of one input, if all have the same: the threshold holds for inputs of that
            # shape.
            "shape": list(shapes.pop()) if len(shapes) == 1 else None,
            "coverage": float(accepted.double().mean()),
            "risk": float((~correct[accepted]).double().mean()),
            "tuned": two,
            "weights": weights_hash(self.model),
            "rrfast": version("rrfast"),
            "torch": str(torch.__version__),
        }
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Move the threshold with the model, but keep it in float64: rounding would change it."""
        threshold = self.threshold
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        device = self.threshold.device
        # `to_empty` leaves "meta", where there is no value to keep.
        nothing = torch.full_like(threshold, torch.nan, device=device)
        self.threshold = nothing if threshold.is_meta else threshold.to(device)
        return self

    @property
    def score_tensors(self) -> SimpleNamespace:
        """The tensors of the score, by their names in `state_dict`."""
        return SimpleNamespace(**tensors_of(self.score))

    def get_extra_state(self) -> Tensor:
        """Score, provenance and threshold for `state_dict`, as JSON in uint8, for safetensors.

        It contains the SHA-256 of itself and of the score's tensors, which `load_state_dict`
        checks.
        """
        threshold = None if self.threshold.is_meta else float(self.threshold)
        return pack(self.score, self.provenance, threshold)[0]

    def set_extra_state(self, state: object) -> None:
        """Restore the result of `get_extra_state`, for a score without tensors, or of `unpack`.

        Raises:
            ValueError: It is damaged or something else, or its score's class is neither rrfast's
                nor that of this classifier's score.
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
        # Read it before the threshold: a score must not get another score's threshold.
        extra, start = f"{prefix}_extra_state", f"{prefix}{TENSORS}"
        if extra in state_dict:
            names = [name for name in state_dict if name.startswith(start)]
            tensors = {name.removeprefix(start): state_dict.pop(name) for name in names}
            state_dict[extra] = self._unpacked(state_dict[extra], tensors)
            _check_threshold(state_dict.get(f"{prefix}threshold"), state_dict[extra].threshold)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `state_dict()` to a file, completely or not at all.

        Args:
            path: A name that ends in .safetensors gives that format, any other `torch.save`'s. Its
                folder must exist.

        Raises:
            ImportError: It ends in .safetensors, and safetensors is not installed.
            TypeError: `path` is not a path; or it ends in .safetensors and the model's state_dict
                has an entry that is not a tensor.

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
        """Load the classifier that `save` wrote.

        Args:
            path: The file.
            model: Of the same structure as the saved one; it gets the saved weights, on its own
                device.
            score: Only for a score whose class is not in `rrfast.scores`: any score of that class.

        Raises:
            ImportError: As `save`.
            OSError: The file cannot be opened.
            RuntimeError: The model has another structure: `torch.nn.Module.load_state_dict` says
                where.
            TypeError: As the class; or `path` is not a path.
            ValueError: As the class or `set_extra_state`; or the file is damaged, truncated or of
                another kind. Every flipped bit that would change the result is found, but not a
                change on purpose that also updates the digest.
        """
        check_path("path", path)
        classifier = cls(model, score)
        classifier.load_state_dict(read_state(Path(path)))
        return classifier

    def intact(self) -> bool:
        """Whether the weights are those that the threshold was chosen for; False before `fit`."""
        return self.provenance.get("weights") == weights_hash(self.model)

    def extra_repr(self) -> str:
        """The score and the threshold."""
        return f"score={self.score!r}, threshold={float(self.threshold):.6g}"


def _check_threshold(given: object, packed: float | None) -> None:
    """Raise unless the threshold of a state equals, bit for bit, the one in its text."""
    if not isinstance(given, Tensor) or given.is_meta or packed is None:
        return
    if given.numel() != 1 or struct.pack("d", float(given)) != struct.pack("d", packed):
        raise ValueError(
            f"the threshold of the state must be {packed!r}, as its score and provenance say, got "
            f"{given}: it is damaged, or was changed. Set another one in the classifier, after it "
            "is loaded"
        )


def _chosen(
    values: Tensor,
    correct: Tensor,
    *,
    target_risk: float | None = None,
    coverage: float | None = None,
    reject_errors: float | None = None,
    confidence: float | None = None,
) -> tuple[float, float | None]:
    """The threshold for the given aim, and its bound if there is one."""
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
    """SHA-256 of all parameters and buffers in the state_dict, with names, dtypes and shapes.

    For a model sharded by `fully_shard` it is that of the whole model; all processes must call it
    together.

    Example:
        >>> model = nn.Linear(2, 2)
        >>> before = weights_hash(model)
        >>> _ = model.weight.data.add_(1)
        >>> weights_hash(model) == before
        False
    """
    state = model.state_dict().items()
    return digest_of((name, value) for name, value in state if isinstance(value, Tensor))
