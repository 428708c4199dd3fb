"""Its numbers, and those of docs/radius, are those of the committed files, and its code runs."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CODE = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where examples write what they write, and not into the working tree."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_numbers_are_the_committed_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import readme

    for path in readme.PAGES:
        assert readme.assembled(path) == path.read_text(encoding="utf-8"), "run `make readme`"
    sys.modules.pop("readme")


def test_an_op_is_shown_once_there_are_results_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import readme

    entries = [{"op": op, "case": case} for op, case in readme.CASES.items()]
    assert list(readme._shown(entries)) == entries
    assert list(readme._shown(entries[:-1])) == entries[:-1]
    with pytest.raises(KeyError):
        list(readme._shown([*entries[:-1], entries[-1] | {"case": "another"}]))
    # Every op that has a benchmark is among them.
    files = (ROOT / "benchmarks").glob("bench_*.py")
    measured = {op for f in files for op in re.findall(r'op_contest\(\s*"(\w+)"', f.read_text())}
    assert measured == readme.CASES.keys()
    sys.modules.pop("readme")


def test_the_first_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    exec(CODE[0], {})
    assert float(capsys.readouterr().out) > 0.5


def test_the_radius_examples_run() -> None:
    std = torch.tensor([0.25, 0.2, 0.3]).reshape(3, 1, 1)
    names = {
        "model": torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 10)),
        "x": torch.rand(2, 3, 4, 4),
        "mean": 0.5,
        "std": std,
        "rrfast": __import__("rrfast"),
    }
    exec(CODE[1], names)
    assert names["r"].shape == (2,)
    assert (names["b"].lower <= names["b"].upper).all()


def test_the_classifier_that_rejects_runs(elsewhere: Path) -> None:
    x = torch.rand(400, 4)
    example = next(code for code in CODE if "SelectiveClassifier" in code)
    names = {
        "model": torch.nn.Linear(4, 2),
        "rrfast": __import__("rrfast"),
        "x": x,
    }
    with torch.no_grad():
        names["model"].weight.copy_(torch.eye(4)[:2] * 9)
        names["model"].bias.zero_()
    names["loader"] = [(x, names["model"](x).argmax(dim=1))]
    exec(example, names)
    assert names["accept"].any()
    assert [path.name for path in elsewhere.iterdir()] == ["classifier.safetensors"]


def test_the_comparison_runs(capsys: pytest.CaptureFixture[str]) -> None:
    x = torch.rand(200, 4)
    example = next(code for code in CODE if "rrfast.compare" in code)
    loader = [(x, torch.arange(200) % 2)]
    model = torch.nn.Linear(4, 2)
    exec(example, {"model": model, "rrfast": __import__("rrfast"), "loader": loader})
    assert capsys.readouterr().out.startswith("Take ")


def test_the_attacks_run() -> None:
    names = {
        "model": torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 10)),
        "x": torch.rand(2, 3, 4, 4),
        # Of no sample that is right: AutoAttack takes thousands of passes for one that stays so.
        "y": torch.tensor([3, 3]),
        "rrfast": __import__("rrfast"),
    }
    with torch.no_grad():
        names["model"][1].bias[3] = -99.0
    exec(next(code for code in CODE if "autoattack" in code), names)
    assert names["found"].wrong.all()
