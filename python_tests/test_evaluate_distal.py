"""`rrfast evaluate --protocol distal`: thresholds of other images, literal numbers."""

from __future__ import annotations

import csv
import json
import math
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

pytest.importorskip("lightning_fabric")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from rrfast import cli
from rrfast.attacks import DISTAL, Distal, distal_examples, distal_noise
from rrfast.data import Split
from rrfast.data.splits import Part, chosen
from rrfast.evaluate import TrainedModel, distal, read_result
from rrfast.evaluate.cache import Cache, packed, unpacked
from rrfast.evaluate.distal import figures, tables
from rrfast.evaluate.distal.measurements import (
    EDGES,
    SHARES,
    Confidences,
    attacked,
    ccat,
    evaluate_model,
    noise,
    on_noise,
    unattacked,
)
from rrfast.evaluate.options import DistalOptions
from rrfast.metrics import acceptance_threshold, false_acceptance
from rrfast.models import digits_cnn
from rrfast.report import report
from rrfast.scores import MSR
from rrfast.train import TASKS

CPU = torch.device("cpu")
QUIET = Console(quiet=True)
OPTIONS = DistalOptions(eps=0.1, steps=3, noise=30, images=40, draws=20, batch=25)
ASKED = {"eps": 0.1, "steps": 3, "noise": 30, "images": 40, "draws": 20, "batch": 25}


@pytest.fixture(scope="module")
def found(weights: dict[str, Tensor]) -> list[TrainedModel]:
    """Two trainings with two seeds: the network of `conftest`, moved a little."""
    trained_models = []
    for i, training in enumerate(("AT", "CCAT")):
        for seed in (0, 1):
            model, generator = digits_cnn(), torch.Generator().manual_seed(2 * i + seed)
            noise = {k: torch.randn(v.shape, generator=generator) for k, v in weights.items()}
            model.load_state_dict({k: v * (1 + 0.03 * noise[k]) for k, v in weights.items()})
            task = TASKS["digits"](seed=seed)
            pair = (model.eval(), task)
            trained_models.append(TrainedModel(training, seed, partial(copy, pair), "digits"))
    return trained_models


@pytest.fixture(scope="module")
def evaluated(
    found: list[TrainedModel], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("distal")
    return out, distal.evaluate(found, out, **ASKED, console=QUIET)


# --------------------------------------------------------------------------------- what is measured


def test_the_attacks_are_those_of_the_papers(found: list[TrainedModel]) -> None:
    ce, other = ccat("ce", OPTIONS), ccat("other", OPTIONS)
    assert (ce.loss, ce.start, ce.keep, ce.origin) == ("ce", "uniform", "error", True)
    assert (other.loss, other.start, other.momentum) == ("other", "uniform_norm", 0.9)
    assert {(a.eps, a.steps, a.restarts) for a in (ce, other)} == {(0.1, 3, 1)}
    assert [on_noise(k, OPTIONS).start for k in ("uniform", "smoothed")] == [
        "uniform_norm",
        "smoothed",
    ]
    # Sure of the wrong class rather than just wrong: what a threshold does not reject.
    model, task = found[0].load()
    part, strong = chosen(task.test, 100), DistalOptions(eps=0.1, steps=20)
    after = {n: attacked(model, n, part, strong, 0, CPU) for n in ("ce", "other")}
    wrong = [found.odds[~found.right] for found in after.values()]
    assert float(wrong[1].mean()) > float(wrong[0].mean())


def test_noise_is_that_of_distal_examples(found: list[TrainedModel]) -> None:
    model, _ = found[0].load()
    for kind, start in (("uniform", "uniform_norm"), ("smoothed", "smoothed")):
        before, after = noise(model, kind, (1, 8, 8), OPTIONS)
        smooth = kind == "smoothed"
        images = distal_noise(30, (1, 8, 8), smooth=smooth)
        # Batches of another size are summed in another order.
        torch.testing.assert_close(before, MSR()(model, images), rtol=1e-5, atol=1e-5)
        attack = Distal(0.1, 3, start=start)
        again = distal_examples(model, 30, (1, 8, 8), attack=attack, smooth=smooth, batch=25)
        assert torch.equal(after, again.confidence)
        # The attack compares float32 odds below 8, of logits in batches of one size.
        assert bool((after >= before - 8 * 2**-23).all())
        assert float((after > before).double().mean()) > 0.5


def test_the_article_s_attack_and_smoothing(found: list[TrainedModel], tmp_path: Path) -> None:
    """Only on request, and without using kept results of the other attack."""
    asked = ASKED | {"eps": 0.03, "noise": 5, "images": 5, "draws": 0}
    odds = {}
    for name in ("rrfast", "article"):
        result = distal.evaluate(found[:1], tmp_path, distal_attack=name, console=QUIET, **asked)
        odds[name] = result["runs"][0]["noise"]["distal smoothed"]["mean"]
    page = (tmp_path / "distal.md").read_text()
    assert "by the attack and the smoothing of the article's code, 10 steps" in page
    model, _ = found[0].load()
    again = distal_examples(
        model,
        5,
        (1, 8, 8),
        attack=DISTAL["article"](),
        smooth=True,
        border="article",
        batch=25,
    )
    assert odds["article"] == pytest.approx(float(again.confidence.sigmoid().mean()), rel=1e-6)
    assert odds["article"] != odds["rrfast"]
    with pytest.raises(ValueError, match="distal_attack must be one of rrfast, article, got 'pgd'"):
        distal.evaluate(found, tmp_path, distal_attack="pgd", console=QUIET)


def test_what_is_wrong_is_attacked_too(found: list[TrainedModel]) -> None:
    """A wrong image below the threshold may be made sure of it."""
    model, task = found[0].load()
    part = chosen(task.test, None)
    before = unattacked(model, part, OPTIONS, CPU)
    wrong = Part(task.test, part.indices[~before.right])
    assert len(wrong.indices) > 10
    after = attacked(model, "other", wrong, OPTIONS, 0, CPU)
    assert not bool(after.right.any())
    assert float((after.odds > before.odds[~before.right]).double().mean()) > 0.9


def confidences(seed: int, n: int, nan: bool) -> Confidences:
    generator = torch.Generator().manual_seed(seed)
    odds = torch.randint(-4, 60, (n,), generator=generator).double() / 2  # ties, saturated ones
    if nan:
        odds[::7] = math.nan
    return Confidences(odds, torch.rand(n, generator=generator) < 0.7)


@pytest.mark.parametrize("nan", [False, True])
def test_a_row_is_the_literal_loop(nan: bool) -> None:
    held, test, clean, ce, other = (confidences(s, 50, nan and s > 0) for s in range(5))
    odds = confidences(5, 40, nan).odds
    row = evaluate_model(held, test, clean, {"ce": ce, "other": other}, {"uniform": odds}, OPTIONS)
    tau = acceptance_threshold(held.odds, held.right, 0.99)
    assert row["threshold"] == tau
    assert row["probability"] == pytest.approx(1 / (1 + math.exp(-tau)), rel=1e-15)
    assert row["held"] == sum(held.right.tolist())
    passed = [o >= tau for o, r in zip(*map(Tensor.tolist, test), strict=True) if r]
    assert row["accepted"] == sum(passed) / len(passed)
    said = row["noise"]["uniform"]
    assert said["fpr"] == sum(o >= tau for o in odds.tolist()) / 40
    errors = {"clean": [], "ce": [ce], "other": [other], "worst": [ce, other]}
    for name, more in errors.items():
        for key, t in (("robust", -math.inf), ("thresholded", tau)):
            wrong = accepted = 0
            for i in range(50):
                versions = [(float(c.odds[i]), bool(c.right[i])) for c in (clean, *more)]
                accepted += any(o >= t for o, _ in versions)
                wrong += any(o >= t and not r for o, r in versions)
            assert row["errors"][name][key] == wrong / accepted
    for values, histogram in ((test.odds, row["histogram"]), (odds, said["histogram"])):
        counts = [0] * (len(EDGES) - 1)
        for o in values.tolist():
            if not math.isnan(o):
                inside = [i for i, edge in enumerate(EDGES[:-1]) if edge <= o]
                counts[inside[-1] if inside else 0] += 1
        assert histogram == counts
    if nan:
        assert all(map(math.isnan, (said["auroc"], said["mean"], row["mean"], *said["roc"])))
        return
    pairs = [(t > o) + (t == o) / 2 for t in test.odds.tolist() for o in odds.tolist()]
    assert said["auroc"] == sum(pairs) / len(pairs)
    low, high = said["intervals"]["auroc"]
    assert low <= said["auroc"] <= high
    for share, fpr in zip(SHARES, said["roc"], strict=True):
        t = acceptance_threshold(test.odds, torch.ones(50, dtype=torch.bool), share)
        assert fpr == false_acceptance(odds, t)


def test_the_threshold_is_of_the_validation_split_alone(
    found: list[TrainedModel], tmp_path: Path
) -> None:
    """And what is reported is of none of it."""
    model, task = found[0].load()

    def row(task: Any, name: str) -> dict[str, Any]:
        one = TrainedModel("one", 0, lambda: (model, task), "digits")
        return distal.evaluate([one], tmp_path / name, **ASKED, console=QUIET)["runs"][0]

    real = row(task, "a")
    test = Split(task.test.x.flip(0) * 0.5, task.test.y.flip(0))
    validation = Split(task.validation.x * 0.7, task.validation.y)
    other_test, other_held = (
        row(task._replace(test=test), "b"),
        row(task._replace(validation=validation), "c"),
    )
    assert other_test["threshold"] == real["threshold"]
    assert other_test["mean"] != real["mean"]
    assert other_held["threshold"] != real["threshold"]
    free = ("auroc", "mean", "roc", "histogram")
    assert {k: other_held["noise"]["distal uniform"][k] for k in free} == {
        k: real["noise"]["distal uniform"][k] for k in free
    }
    assert other_held["errors"]["ce"]["robust"] == real["errors"]["ce"]["robust"]
    right = MSR().measure(model, task.validation.x, ({},))
    correct = right.prediction == task.validation.y
    assert real["threshold"] == pytest.approx(
        acceptance_threshold(right.values[0], correct, 0.99), rel=1e-5
    )
    with pytest.raises(ValueError, match="data must have a validation split"):
        row(task._replace(validation=None), "d")


# --------------------------------------------------------------------------------- what is written


def test_files(evaluated: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    out, result = evaluated
    written = read_result(out / "distal.json")["runs"]
    assert written == json.loads(json.dumps(result["runs"]))
    with (out / "distal.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, run in zip(rows, result["runs"], strict=True):
        assert float(row["distal_smoothed_fpr"]) == run["noise"]["distal smoothed"]["fpr"]
        assert float(row["worst_thresholded"]) == run["errors"]["worst"]["thresholded"]
        errors = run["errors"]
        assert errors["worst"]["robust"] >= max(errors[n]["robust"] for n in ("ce", "other"))
        assert min(errors[n]["robust"] for n in ("ce", "other")) > errors["clean"]["robust"]
    page = " ".join((out / "distal.md").read_text().split())
    for text in (
        "FPR of noise at 99 % TPR %, last checkpoint",
        "| training | uniform noise | smoothed noise | distal, uniform | distal, smoothed |",
        "of the validation split reach; that split is used for nothing else.",
        "Mean ± standard deviation over 2 training seeds.",
        "AT, last checkpoint:",
        "over 2 seeds; the article: 100 %.",
        "over 2 seeds; the article: 0 %.",
        "CCAT accepts fewer distal examples than AT, last checkpoint:",
    ):
        assert text in page, text
    report([out], tmp_path / "page.html")
    assert "Distal examples: digits" in (tmp_path / "page.html").read_text()


def counted(done: list[str], real: Any, model: Any, name: str, *rest: Any) -> Any:
    """`real`, after its name is put down."""
    done.append(name)
    return real(model, name, *rest)


def test_what_is_done_is_not_done_again(
    evaluated: tuple[Path, dict[str, Any]],
    found: list[TrainedModel],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another share that is to pass costs no attack; another radius does."""
    out, result = evaluated
    module = vars(distal.protocol)
    with monkeypatch.context() as patch:
        for name in ("noise", "attacked"):
            patch.setitem(module, name, pytest.fail)
        again = distal.evaluate(found, out, **ASKED, console=QUIET)
        assert again["runs"] == result["runs"]
        lower = distal.evaluate(found, out, **ASKED, keep_correct=0.5, console=QUIET)["runs"]
        assert all(
            a["threshold"] > b["threshold"] for a, b in zip(lower, again["runs"], strict=True)
        )
    done: list[str] = []
    for name in ("noise", "attacked"):
        monkeypatch.setitem(module, name, partial(counted, done, module[name]))
    for other, expected in (
        ({"eps": 0.05}, ["uniform", "smoothed", "ce", "other"]),
        ({"steps": 2}, ["uniform", "smoothed", "ce", "other"]),
        ({"restarts": 2}, ["uniform", "smoothed", "ce", "other"]),
        ({"noise": 20}, ["uniform", "smoothed"]),
        ({"images": 30}, ["ce", "other"]),
    ):
        done.clear()
        distal.evaluate(found[:1], out, **ASKED | other, console=QUIET)
        assert done == expected
        distal.evaluate(found[:1], out, **ASKED | other, console=QUIET)
        assert done == expected


def test_infinite_odds_are_kept_as_confident(tmp_path: Path) -> None:
    """A model that rules all but one class out has odds of infinity, which JSON has not."""
    odds = torch.tensor([math.inf, -math.inf, math.nan, 0.1], dtype=torch.float64)
    kept = Cache(tmp_path, "distal", {}).get("ce", packed, odds)
    assert Cache(tmp_path, "distal", {}).get("ce") == kept
    torch.testing.assert_close(unpacked(kept), odds, rtol=0, atol=0, equal_nan=True)
    assert unpacked(packed(odds > 0)).bool().tolist() == [True, False, False, True]


# ---------------------------------------------------------------------------------- what is said


def row_of(training: str, seed: int, fpr: float) -> dict[str, Any]:
    return {
        "training": training,
        "seed": seed,
        "split": 0,
        "checkpoint": "last",
        "images": 1000,
        "held": 900,
        "noise": {"distal uniform": {"fpr": fpr}},
    }


def test_the_claim_of_the_article() -> None:
    options = {
        "keep_correct": 0.995,
        "noise": 1000,
        "eps": 0.03,
        "steps": 40,
        "restarts": 2,
        "draws": 0,
    }
    options["images"] = 1000
    for lower, verdict in ((0.0, "confirmed"), (0.98, "undecided")):
        rows = [row_of("PGD-AT", s, 1.0 - 0.01 * s) for s in range(3)]
        rows += [row_of("CCAT", s, lower + 0.02 * (s == 1)) for s in range(3)]
        result = {"runs": rows, "data": ["cifar10"], "options": options}
        lines = tables.notes(result)
        threshold = "99.5 % of the 900 right predictions"
        assert any(threshold in line for line in tables.conventions(result))
        assert "PGD-AT, last checkpoint: 99.00 ± 1.00 %, from 98.0 to 100.0 over 3 seeds; " in (
            "\n".join(lines)
        )
        assert lines[-1].startswith("CCAT accepts fewer distal examples than PGD-AT, ")
        assert f": {verdict} (" in lines[-1]


def test_the_figures(evaluated: tuple[Path, dict[str, Any]]) -> None:
    drawn = {d.name: d.figure for d in figures.figures(evaluated[1])}
    assert set(drawn) == {"distal_confidence", "distal_roc"}
    rows = [row for row in evaluated[1]["runs"] if row["training"] == "CCAT"]
    panel = drawn["distal_roc"].axes[1]
    line = next(x for x in panel.get_lines() if x.get_label() == "distal, smoothed")
    means = [
        50 * sum(row["noise"]["distal smoothed"]["roc"][i] for row in rows)
        for i in range(len(SHARES))
    ]
    assert line.get_xdata()[1:-1].tolist() == pytest.approx(means)
    for drawn_line in panel.get_lines():
        ends = drawn_line.get_xydata()[[0, -1]].tolist()
        assert ends == [[0, 0], [100, 100]]
    panel = drawn["distal_confidence"].axes[1]
    assert sorted(x.get_xdata()[0] for x in panel.get_lines()) == sorted(
        row["threshold"] for row in rows
    )
    [legend] = drawn["distal_confidence"].legends
    assert [t.get_text() for t in legend.get_texts()] == [
        "test images",
        "uniform noise",
        "smoothed noise",
        "distal, uniform",
        "distal, smoothed",
    ]


def test_undefined_numbers_are_drawn_and_printed(
    evaluated: tuple[Path, dict[str, Any]],
) -> None:
    """A model whose logits are NaN has no AUROC, and nothing passes."""
    rows = json.loads(json.dumps(evaluated[1]["runs"]))
    for row in rows:
        if row["training"] == "CCAT":
            row |= {"threshold": None, "probability": None, "mean": None, "histogram": [0] * 56}
            for said in row["noise"].values():
                said |= {"auroc": None, "mean": None, "roc": [None] * 100, "histogram": [0] * 56}
    assert len(EDGES) - 1 == 56
    result = {**evaluated[1], "runs": rows}
    assert len(list(tables.blocks(result))) == 4
    assert tables.notes(result)
    drawn = {d.name: d.figure for d in figures.figures(result)}
    assert drawn["distal_roc"].axes[1].get_lines() == []


# --------------------------------------------------------------------------------- the commands


def test_errors_say_what_is_expected(found: list[TrainedModel], tmp_path: Path) -> None:
    for wrong, words in (
        ({"eps": 0}, "eps must be finite and greater than 0"),
        ({"steps": 0}, "steps must be an integer of at least 1"),
        ({"noise": 0}, "noise must be an integer of at least 1"),
        ({"images": 0}, "images must be an integer of at least 1"),
        ({"keep_correct": 1.5}, "keep_correct must be greater than 0 and at most 1, got 1.5"),
        ({"draws": -1}, "draws must be an integer of at least 0"),
        ({"checkpoints": ("best",)}, "checkpoints must be there for every model"),
    ):
        with pytest.raises(ValueError, match=words):
            distal.evaluate(found, tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = ["evaluate", "rrfast.models:digits_cnn", "--data", "digits", "--out", str(tmp_path)]
    asked_ = ["--protocol", "distal", "--eps", "0.1", "--steps", "2", "--noise", "12"]
    assert (
        cli.main([*spec, *asked_, "--images", "20", "--keep-correct", "0.995", "--draws", "10"])
        == 0
    )
    assert "FPR of noise at 99.5 % TPR %" in capsys.readouterr().out
    options = json.loads((tmp_path / "distal.json").read_text())["options"]
    assert (options["keep_correct"], options["noise"], options["images"]) == (0.995, 12, 20)
    assert cli.main([*spec, *asked_, "--curve", "0.1"]) == 2
    assert "--curve is an option of the protocol robust" in capsys.readouterr().err


def test_without_a_threshold_nothing_is_said_to_pass() -> None:
    """A model of NaN lets nothing pass, and is not therefore the best of all."""
    held, test = confidences(1, 50, nan=False), confidences(2, 50, nan=False)
    broken = held._replace(odds=torch.full_like(held.odds, math.nan))
    noises = {"uniform": confidences(3, 50, nan=False).odds}
    row = evaluate_model(broken, test, test, {}, noises, OPTIONS)
    assert math.isnan(row["threshold"])
    assert math.isnan(row["accepted"])
    assert math.isnan(row["noise"]["uniform"]["fpr"])
    assert row["noise"]["uniform"]["intervals"]["fpr"] == []
