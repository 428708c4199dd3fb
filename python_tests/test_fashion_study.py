"""docs/evaluate/fashion: the page is made from the committed numbers, and says what they say."""

from __future__ import annotations

import importlib
import itertools
import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("lightning_fabric")
pytest.importorskip("matplotlib")

from rrfast.data import CORRUPTIONS
from rrfast.train import VARIANTS, dump_recipe, load_recipe

FOLDER = Path(__file__).parents[1] / "docs" / "evaluate" / "fashion"
MODULES = ("regimes", "predict", "tables", "answers", "claims", "figure", "study")


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("study")
    for name in MODULES:
        sys.modules.pop(name, None)


def result(
    regime: str, better: float, rat: float, *, gradient: float = 0.5, seeds: int = 4
) -> dict[str, Any]:
    """The radius is better than MSR by so much of AURC x 1000, and RAT than Standard and AT."""
    rows = [
        {
            "training": training,
            "seed": seed,
            "split": 0,
            "score": score,
            "data": regime.partition("-1e")[0],
            "network": {"train_accuracy": 0.95, "gradient_auroc": gradient + seed / 1000},
            "validation_aurc": 0.02 - better * (score == "radius_fast") / 1000,
            "aurc": (20 + seed - better * (score == "radius_fast") * (1 + seed / 50)) / 1000
            - rat * (training == "RAT") * (1 + seed / 100) / 1000,
            "accuracy": 0.9,
        }
        for training in ("Standard", "AT", "RAT")
        for score in ("msr", "radius_grad", "radius_fast")
        for seed in range(seeds)
    ]
    head = {"regime": regime, "device": "CPU", "date": "2026-01-01", "versions": {"torch": "2"}}
    return {**head, "images": 8000, "rows": rows}


def answer(study: ModuleType, results: list[dict[str, Any]], begins: str) -> str:
    [found] = [
        line for line in study.page(results).splitlines() if line.startswith(f"* **{begins}")
    ]
    return str(found)


def test_the_page_is_made_from_the_committed_results(study: ModuleType) -> None:
    results = study.load(FOLDER)
    assert results
    written = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert study.page(results) == written, "run python docs/evaluate/fashion/study.py"
    assert "10,000 images, and the errors are of other trainings: for other images they" in written
    for name, table in study.SHOWN.items():
        shown = study.shown(table(study.Study(results)))
        assert shown == (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    for path in FOLDER.iterdir():
        assert path.is_dir() or path.stat().st_size < 300_000, path.name
    for each in results:
        names = {(row["training"], row["seed"]) for row in each["rows"]}
        assert len(each["rows"]) == len(names) * len(study.SCORES)
        corrupted = [row["corruptions"] for row in each["rows"] if "corruptions" in row]
        assert all(list(kinds) == list(CORRUPTIONS) for kinds in corrupted)


def test_claims_without_corruptions(study: ModuleType) -> None:
    """A regime that is not evaluated under corruption yet has dashes there."""
    _, corrupted, *rows = study.claims(study.Study([result("12000-8-1e-2", 2, 3)])).rows
    assert corrupted == ["the same under corruption, points of AUROC", "–"]
    assert ["RAT − Standard, MSR, ε = 0.01", "✓ −3.04 ± 0.02"] in rows


def test_no_mark_hides_another(study: ModuleType) -> None:
    """Where MSR and the radius have the same AURC, the filled mark shows through the hollow one."""
    ax, _ = study.figure(study.Study([result("12000-8-1e-2", 0, 3)])).axes
    faces = {line.get_marker(): line.get_markerfacecolor() for line in ax.lines}
    assert faces["s"] == "none"
    assert faces["o"] != "none"


def test_the_names_of_all_regimes_are_apart(study: ModuleType) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    shown = {regime.data: regime.name for regime in study.REGIMES}
    drawn = study.figure(study.Study([result(name, 2, 3) for name in shown.values()]))
    FigureCanvasAgg(drawn).draw()
    boxes = [label.get_window_extent() for label in drawn.axes[0].get_xticklabels()]
    assert len(boxes) == len(shown)
    assert all(one.x1 + 4 < other.x0 for one, other in itertools.pairwise(boxes))


def test_every_command_trains_what_the_study_reads(study: ModuleType) -> None:
    """Recipes with their changes are right, and folders are called as the page looks for them."""
    assert len({regime.name for regime in study.REGIMES}) == len(study.REGIMES)
    for regime in study.REGIMES:
        words = shlex.split(regime.command)
        recipe = load_recipe(words[2], words[words.index("--set") + 1 :])
        assert recipe.data["train"] == regime.images
        assert recipe.training.epochs == regime.epochs
        assert recipe.objective["eps"] == float(regime.eps)
        assert (recipe.training.augment is not None) == (regime.kind == "augment")
        assert set(words[words.index("--variants") + 1].split(",")) <= VARIANTS.keys()
        assert words[words.index("--out") + 1] == f"runs/{regime.name}"


def test_trainings_that_are_not_over_are_passed_over(study: ModuleType, tmp_path: Path) -> None:
    recipe = dump_recipe(load_recipe("fashion_rat", ["training.epochs=2"]))
    name = study.REGIMES[2].name
    for training, epochs in {"rat_0": 2, "standard_0": 2, "at_0": 1, "mixup_7": 2}.items():
        folder = tmp_path / "runs" / name / training
        folder.mkdir(parents=True)
        (folder / "recipe.yaml").write_text(recipe)
        (folder / "log.csv").write_text("epoch,loss\n" + "".join(f"{i},1\n" for i in range(epochs)))
        if training != "at_0":
            (folder / "last.pt").touch()
    found = [path.name for path in study.finished(tmp_path / "runs" / name)]
    assert found == ["standard_0", "rat_0", "mixup_7"]
    main, corrupted, outside = study.commands(tmp_path, name)
    models = [f"runs/{name}/{training}" for training in found]
    assert main[1:4] == models
    assert corrupted[1:4] == outside[1:4] == [*models[:2], "--scores"]
    assert not list(study.commands(tmp_path, study.REGIMES[3].name))
    (tmp_path / "runs" / name / "at_0").rename(tmp_path / "elsewhere")
    whole = next(study.commands(tmp_path, name))
    assert whole[1:3] == [f"runs/{name}", "--scores"]


def test_a_folder_without_trainings_is_said(
    study: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["study.py", str(tmp_path)])
    monkeypatch.setattr(study, "write", lambda _: None)
    with pytest.raises(SystemExit):
        study.main()
    assert f"folder must have the folder runs in it, got {tmp_path}" in capsys.readouterr().err


def test_no_network_of_earlier_is_lost(
    study: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evaluated again where some networks are gone, a regime keeps the numbers of all."""
    whole, part = result("12000-8-1e-2", 2, 3), result("12000-8-1e-2", 2, 3, seeds=3)
    found = iter((part, whole, whole, part))
    monkeypatch.setattr(study, "evaluated", lambda *_: "")
    monkeypatch.setattr(study, "kept", lambda *_: next(found))
    for _ in range(3):
        study.keep(tmp_path, "12000-8-1e-2", tmp_path)
    with pytest.raises(SystemExit, match=r"lacks \(AT 3, RAT 3, Standard 3\): delete it to write"):
        study.keep(tmp_path, "12000-8-1e-2", tmp_path)
    left = json.loads((tmp_path / "12000-8-1e-2.json").read_text())
    assert left["rows"] == whole["rows"]


def test_the_sentences_follow_the_numbers(study: ModuleType) -> None:
    """The radius better by 2, RAT by 3; then the turn of both; then one of each."""
    radius, helps = (
        "Does the radius find errors better",
        "Does RAT help, and where, with `msr`?",
    )
    better = [result("12000-8-1e-2", 2, 3)]
    said = answer(study, better, radius)
    assert "Yes: better beyond noise in 3 of 3, worse in 0, undecided in 0." in said
    assert "12,000 × 8, Standard −2.06 ± 0.03" in said
    said = answer(study, better, helps)
    assert "Yes: better beyond noise in 1 of 1" in said
    assert "12,000 × 8, ε = 0.01 −3.04 ± 0.02" in said
    worse = [result("12000-8-1e-2", -2, -3)]
    assert "No: better beyond noise in 0 of 3, worse in 3" in answer(study, worse, radius)
    assert "No: better beyond noise in 0 of 1, worse in 1" in answer(study, worse, helps)
    both = [*worse, result("60000-30-1e-2", 2, 3)]
    assert "In part: better beyond noise in 3 of 6, worse in 3" in answer(study, both, radius)
    alone = [result("12000-8-1e-2", 2, 3, seeds=1)]
    assert "Undecided: better beyond noise in 0 of 3" in answer(study, alone, radius)
    # What was not trained is not spoken of.
    page = study.page(better)
    assert "best ε" not in page
    assert "60,000 × 30" not in page
    assert "corruption?" not in page
    smaller = result("12000-8-1e-3", 2, 5)
    smaller["rows"] = [row for row in smaller["rows"] if row["training"] != "Standard"]
    eps = [*better, smaller]
    found = answer(study, eps, "How does the best ε of RAT move")
    assert "12,000 × 8 the smaller (+2.03 ± 0.01)" in found


def test_what_tells_the_winner(study: ModuleType) -> None:
    """Where right predictions have small gradients the radius wins: predicted in unseen regimes."""
    import predict
    import tables

    gains = {"4000-24": -2.0, "12000-8": 1.0, "60000-3": -1.0, "60000-30": 2.0}
    results = [result(f"{name}-1e-2", d, 0, gradient=0.5 + d / 20) for name, d in gains.items()]
    found = predict.networks(tables.Study(results).rows, "radius_fast")
    assert len(found) == 4 * 3 * 4
    always, gradient, learned, seen = predict.predictions(found)
    assert always.right == pytest.approx(0.5)
    assert always.lost == pytest.approx(np.mean([1 / (1 + min(one.gain, 0)) - 1 for one in found]))
    assert gradient.right == seen.right == 1
    assert seen.said == "the ratio of the two AURCs on validation images"  # of no accuracy
    assert gradient.lost == seen.lost == 0
    assert gradient.pearson < -0.9
    assert np.isnan(learned.pearson)
    assert (gradient.chosen, gradient.won) == (seen.chosen, seen.won) == (24, 24)
    assert (always.chosen, always.won) == (0, 0)
    one = [network for network in found if network.group == found[0].group]
    alone = predict.predictions(one)[1]
    assert np.isnan(alone.right)  # no other regime to learn from
    assert alone.chosen == -1


def test_what_tells_regimes_apart_may_tell_nothing_within_one(study: ModuleType) -> None:
    """Small gradients go with the radius from regime to regime, and against it within each."""
    import predict

    found = [
        predict.Network(group, gain + seed / 1000, gradient + seed / 1000, 0.95, gain)
        for group, gain, gradient in (("a", 0.2, 0.4), ("b", 0.1, 0.5), ("c", -0.1, 0.7))
        for seed in range(4)
    ]
    _, gradient, learned, seen = predict.predictions(found)
    assert gradient.pearson < -0.9
    assert gradient.within == pytest.approx(1)
    assert np.isnan(learned.within)
    assert np.isnan(seen.within)


def test_what_is_lacking_is_said(study: ModuleType) -> None:
    name = study.REGIMES[2].name
    page = study.page([result(name, 2, 3, seeds=5)])
    [line] = [line for line in page.splitlines() if line.startswith("Not trained")]
    lacking = "Mixup; RegMixup; OpenMix; ReverseAT; RAT + Mixup"
    assert line == (
        "Not trained, or not evaluated, yet: "
        + ", ".join(
            f"{name} ({lacking})" if regime.name == name else regime.name
            for regime in study.REGIMES
        )
        + "."
    )
    some = result(name, 2, 3, seeds=5)
    some["rows"] = [r for r in some["rows"] if (r["training"], r["seed"]) != ("RAT", 4)]
    assert f"{name} (RAT, 4 of 5 seeds; {lacking})" in study.page([some])
