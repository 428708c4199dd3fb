"""`rrfast bench`: its measurements, its files, and its errors for wrong arguments."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import math
import re
import shlex
import shutil
import subprocess
import sys
import time
import tracemalloc
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
import torch
from peers import stand_ins
from rich.console import Console

import rrfast
from rrfast import _turns, bench, cli
from rrfast.bench import contestants, quality, tables
from rrfast.bench import peers as module
from rrfast.bench.pareto import SETTINGS, settings_of
from rrfast.bench.speed import fastest, rows_of
from rrfast.bench.subject import load
from rrfast.evaluate import read_result
from rrfast.evaluate.run_numbers import spearman
from rrfast.evaluate.study import page
from rrfast.methods import METHODS
from rrfast.models import synthetic_cnn

QUICK = bench.Settings(methods=("fast", "grad"), batch=(2, 4), samples=6, seconds=1e-3, size=16)
QUIET = Console(quiet=True)
#: A result without any measurement.
ROWLESS = {
    "device": "CPU",
    "threads": 1,
    "versions": {},
    "date": "",
    "seconds": 1.0,
    "command": "",
    "throughput": [],
    "worth": [],
    "kernels": {},
    "complete": True,
    "settings": {"model": "m", "weights": "w", "samples": 3, "data": "d", "batch": (3,)},
}


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """Exit code, output and folder of one smoke run."""
    out = tmp_path_factory.mktemp("smoke") / "made" / "by the bench"
    command = [sys.executable, "-m", "rrfast", "bench", "--smoke", "--pareto"]
    command += ["--methods", "fast,bs,grad", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, encoding="utf-8")
    return done, out


def test_smoke_run(smoke):
    done, out = smoke
    assert done.returncode == 0, done.stderr
    written = ["bench.json", "bench.md", "pareto.png", "throughput.png"]
    assert sorted(path.name for path in out.iterdir()) == written
    for word in ("MSR", "naive loop", "images/s", "F-eq/s", "AUROC", "FPR95", "positive class"):
        assert word in done.stdout
    assert "The weights are random: only the speed is meaningful" in " ".join(done.stdout.split())


def test_json(smoke):
    _, out = smoke
    result = json.loads((out / "bench.json").read_text(encoding="utf-8"))
    assert result["complete"]
    assert result["command"] == (
        "rrfast bench --methods fast,bs,grad --batch 4 --dtype float32 bfloat16 --device cpu "
        "--size 16 --samples 16 --seconds 0.005 --pareto"
    )
    assert {"date", "device", "processor", "threads", "versions", "kernels"} <= set(result)
    assert str(out) not in json.dumps(result)
    names = ["msr", "naive loop", "fast", "bs", "grad"]
    order = [(n, "float32") for n in names] + [(n, "bfloat16") for n in names if " " not in n]
    for part in ("throughput", "worth"):
        assert [(row["method"], row["dtype"]) for row in result[part]] == order
    passes = {"msr": (1, 0), "naive loop": (49, 24), "fast": (2, 1), "bs": (25, 1), "grad": (1, 1)}
    for row in result["throughput"]:
        assert row["error"] is None
        forwards, backwards = passes[row["method"]]
        assert (row["forwards"], row["backwards"]) == (forwards, backwards)
        assert row["forward_equivalents_per_second"] == pytest.approx(
            row["images_per_second"] * (forwards + 2 * backwards)
        )
        assert row["images_per_second"] > 0 < row["times_msr"]
        assert row["memory_bytes"] is None  # on a CPU it is not measured


def test_markdown_and_figures(smoke):
    _, out = smoke
    lines = (out / "bench.md").read_text(encoding="utf-8").splitlines()
    for line in lines:
        if line.startswith("| fast | float32"):
            assert line.count("|") == 10
    for name in ("throughput.png", "pareto.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    # Written from memory, and again from a file, which has no infinity.
    result = read_result(out / "bench.json")
    again = page(tables.STUDY, result, list(tables.STUDY.figures(result)))
    assert again.splitlines() == lines


def test_worth_is_what_the_library_computes(tmp_path):
    result = bench.run(QUICK, tmp_path, QUIET)
    model, x, y, *_ = load(QUICK)
    rows = {row["method"]: row for row in result["worth"]}
    found = rrfast.radius(model, x, method="grad", full_output=True)
    reference = rrfast.radius(model, x, method="bs")
    right = found.prediction == y
    assert rows["grad"]["aurc"] == pytest.approx(rrfast.metrics.aurc(found.radius, right))
    assert rows["grad"]["auroc"] == pytest.approx(
        rrfast.metrics.auroc(found.radius, right), nan_ok=True
    )
    off = ((found.radius - reference).abs() / reference).double()
    assert rows["grad"]["against_bs"]["median"] == pytest.approx(off.median().item(), rel=1e-4)
    assert rows["grad"]["against_bs"]["compared"] == 6
    assert [row["batch"] for row in result["throughput"]] == [2] * 4 + [4] * 4


def test_worth_of_what_was_timed_is_the_same(tmp_path):
    once, again = (
        bench.run(replace(QUICK, methods=("bs", "grad"), samples=4, batch=batch), tmp_path, QUIET)
        for batch in ((4,), (2,))
    )
    assert [row["method"] for row in once["worth"]] == ["msr", "naive loop", "bs", "grad"]
    for a, b in zip(once["worth"], again["worth"], strict=True):
        assert a["median"] == pytest.approx(b["median"], rel=1e-4)
        assert (a["auroc"], a["aurc"]) == pytest.approx((b["auroc"], b["aurc"]), nan_ok=True)


def test_the_naive_loop_is_bs():
    """With float64 inputs the two attack in the same directions, and the search is the same."""
    model = synthetic_cnn().double().eval()
    x = torch.rand(8, 3, 16, 16, dtype=torch.float64)
    outcome = contestants.naive_loop(model)(x)
    expected = rrfast.radius(model, x, method="bs", compat="released")
    torch.testing.assert_close(outcome.score.double(), expected, rtol=1e-6, atol=0)
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_msr_is_the_librarys():
    model, x = synthetic_cnn().eval(), torch.rand(8, 3, 16, 16)
    probability = rrfast.scores.MSR()(model, x).sigmoid()
    torch.testing.assert_close(contestants.msr(model)(x).score, probability, rtol=1e-12, atol=0)


def test_a_model_with_an_object_of_logits():
    class Wrapped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = synthetic_cnn()

        def forward(self, x):
            return SimpleNamespace(logits=self.inner(x))

    model, x = Wrapped().eval(), torch.rand(4, 3, 16, 16)
    for make in (contestants.msr, contestants.naive_loop):
        assert torch.equal(make(model)(x).score, make(model.inner)(x).score)


# ------------------------------------------------------------------------------------- parts of it


def test_turns():
    slept = {"one": 0.01, "two": 0.02}
    calls = []

    def sleep(name, seconds):
        calls.append(name)
        time.sleep(seconds)
        return name

    timed = _turns.Turns(
        lambda: sleep("floor", 0.01),
        {name: lambda n=name, s=s: sleep(n, s) for name, s in slept.items()},
        seconds=0.05,
        device=torch.device("cpu"),
    ).take()
    assert timed["one"].first == "one"
    assert len(timed["one"].own) == len(timed["one"].floor) >= _turns.LEAST
    assert timed["two"].seconds() >= 0.02
    # Everyone runs right after the floor, in turns.
    assert calls[:7] == ["floor", "floor", "one", "floor", "two", "floor", "one"]
    assert all(before == "floor" for before, name in itertools.pairwise(calls) if name != "floor")


def test_turns_of_the_slow_and_of_the_broken():
    def broken():
        raise RuntimeError("out of memory\nand so on")

    timed = _turns.Turns(
        lambda: None,
        {"slow": lambda: time.sleep(0.02), "broken": broken},
        seconds=1e-3,
        device=torch.device("cpu"),
    ).take()
    assert len(timed["slow"].own) == 1
    assert timed["broken"].error == "RuntimeError: out of memory"


@pytest.mark.parametrize("ties", [False, True])
def test_spearman(ties):
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 50, generator=generator, dtype=torch.float64)
    if ties:
        a, b = (a * 5).round(), (b * 5).round()
    assert spearman(a, b) == pytest.approx(scipy.stats.spearmanr(a, b).statistic)
    a[0] = math.inf
    assert spearman(a, a.exp()) == pytest.approx(1)
    b[1] = math.nan
    left = b.isfinite()
    expected = scipy.stats.spearmanr(a[left], b[left]).statistic
    assert spearman(a, b) == pytest.approx(expected)


def test_agreement():
    reference = torch.tensor([1.0, 2.0, 4.0, 0.0, math.inf, 1.0])
    radius = torch.tensor([1.0, 3.0, 3.0, 1.0, 1.0, math.inf])
    found = quality.agreement(radius.double(), reference.double())
    assert (found["compared"], found["median"]) == (3, 0.25)
    assert quality.agreement(radius[3:], reference[3:])["median"] is None


def near(model, x, y):
    """A step towards the second class of the linear model below, seen by one gradient."""
    x = x.clone().requires_grad_()
    h = model(x)
    grad = torch.autograd.grad((h[:, 1] - h[:, 0]).sum(), x)[0]
    return (x + 0.3 * grad.sign()).detach()


def test_peers(tmp_path, monkeypatch):
    """A library of one attack, one that fails, and one that does not import."""

    def absent():
        raise ImportError("No module named 'absent'")

    def broken(model, x, y):
        raise TypeError("no such argument")

    def fake():
        return {"near": near, "still": lambda _model, x, _y: x, "broken": broken}

    monkeypatch.setattr(module, "PEERS", {"fake": fake, "absent": absent})
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0] * 4, [0.0] * 4]))
        model[1].bias.copy_(torch.tensor([0.0, 1.0]))
    x = torch.full((3, 1, 2, 2), 0.3)
    subject = SimpleNamespace(model=model.eval(), x=x, y=None)
    settings = replace(QUICK, methods=("grad", "search"), batch=(3,))
    rows = module.peers(subject, settings, lambda *_: None)
    by_name = {(row["library"], row["method"]): row for row in rows}
    assert [*by_name] == [
        *(("rrfast", "grad"), ("rrfast", "search"), ("released code", "loop")),
        *(("fake", "near"), ("fake", "still"), ("fake", "broken")),
        ("absent", "does not import"),
    ]
    # The boundary is where the four pixels, 0.3 each, add up to 1: 0.05 below.
    ours, peer = by_name["rrfast", "search"], by_name["fake", "near"]
    assert ours["median_radius"] == pytest.approx(0.05, rel=1e-3)
    assert peer["median_radius"] == pytest.approx(0.3)
    assert (peer["forwards"], peer["backwards"], peer["found"]) == (2, 1, 1)
    assert peer["beside_shortest"] == pytest.approx(6, rel=1e-3)
    assert peer["times_msr"] > 0 < peer["images_per_second"]
    assert (by_name["fake", "still"]["found"], by_name["fake", "still"]["forwards"]) == (0, 1)
    assert by_name["fake", "broken"]["error"] == "RuntimeError: TypeError: no such argument"
    assert by_name["absent", "does not import"]["error"] == "No module named 'absent'"
    said = page(tables.STUDY, {**ROWLESS, "peers": rows})
    assert "absent, does not import: No module named 'absent'." in said
    assert re.search(r"\| fake \| near \| .* \| 2 \| 1 \| 100 \| 0\.3 \| (6\.00|5\.99)\d \|", said)


def test_peers_need_images_in_their_box():
    with pytest.raises(
        ValueError, match=r"data must be images in \[0, 1\] with --peers, .* to 1\.5"
    ):
        module.check_in_box(torch.tensor([0.0, 1.5]))


def test_the_peers_that_are_here():
    """Each runs, and finds points of another class."""
    with stand_ins(), warnings.catch_warnings(), contextlib.suppress(ImportError):
        warnings.simplefilter("ignore")  # what old code says to new Pythons
        importlib.import_module("adv_lib.attacks")
    settings = replace(QUICK, model="rrfast.models:digits_cnn", data="digits", methods=("grad",))
    subject = load(replace(settings, batch=(2,), samples=2))
    for row in module.peers(subject, replace(settings, batch=(2,)), lambda *_: None):
        if row["method"] != "does not import":
            assert row["error"] is None, row
            assert row["found"] == 1.0
            assert row["forwards"] >= 1 <= row["backwards"]
    assert all(parameter.grad is None for parameter in subject.model.parameters())


@pytest.mark.parametrize(("name", "value"), [("methods", "fast"), ("batch", 3), ("dtype", None)])
def test_settings_of_several_values(name, value):
    sentence = f"{name} must be several, in a list or tuple, got {type(value).__name__}"
    with pytest.raises(TypeError, match=sentence):
        bench.Settings(**{name: value})


def test_every_setting_of_pareto_is_an_option():
    for method in METHODS:
        options = settings_of(method)
        assert options
        if method in SETTINGS:
            assert len(options) > 1, f"{method} has no option {SETTINGS[method][0]}"
        for chosen in options:
            METHODS[method](**chosen)


def test_speed(tmp_path, monkeypatch):
    # Compiling takes minutes; that it is asked for is seen in rows_of.
    module = importlib.import_module("rrfast.bench.speed")
    monkeypatch.delitem(module.OPTIONS, "compile")
    monkeypatch.setattr(module, "no_bfloat16", lambda _: False)
    result = bench.run(replace(QUICK, speed=True), tmp_path, QUIET)
    for row in result["speed"]:
        assert row["error"] is None
        assert row["images_per_second"] > 0
        if row["options"] != "bfloat16" and row["options"] != "all together":
            assert row["spearman"] > 0.99
    page = (tmp_path / "bench.md").read_text(encoding="utf-8")
    assert "What speed costs" in page
    for method in ("grad", "fast"):
        best = fastest(result["speed"], method)
        assert best is not None
        assert best[1] >= 1
        assert f"Fastest in float32, {method}: {best[0]}, {best[1]:.2f} × eager." in page
        assert best[0] not in ("bfloat16", "all together")


def test_speed_leaves_out_what_the_processor_cannot_do(tmp_path, monkeypatch):
    module = importlib.import_module("rrfast.bench.speed")
    monkeypatch.delitem(module.OPTIONS, "compile")
    for capabilities, left_out in (
        ({"amx_bf16": False, "avx512_bf16": False}, True),
        ({"amx_bf16": True, "avx512_bf16": False}, False),
        ({}, False),  # a processor of which nothing is known
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda c=capabilities: c, raising=False)
        assert module.no_bfloat16(torch.device("cpu")) == left_out
        assert not module.no_bfloat16(torch.device("cuda"))
    monkeypatch.setattr(module, "no_bfloat16", lambda _: True)
    rows = bench.run(replace(QUICK, speed=True), tmp_path, QUIET)["speed"]
    missing = {row["options"] for row in rows if row["error"]}
    assert missing == {"bfloat16", "all together"}
    assert "no bfloat16 in this processor" in (tmp_path / "bench.md").read_text(encoding="utf-8")


def test_what_was_measured_before_a_failure_is_kept(tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError("no more")

    monkeypatch.setattr(importlib.import_module("rrfast.bench.benchmark"), "speed", fail)
    with pytest.raises(OSError, match="no more"):
        bench.run(replace(QUICK, speed=True), tmp_path, QUIET)
    assert not json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))["complete"]


def test_speeds_rows():
    cpu = rows_of(torch.device("cpu"))
    assert next(iter(cpu)) == "eager"
    assert cpu["all together"].keys() == {"memory_format", "fold_batchnorm", "compile", "dtype"}
    assert cpu["all in float32"].keys() == cpu["all together"].keys() - {"dtype"}
    assert rows_of(torch.device("cuda"))["cuda_graph"] == {"cuda_graph": True}


def test_interrupted(tmp_path, monkeypatch, capsys):
    module = importlib.import_module("rrfast.bench.benchmark")

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "worth", interrupt)
    command = ["bench", "--smoke", "--methods", "grad", "--out", str(tmp_path)]
    assert cli.main(command) == 130
    output = capsys.readouterr()
    assert output.err == "rrfast: interrupted\n"
    assert "INCOMPLETE" in output.out
    assert "Written to" in output.out
    result = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert not result["complete"]
    assert len(result["throughput"]) == 5
    assert "INCOMPLETE" in (tmp_path / "bench.md").read_text(encoding="utf-8")


def test_own_data(tmp_path):
    generator = np.random.default_rng(0)
    x = generator.random((6, 3, 16, 16), dtype=np.float32)
    np.savez(tmp_path / "plain.npz", x=x)
    np.savez(tmp_path / "labelled.npz", x=x, y=np.arange(6))
    settings = replace(QUICK, data=str(tmp_path / "plain.npz"))
    result = bench.run(settings, tmp_path / "out", QUIET)
    assert all(row["aurc"] is None for row in result["worth"])
    assert load(replace(settings, data=str(tmp_path / "labelled.npz"))).y.tolist() == list(range(6))


# ------------------------------------------------------------------------------------- a training


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A training's folder: of images with a difficulty of their own, normalised."""
    pytest.importorskip("lightning_fabric")
    from rrfast.train import load_recipe, train

    changes = ["training.epochs=1", "training.seed=3", "model.normalize=cifar10"]
    changes += ["data={name: synthetic, train: 64, validation: 20, test: 60, difficulty: 0.3}"]
    folder = tmp_path_factory.mktemp("trainings") / "rat_3"
    train(load_recipe("synthetic_rat", changes), folder, console=QUIET)
    return folder


def test_a_training_comes_with_its_normalisation_and_its_data(trained, tmp_path):
    from rrfast.train import load_trained
    from rrfast.train.recipe import make_task

    settings = replace(QUICK, model=str(trained), samples=30)
    subject = load(settings)
    model, recipe = load_trained(trained)
    test = make_task(recipe).test
    same = {x.numpy().tobytes(): int(y) for x, y in zip(test.x, test.y, strict=True)}
    assert [same[x.numpy().tobytes()] for x in subject.x] == subject.y.tolist()
    with torch.no_grad():
        assert torch.equal(subject.model(subject.x), model(subject.x))
    others = load(replace(settings, data="synthetic difficulty=0.9"))
    assert not torch.equal(others.x, subject.x)
    assert torch.equal(next(others.model.parameters()), next(subject.model.parameters()))
    result = bench.run(settings, tmp_path, QUIET)
    page = (tmp_path / "bench.md").read_text(encoding="utf-8")
    assert "with weights last, 30 images of synthetic train=64" in page
    assert "random weights" not in page
    assert result["command"].startswith(f"rrfast bench --model {trained} --methods")


def test_table_4_has_the_numbers_of_evaluate(trained, tmp_path):
    from rrfast.evaluate import misd, trained_models

    settings = replace(QUICK, model=str(trained), methods=("fast", "grad"), tuning="rat")
    result = bench.run(settings, tmp_path / "bench", QUIET)
    expected = misd.evaluate(
        trained_models([trained]),
        tmp_path / "misd",
        scores=("msr", "radius_fast", "radius_grad"),
        tuning="rat",
        draws=0,
        sensitivity=False,
        batch=4,
        console=QUIET,
    )
    rows = {(row["method"], row["split"]): row for row in result["tuned"]}
    assert len(rows) == len(result["tuned"]) == len(expected["runs"]) == 9
    for run in expected["runs"]:
        row = rows[run["score"].removeprefix("radius_"), run["split"]]
        assert row["temperature"] == run["hyperparameters"].get("temperature")
        for name in ("images", "errors", "auroc", "fpr_at_tpr", "aurc", "accuracy"):
            assert row[name] == pytest.approx(run[name], rel=1e-6)  # written with seven digits
    aurc = torch.tensor([1000 * rows["fast", split]["aurc"] for split in range(3)])
    temperatures = " ".join(f"{rows['fast', split]['temperature']:g}" for split in range(3))
    page = (tmp_path / "bench" / "bench.md").read_text(encoding="utf-8")
    assert f"| fast | {temperatures} | " in page
    assert f"{aurc.double().mean():.2f} ± {aurc.double().std():.2f}" in page
    assert "images, T tuned on 20% of the whole test set" in page


def test_what_a_training_is_not_measured_on(trained, tmp_path):
    with pytest.raises(ValueError, match="normalize must not be given for the folder of a trai"):
        load(replace(QUICK, model=str(trained), normalize="cifar10"))
    (tmp_path / "all").mkdir()
    for name in ("rat_3", "rat_4"):
        shutil.copytree(trained, tmp_path / "all" / name)
    with pytest.raises(ValueError, match=r"must be the folder of one training, and .* holds 2"):
        load(replace(QUICK, model=str(tmp_path / "all")))
    with pytest.raises(ValueError, match="data must have images to tune on and others to test on"):
        replace(QUICK, data="some.npz", tuning="rat")
    with pytest.raises(ValueError, match="tuning must be one of heldout, rat, got 'test'"):
        replace(QUICK, tuning="test")
    with pytest.raises(ValueError, match=r"quoted as in a shell, got .*: No closing quotation"):
        replace(QUICK, data="digits 'noise=1")


# -------------------------------------------------------------------------------- wrong arguments


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--model", "resnet50"], 2, "model must be one of pytorchcv:NAME"),
        (["--model", "no_such_module:f"], 1, "No module named 'no_such_module'"),
        (["--model", "rrfast.data:synthetic"], 2, "must return an nn.Module, got Synthetic"),
        (["--weights", "none.pt"], 1, "weights must be a file with a state_dict, got 'none.pt'"),
        (["--methods", "bs,bs"], 2, "methods must name each once, and bs is there twice"),
        (["--batch", "4", "4"], 2, "batch must name each once, and 4 is there twice"),
        (["--size", "99999999"], 2, "samples * size**2 must be at most 4294967296, got samples 16"),
        (["--methods", "fast,quick"], 2, f"methods must be one of {', '.join(METHODS)}, got"),
        (["--dtype", "int8"], 2, "dtype must be one of float32, bfloat16, float16, got 'int8'"),
        (["--device", "tpu"], 2, "device must be like cpu, cuda or cuda:1, got 'tpu'"),
        (["--device", "meta"], 2, "device must be cpu, cuda or cuda:N, got 'meta'"),
        (["--device", "cuda:99"], 2, "device must be one that is here"),
        (["--data", "cifar"], 2, "or a file NAME.npz, got 'cifar'; did you mean cifar10?"),
        (["--data", "digits", "nois=1"], 2, "data: digits has the options seed, noise, train, "),
        (["--data", "none.npz"], 1, "data must be a file that exists, got 'none.npz'"),
        (["--samples", "2"], 2, "samples must be at least the largest batch, 4, got 2"),
        (["--data", "digits", "--samples", "5000"], 2, "at most the 1197 images of digits"),
        (["--data", "digits"], 2, "does not take the images of digits, of shape [1, 8, 8]"),
        (["--seconds", "0"], 2, "seconds must be finite and greater than 0"),
    ],
)
def test_wrong_arguments(arguments, code, sentence, tmp_path, capsys):
    assert cli.main(["bench", "--smoke", "--out", str(tmp_path), *arguments]) == code
    error = capsys.readouterr().err
    assert error.startswith("rrfast: ")
    assert sentence in error


@pytest.mark.parametrize("option", ["--batch", "--samples", "--size"])
def test_not_an_integer(option, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["bench", option, "none"])
    assert "must be an integer of at least 1, got 'none'" in capsys.readouterr().err


def test_without_matplotlib(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert cli.main(["bench", "--smoke", "--out", str(tmp_path)]) == 1
    assert "pip install matplotlib" in capsys.readouterr().err


IMAGES = np.full((20, 3, 16, 16), 0.5, dtype=np.float32)


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"z": [1.0]}, "data must have an array x, and .*data.npz has none"),
        ({"x": [[1]]}, r"x in .*data.npz must be floating point, .* got int64 of shape \[1, 1\]"),
        ({"x": 1.0}, "data.npz must be a whole .npz file of numbers .*: x is a single number"),
        ({"x": np.array([{}])}, "data.npz must be a whole .* and cannot be .*: x holds Python o"),
        ({"x": np.ones((4, 3)).T}, "x is stored column by column: save np.ascontiguousarray of it"),
        ({"x": [[1.0]], "y": [1, 2]}, r"y in .* each of the 1 images, got int64 of shape \[2\]"),
        ({"x": IMAGES, "y": np.zeros(20)}, "y in .* must be an integer label for each of the 20"),
        ({"x": IMAGES, "y": np.full(20, -1)}, "y of .* of 10 classes, from 0 to 9, and has -1 in"),
        ({"x": IMAGES, "y": np.arange(20)}, "y of .* of 10 classes, .* and has 10 in row 10"),
        ({"x": np.full_like(IMAGES, np.inf)}, "x in .*data.npz must be finite, and is not in r"),
        ({"x": IMAGES[:3]}, "samples must be at most the 3 images"),
    ],
)
def test_data_of_another_kind(arrays, sentence, tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=sentence):
        load(replace(QUICK, data=str(path), samples=16))


def test_a_damaged_npz_is_a_sentence(tmp_path):
    path = tmp_path / "data.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).random((20, 3, 16, 16)))
    good = path.read_bytes()
    changed = good[:2000] + bytes(500) + good[2500:]
    for bad in (b"", b"no zip", good[:-100], changed):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=r"data\.npz (must be a whole|is a damaged) \.npz f"):
            load(replace(QUICK, data=str(path), samples=16))


def test_of_an_npz_no_more_is_unpacked_than_is_measured(tmp_path):
    path = tmp_path / "data.npz"
    np.savez_compressed(path, x=np.zeros((2000, 3, 32, 32), dtype=np.float32))
    tracemalloc.start()
    try:
        x = load(replace(QUICK, data=str(path), samples=16)).x
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()
    assert x.shape == (16, 3, 32, 32)


def test_data_that_a_recipe_can_name(tmp_path, monkeypatch):
    """Test images at random, since they may be sorted by class; the same every time."""
    pytest.importorskip("lightning_fabric")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "from rrfast.data import Split\n"
        "from rrfast.train import Task\n"
        "def f(n, test=True):\n"
        "    split = Split(torch.rand(n, 3, 8, 8), torch.arange(n) // (n // 2))\n"
        "    return Task(split, None, split if test else None, 2)\n"
    )
    settings = replace(QUICK, data="mine.py:f n=60", samples=20)
    one, same = load(settings), load(settings)
    assert torch.equal(one.x, same.x)
    assert set(one.y.tolist()) == {0, 1}
    with pytest.raises(ValueError, match=r"at most the 60 images of mine\.py:f n=60, got"):
        load(replace(settings, samples=61))
    with pytest.raises(ValueError, match=r"must have a test split, and mine\.py:f n=4 test=f"):
        load(replace(settings, data="mine.py:f n=4 test=false"))
    loud = load(
        replace(QUICK, model="rrfast.models:digits_cnn", data="digits noise=0.9", samples=9)
    )
    plain = load(replace(QUICK, model="rrfast.models:digits_cnn", data="digits", samples=9))
    assert loud.x.std() > plain.x.std()


def test_the_command_line_gives_the_settings(monkeypatch):
    seen = []
    monkeypatch.setattr(bench, "run", lambda settings, out: seen.append((settings, out)))
    command = ["bench", "--methods", "fast,bs", "--batch", "1", "2", "--speed", "--out", "here"]
    assert cli.main(command) == 0
    assert cli.main(["bench", "--methods", "all", "--dtype", "float32", "bfloat16"]) == 0
    assert cli.main(["bench", "--data", "cifar10", "folder=my data"]) == 0
    (first, out), (second, _), (third, _) = seen
    # As one word, as the results print it, it is the same.
    assert third.data == "cifar10 'folder=my data'"
    assert cli.main(shlex.split(third.command())[1:]) == 0
    assert seen.pop()[0] == third
    assert out.name == "here"
    assert first == bench.Settings(methods=("fast", "bs"), batch=(1, 2), speed=True)
    assert second == bench.Settings(dtype=("float32", "bfloat16"))
    assert first.command() == "rrfast bench --methods fast,bs --batch 1 2 --speed"
