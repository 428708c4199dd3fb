"""The demo, run through the command line, and what it writes."""

from __future__ import annotations

import contextlib
import csv
import io
import statistics
import sys
from pathlib import Path

import pytest
from rich.console import Console

from rrfast import cli, demo
from rrfast._lock import alone
from rrfast.evaluate import read_result
from rrfast.evaluate.demo import blocks, notes
from rrfast.train import Recipe, load_recipe

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """Output and folder of one smoke run."""
    out = tmp_path_factory.mktemp("smoke") / "made" / "by the demo"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert cli.main(["demo", "--smoke", "--out", str(out)]) == 0
    return printed.getvalue(), out


def test_smoke_run(smoke):
    printed, out = smoke
    files = {"demo.csv", "demo.json", "demo.md", "radius.png", "report.html"}
    assert {path.name for path in out.iterdir()} == {*files, "parts", "trainings_2"}
    for word in ("AUROC", "FPR95", "AURC", "accuracy", "positive class", "rat_1: trained"):
        assert word in printed
    assert "of 2 seeds" in printed
    # A line for each epoch would hide the table.
    assert "epoch" not in printed.lower()


def test_what_it_trains(smoke):
    """Both trainings have the settings of the recipe, and differ in the objective alone."""
    _, out = smoke
    recipe = load_recipe(demo.RECIPE, ["training.epochs=2"])
    for seed in (0, 1):
        standard, rat = (
            load_recipe(out / "trainings_2" / f"{name}_{seed}" / "recipe.yaml")
            for name in ("standard", "rat")
        )
        assert rat.objective == recipe.objective == {"name": "rat", "eps": 0.1}
        assert standard.objective == {"name": "standard"}
        assert _rest(standard) == _rest(rat)
        assert (
            rat.training
            == load_recipe(demo.RECIPE, ["training.epochs=2", f"training.seed={seed}"]).training
        )


def _rest(recipe: Recipe):
    return recipe.model, recipe.data, recipe.training


def test_numbers(smoke):
    _, out = smoke
    result = read_result(out / "demo.json")
    assert result["command"] == "rrfast demo --seeds 2 --epochs 2"
    assert str(out) not in (out / "demo.json").read_text(encoding="utf-8")
    runs = {(r["seed"], r["training"], r["score"]): r for r in result["runs"]}
    assert len(runs) == len(result["runs"]) == 2 * 2 * 4
    with (out / "demo.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 16
    # The table and the sentences are of the runs beside them.
    (table,) = blocks(result)
    for training, score, *cells in table.rows:
        aurc = [1000 * runs[seed, training, score]["aurc"] for seed in (0, 1)]
        assert cells[2] == f"{statistics.fmean(aurc):.2f} ± {statistics.stdev(aurc):.2f}"
    _, *sentences = notes(result)
    for sentence, score in zip(sentences, demo.DEMO_SCORES, strict=True):
        a, b = (
            1000 * (runs[seed, "RAT", score]["aurc"] - runs[seed, "Standard", score]["aurc"])
            for seed in (0, 1)
        )
        less = f"{(a + b) / 2:+.2f} ± {abs(a - b) / 2:.2f}".replace("-", "−")
        assert (
            sentence.split() == f"{score} {less}, lower on {(a < 0) + (b < 0)} of 2 seeds".split()
        )


def test_markdown_figure_and_page(smoke):
    _, out = smoke
    text = (out / "demo.md").read_text(encoding="utf-8")
    assert [line.count("|") for line in text.splitlines() if "|" in line] == [7] * 10
    assert "`rrfast demo --seeds 2 --epochs 2`" in text
    assert "1 thread;" in text
    assert (out / "radius.png").read_bytes().startswith(b"\x89PNG")
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Standard training and RAT on handwritten digits" in page
    assert "data:image/svg+xml" in page


def test_it_continues(smoke, monkeypatch):
    """Nothing is trained or scored a second time, and fewer seeds may be asked for."""
    _, out = smoke
    before = read_result(out / "demo.json")
    checkpoints = {path: path.stat().st_mtime_ns for path in out.rglob("checkpoint.pt")}
    assert len(checkpoints) == 4

    def fail(*_: object) -> None:
        pytest.fail("scored again")

    monkeypatch.setattr("rrfast.evaluate.misd.protocol.evaluate_score", fail)
    again = demo.run(out, seeds=1, epochs=2, console=QUIET)
    assert {path: path.stat().st_mtime_ns for path in checkpoints} == checkpoints
    assert numbers(again["runs"]) == numbers(before["runs"])
    # One seed has no standard deviation.
    assert "nan" not in (out / "demo.md").read_text(encoding="utf-8")


def test_the_same_numbers_twice(smoke, tmp_path):
    """Whatever other epochs were asked for before, and whatever else writes into the folder."""
    _, out = smoke
    with alone(tmp_path / "train.lock", tmp_path):
        assert len(demo.run(tmp_path, seeds=1, epochs=1, console=QUIET)["runs"]) == 8
        again = demo.run(tmp_path, seeds=1, epochs=2, console=QUIET)
    assert numbers(again["runs"]) == numbers(read_result(out / "demo.json")["runs"])


def numbers(rows):
    """Of the first seed, everything but the time it took, and what depends on the other seeds."""
    return [
        {key: row[key] for key in row if key not in ("milliseconds", "intervals", "above")}
        for row in rows
        if row["seed"] == 0
    ]


def test_nothing_to_find():
    """Of a network without an error, most metrics are undefined."""
    nothing = {"auroc": None, "fpr_at_tpr": None, "aurc": 0.0, "accuracy": 1.0}
    runs = [
        {"data": "digits", "seed": seed, "split": 0, "training": t, "score": s} | nothing
        for seed in (0, 1)
        for t in ("Standard", "RAT")
        for s in demo.DEMO_SCORES
    ]
    (table,) = blocks({"runs": runs})
    assert {tuple(row[2:]) for row in table.rows} == {
        ("–", "–", "0.00 ± 0.00", "100.00 ± 0.00"),
    }
    assert all("0.00 ± 0.00, lower on 0 of 2 seeds" in line for line in notes({"runs": runs})[1:])


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
    [
        ("matplotlib.figure", "matplotlib"),
        ("sklearn.datasets", "scikit-learn"),
        ("jinja2", "jinja2"),
    ],
)
def test_missing_extra(missing, package, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, missing, None)
    assert cli.main(["demo", "--smoke", "--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert f"rrfast demo needs {package}, which does not import" in error
    assert "Install it with: pip install 'rrfast[demo]'" in error  # all of them at once
    assert not any(tmp_path.iterdir())


def test_options_override_smoke(monkeypatch):
    seen = []
    monkeypatch.setattr(demo, "run", lambda out, **options: seen.append((out, options)))
    assert cli.main(["demo", "--smoke", "--seeds", "3", "--out", "here"]) == 0
    assert cli.main(["demo", "--epochs", "7"]) == 0
    assert seen == [
        (Path("here"), {"seeds": 3, "epochs": 2}),
        (Path("rrfast-demo"), {"seeds": 8, "epochs": 7}),
    ]


def test_interrupted(monkeypatch, capsys):
    def interrupt(out, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run", interrupt)
    assert cli.main(["demo"]) == 130
    assert capsys.readouterr().err == "rrfast: interrupted\n"


def test_no_command_prints_what_runs_here(capsys):
    assert cli.main([]) == 0
    assert "linear_radius" in capsys.readouterr().out
