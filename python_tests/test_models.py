"""Models by name, and the sentences about names that are none."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch

from rrfast.data import synthetic_cnn
from rrfast.models import load_model

# Not importorskip for all of it: its metadata asks for torchvision, and so it is seldom installed.
needs_pytorchcv = pytest.mark.skipif(
    importlib.util.find_spec("pytorchcv") is None, reason="pytorchcv is not installed"
)


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_a_function_of_a_module():
    model = load_model("rrfast.data:synthetic_cnn")
    assert parameters(model) == parameters(synthetic_cnn())


def test_a_function_of_a_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("import torch\nSIZE = 3\ndef build():\n    return torch.nn.Linear(SIZE, 2)\n")
    state = torch.get_rng_state()
    a, b, c = (load_model(f"{path}:build", seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(a.weight, b.weight)
    assert not torch.equal(a.weight, c.weight)


def test_weights(tmp_path):
    path = tmp_path / "weights.pt"
    expected = synthetic_cnn(seed=7)
    torch.save(expected.state_dict(), path)
    model = load_model("rrfast.data:synthetic_cnn", weights=path)
    assert torch.equal(model[0].weight, expected[0].weight)
    for state in (torch.nn.Linear(2, 2).state_dict(), [1]):
        torch.save(state, path)
        with pytest.raises(ValueError, match=r"weights must be a state_dict of .*synthetic_cnn"):
            load_model("rrfast.data:synthetic_cnn", weights=path)
    path.write_text("no weights")
    with pytest.raises(ValueError, match=r"weights must be a state_dict of .*synthetic_cnn"):
        load_model("rrfast.data:synthetic_cnn", weights=path)
    with pytest.raises(FileNotFoundError, match="weights must be a file"):
        load_model("rrfast.data:synthetic_cnn", weights=tmp_path / "none.pt")


@pytest.mark.parametrize(
    ("spec", "error", "sentence"),
    [
        ("resnet50", ValueError, r"model must be one of pytorchcv:NAME, .* got 'resnet50'"),
        (":f", ValueError, "model must be one of"),
        ("a:", ValueError, "model must be one of"),
        ("no_such_module:f", ImportError, "No module named 'no_such_module'. Known forms"),
        ("no/such/file.py:f", FileNotFoundError, "model must name a file that exists"),
        ("rrfast.data:synthetic_cn", ValueError, "did you mean synthetic_cnn"),
        ("rrfast.data:zzz", ValueError, "which has no 'zzz'$"),
        ("rrfast.data:digits", TypeError, "must return an nn.Module, got Digits"),
    ],
)
def test_unknown(spec, error, sentence):
    with pytest.raises(error, match=sentence):
        load_model(spec)


@pytest.mark.parametrize("zoo", ["torchvision", "timm", "pytorchcv"])
def test_without_the_zoo(zoo, monkeypatch):
    monkeypatch.setitem(sys.modules, zoo, None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ImportError, match=f"pip install .*{zoo}"):
        load_model(f"{zoo}:resnet50")


@needs_pytorchcv
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("resnet20_cifar10", 272_474),
        ("wrn16_10_cifar10", 17_116_634),  # in its list
        ("wrn16_4_cifar10", 2_748_890),  # by its pattern, Zagoruyko & Komodakis's 2.75 million
    ],
)
def test_pytorchcv(name, count):
    imported = "torchvision" in sys.modules
    model = load_model(f"pytorchcv:{name}")
    assert parameters(model) == count
    assert model.eval()(torch.rand(1, 3, 32, 32)).shape == (1, 10)
    assert ("torchvision" in sys.modules) == imported


@needs_pytorchcv
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("resnet20_cifar1", "did you mean resnet20_cifar10 or"),
        ("wrn17_4_cifar10", r"must have 6 n \+ 4 layers, .* got 'wrn17_4_cifar10'"),
    ],
)
def test_pytorchcv_unknown(name, sentence):
    with pytest.raises(ValueError, match=sentence):
        load_model(f"pytorchcv:{name}")
