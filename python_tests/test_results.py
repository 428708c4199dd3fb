"""rrfast._results: small files that show and say what large ones would."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.figure import Figure
from PIL import Image

from rrfast._colours import COLOURS
from rrfast._results import read_result, shortened, write_figure, write_json, write_result


def test_a_figure_is_small_and_looks_the_same(tmp_path: Path) -> None:
    figure = Figure(figsize=(8, 5))
    x = np.linspace(0, 1, 500)
    for i, ax in enumerate(figure.subplots(2, 3).flatten()):
        for j, colour in enumerate(COLOURS):
            ax.plot(x, x ** (i + j / 4 + 0.3), color=colour, lw=1.3, label=f"$a_{j}")
        ax.bar([0.2], [0.3], 0.1, color=COLOURS[i])
        ax.legend(fontsize=6)
    plain = io.BytesIO()
    write_figure(tmp_path / "small.png", figure, dpi=100)
    figure.savefig(plain, dpi=100, format="png")
    small, large = Image.open(tmp_path / "small.png"), Image.open(plain)
    assert (tmp_path / "small.png").stat().st_size < 0.5 * len(plain.getvalue())
    seen, drawn = (np.asarray(image.convert("RGB")).astype(int) for image in (small, large))
    assert seen.shape == drawn.shape
    off = np.abs(seen - drawn).max(axis=2)
    assert off[(drawn == 255).all(axis=2)].max() == 0  # white is white
    assert off.mean() < 1
    assert off.max() < 32
    # And a colour of the legend is that one and no other.
    known = np.array([[int(colour[k : k + 2], 16) for k in (1, 3, 5)] for colour in COLOURS])
    for i in range(6):
        [bar] = np.unique(seen[(drawn == known[i]).all(axis=2)], axis=0)
        assert np.abs(known - bar).sum(axis=1).argmin() == i


def test_curves_are_short_and_numbers_are_whole(tmp_path: Path) -> None:
    result = {"auroc": 0.125, "roc": [1 / 3, None, 2e-7 / 3], "rows": [{"eps": 8 / 255}], "n": [7]}
    result["step"] = {"temperature": 1 / 3}  # a row is found by it
    write_json(tmp_path / "short.json", shortened(result), compact=True)
    text = (tmp_path / "short.json").read_text()
    assert " " not in text
    written = json.loads(text)
    assert written == result | {"roc": [0.33333, None, 6.6667e-08]}
    assert shortened({"aurc": 1 / 30}) == {"aurc": 0.03333333}
    assert shortened(written) == written  # a page made again from its file is the same


def test_rows_come_back_from_their_tables(tmp_path: Path) -> None:
    """In their order, with what each of them has, keys with points and empty ones too."""
    rows = [
        {"kind": "a", "above": {"0.9": {"auroc": 0.5}}, "hyperparameters": {}},
        {"kind": "b", "seed": None, "risk": [0.5, None]},
        {"kind": "a", "above": {"0.9": {"auroc": None}}, "hyperparameters": {}},
        {"hyperparameters": {}, "kind": "a", "above": {"0.95": {"auroc": 1.0}}},
    ]
    path = tmp_path / "result.json"
    write_result(path, {"command": "rrfast", "runs": rows, "curves": []})
    found = read_result(path)
    assert found == {"command": "rrfast", "runs": rows, "curves": []}
    assert [list(row) for row in found["runs"]] == [list(row) for row in rows]
    assert path.read_text().count("auroc") == 2  # of three rows, of two kinds


def test_what_all_rows_share_stands_once(tmp_path: Path) -> None:
    """1, 1.0 and True are three values, and what is changed in one row is in no other."""
    rows = [
        {"data": "digits", "seed": i, "one": one, "split": [0, 1], "nan": None}
        for i, one in enumerate((1, 1.0, True))
    ]
    path = tmp_path / "result.json"
    write_result(path, {"runs": rows})
    text = path.read_text()
    assert [text.count(each) for each in ("digits", "[0,1]", "null")] == [1, 1, 1]
    found = read_result(path)["runs"]
    assert [list(map(repr, row.items())) for row in found] == [
        list(map(repr, row.items())) for row in rows
    ]
    found[0]["split"].append(2)
    assert found[1]["split"] == [0, 1]
    # A file of an earlier version has the rows whole.
    path.write_text('{"runs": {"keys": [[["a"], ["b", "c"]]], "rows": [[0, 1, 2], [0, 1, 4]]}}')
    assert read_result(path)["runs"] == [{"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 4}}]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "must hold a result, got a JSON list"),
        ('{"runs": {}}', "`runs` is no table of rows"),
        ('{"runs": {"keys": [[["a"]]], "rows": [[1, 2]]}}', "`runs` is no table of rows"),
        ('{"runs": {"keys": [[["a"]]], "rows": [[0, 2, 3]]}}', "`runs` is no table of rows"),
        ('{"runs": {"keys": [[["a"], ["a", "b"]]], "rows": [[0, 2, 3]]}}', "`runs` is no table"),
        ('{"runs": {"keys": [[["a"]]], "same": [[[0, 1]]], "rows": [[0, 2]]}}', "is no table"),
        ('{"runs": {"keys": [[["a"]]], "same": [], "rows": [[0, 2]]}}', "`runs` is no table"),
    ],
)
def test_a_damaged_file_of_results_is_a_sentence(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"evaluation.json .*{said}"):
        read_result(path)
