"""The demo, run through the command line, and what it writes."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from rrfast import cli, demo
from rrfast._tables import SHOWN
from rrfast.data import digits
from rrfast.evaluate.misd.appraisal import histograms
from rrfast.metrics import METRICS
from rrfast.models import digits_cnn

QUICK = replace(demo.SMOKE, epochs=1)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """Exit code, output and folder of one smoke run."""
    out = tmp_path_factory.mktemp("smoke") / "made" / "by the demo"
    command = [sys.executable, "-m", "rrfast", "demo", "--smoke", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, encoding="utf-8")
    return done, out


def test_smoke_run(smoke):
    done, out = smoke
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == ["demo.json", "demo.md", "radius.png"]
    for word in ("MSR", "AUROC", "FPR95", "AURC", "accuracy", "images/s", "positive class"):
        assert word in done.stdout
    assert "of 2 seeds" in done.stdout


def test_json(smoke):
    _, out = smoke
    result = json.loads((out / "demo.json").read_text(encoding="utf-8"))
    assert result["command"] == "rrfast demo --seeds 2 --epochs 2"
    assert {"date", "device", "versions", "kernels", "settings", "seconds"} <= set(result)
    assert result["settings"]["seeds"] == [0, 1]
    assert str(out) not in json.dumps(result)
    runs = {(r["seed"], r["training"], r["score"]): r for r in result["runs"]}
    assert len(runs) == len(result["runs"]) == 2 * 2 * 4
    # The statistics are those of the runs beside them.
    for row in result["summary"]:
        for column in (column.what for column in demo.COLUMNS):
            own = [runs[seed, row["training"], row["score"]][column] for seed in (0, 1)]
            assert row[column]["mean"] == pytest.approx(statistics.fmean(own))
            assert row[column]["std"] == pytest.approx(statistics.stdev(own))
    for score, metrics in result["paired"].items():
        a, b = (
            runs[seed, "RAT", score]["aurc"] - runs[seed, "standard", score]["aurc"]
            for seed in (0, 1)
        )
        assert metrics["aurc"]["mean"] == pytest.approx((a + b) / 2)
        assert metrics["aurc"]["standard_error"] == pytest.approx(abs(a - b) / 2)
        assert metrics["aurc"]["lower"] == (a < 0) + (b < 0)


def test_markdown_and_figure(smoke):
    _, out = smoke
    lines = (out / "demo.md").read_text(encoding="utf-8").splitlines()
    assert [line.count("|") for line in lines[:10]] == [8] * 10
    assert "rrfast demo --seeds 2 --epochs 2" in lines[-1]
    assert (out / "radius.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_numbers_twice(smoke, tmp_path):
    """Everything but the time it took."""
    _, out = smoke
    again = demo.run(demo.SMOKE, tmp_path, Console(quiet=True))
    first = json.loads((out / "demo.json").read_text(encoding="utf-8"))
    for a, b in zip(first["runs"], again["runs"], strict=True):
        assert {**a, "images_per_second": 0} == {**b, "images_per_second": 0}


def passes(training, monkeypatch):
    """The input of every forward pass of a training, and the first layer's weights then."""
    seen = []

    def recorded(seed):
        model = digits_cnn(seed)
        model.register_forward_pre_hook(
            lambda module, inputs: seen.append(
                (inputs[0].detach().clone(), module[0].weight.detach().clone())
            )
        )
        return model

    monkeypatch.setattr(demo, "digits_cnn", recorded)
    demo.train(training, digits(seed=0), 0, QUICK)
    return seen


def test_the_design_is_paired(monkeypatch):
    standard, rat = passes("standard", monkeypatch), passes("RAT", monkeypatch)
    assert torch.equal(standard[0][1], rat[0][1])  # the initial weights
    assert len(rat) == 2 * len(standard)
    for (x, _), (clean, _), (moved, _) in zip(standard, rat[::2], rat[1::2], strict=True):
        assert torch.equal(x, clean)
        assert (moved - clean).abs().max() == pytest.approx(QUICK.eps, rel=1e-5)


def test_training_changes_no_global_state():
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    model = demo.train("RAT", digits(seed=0), 0, QUICK)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert not model.training


def test_one_seed_has_no_deviation(tmp_path):
    result = demo.run(replace(QUICK, seeds=(0,)), tmp_path, Console(quiet=True))
    assert math.isnan(result["summary"][0]["aurc"]["std"])
    written = json.loads((tmp_path / "demo.json").read_text(encoding="utf-8"))
    assert written["summary"][0]["aurc"]["std"] is None
    assert "nan" not in (tmp_path / "demo.md").read_text(encoding="utf-8")


def test_no_errors_to_find(tmp_path, monkeypatch):
    right = torch.ones(3, dtype=torch.bool)
    radius = torch.tensor([0.1, math.inf, 0.0])
    found = {metric: METRICS[metric](radius, right) for metric in SHOWN}
    found |= {"images_per_second": 1.0, "histogram": histograms(radius, right)}
    monkeypatch.setattr(demo, "_score", lambda *_: found)
    result = demo.run(QUICK, tmp_path, Console(quiet=True))
    assert math.isnan(result["summary"][0]["auroc"]["mean"])
    written = json.loads((tmp_path / "demo.json").read_text(encoding="utf-8"))
    assert written["summary"][0]["auroc"] == {"mean": None, "std": None}
    assert written["summary"][0]["aurc"] == {"mean": 0, "std": 0}
    assert (tmp_path / "radius.png").is_file()


def test_unknown_training():
    with pytest.raises(ValueError, match="training must be one of standard, RAT, got 'rat'"):
        demo.train("rat", digits(seed=0), 0, QUICK)


# ------------------------------------------------------------------------------ the command line


@pytest.mark.parametrize("option", ["--seeds", "--epochs"])
@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5"])
def test_wrong_arguments(option, value, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["demo", option, value])
    assert f"must be an integer of at least 1, got '{value}'" in capsys.readouterr().err


def test_out_is_a_file(tmp_path, capsys):
    path = tmp_path / "file"
    path.write_text("")
    assert cli.main(["demo", "--smoke", "--out", str(path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("rrfast: ")
    assert str(path) in error


@pytest.mark.parametrize(
    ("missing", "package"),
    [("matplotlib.figure", "matplotlib"), ("sklearn.datasets", "scikit-learn")],
)
def test_missing_extra(missing, package, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, missing, None)
    assert cli.main(["demo", "--smoke", "--out", str(tmp_path)]) == 1
    assert f"Install it with: pip install {package}" in capsys.readouterr().err


def test_options_override_smoke(monkeypatch):
    seen = []
    monkeypatch.setattr(demo, "run", lambda settings, out: seen.append((settings, out)))
    assert cli.main(["demo", "--smoke", "--seeds", "3", "--out", "here"]) == 0
    assert cli.main(["demo", "--epochs", "7"]) == 0
    assert seen[0][0] == replace(demo.SMOKE, seeds=(0, 1, 2))
    assert seen[0][1].name == "here"
    assert seen[1][0] == replace(demo.Settings(), epochs=7)


def test_interrupted(monkeypatch, capsys):
    def interrupt(settings, out):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run", interrupt)
    assert cli.main(["demo"]) == 130
    assert capsys.readouterr().err == "rrfast: interrupted\n"


def test_no_command_prints_what_runs_here(capsys):
    assert cli.main([]) == 0
    assert "linear_radius" in capsys.readouterr().out
