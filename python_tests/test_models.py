"""Models by name, the sentences about names that are none, and what goes around a model."""

from __future__ import annotations

import copy
import importlib.util
import random
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import rrfast
from rrfast.models import FirstClasses, Normalize, digits_cnn, load_model, synthetic_cnn
from rrfast.models.load import runs_foreign_code
from rrfast.models.normalize import STATISTICS

# Not importorskip for all of it: its metadata asks for torchvision, and so it is seldom installed.
needs_pytorchcv = pytest.mark.skipif(
    importlib.util.find_spec("pytorchcv") is None, reason="pytorchcv is not installed"
)


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_a_function_of_a_module():
    model = load_model("rrfast.models:synthetic_cnn")
    assert parameters(model) == parameters(synthetic_cnn())


def test_a_function_of_a_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("import torch\nSIZE = 3\ndef build():\n    return torch.nn.Linear(SIZE, 2)\n")
    state = torch.get_rng_state()
    a, b, c = (load_model(f"{path}:build", seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(a.weight, b.weight)
    assert not torch.equal(a.weight, c.weight)


def test_a_seed_reaches_a_function_that_seeds_itself():
    a, b, c = (load_model("rrfast.models:digits_cnn", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(a[0].weight, b[0].weight)
    assert not torch.equal(a[0].weight, c[0].weight)


def test_weights(tmp_path):
    path = tmp_path / "weights.pt"
    expected = synthetic_cnn(seed=7)
    torch.save(expected.state_dict(), path)
    model = load_model("rrfast.models:synthetic_cnn", weights=path)
    assert torch.equal(model[0].weight, expected[0].weight)
    for state in (torch.nn.Linear(2, 2).state_dict(), [1]):
        torch.save(state, path)
        with pytest.raises(ValueError, match=r"weights must be a state_dict of .*synthetic_cnn"):
            load_model("rrfast.models:synthetic_cnn", weights=path)
    path.write_text("no weights")
    with pytest.raises(ValueError, match=r"weights must be a state_dict of .*synthetic_cnn"):
        load_model("rrfast.models:synthetic_cnn", weights=path)
    with pytest.raises(FileNotFoundError, match="weights must be a file"):
        load_model("rrfast.models:synthetic_cnn", weights=tmp_path / "none.pt")
    torch.save({"x": torch.nn.Linear}, path)  # which only code of the file could bring back
    with pytest.raises(ValueError, match=r"weights must be a state_dict of .*synthetic_cnn"):
        load_model("rrfast.models:synthetic_cnn", weights=path)


def test_weights_of_safetensors(tmp_path):
    path = tmp_path / "weights.safetensors"
    expected = synthetic_cnn(seed=7)
    pytest.importorskip("safetensors.torch").save_file(expected.state_dict(), path)
    model = load_model("rrfast.models:synthetic_cnn", weights=path)
    assert torch.equal(model[0].weight, expected[0].weight)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"weights must be a state_dict of .*synthetic_cnn"):
        load_model("rrfast.models:synthetic_cnn", weights=path)


@pytest.mark.parametrize(
    "spec", ["rrfast.models:digits_cnn", "rrfast.models.small:lenet", "timm:x", "pytorchcv:y"]
)
def test_code_of_ours_and_of_the_zoos(spec):
    assert not runs_foreign_code(spec)


@pytest.mark.parametrize(
    "source",
    [
        *("net.py", "os", "nets.mine", "rrfast.cli", "rrfast", "timm.models", ""),
        # Files that call themselves ours, which `load_model` would run.
        *("rrfast.data.py", "rrfast.models.x.py", "rrfast.data/../net.py", "rrfast.models\n.py"),
        *("rrfast.databases", "x.rrfast.data", "rrfast.data.", "rrfast.data\n"),
    ],
)
def test_code_that_is_not(source):
    assert runs_foreign_code(f"{source}:build")


def test_damaged_weights_are_a_sentence(tmp_path):
    """Every flipped bit is found, or changes nothing that is read."""
    (tmp_path / "net.py").write_text("import torch\ndef net():\n    return torch.nn.Linear(3, 2)\n")
    spec, path = f"{tmp_path / 'net.py'}:net", tmp_path / "weights.pt"
    weights = load_model(spec, seed=1).state_dict()
    torch.save(weights, path)
    good, draws, told = path.read_bytes(), random.Random(0), []
    for place in draws.sample(range(8 * len(good)), 300):
        bad = bytearray(good)
        bad[place // 8] ^= 1 << place % 8
        path.write_bytes(bad)
        try:
            found = load_model(spec, weights=path).state_dict()
        except ValueError as error:
            told.append(str(error))
        else:
            assert all(torch.equal(found[name], value) for name, value in weights.items()), place
    assert len(told) > 100
    assert all(sentence.startswith("weights must be a state_dict of ") for sentence in told)


@pytest.mark.parametrize(
    ("spec", "error", "sentence"),
    [
        ("resnet50", ValueError, r"model must be one of pytorchcv:NAME, .* got 'resnet50'"),
        (":f", ValueError, "model must be one of"),
        ("a:", ValueError, "model must be one of"),
        ("no_such_module:f", ImportError, "No module named 'no_such_module'. Known forms"),
        ("no/such/file.py:f", FileNotFoundError, "model must name a file that exists"),
        ("rrfast.models:synthetic_cn", ValueError, "did you mean synthetic_cnn"),
        ("rrfast.data:zzz", ValueError, "which has no 'zzz'$"),
        ("rrfast.data:digits", TypeError, "must return an nn.Module, got Digits"),
        ("math:sqrt", ValueError, "without further arguments, and 'math:sqrt' needs x$"),
        ("torch.nn:Linear", ValueError, "'torch.nn:Linear' needs in_features, out_features$"),
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


# --------------------------------------------------------------------------- the number of logits


@pytest.mark.parametrize("function", ["digits_cnn", "synthetic_cnn"])
def test_classes_of_a_function(function):
    model = load_model(f"rrfast.models:{function}", classes=7)
    expected = {"digits_cnn": digits_cnn, "synthetic_cnn": synthetic_cnn}[function](classes=7)
    assert model[-1].out_features == 7
    assert torch.equal(model[-1].weight, expected[-1].weight)
    assert load_model(f"rrfast.models:{function}")[-1].out_features == 10


@pytest.mark.parametrize(
    ("signature", "taken"),
    [
        ("classes", True),
        ("classes=10", True),
        ("*, classes=10", True),
        ("**classes", True),
        ("", False),
        ("n=10", False),
        ("classes=10, /", False),
        ("*classes", False),
    ],
)
def test_classes_by_the_signature(signature, taken, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "import torch\n"
        f"def build({signature}):\n"
        "    n = classes['classes'] if isinstance(classes, dict) else classes\n"
        "    return torch.nn.Linear(3, n)\n"
    )
    if taken:
        assert load_model(f"{path}:build", classes=np.int64(5)).out_features == 5
    else:
        with pytest.raises(ValueError, match=r"mine.py:build' must take .* here 5, as an argum"):
            load_model(f"{path}:build", classes=5)


def test_classes_without_a_default(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def build(classes): ...\n")
    with pytest.raises(ValueError, match="needs classes; a default for it lets every command"):
        load_model(f"{path}:build")


def test_options_reach_the_function():
    model = load_model("rrfast.models:preresnet20", classes=5, options={"channels": 1})
    assert model(torch.rand(2, 1, 28, 28)).shape == (2, 5)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"channel": 1}, "channel, which .*preresnet20' .* takes channels; did you mean channels?"),
        ({"classes": 5}, "must not have classes, which is the argument classes"),
        ({"seed": 5}, "must not have seed, which is the argument seed"),
    ],
)
def test_options_that_the_function_does_not_take(options, sentence):
    with pytest.raises(ValueError, match=f"options {sentence}|options has {sentence}"):
        load_model("rrfast.models:preresnet20", options=options)


@pytest.mark.parametrize("classes", [1, 0, 2.0, True, "10"])
def test_classes_must_be_a_number_of_them(classes):
    with pytest.raises(ValueError, match="classes must be an integer of at least 2, got"):
        load_model("rrfast.models:synthetic_cnn", classes=classes)


def test_classes_of_a_function_without_a_signature():
    assert load_model("torch.nn:Identity", classes=5)  # **kwargs
    with pytest.raises(ValueError, match="here 5, as an argument classes, and does not"):
        load_model("builtins:type", classes=5)


def fake_zoo(name: str, function: str) -> ModuleType:
    """A zoo of one model, whose function keeps what it was called with."""
    zoo = ModuleType(name)

    def build(model: str, **arguments: object) -> nn.Module:
        zoo.called = (model, arguments)
        return nn.Linear(3, arguments.get("num_classes", 1000))

    setattr(zoo, function, build)
    zoo.list_models = lambda: ["resnet50"]
    return zoo


@pytest.mark.parametrize(
    ("name", "module", "function", "random"),
    [
        ("torchvision", "torchvision.models", "get_model", {"weights": None}),
        ("timm", "timm", "create_model", {"pretrained": False}),
    ],
)
def test_classes_of_other_zoos(name, module, function, random, monkeypatch):
    zoo = fake_zoo(module, function)
    monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module, zoo)
    assert load_model(f"{name}:resnet50").out_features == 1000
    assert zoo.called == ("resnet50", random)
    assert load_model(f"{name}:resnet50", classes=11).out_features == 11
    assert zoo.called == ("resnet50", random | {"num_classes": 11})
    with pytest.raises(ValueError, match=r"has no model 'resnet5' .*did you mean resnet50"):
        load_model(f"{name}:resnet5")


@needs_pytorchcv
@pytest.mark.parametrize(
    ("name", "classes", "expected"),
    [
        ("resnet20_cifar10", 11, 11),
        ("resnet20_cifar100", None, 100),
        ("resnet20_cifar100", 101, 101),
        ("densenet40_k12_bc_cifar10", 3, 3),
        ("resnext29_32x4d_cifar10", 11, 11),  # asserts no number
        ("nin_cifar10", 11, 11),  # nor this one, whose last layer is a convolution
        ("wrn16_1_cifar10", 11, 11),  # by its pattern
        ("wrn16_1_cifar10", None, 10),
        ("wrn16_1_cifar100", None, 100),
        ("wrn16_1_cifar100", 10, 10),
        ("resnet10", 12, 12),  # takes it among its keyword arguments
    ],
)
def test_classes_of_pytorchcv(name, classes, expected):
    model = load_model(f"pytorchcv:{name}", classes=classes).eval()
    size = 32 if "cifar" in name else 224
    assert model(torch.rand(1, 3, size, size)).shape == (1, expected)


@needs_pytorchcv
def test_resnet110_and_preresnet110_are_two_networks():
    """He et al.'s first ResNet, and that of identity mappings, which OpenMix calls ResNet110.

    In the latter there is no BatchNorm behind the first convolution nor on the two shortcuts that
    change the width (16, 32 and 64 channels of weight and bias), and one behind the last sum (64).
    """
    post, pre = (
        load_model(f"pytorchcv:{name}110_cifar10", classes=11).eval()
        for name in ("resnet", "preresnet")
    )
    x = torch.rand(2, 3, 32, 32)
    assert post(x).shape == pre(x).shape == (2, 11)
    for model in (post, pre):
        kernels = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size[0] == 3]
        assert len(kernels) == 109  # and one linear layer
    assert parameters(post) - parameters(pre) == 2 * (16 + 32 + 64) - 2 * 64 + 2 * (
        32 + 64 - 16 - 32
    )

    # What leaves a stage is a sum: behind a ReLU in the one, as it is in the other.
    sums = [model.features.stage1(model.features.init_block(x)) for model in (post, pre)]
    assert sums[0].min() >= 0
    assert sums[1].min() < 0


# -------------------------------------------------------------------------------------- Normalize


def exact(normalize: Normalize, x: torch.Tensor) -> torch.Tensor:
    """In float64, from Python's floats."""
    shape = (1, -1, *(1,) * (x.dim() - 2))
    mean, std = (torch.tensor(s, dtype=torch.float64) for s in normalize._statistics)
    return (x.double() - mean.view(shape)) / std.view(shape)


DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_normalize_is_the_formula(dtype, name):
    normalize = Normalize.of(name).to(dtype)
    x = torch.linspace(0, 1, 3 * 64 * 64).view(3, 64, 64)[:, None].repeat(1, 3, 1, 1).to(dtype)
    y = normalize(x)
    assert (y.dtype, y.shape) == (dtype, x.shape)
    # Half a unit in the last place each: 2 eps for a scale below 8 and 2 for its product with x,
    # 1 for a shift below 4 and 1 for a sum below 4.
    assert (y.double() - exact(normalize, x)).abs().max() < 6 * torch.finfo(dtype).eps


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 5), (0, 3, 4, 4), (2, 3, 4, 5), (2, 3, 2, 2, 2)])
def test_normalize_any_shape_with_channels(shape):
    normalize, x = Normalize.of("cifar10"), torch.rand(shape)
    torch.testing.assert_close(normalize(x).double(), exact(normalize, x), atol=1e-6, rtol=0)


def test_normalize_to_a_lower_precision_and_back_loses_nothing():
    there_and_back = Normalize.of("cifar10").half().double()
    assert there_and_back.mean.tolist() == [0.4914, 0.4822, 0.4465]
    assert there_and_back.std.tolist() == [0.2023, 0.1994, 0.2010]
    assert torch.equal(there_and_back.scale, 1 / there_and_back.std)
    assert torch.equal(there_and_back.shift, -there_and_back.mean / there_and_back.std)


def test_normalize_on_the_meta_device_and_back():
    with torch.device("meta"):
        normalize = Normalize.of("cifar10")
    assert normalize.scale.is_meta
    assert torch.equal(normalize.to_empty(device="cpu").scale, Normalize.of("cifar10").scale)


def test_normalize_that_does_not_move_keeps_its_memory():
    normalize = Normalize.of("cifar10")
    addresses = [buffer.data_ptr() for buffer in normalize.buffers()]
    normalize.to("cpu").float()
    assert [buffer.data_ptr() for buffer in normalize.buffers()] == addresses


@pytest.mark.parametrize("model", ["plain", "wrapped"])
def test_normalize_is_not_in_the_weights(model, tmp_path):
    inner = synthetic_cnn(seed=7)
    wrapped = nn.Sequential(Normalize.of("cifar10"), synthetic_cnn())
    assert Normalize.of("cifar10").state_dict() == {}
    assert list(wrapped.state_dict()) == [f"1.{key}" for key in inner.state_dict()]
    wrapped[1].load_state_dict(inner.state_dict())
    assert torch.equal(wrapped[1][0].weight, inner[0].weight)


def test_normalize_keeps_the_memory_format():
    x = torch.rand(2, 3, 8, 8)
    last = x.contiguous(memory_format=torch.channels_last)
    normalize = Normalize.of("cifar10")
    assert normalize(x).is_contiguous()
    assert normalize(last).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(normalize(last), normalize(x))


def test_normalize_gradient():
    normalize = Normalize.of("cifar10").double()
    x = torch.rand(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(normalize(x).sum(), x)
    torch.testing.assert_close(gradient, (1 / normalize.std).view(3, 1, 1).expand_as(x))
    assert not list(normalize.parameters())


def test_normalize_wider_dtype_and_autocast():
    normalize = nn.Sequential(Normalize.of("cifar10"), nn.Conv2d(3, 4, 1))
    x = torch.rand(2, 3, 4, 4)
    assert normalize[0](x.bfloat16()).dtype == torch.float32
    assert normalize[0](x.double()).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        for dtype in (torch.float32, torch.bfloat16):
            assert normalize(x.to(dtype)).dtype == torch.bfloat16
            torch.testing.assert_close(
                normalize[0](x.to(dtype)).double(),
                exact(normalize[0], x.to(dtype)),
                atol=1e-6,
                rtol=0,
            )


def test_normalize_compiled():
    normalize, x = Normalize.of("cifar10"), torch.rand(2, 3, 4, 4)
    compiled = torch.compile(normalize, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(x), normalize(x))


def test_normalize_makes_the_radius_one_in_pixels():
    """What scale=1 / std gives for normalised inputs, a wrapped model gives for pixels."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 4)).double()
    normalize, x = Normalize.of("cifar10").double(), torch.rand(8, 3, 2, 2, dtype=torch.float64)
    wrapped = rrfast.radius(nn.Sequential(normalize, network), x)
    scaled = rrfast.radius(network, normalize(x), scale=(1 / normalize.std).view(3, 1, 1))
    torch.testing.assert_close(wrapped, scaled)


def test_normalize_copies_and_says_what_it_is():
    normalize = copy.deepcopy(Normalize([0.5], np.array([0.25]))).double()
    assert repr(normalize) == "Normalize(mean=[0.5], std=[0.25])"
    assert torch.equal(normalize.std, torch.tensor([0.25], dtype=torch.float64))
    assert repr(Normalize(torch.tensor([0.5]), torch.tensor([0.25]))) == repr(normalize)


@pytest.mark.parametrize(
    ("mean", "std", "error", "sentence"),
    [
        ([0.5], [0.0], ValueError, r"std must be greater than 0, got \[0.0\]"),
        ([0.5], [-1], ValueError, r"std must be greater than 0, got \[-1.0\]"),
        ([0.5, 0.5], [1], ValueError, "mean and std must have one number .*, got 2 and 1"),
        ([float("nan")], [1], ValueError, r"mean must be a finite number .*, got \[nan\]"),
        ([0.5], [float("inf")], ValueError, "std must be a finite number per channel"),
        (
            [],
            [],
            ValueError,
            r"mean must be a finite number per channel, of at least one, got \[\]",
        ),
        (0.5, [1], TypeError, "mean must be a number per channel, got float 0.5"),
        (torch.tensor(0.5), [1], TypeError, "mean must be a number per channel, got float 0.5"),
        ([0.5], "cifar10", TypeError, "std must be a number per channel, got str 'cifar10'"),
        ([0.5], [[1]], TypeError, r"std must be a number per channel, got list \[1\] in it"),
    ],
)
def test_normalize_invalid(mean, std, error, sentence):
    with pytest.raises(error, match=sentence):
        Normalize(mean, std)


@pytest.mark.parametrize("name", ["cifar1", "ImageNet", 10])
def test_normalize_unknown_name(name):
    allowed = "cifar10, cifar100, imagenet"
    with pytest.raises(ValueError, match=f"normalization must be one of {allowed}, got"):
        Normalize.of(name)


@pytest.mark.parametrize(
    ("x", "error", "sentence"),
    [
        (torch.rand(2, 1, 4, 4), ValueError, r"x must have shape \[B, 3, ...\], got a float32"),
        (torch.rand(3), ValueError, r"x must have shape \[B, 3, ...\], got a float32"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), TypeError, "x must be a tensor of float"),
    ],
)
def test_normalize_invalid_input(x, error, sentence):
    with pytest.raises(error, match=sentence):
        Normalize.of("imagenet")(x)


# ----------------------------------------------------------------------------------- FirstClasses


class WithLogits(nn.Linear):
    """As transformers' models answer."""

    def forward(self, x):
        return SimpleNamespace(logits=super().forward(x))


@pytest.mark.parametrize("kind", [nn.Linear, WithLogits])
def test_first_classes(kind):
    model, x = kind(4, 11), torch.rand(3, 4)
    first = FirstClasses(model, 10)
    assert torch.equal(first(x), nn.functional.linear(x, model.weight, model.bias)[:, :10])
    assert torch.equal(FirstClasses(model, 11)(x)[:, :10], first(x))
    assert list(first.parameters()) == list(model.parameters())
    assert first.model.state_dict().keys() == {"weight", "bias"}


def test_first_classes_have_the_radius_of_the_task():
    """The same as that of a model which never had the extra class, even where it is likeliest."""
    model, x = nn.Linear(6, 5).double(), torch.randn(16, 6, dtype=torch.float64)
    with torch.no_grad():
        model.bias[4] = 100
    alone = nn.Linear(6, 4).double()
    alone.load_state_dict({"weight": model.weight[:4], "bias": model.bias[:4]})
    first = FirstClasses(model, 4)
    assert set(first(x).argmax(1).tolist()) <= {0, 1, 2, 3}
    torch.testing.assert_close(rrfast.radius(first, x), rrfast.radius(alone, x))


def test_first_classes_invalid():
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got function"):
        FirstClasses(parameters, 10)
    with pytest.raises(ValueError, match="classes must be an integer of at least 2, got 1"):
        FirstClasses(nn.Linear(4, 10), 1)
    with pytest.raises(ValueError, match=r"model must have at least 10 logits, .* and has 9"):
        FirstClasses(nn.Linear(4, 9), 10)(torch.rand(2, 4))
    with pytest.raises(ValueError, match=r"model's logits must have shape \[B, K\]"):
        FirstClasses(nn.Linear(4, 10), 10)(torch.rand(2, 3, 4))
    with pytest.raises(TypeError, match="model must return a tensor of logits"):
        FirstClasses(nn.LSTM(4, 10), 10)(torch.rand(2, 3, 4))
