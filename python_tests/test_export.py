"""`rrfast.selective.export`: one program, its gradient included, with the classifier's numbers."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rrfast import engine
from rrfast.data import digits, digits_cnn
from rrfast.models import load_model
from rrfast.radius import METHODS
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


def resnet(dtype: torch.dtype = torch.float32) -> SelectiveClassifier:
    """A random one, and half of random images accepted."""
    pytest.importorskip("pytorchcv")
    model = load_model("pytorchcv:resnet20_cifar10").to(dtype)
    x = torch.rand(32, 3, 32, 32, dtype=dtype)
    loader = [(x, engine.logits(model, x).argmax(dim=1))]
    return SelectiveClassifier(model, "radius_grad").fit(loader, coverage=0.5)


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


# ------------------------------------------------------------------------------------- the numbers


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("net", ["digits_cnn", "resnet20"])
def test_the_same_bits_at_every_batch_size(
    trained: nn.Module, dtype: torch.dtype, net: str
) -> None:
    if net == "resnet20":
        classifier, x = resnet(dtype), torch.rand(64, 3, 32, 32, dtype=dtype)
    else:
        classifier = fitted(trained, "radius_grad", dtype)
        x = digits().test.x[:64].to(dtype)
    assert_bits(export(classifier, x[:1]), classifier, x)


@pytest.mark.parametrize(
    "score",
    [
        *(name for name in SCORES if not name.startswith("radius")),
        "radius_fast",
        Radius("grad", options={"bounds": BOX, "scale": torch.tensor([2.0])}),
        Radius("fast", temperature=0.2, options={"bounds": (0, 1), "compat": "paper"}),
        Radius("fast", temperature=0.2, options={"compat": "released"}),
        ODIN(10.0, 0.01, compat="released", bounds=(0.0, 1.0)),
        Preprocessed(DoctorAlpha(), 0.01, scale=0.5),
        Preprocessed(RelU(), 0.01),
        Preprocessed(Entropy(), 0.0),
    ],
    ids=str,
)
def test_every_score_without_a_search(trained: nn.Module, score: Score | str) -> None:
    classifier = fitted(trained, score)
    assert_bits(export(classifier, digits().test.x), classifier, digits().test.x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("net", ["digits_cnn", "resnet20"])
def test_portable_is_within_the_rounding_of_a_sum(
    trained: nn.Module, dtype: torch.dtype, net: str
) -> None:
    """radius = margin / sum_i |g_i| over n elements, of which all else has the same bits.

    With u half a unit in the last place: the kernel adds chunks of 256 in 128 bytes of lanes, so 8
    float32 (16 float64) one after the other and 5 (4) levels of a tree, then the n / 256 chunks in
    float64; the reference adds in float64, n u at most whatever its order. With the product by the
    scale, the quotient and the last rounding of either: (8 + 5 + 4) u for float32, where what is
    done in float64 is below a tenth of a u; (16 + 4 + 4 + n / 256 + n) u for float64.
    """
    if net == "resnet20":
        classifier, x = resnet(dtype), torch.rand(64, 3, 32, 32, dtype=dtype)
    else:
        classifier = fitted(trained, "radius_grad", dtype)
        x = digits().test.x[:64].to(dtype)
    program, n = export(classifier, x, portable=True), x[0].numel()
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


@pytest.mark.parametrize("portable", [False, True])
def test_nan_is_never_accepted(trained: nn.Module, portable: bool) -> None:
    for score in ("radius_grad", "radius_fast", "msr", "odin"):
        classifier = fitted(trained, score)
        classifier.threshold.fill_(-math.inf)  # accepts whatever is a number
        x = digits().test.x[:4].clone()
        x[1, 0, 0, 0] = math.nan
        prediction, confidence, accept = export(classifier, x, portable=portable).module()(x)
        assert confidence.isnan().tolist() == [False, True, False, False]
        assert accept.tolist() == [True, False, True, True]
        assert torch.equal(prediction, classifier(x).prediction)


@pytest.mark.parametrize("portable", [False, True])
def test_any_layout(trained: nn.Module, portable: bool) -> None:
    """A program has the views of one; what lies otherwise is copied."""
    classifier, x = resnet(), torch.rand(7, 3, 32, 32)
    last = x.to(memory_format=torch.channels_last)
    for example in (x, last):
        run = export(classifier, example, portable=portable).module()
        for one, other in zip(run(x), run(last), strict=True):
            assert torch.equal(one, other)


# --------------------------------------------------------------------------------------- the graph


def test_one_backward_and_none_of_the_weights(trained: nn.Module) -> None:
    program = export(resnet(), torch.rand(2, 3, 32, 32))
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
{imported}
x = torch.load("x.pt")
run = torch.export.load("program.pt2").module()
torch.save([run(x[:size]) for size in {sizes}], "results.pt")
assert {rrfast} == any(name.split(".")[0] == "rrfast" for name in sys.modules)
"""


@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize("net", ["digits_cnn", "resnet20"])
def test_saved_and_loaded_in_a_fresh_process(
    trained: nn.Module, tmp_path: Path, net: str, portable: bool
) -> None:
    if net == "resnet20":
        classifier, x = resnet(), torch.rand(64, 3, 32, 32)
    else:
        classifier, x = fitted(trained, "radius_grad"), digits().test.x[:64]
    program = export(classifier, x, portable=portable)
    torch.export.save(program, tmp_path / "program.pt2")
    torch.save(x, tmp_path / "x.pt")
    root = str(Path(__file__).parents[1])
    imported = "" if portable else f"sys.path.insert(0, {root!r})\nimport rrfast"
    code = LOADED.format(imported=imported, sizes=SIZES, rrfast=not portable)
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=240)
    for size, results in zip(SIZES, torch.load(tmp_path / "results.pt"), strict=True):
        wanted = program.module()(x[:size]) if portable else classifier(x[:size])
        for one, other in zip(results, wanted, strict=True):
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
