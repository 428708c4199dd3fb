"""`rrfast.selective.export`: one program, its gradient included, with the classifier's numbers."""

from __future__ import annotations

import functools
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from rrfast import engine
from rrfast.data import digits
from rrfast.methods import METHODS
from rrfast.models import digits_cnn, load_model
from rrfast.scores import (
    MSR,
    ODIN,
    SCORES,
    DoctorAlpha,
    Entropy,
    Preprocessed,
    Radius,
    RelU,
    Score,
)
from rrfast.selective import SelectiveClassifier, export

SIZES = (1, 2, 7, 64)
DOUBLE = torch.float64
BOX = torch.tensor([[0.0], [1.0]])


def batches(split: Any, dtype: torch.dtype = torch.float32) -> list[tuple[Tensor, Tensor]]:
    return [(split.x.to(dtype), split.y)]


def fitted(
    model: nn.Module, score: Score | str, dtype: torch.dtype = torch.float32
) -> SelectiveClassifier:
    loader = batches(digits().validation, dtype)
    score = SCORES[score] if isinstance(score, str) else score
    classifier = SelectiveClassifier(model.to(dtype), score.fit(model, loader))
    return classifier.fit(loader, coverage=0.7)


class Output(NamedTuple):
    logits: Tensor


class Residual(nn.Module):
    """Small, with what makes a model hard to record; in training mode.

    BatchNorm and dropout, a weight that is used under two names, a buffer that the state_dict has
    not, and `.logits`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((3, 1, 1), 0.5), persistent=False)
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.second, self.third = (nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))
        self.third.weight = self.second.weight
        self.dropout, self.head = nn.Dropout(), nn.Linear(8, 5)
        self.norm(self.first(torch.randn(8, 3, 32, 32)))  # running statistics of its own

    def forward(self, x: Tensor) -> Output:
        h = self.norm(self.first(x - self.mean)).relu()
        h = h + self.third(self.second(h).relu())
        return Output(self.head(self.dropout(h).mean(dim=(2, 3))))


def random(model: nn.Module, dtype: torch.dtype) -> tuple[SelectiveClassifier, Tensor]:
    """With random weights, and half of random images accepted."""
    x = torch.rand(64, 3, 32, 32, dtype=dtype)
    loader = [(x, engine.logits(model.to(dtype), x).argmax(dim=1))]
    return SelectiveClassifier(model, "radius_grad").fit(loader, coverage=0.5), x


class Exported(NamedTuple):
    classifier: SelectiveClassifier
    x: Tensor  #: 64 images
    program: torch.export.ExportedProgram


@pytest.fixture(scope="module")
def exported(weights: dict[str, Tensor]) -> Callable[..., Exported]:
    """Each once, as it takes seconds: of a network and a dtype, portable or not."""

    @functools.cache
    def of(net: str, dtype: torch.dtype = torch.float32, portable: bool = False) -> Exported:
        torch.manual_seed(0)
        if net == "digits_cnn":
            model = digits_cnn()
            model.load_state_dict(weights)
            classifier, x = fitted(model, "radius_grad", dtype), digits().test.x[:64].to(dtype)
        elif net == "resnet20":
            pytest.importorskip("pytorchcv")
            classifier, x = random(load_model("pytorchcv:resnet20_cifar10"), dtype)
        else:
            classifier, x = random(Residual(), dtype)
        return Exported(classifier, x, export(classifier, x[:1], portable=portable))

    return of


def called(program: torch.export.ExportedProgram) -> list[torch.fx.Node]:
    return [node for node in program.graph.nodes if node.op == "call_function"]


def named(program: torch.export.ExportedProgram, part: str) -> list[torch.fx.Node]:
    return [node for node in called(program) if part in str(node.target)]


def assert_bits(program: torch.export.ExportedProgram, classifier: Any, x: Tensor) -> None:
    run = program.module()
    for size in SIZES:
        got, wanted = run(x[:size]), classifier(x[:size])
        assert isinstance(got, tuple)
        assert len(got) == 3
        for one, other in zip(got, wanted, strict=True):
            assert one.dtype == other.dtype
            assert torch.equal(one, other)
    assert wanted.accept.any()
    assert not wanted.accept.all()


def assert_nan_is_rejected(program: torch.export.ExportedProgram, it: Any, x: Tensor) -> None:
    x = x[:64].clone()
    x[1, 0, 0, 0] = math.nan
    prediction, confidence, accept = program.module()(x)
    assert confidence.isnan().nonzero().tolist() == [[1]]
    assert not accept[1]
    wanted = it(x)
    assert torch.equal(prediction, wanted.prediction)
    # Of all numbers the threshold decides.
    assert torch.equal(accept, confidence.double() >= it.threshold)


# ------------------------------------------------------------------------------------- the numbers


@pytest.mark.parametrize(
    ("net", "dtype"),
    [
        *((net, dtype) for net in ("digits_cnn", "residual") for dtype in (torch.float32, DOUBLE)),
        ("resnet20", torch.float32),
    ],
    ids=str,
)
def test_the_same_bits_at_every_batch_size(
    exported: Callable[..., Exported], net: str, dtype: torch.dtype
) -> None:
    classifier, x, program = exported(net, dtype)
    assert_bits(program, classifier, x)


@pytest.mark.parametrize(
    "score",
    [
        *(name for name in SCORES if not name.startswith("radius")),
        "radius_fast",
        Radius("grad", options={"bounds": BOX, "scale": torch.tensor([2.0])}),
        Radius("fast", temperature=0.2, options={"bounds": (0, 1), "compat": "paper"}),
        Radius("fast", temperature=0.2, options={"compat": "released"}),
        Radius("fast", options={"scale": 100.0}),  # where the own step is below 0.01
        ODIN(10.0, 0.01, compat="released", bounds=(0.0, 1.0)),
        Preprocessed(DoctorAlpha(), 0.01, scale=0.5),
        Preprocessed(RelU(), 0.01),
        Preprocessed(Entropy(), 0.0),
    ],
    ids=str,
)
def test_every_score_without_a_search(trained: nn.Module, score: Score | str) -> None:
    classifier, x = fitted(trained, score), digits().test.x
    program = export(classifier, x)
    assert_bits(program, classifier, x)
    assert_nan_is_rejected(program, classifier, x)


@pytest.mark.parametrize("score", ["radius_fast", Preprocessed(Entropy(), 0.01)], ids=str)
def test_16_bits(trained: nn.Module, score: Score | str) -> None:
    """Of radius `fast` with the share of the step that rounding leaves."""
    classifier = fitted(trained, score, torch.bfloat16)
    x = digits().test.x.bfloat16()
    assert_bits(export(classifier, x), classifier, x)


class Recurrent(nn.Module):
    """Of one layer that torch records in other operations than it runs."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.attends = kind == "attention"
        attention = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.layer = (
            nn.TransformerEncoder(attention, 1) if self.attends else nn.LSTM(8, 8, batch_first=True)
        )
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        return self.head(y.mean(1) if self.attends else y[0][:, -1])


@pytest.mark.parametrize("kind", ["lstm", "attention"])
@pytest.mark.parametrize("score", ["msr", "radius_grad"])
def test_where_the_last_digits_differ_they_decide_nothing(kind: str, score: str) -> None:
    torch.manual_seed(0)
    model, x = Recurrent(kind), torch.randn(64, 6, 8)
    y = engine.logits(model, x).argmax(dim=1)
    # At every threshold between two of the samples, so that one that rounding decides is met.
    for accepted in range(1, 64):
        classifier = SelectiveClassifier(model, score).fit([(x, y)], coverage=accepted / 64)
        if accepted == 1:
            _, confidence, _ = export(classifier, x).module()(x)
        wanted = classifier(x)
        torch.testing.assert_close(confidence, wanted.confidence, rtol=1e-4, atol=1e-6)
        assert torch.equal(confidence.double() >= classifier.threshold, wanted.accept)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE], ids=str)
@pytest.mark.parametrize("net", ["digits_cnn", "residual"])
def test_portable_is_within_the_rounding_of_a_sum(
    exported: Callable[..., Exported], dtype: torch.dtype, net: str
) -> None:
    """radius = margin / sum_i |g_i| over n elements, of which all else has the same bits.

    With u half a unit in the last place: the kernel adds chunks of 256 in 128 bytes of lanes, so 8
    float32 (16 float64) one after the other and 5 (4) levels of a tree, then the n / 256 chunks in
    float64; the reference adds in float64, n u at most whatever its order. With the product by the
    scale, the quotient and the last rounding of either: (8 + 5 + 4) u for float32, where what is
    done in float64 is below a tenth of a u; (16 + 4 + 4 + n / 256 + n) u for float64.
    """
    classifier, x, program = exported(net, dtype, portable=True)
    n = x[0].numel()
    assert not named(program, "rrfast")
    units = 17 if dtype == torch.float32 else 24 + n / 256 + n
    tolerance = units * torch.finfo(dtype).eps / 2
    for size in SIZES:
        prediction, confidence, accept = program.module()(x[:size])
        wanted = classifier(x[:size])
        assert torch.equal(prediction, wanted.prediction)
        torch.testing.assert_close(confidence, wanted.confidence, rtol=tolerance, atol=0)
        assert torch.equal(accept, confidence.double() >= classifier.threshold)
        clear = (wanted.confidence / classifier.threshold - 1).abs() > tolerance
        assert torch.equal(accept[clear], wanted.accept[clear])


@pytest.mark.parametrize("score", ["radius_grad", "radius_fast", "odin"])
def test_nan_is_rejected_without_rrfast_too(
    exported: Callable[..., Exported], trained: nn.Module, score: str
) -> None:
    if score == "radius_grad":
        classifier, x, program = exported("digits_cnn", portable=True)
    else:
        classifier, x = fitted(trained, score), digits().test.x
        program = export(classifier, x, portable=True)
    assert_nan_is_rejected(program, classifier, x)


@pytest.mark.parametrize("portable", [False, True])
def test_any_layout(exported: Callable[..., Exported], portable: bool) -> None:
    """A program has the views of one; what lies otherwise is copied."""
    classifier, x, program = exported("residual", portable=portable)
    x = x[:7]
    last = x.to(memory_format=torch.channels_last)
    for run in (program.module(), export(classifier, last, portable=portable).module()):
        for one, other in zip(run(x), run(last), strict=True):
            assert torch.equal(one, other)


# --------------------------------------------------------------------------------------- the graph


def test_one_backward_and_none_of_the_weights(
    exported: Callable[..., Exported], trained: nn.Module
) -> None:
    program = exported("resnet20").program
    forwards = [n for n in named(program, "conv") if "backward" not in str(n.target)]
    backwards = named(program, "convolution_backward")
    assert len(backwards) == len(forwards) > 18
    assert {tuple(node.args[-1]) for node in backwards} == {(True, False, False)}
    assert [str(node.target) for node in named(program, "rrfast")] == [
        "rrfast.direction_seed.default",
        "rrfast.plane_distance.default",
    ]
    assert not named(export(fitted(trained, "msr"), digits().test.x), "backward")


def test_it_has_copies_of_the_weights(trained: nn.Module) -> None:
    trained.train().requires_grad_(True)
    classifier, x = fitted(trained, "radius_grad"), digits().test.x[:5]
    program = export(classifier, x)
    assert trained.training
    assert all(parameter.requires_grad for parameter in trained.parameters())
    state = dict(classifier.named_parameters()) | dict(classifier.named_buffers())
    for name, value in program.state_dict.items():
        assert torch.equal(value, state[name])
        assert not value.requires_grad
    assert {name for name, _ in classifier.named_parameters()} < set(program.state_dict)
    assert {name for name, _ in program.named_parameters()} == {
        name for name, _ in classifier.named_parameters()
    }
    before = program.module()(x)
    with torch.no_grad():
        trained[0].weight.zero_()
        classifier.threshold.fill_(math.inf)
    for one, other in zip(program.module()(x), before, strict=True):
        assert torch.equal(one, other)
        assert not one.requires_grad


# ---------------------------------------------------------------------------------- another process

LOADED = """
import sys, torch

def run(name):
    program = torch.export.load(f"{{name}}.pt2").module()
    x = torch.load(f"{{name}}.x")
    torch.save([program(x[:size]) for size in {sizes}], f"{{name}}.results")

run("digits_cnn portable")
run("residual portable")
assert not any(name.split(".")[0] == "rrfast" for name in sys.modules)
sys.path.insert(0, {root!r})
import rrfast.ops
run("digits_cnn")
run("residual")
"""


def test_saved_and_loaded_in_a_fresh_process(
    exported: Callable[..., Exported], tmp_path: Path
) -> None:
    programs = {
        f"{net}{' portable' * portable}": exported(net, portable=portable)
        for net in ("digits_cnn", "residual")
        for portable in (False, True)
    }
    for name, (_, x, program) in programs.items():
        torch.export.save(program, tmp_path / f"{name}.pt2")
        torch.save(x, tmp_path / f"{name}.x")
    code = LOADED.format(sizes=SIZES, root=str(Path(__file__).parents[1]))
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=240)
    for name, (classifier, x, program) in programs.items():
        run = program.module() if "portable" in name else classifier
        for size, results in zip(SIZES, torch.load(tmp_path / f"{name}.results"), strict=True):
            for one, other in zip(results, run(x[:size]), strict=True):
                assert torch.equal(one, other)


# ---------------------------------------------------------------------------------- what it refuses


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"grad", "fast"}))
def test_a_search_is_no_graph(method: str) -> None:
    classifier = SelectiveClassifier(digits_cnn(), Radius(method))
    with pytest.raises(ValueError, match=r"without a search to be exported, got Radius.* fast and"):
        export(classifier, digits().test.x)


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        (lambda: (digits_cnn(), torch.rand(1, 1, 8, 8)), TypeError, "classifier must be a rrfast"),
        (lambda: (SelectiveClassifier(nn.Identity(), MSR()), [1.0]), TypeError, "x must be a"),
        (
            lambda: (SelectiveClassifier(nn.Identity(), MSR()), torch.ones(2, 3).int()),
            TypeError,
            "x must be a floating-point tensor",
        ),
        (lambda: (SelectiveClassifier(nn.Identity(), MSR()), torch.ones(2)), ValueError, "x must"),
        (
            lambda: (SelectiveClassifier(nn.Identity(), MSR()), torch.ones(2, 1)),
            ValueError,
            "logits must have at least two classes",
        ),
        (
            lambda: (SelectiveClassifier(torch.compile(nn.Linear(3, 2)), MSR()), torch.ones(2, 3)),
            ValueError,
            "a model that torch.compile has not wrapped",
        ),
    ],
)
def test_wrong_arguments(arguments: Any, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        export(*arguments())
