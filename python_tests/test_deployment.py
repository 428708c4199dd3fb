"""`save_onnx` and `save_aoti`: files that decide as the classifier, in the runtimes themselves."""

from __future__ import annotations

import doctest
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.deployment import fitted
from rrfast import engine
from rrfast.models import digits_cnn
from rrfast.scores import Entropy, Preprocessed, Radius, Score
from rrfast.selective import Selection, SelectiveClassifier, save_aoti, save_onnx
from rrfast.selective.agreement import agreement

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
#: Of each row of the page: network, score, and what the confidences of both runtimes differ by.
BOUNDS = re.findall(r"^\| `(\w+)` \| `(\w+)` \| ([\de-]+) \| ([\de-]+) \|", PAGE, re.MULTILINE)
CODES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def onnx() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"needs {package}")


def onnx_runner(path: Path) -> Callable[[Tensor], list[Tensor]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [(value.name, value.shape[0]) for value in session.get_inputs()] == [("x", "batch")]
    names = [value.name for value in session.get_outputs()]
    assert names == ["prediction", "confidence", "accept"]
    return lambda x: [torch.from_numpy(value) for value in session.run(None, {"x": x.numpy()})]


def assert_decides(
    run: Callable[[Tensor], Any], classifier: SelectiveClassifier, x: Tensor, bound: float
) -> None:
    """As the classifier, for batches of any size and around NaN; confidences within the bound."""
    broken = x.clone().flatten(1)
    for sample in range(1, len(x), 2):
        broken[sample, sample * broken.shape[1] // len(x)] = math.nan
    typical = classifier(x).confidence.abs().mean()
    for batch in (x[:1], x[:2], x[:7], x, broken.reshape(x.shape)):
        got, wanted = Selection(*run(batch)), classifier(batch)
        for one, other in zip(got, wanted, strict=True):
            assert (one.dtype, one.shape) == (other.dtype, other.shape)
        nan = wanted.confidence.isnan()
        assert torch.equal(got.confidence.isnan(), nan)
        assert torch.equal(got.accept, wanted.accept)
        assert torch.equal(got.prediction[~nan], wanted.prediction[~nan])
        off = (got.confidence - wanted.confidence).abs() / wanted.confidence.abs().clamp(typical)
        assert off[~nan].max() <= bound
    assert nan.any()
    assert 0 < wanted.accept.sum() < classifier(x).accept.sum() < len(x)


@pytest.mark.parametrize(("network", "score", "bound", "_"), BOUNDS)
def test_onnxruntime_decides_as_the_classifier(
    onnx: None, network: str, score: str, bound: str, _: str, tmp_path: Path
) -> None:
    """To the digit that the page says."""
    classifier, x = fitted(network, score)
    assert save_onnx(classifier, x, tmp_path / "classifier.onnx") <= float(bound)
    assert [path.name for path in tmp_path.iterdir()] == ["classifier.onnx"]
    assert_decides(onnx_runner(tmp_path / "classifier.onnx"), classifier, x, float(bound))


@pytest.mark.parametrize(
    "score",
    [Radius("fast", options={"bounds": (0.0, 1.0), "scale": 2.0}), Preprocessed(Entropy(), 0.01)],
    ids=str,
)
def test_other_scores_with_a_gradient(
    onnx: None, score: Score, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    model, x = digits_cnn(), torch.rand(64, 1, 8, 8)
    model.load_state_dict(weights)
    loader = [(x, engine.logits(model, x).argmax(dim=1))]
    classifier = SelectiveClassifier(model, score).fit(loader, coverage=0.5)
    found = save_onnx(classifier, x, tmp_path / "classifier.onnx")
    assert_decides(onnx_runner(tmp_path / "classifier.onnx"), classifier, x, found)


def test_a_pool_keeps_nan_that_onnxruntime_drops(onnx: None, tmp_path: Path) -> None:
    """Wherever in a window it lies, also with scores whose gradient is not asked for."""
    model = nn.Sequential(nn.MaxPool2d(2), nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(4, 3))
    classifier, x = SelectiveClassifier(model, "max_logit"), torch.rand(16, 1, 4, 4)
    save_onnx(classifier, x, tmp_path / "classifier.onnx")
    x.flatten(1).fill_diagonal_(math.nan)
    _, confidence, _ = onnx_runner(tmp_path / "classifier.onnx")(x)
    assert confidence.isnan().all()


LOADED = """
import sys, torch
x = torch.load("x")
{code}
torch.save([run(x[:size].contiguous()) for size in (1, 2, 7, 64)], "results")
assert not any(name.split(".")[0] == "rrfast" for name in sys.modules)
for wrong in (x[:, :, :8], x.double(), x.transpose(2, 3)):
    try:
        run(wrong)
    except RuntimeError as error:
        assert "unmatched" in str(error), error
    else:
        raise AssertionError(wrong.shape)
"""


def test_aotinductor_decides_as_the_classifier(tmp_path: Path) -> None:
    """In a fresh process, without rrfast; shape, dtype and layout are checked if it is asked to."""
    network, score, _, bound = next(row for row in BOUNDS if row[:2] == ("ResNet", "radius_grad"))
    classifier, x = fitted(network, score)
    assert save_aoti(classifier, x, tmp_path / "classifier.pt2") <= float(bound)
    torch.save(x, tmp_path / "x")
    (code,) = (code for code in CODES if "aoti_load_package" in code and ">>>" not in code)
    environment = {**os.environ, "AOTI_RUNTIME_CHECK_INPUTS": "1", "PYTHONPATH": ""}
    subprocess.run(
        [sys.executable, "-c", LOADED.format(code=code)],
        cwd=tmp_path,
        env=environment,
        check=True,
        timeout=240,
    )
    for results in torch.load(tmp_path / "results"):
        wanted = classifier(x[: len(results[0])])
        assert torch.equal(results[0], wanted.prediction)
        torch.testing.assert_close(results[1], wanted.confidence, rtol=float(bound), atol=0)
        assert torch.equal(results[2], wanted.accept)


# ---------------------------------------------------------------------------------- what is refused


def changed(**fields: Callable[[Tensor], Tensor]) -> Callable[[Selection], Selection]:
    return lambda of: of._replace(**{n: change(getattr(of, n)) for n, change in fields.items()})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (changed(prediction=lambda p: (p + 1) % 3), "another prediction for 8, another decision"),
        (changed(accept=lambda a: ~a), "another decision for 8, and a confidence"),
        (changed(confidence=lambda c: c * 1.01), "off by a relative 0.01, where 0.001"),
        (changed(confidence=lambda c: c.nan_to_num(1.0)), "of 2 inputs .* off by a relative inf"),
    ],
)
def test_a_runtime_that_differs_is_refused(
    change: Callable[[Selection], Selection], sentence: str
) -> None:
    x = torch.rand(8, 4)
    classifier = SelectiveClassifier(nn.Linear(4, 3), "max_logit")
    classifier.threshold.fill_(0.0)
    assert agreement(classifier, classifier, x, 0.0, "It") == 0.0
    with pytest.raises(RuntimeError, match=f"It must decide as the classifier.*{sentence}"):
        agreement(lambda x: change(classifier(x)), classifier, x, 1e-3, "It")


class Sampled(nn.Module):
    """Turns images by interpolation, which ONNX has no backward for."""

    def forward(self, x: Tensor) -> Tensor:
        turned = torch.tensor([[0.8, 0.6, 0.0], [-0.6, 0.8, 0.0]]).expand(x.shape[0], -1, -1)
        grid = nn.functional.affine_grid(turned, list(x.shape), align_corners=False)
        return nn.functional.grid_sample(x, grid, align_corners=False)


class Fixed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.ones(len(x), 1)


def test_an_operation_that_onnx_lacks_is_named(onnx: None, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1), Sampled(), nn.Flatten())
    classifier, x = SelectiveClassifier(model, "radius_grad"), torch.rand(3, 1, 4, 4)
    sentence = r"operation aten\.grid_sampler_2d_backward, which 1 \(Sampled\) of the model runs"
    with pytest.raises(RuntimeError, match=sentence):
        save_onnx(classifier, x, tmp_path / "classifier.onnx")
    assert not list(tmp_path.iterdir())


def test_a_dtype_that_onnxruntime_lacks(onnx: None, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 2), nn.Flatten()).double()
    x = torch.rand(3, 1, 4, 4, dtype=torch.float64)
    with pytest.raises(
        RuntimeError, match=r"onnxruntime cannot run .* most kernels for float32; no file"
    ):
        save_onnx(SelectiveClassifier(model), x, tmp_path / "classifier.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("classifier", "x", "name", "error", "sentence"),
    [
        (SelectiveClassifier(nn.Identity(), Radius("bs")), (2, 3), "c", ValueError, "a search"),
        (SelectiveClassifier(Fixed()), (2, 3), "c", ValueError, "for any number of inputs"),
        (SelectiveClassifier(nn.Identity()), (0, 3), "c", ValueError, "x must have at least one"),
        (SelectiveClassifier(nn.Identity()), (2, 3), None, TypeError, "path must be a path"),
        (nn.Identity(), (2, 3), "c", TypeError, "classifier must be a rrfast.Selective"),
    ],
)
@pytest.mark.parametrize("save", [save_onnx, save_aoti])
def test_wrong_arguments(
    onnx: None,
    save: Callable[..., float],
    classifier: Any,
    x: tuple[int, ...],
    name: str | None,
    error: type[Exception],
    sentence: str,
    tmp_path: Path,
) -> None:
    path = None if name is None else tmp_path / f"{name}.pt2"
    with pytest.raises(error, match=sentence):
        save(classifier, torch.rand(x), path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_or_in_the_way(onnx: None, tmp_path: Path) -> None:
    """Before the export."""
    for save in (save_onnx, save_aoti):
        with pytest.raises(FileNotFoundError, match="path must be in a folder that exists, got"):
            save(SelectiveClassifier(nn.Identity()), torch.rand(2, 3), tmp_path / "no" / "c.pt2")
        (tmp_path / "c.pt2").mkdir(exist_ok=True)
        for folder in (tmp_path / "c.pt2", ""):
            with pytest.raises(IsADirectoryError, match=r"path must be a file, and '.*' is a fold"):
                save(SelectiveClassifier(nn.Identity()), torch.rand(2, 3), folder)


def test_what_an_onnx_file_cannot_hold(
    onnx: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("rrfast.selective.onnx_file.LARGEST", 24)
    classifier = SelectiveClassifier(nn.Linear(3, 2))
    with pytest.raises(ValueError, match="less than 24 bytes of weights for an ONNX file, got 40"):
        save_onnx(classifier, torch.rand(2, 3), tmp_path / "c.onnx")
    with pytest.raises(TypeError, match=r"x must be of a dtype of NumPy, .* got a bfloat16 tensor"):
        save_onnx(classifier.bfloat16(), torch.rand(2, 3).bfloat16(), tmp_path / "c.onnx")


def test_the_ending_that_torch_asks_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"path must end in \.pt2, got .*classifier\.so"):
        save_aoti(SelectiveClassifier(nn.Identity()), torch.rand(2, 3), tmp_path / "classifier.so")


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named(
    onnx: None, package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    sentence = rf"save_onnx needs {package}, .*pip install 'rrfast\[onnx\]'"
    with pytest.raises(ImportError, match=sentence):
        save_onnx(SelectiveClassifier(nn.Identity()), torch.rand(2, 3), tmp_path / "c.onnx")


# ---------------------------------------------------------------------------------------- the page


def test_examples_run(onnx: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    names: dict[str, Any] = {}
    for code in (code for code in CODES if ">>>" in code):
        example = doctest.DocTestParser().get_doctest(code, {}, "page", "deployment.md", 0)
        example.globs = names
        doctest.DocTestRunner().run(example, out=said.append, clear_globs=False)
    assert not said, "".join(said)


def test_the_table_is_what_was_measured() -> None:
    (path,) = ROOT.glob("benchmarks/results/*/deployment.md")
    rows = re.findall(
        r"^\| `(\w+)` \| `(\w+)` \| (\S+) \| (\S+) \|", path.read_text(), re.MULTILINE
    )
    assert [row[:2] for row in rows] == [row[:2] for row in BOUNDS]
    for measured, bounds in zip(rows, BOUNDS, strict=True):
        for one, bound in zip(measured[2:], bounds[2:], strict=True):
            assert float(one) <= float(bound) <= max(100 * float(one), 1e-6), bounds
