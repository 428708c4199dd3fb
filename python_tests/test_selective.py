"""`SelectiveClassifier`: what it accepts, what it promises, and what it keeps."""

from __future__ import annotations

import json
import math
import random
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rrfast import engine
from rrfast._digest import digest_of
from rrfast.data import digits
from rrfast.metrics import acceptance_threshold, false_acceptance, thresholded_error
from rrfast.models import digits_cnn
from rrfast.scores import MSR, ODIN, SCORES, DoctorAlpha, Entropy, Preprocessed, Radius, RelU
from rrfast.scores.logit_score import LogitScore
from rrfast.scores.score import Score
from rrfast.selective import (
    NoThresholdError,
    SelectiveClassifier,
    coverage_threshold,
    error_threshold,
    guaranteed_risk,
    risk_threshold,
)
from rrfast.selective.score_state import FORMAT


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


class Series:
    """As pandas has it: `[]` asks for a label of its index, and not for a place."""

    def __init__(self, values: list[float]) -> None:
        self.values = np.array(values)

    def __len__(self) -> int:
        return len(self.values)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.values.astype(dtype or self.values.dtype)

    def __getitem__(self, label: int) -> float:
        if not 1 <= label <= len(self):
            raise KeyError(label)
        return float(self.values[len(self) - label])


def test_a_series_with_an_index_of_its_own() -> None:
    values, right = [0.1, 0.4, 0.6, 0.9], [False, True, False, True]
    assert coverage_threshold(Series(values), 0.5) == 0.6
    assert error_threshold(Series(values), right, 0.5) == error_threshold(values, right, 0.5)
    assert risk_threshold(Series(values), right, 0.34) == 0.4


def test_shares_of_numpy_are_their_values() -> None:
    """In float16 a share of 100,000 samples is none of their number."""
    score = torch.arange(100_000, dtype=torch.float64)
    for share in (np.float16(0.5), np.float32(0.5), np.float64(0.5)):
        assert coverage_threshold(score, share) == 50_000
        assert error_threshold(score, score < 0, share) > 49_999
        assert risk_threshold(score, score >= 50_000, share) == 0
        assert guaranteed_risk(score, score >= 1000, share).coverage == 1


def test_tpr_counts_errors() -> None:
    score = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5])
    correct = torch.tensor([False, True, False, True, False])
    for tpr, rejected in ((0.33, 1), (1 / 3, 1), (0.34, 3), (2 / 3, 3), (0.67, 5), (1.0, 5)):
        assert (score < error_threshold(score, correct, tpr)).sum() == rejected
    with pytest.raises(ValueError, match="there is nothing to reject"):
        error_threshold([0.1], [True], 0.5)


def test_an_error_of_infinite_radius_cannot_be_rejected() -> None:
    score, correct = [0.1, 0.2, math.inf, math.inf], [False, True, True, False]
    assert 0.1 < error_threshold(score, correct, 0.5) < 0.2
    with pytest.raises(
        ValueError, match=r"share reject_errors=0.6 of the 2 errors: 1 of them score infinit"
    ):
        error_threshold(score, correct, 0.6)


@pytest.mark.parametrize(
    "dtype",
    [torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.uint8, torch.int64],
)
def test_the_rejected_are_rejected_in_every_dtype(dtype: torch.dtype) -> None:
    score = torch.tensor([1, 2, 3, 4]).to(dtype)
    correct = torch.tensor([False, True, False, True])
    threshold = error_threshold(score, correct, 0.5)
    largest = error_threshold(score, ~correct, 1.0)  # an error is the most confident of all
    for compared in (score, score.double()):
        assert (compared >= threshold).tolist() == [False, True, True, True]
        assert not (compared >= largest).any()
    numbers = score.double().numpy()  # bfloat16 is none of NumPy's
    assert (numbers >= threshold).tolist() == [False, True, True, True]


def test_arrays_that_descend() -> None:
    score, right = np.array([0.1, 0.4, 0.6, 0.9])[::-1], np.array([True, False, True, False])[::-1]
    assert coverage_threshold(score, 0.5) == 0.6
    assert error_threshold(score, right, 0.5) > 0.4
    assert risk_threshold(score, ~right, 0.5) == 0.1
    assert guaranteed_risk(score, np.ones(4, dtype=bool)[::-1], 0.99).coverage == 1
    assert false_acceptance(score, 0.6) == 0.5
    assert acceptance_threshold(score, right, 1.0) == 0.1
    assert thresholded_error(score, right, 0.6) == 0.5


@pytest.mark.parametrize("aim", [{"coverage": 0.5}, {"reject_errors": 0.9}, {"target_risk": 0.05}])
def test_rounding_does_not_decide(trained: nn.Module, data: Any, aim: dict[str, float]) -> None:
    """The threshold is halfway between two scores, and accepts the intended share."""
    classifier = SelectiveClassifier(trained, "msr").fit(batches(data.validation), **aim)
    score = classifier(data.validation.x).confidence.double()
    correct = classifier(data.validation.x).prediction == data.validation.y
    exact = {
        "coverage": lambda: coverage_threshold(score, 0.5),
        "reject_errors": lambda: error_threshold(score, correct, 0.9),
        "target_risk": lambda: risk_threshold(score, correct, 0.05),
    }[next(iter(aim))]()
    threshold, accepted = float(classifier.threshold), score >= exact
    assert torch.equal(score >= threshold, accepted)
    least, most = float(score[accepted].min()), float(score[~accepted].max())
    assert threshold == pytest.approx((least + most) / 2, abs=1e-15)
    assert least - threshold > 1e-3 * (
        least - most
    )  # the exact one of "reject_errors" is next to `most`
    assert threshold - most > 1e-3 * (least - most)


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
    accept, correct = classifier.fit(loader, reject_errors=0.8) and accepted()
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


def test_aims_of_numpy_are_kept(trained: nn.Module, data: Any, tmp_path: Path) -> None:
    """What is fitted can be saved, and what is no number is refused before anything is scored."""
    third = np.float32(1 / 3)
    for aim in (
        {"coverage": third},
        {"reject_errors": third},
        {"target_risk": third, "confidence": third},
    ):
        plain = {name: float(value) for name, value in aim.items()}
        fitted = [
            SelectiveClassifier(trained, "msr").fit(batches(data.validation), **options)
            for options in (aim, plain)
        ]
        path = tmp_path / "classifier.safetensors"
        fitted[0].save(path)
        assert SelectiveClassifier.load(path, trained).provenance == fitted[1].provenance
        assert fitted[0].threshold == fitted[1].threshold
    for wrong in (torch.tensor(0.5), "half"):
        with pytest.raises(TypeError, match="coverage must be a number, got"):
            SelectiveClassifier(trained, "msr").fit([], coverage=wrong)  # type: ignore[arg-type]


def test_tuned_on_other_data(trained: nn.Module, data: Any) -> None:
    classifier = SelectiveClassifier(trained, DoctorAlpha(temperature=1000.0))
    classifier.fit(batches(data.test), coverage=0.9, tune_on=batches(data.validation))
    assert classifier.score.temperature != 1000.0
    assert classifier.provenance["tuned"]
    one, other = batches(data.test), batches(data.test)  # of the same content
    with pytest.raises(ValueError, match="which chooses the threshold, but both have the same"):
        classifier.fit(one, coverage=0.9, tune_on=other)
    with pytest.warns(UserWarning, match="samples of loader, which chooses the threshold,"):
        classifier.fit(one, coverage=0.9, tune_on=other[:1])


def test_nan_is_never_accepted(trained: nn.Module, data: Any) -> None:
    for score in ("msr", "radius_fast"):
        classifier = SelectiveClassifier(trained, score)
        classifier.fit(batches(data.validation), coverage=1.0)
        classifier.threshold.fill_(-math.inf)  # accepts whatever is a number
        x = data.test.x[:4].clone()
        x[1, 0, 0, 0] = math.nan
        accept = classifier(x).accept
        assert accept.tolist() == [True, False, True, True]


def test_without_a_score_one_forward_is_all_it_takes(data: Any) -> None:
    """MSR: of a model too that has no gradient, which no radius can be had of."""

    class Rounded(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x.flatten(1)[:, :10].detach() * 4).round()

    classifier = SelectiveClassifier(Rounded())
    x = data.test.x[:50]
    assert torch.equal(classifier(x).confidence, SCORES["msr"](Rounded(), x))
    with pytest.raises(ValueError, match="model must be differentiable with respect to x"):
        SelectiveClassifier(Rounded(), "radius_fast")(x)


def test_it_leaves_the_model_as_it_was(trained: nn.Module, data: Any) -> None:
    trained.train()
    SelectiveClassifier(trained, "radius_fast")(data.test.x[:4])
    assert trained.training


def test_an_empty_batch(trained: nn.Module, data: Any) -> None:
    prediction, confidence, accept = SelectiveClassifier(trained, "msr")(data.test.x[:0])
    assert len(prediction) == len(confidence) == len(accept) == 0


# ------------------------------------------------------------------------------------ what it keeps


@dataclass(frozen=True, eq=False)
class Own(LogitScore):
    """A score that is not among rrfast's; `how` is nothing that bytes can hold."""

    weight: float = 1.0
    how: Any = None

    def confidence(self, h: Tensor) -> Tensor:
        return self.weight * h.amax(dim=1)

    def ascent(self, h: Tensor) -> Tensor:
        return torch.ones_like(h)


def made(name: str, model: nn.Module, data: Any) -> Score:
    """A score, fitted: one of SCORES by name, or one that is made of parts."""
    strided = torch.arange(4.0).reshape(2, 2).T[:, :1]  # not contiguous, [2, 1]
    parts: dict[str, Score] = {
        "Preprocessed(RelU)": Preprocessed(RelU(1.5, 0.3), 0.01, bounds=(0, 1.0), scale=0.5),
        "Preprocessed(Entropy)": Preprocessed(Entropy(2.0), 0.01, compat="released"),
        "a tensor of bounds": Radius("grad", options={"bounds": strided, "scale": 2}),
        "tensors of bounds": Radius(
            "fast",
            temperature=0.3,
            options={
                "bounds": (torch.zeros(1), torch.ones(1, dtype=torch.float64)),
                "scale": torch.tensor(0.5),
                "alpha": 0.02,
            },
        ),
        "bfloat16": ODIN(scale=torch.tensor([0.3], dtype=torch.bfloat16)),
        "NumPy": MSR(np.float32(0.1)),
        "search": Radius("search", options={"tol": 1e-3}),
    }
    score = parts.get(name) or SCORES[name]
    return score.fit(model, batches(data.validation)[1:])


PARTS = (
    "Preprocessed(RelU)",
    "Preprocessed(Entropy)",
    "a tensor of bounds",
    "tensors of bounds",
    "bfloat16",
    "NumPy",
    "search",
)


@pytest.mark.parametrize("form", ["pt", "safetensors"])
@pytest.mark.parametrize("name", [*SCORES, *PARTS])
def test_the_very_score_comes_back(
    trained: nn.Module, data: Any, tmp_path: Path, name: str, form: str
) -> None:
    """Into a classifier built with any score: from a file of `save`, and from the tensors."""
    if form == "safetensors":
        pytest.importorskip("safetensors")
    score = made(name, trained, data)
    classifier = SelectiveClassifier(trained, score).fit(batches(data.validation)[:1], coverage=0.8)
    path = tmp_path / f"classifier.{form}"
    classifier.save(path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    other = SelectiveClassifier.load(path, digits_cnn(seed=5))
    x = data.test.x[:40]
    for mine, theirs in zip(other(x), classifier(x), strict=True):
        assert torch.equal(mine, theirs)
    if name != "NumPy":  # whose numbers come back as Python's
        assert repr(other.score) == repr(score)
    assert other.provenance == classifier.provenance
    assert json.dumps(other.provenance)
    assert other.intact()
    assert torch.equal(other.get_extra_state(), classifier.get_extra_state())
    if "temperature" in score.grids:  # RelU's D is another at another T
        there, here = other.score.at(temperature=3.0), score.at(temperature=3.0)
        assert torch.equal(there(trained, x), here(trained, x))
    with torch.no_grad():
        next(other.model.parameters()).add_(1e-3)
    assert not other.intact()


def test_what_relu_has_seen_keeps_its_bits(trained: nn.Module, data: Any) -> None:
    score = RelU(lam=0.25).fit(trained, batches(data.validation))
    other = SelectiveClassifier(trained, "odin")
    other.load_state_dict(SelectiveClassifier(trained, score).state_dict())
    assert isinstance(other.score, RelU)
    assert score.seen is not None
    assert other.score.seen is not None
    assert type(other.score.seen) is type(score.seen)
    for here, there in zip(score.seen, other.score.seen, strict=True):
        assert here.dtype == there.dtype
        assert torch.equal(here, there)
    assert torch.equal(other.score.matrix, score.matrix)


def test_safetensors_takes_the_state_itself(trained: nn.Module, data: Any, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    classifier = SelectiveClassifier(trained, made("a tensor of bounds", trained, data))
    safetensors.save_file(classifier.state_dict(), tmp_path / "state")
    other = SelectiveClassifier(digits_cnn(seed=5))
    other.load_state_dict(safetensors.load_file(tmp_path / "state"))
    assert torch.equal(other(data.test.x[:5]).confidence, classifier(data.test.x[:5]).confidence)


@pytest.mark.parametrize("form", ["pt", "safetensors"])
def test_weights_that_are_shared_or_strided(tmp_path: Path, form: str) -> None:
    if form == "safetensors":
        pytest.importorskip("safetensors")

    def build() -> nn.Module:
        first, second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        second.weight = first.weight
        model = nn.Sequential(first, second, nn.Linear(4, 3))
        model[2].weight = nn.Parameter(torch.rand(4, 3).T)  # strided
        model.register_buffer("part", torch.arange(10.0)[3:5])  # a part of its memory
        return model

    classifier = SelectiveClassifier(build(), "msr")
    classifier.threshold.fill_(0.1)
    classifier.save(tmp_path / f"classifier.{form}")
    other = SelectiveClassifier.load(tmp_path / f"classifier.{form}", build())
    assert other.model[0].weight is other.model[1].weight
    for name, value in classifier.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])


def test_another_dtype_and_no_strictness(trained: nn.Module, data: Any) -> None:
    score = RelU().fit(trained, batches(data.validation))
    state = (
        SelectiveClassifier(trained, score).fit(batches(data.validation), coverage=0.8).state_dict()
    )
    half = SelectiveClassifier(digits_cnn().to(torch.bfloat16))
    half.load_state_dict(state)
    assert half.threshold.dtype == torch.float64
    assert torch.equal(half.threshold, state["threshold"])
    assert isinstance(half.score, RelU)
    assert half(data.test.x[:3].bfloat16()).confidence.isfinite().all()
    assert not half.intact()  # the weights were rounded

    part = SelectiveClassifier(digits_cnn(), "odin")
    del state["_extra_state"]
    with pytest.raises(RuntimeError, match=r"Missing key\(s\) in state_dict: \"_extra_state\""):
        part.load_state_dict(state)
    part.load_state_dict(state, strict=False)
    assert part.score is SCORES["odin"]


def test_another_model_is_torch_s_error(trained: nn.Module, tmp_path: Path) -> None:
    SelectiveClassifier(trained, "msr").save(tmp_path / "classifier.pt")
    with pytest.raises(RuntimeError, match="size mismatch for model"):
        SelectiveClassifier.load(tmp_path / "classifier.pt", digits_cnn(classes=3))
    with pytest.raises(RuntimeError, match="Missing key"):
        SelectiveClassifier.load(tmp_path / "classifier.pt", nn.Linear(64, 10))


def test_a_score_of_one_s_own(trained: nn.Module, data: Any) -> None:
    """Its class comes with the classifier, as do values that bytes cannot hold."""
    x = data.test.x[:5]
    for score, same in (
        (Own(2.0), Own()),
        (Own(2.0, how=1 + 2j), Own(how=1 + 2j)),
        (Preprocessed(Own(3.0), 0.1), Preprocessed(Own(), 0.5)),
        (Own(3.0), Preprocessed(Own(), 0.5)),
    ):
        state = SelectiveClassifier(trained, score).state_dict()
        other = SelectiveClassifier(trained, same)
        other.load_state_dict(state)
        assert torch.equal(other(x).confidence, score(trained, x))
        with pytest.raises(ValueError, match="the score Own, which is not one of rrfast's: build"):
            SelectiveClassifier(trained, "msr").load_state_dict(state)
    state = SelectiveClassifier(trained, Own(how=1 + 2j)).state_dict()
    with pytest.raises(ValueError, match=r"whose Own has another how, \(1\+2j\), which"):
        SelectiveClassifier(trained, Own(how=3j)).load_state_dict(state)
    # A namesake of one of rrfast's is not it.
    msr = dataclass(frozen=True, eq=False)(type("MSR", (Own,), {}))
    state = SelectiveClassifier(trained, msr()).state_dict()
    with pytest.raises(ValueError, match="the score MSR, which is not one of rrfast's"):
        SelectiveClassifier(trained, "msr").load_state_dict(state)


def uint8(text: str) -> Tensor:
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


def of(content: object) -> Tensor:
    """A state whose digest is right, but with something else wrong."""
    if isinstance(content, dict):
        content = {"format": FORMAT, "threshold": None, **content}
        content["sha256"] = digest_of([("text", uint8(json.dumps(content)))])
    return uint8(json.dumps(content))


MSR_STATE = {"score": "MSR", "ours": True, "fields": {}}


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ({"score": 3}, r"expected a uint8 tensor of shape \[n\], got dict"),
        (torch.zeros(3), "expected a uint8 tensor"),
        (torch.zeros(3, dtype=torch.uint8), "damaged or of something else: "),
        (
            torch.full((40,), 255, dtype=torch.uint8),
            "damaged or of something else: .* can't decode",
        ),
        (uint8("[" * 100_000), "damaged or of something else: maximum recursion"),
        (uint8(f'{{"format": {FORMAT}}}'), "are not those that its SHA-256 was made"),
        (of(math.nan), "its text names no format"),
        (of([]), "its text names no format"),
        (of({"format": 2}), "the state is of format 2, and this version of rrfast reads"),
        (of({}), "damaged or of something else: 'score'"),
        (of({"score": 3, "provenance": {}}), "it holds no score"),
        (of({"score": MSR_STATE, "provenance": 3}), "it holds no score"),
        (
            of({"score": {**MSR_STATE, "score": "MRS"}, "provenance": {}}),
            "the score MRS, which this version of rrfast does not have; it has .*MSR",
        ),
        (
            of({"score": {**MSR_STATE, "score": "Score"}, "provenance": {}}),
            "damaged or of something else: Can't instantiate abstract class",
        ),
        (
            of(
                {
                    "score": {**MSR_STATE, "fields": {"temperature": -1.0}},
                    "provenance": {},
                }
            ),
            "damaged or of something else: temperature must be finite",
        ),
        (
            of({"score": {**MSR_STATE, "score": "RelU"}, "provenance": {}}),
            "its score was never fitted",
        ),
    ],
)
def test_a_state_of_something_else(trained: nn.Module, state: object, sentence: str) -> None:
    classifier = SelectiveClassifier(trained, "odin")
    good = classifier.state_dict()
    with pytest.raises(ValueError, match=sentence):
        classifier.load_state_dict({**good, "_extra_state": state, "threshold": torch.zeros(())})
    assert classifier.score is SCORES["odin"]
    assert classifier.threshold.isnan()  # nothing was loaded


def test_a_text_that_ends_early_is_refused(trained: nn.Module) -> None:
    classifier = SelectiveClassifier(trained, "odin")
    extra = classifier.get_extra_state()
    for length in [*range(0, len(extra), 7), len(extra) - 1]:
        with pytest.raises(ValueError, match="must be what its state_dict"):
            classifier.set_extra_state(extra[:length])
    classifier.set_extra_state(extra)


def test_tensors_that_are_not_the_score_s_are_refused(trained: nn.Module, data: Any) -> None:
    """Fewer, more, in another order, or with another number, dtype or shape."""
    state = SelectiveClassifier(trained, made("Preprocessed(RelU)", trained, data)).state_dict()
    one, two = [name for name in state if name.startswith("score_tensors.")][:2]
    first = state[one].clone()
    first.view(torch.uint8).flatten()[3] ^= 1
    for change in (
        {one: None},
        {one: 3},
        {one: first},
        {one: state[one].double()},
        {one: state[one][None]},
        {one: state[two], two: state[one]},
        {"score_tensors.9": state[one]},
    ):
        bad = {name: value for name, value in {**state, **change}.items() if value is not None}
        other = SelectiveClassifier(trained, "odin")
        with pytest.raises(ValueError, match="must be what its state_dict"):
            other.load_state_dict(bad)
        assert other.score is SCORES["odin"]
        assert other.threshold.isnan()
    with pytest.raises(RuntimeError, match=r"Unexpected key.*score_tensors\.0"):
        SelectiveClassifier(trained).load_state_dict(
            {name: value for name, value in state.items() if name != "_extra_state"}
        )


def test_the_state_is_text_and_tensors(trained: nn.Module) -> None:
    """JSON that anybody reads, and copies of tensors that tools for checkpoints find."""
    from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict

    bounds = torch.stack([torch.zeros(2), torch.ones(2)])
    score = Radius("grad", options={"bounds": (bounds[0], bounds[1])})  # in one memory
    state = SelectiveClassifier(trained, score).state_dict()
    text = json.loads(bytes(state["_extra_state"].tolist()))
    assert (text["format"], text["score"]["score"]) == (FORMAT, "Radius")
    assert torch.equal(state["score_tensors.1"], torch.ones(2))
    inside = nn.ModuleList([nn.Identity(), SelectiveClassifier(trained, score)])
    again = nn.ModuleList([nn.Identity(), SelectiveClassifier(digits_cnn(), "msr")])
    set_model_state_dict(again, get_model_state_dict(inside))
    state["score_tensors.1"].zero_()  # nobody's but the state's
    bounds.zero_()
    assert torch.equal(again[1].score.options["bounds"][1], torch.ones(2))


@pytest.mark.parametrize("form", ["pt", "safetensors"])
@pytest.mark.parametrize("by", ["save", "user"])
def test_every_flipped_bit_is_found_or_changes_nothing(tmp_path: Path, form: str, by: str) -> None:
    """Anywhere in the file: threshold, score, provenance and weights are as they were, or refused.

    Of a file that the user wrote with safetensors nobody summed the weights up: `intact()` says it.
    """
    model = nn.Linear(3, 2)
    x = torch.rand(40, 3)
    y = torch.where(torch.arange(40) % 4 == 0, 0, model(x).argmax(1))
    classifier = SelectiveClassifier(model, ODIN(temperature=2.0, eps=0.5)).fit(
        [(x, y)], reject_errors=0.7
    )
    path = tmp_path / f"classifier.{form}"
    if form == "safetensors":
        save_file = pytest.importorskip("safetensors.torch").save_file
    if by == "save":
        classifier.save(path)
    elif form == "pt":
        torch.save(classifier.state_dict(), path)
    else:
        save_file(classifier.state_dict(), path)
    good = path.read_bytes()
    draws = random.Random(0)
    refused = 0
    for place in draws.sample(range(8 * len(good)), 400):
        bad = bytearray(good)
        bad[place // 8] ^= 1 << place % 8
        path.write_bytes(bad)
        try:
            other = SelectiveClassifier.load(path, nn.Linear(3, 2))
        except (ValueError, RuntimeError):
            refused += 1
            continue
        assert torch.equal(other.threshold, classifier.threshold), place
        assert torch.equal(other.get_extra_state(), classifier.get_extra_state()), place
        same = all(map(torch.equal, other.model.parameters(), model.parameters()))
        assert same or (by == "user" and form == "safetensors" and not other.intact()), place
    assert refused > 150


def test_a_threshold_of_another_state_is_refused(trained: nn.Module, data: Any) -> None:
    one, two = (
        SelectiveClassifier(trained, "msr").fit(batches(data.validation), coverage=c).state_dict()
        for c in (0.5, 0.9)
    )
    other = SelectiveClassifier(trained, "odin")
    with pytest.raises(ValueError, match=r"the threshold of the state must be .* is damaged, or"):
        other.load_state_dict({**one, "threshold": two["threshold"]})
    assert other.score is SCORES["odin"]
    assert other.threshold.isnan()
    other.load_state_dict(one)
    other.threshold.fill_(0.25)  # a choice of one's own is saved as it is
    again = SelectiveClassifier(trained, "odin")
    again.load_state_dict(other.state_dict())
    assert float(again.threshold) == 0.25


def test_files_that_are_none_of_ours(trained: nn.Module, tmp_path: Path) -> None:
    for name in ("it.pt", "it.safetensors"):
        if name.endswith("safetensors"):
            pytest.importorskip("safetensors")
        path = tmp_path / name
        with pytest.raises(FileNotFoundError):
            SelectiveClassifier.load(path, trained)
        path.write_bytes(b"no such file")
        with pytest.raises(ValueError, match=r"cannot be read as a .*damaged, truncated or"):
            SelectiveClassifier.load(path, trained)
    torch.save([1], tmp_path / "it.pt")
    with pytest.raises(ValueError, match="must hold a dict, and holds list"):
        SelectiveClassifier.load(tmp_path / "it.pt", trained)
    with pytest.raises(TypeError, match="path must be a path"):
        SelectiveClassifier(trained).save(3)  # type: ignore[arg-type]


def test_without_safetensors(
    trained: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    for act in (SelectiveClassifier(trained).save, lambda p: SelectiveClassifier.load(p, trained)):
        with pytest.raises(
            ImportError, match=r"ends in \.safetensors and needs safetensors, .* ending$"
        ):
            act(tmp_path / "it.safetensors")
    assert not list(tmp_path.iterdir())


def test_the_threshold_keeps_its_bits(trained: nn.Module, data: Any) -> None:
    classifier = SelectiveClassifier(trained, "msr").fit(batches(data.validation), coverage=0.5)
    before = classifier.threshold.clone()
    classifier.half()
    assert classifier.threshold.dtype == torch.float64
    assert torch.equal(classifier.threshold, before)
    assert next(classifier.model.parameters()).dtype == torch.float16


def test_built_without_memory_and_loaded(trained: nn.Module, data: Any) -> None:
    saved = SelectiveClassifier(trained, "msr").fit(batches(data.validation), coverage=0.5)
    with torch.device("meta"):
        classifier = SelectiveClassifier(digits_cnn(), "odin")
    classifier.to_empty(device="cpu")
    assert classifier.threshold.isnan()
    classifier.load_state_dict(saved.state_dict())
    assert classifier.intact()
    assert torch.equal(classifier.threshold, saved.threshold)


@pytest.mark.parametrize(
    ("aims", "sentence"),
    [
        ({"coverage": 1.5}, "coverage must be greater than 0 and at most 1, got 1.5"),
        ({"reject_errors": 0.0}, "reject_errors must be greater than 0 and at most 1, got 0.0"),
        ({"target_risk": 2}, "target_risk must be from 0 to 1, got 2.0"),
        ({"target_risk": 0.1, "confidence": 1.0}, "confidence must be "),
        ({"target_risk": 0.0, "confidence": 0.9}, "target_risk must be "),
    ],
)
def test_an_aim_is_checked_before_the_scoring(aims: dict[str, float], sentence: str) -> None:
    def batches() -> Iterator[Any]:
        raise AssertionError("nothing should be scored")
        yield

    classifier = SelectiveClassifier(nn.Linear(4, 3), "msr")
    with pytest.raises(ValueError, match=re.escape(sentence)):
        classifier.fit(batches(), **aims)


SAME = [(torch.eye(2), torch.arange(2))]


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda: SelectiveClassifier(lambda x: x), TypeError, "model must be a torch.nn.Module"),
        (lambda: SelectiveClassifier(nn.Identity(), "mrs"), ValueError, "score must be one of"),
        (
            lambda: SelectiveClassifier(nn.Identity(), 3),
            TypeError,
            "score must be a name, a rrfast",
        ),
        (lambda: SelectiveClassifier(nn.Identity(), RelU()), ValueError, "score must be fitted"),
        (
            lambda: SelectiveClassifier(nn.Identity(), MSR()).fit(
                [], coverage=0.5, reject_errors=0.5
            ),
            ValueError,
            "exactly one of target_risk, coverage and reject_errors, got coverage",
        ),
        (
            lambda: SelectiveClassifier(nn.Identity(), MSR()).fit(SAME, coverage=1, tune_on=SAME),
            ValueError,
            "tune_on must be other data than loader",
        ),
        (
            lambda: SelectiveClassifier(nn.Identity(), MSR()).fit([], coverage=0.5, confidence=0.9),
            ValueError,
            "confidence needs target_risk",
        ),
        (lambda: coverage_threshold([1.0], 0), ValueError, "coverage must be greater than 0"),
    ],
)
def test_wrong_arguments(make: Any, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        make()
