"""`rrfast evaluate` and `rrfast report`: choices on held-out images, counts, and files."""

from __future__ import annotations

import csv
import html
import io
import json
import math
import re
import shutil
import statistics
from collections.abc import Collection
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

pytest.importorskip("lightning_fabric")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

import rrfast
import rrfast.scores.logit_score
from rrfast import cli
from rrfast._results import for_json
from rrfast._tables import Block, markdown, settings, terminal
from rrfast.data import CORRUPTIONS, Split, corrupt, digits
from rrfast.data.splits import Division, Part, divide
from rrfast.evaluate import TrainedModel, drawing, misd, read_result, trained_models
from rrfast.evaluate.cache import unpacked
from rrfast.evaluate.misd import choice, claims, curves, figures, tables
from rrfast.evaluate.misd.measurements import (
    COVERAGES,
    EDGES,
    _histogram,
    compared_with_msr,
    corrupted,
    evaluate_score,
    gradient_auroc,
    train_accuracy,
)
from rrfast.evaluate.misd.protocol import _released
from rrfast.evaluate.observations import at, paired, spread
from rrfast.evaluate.options import MisdOptions
from rrfast.evaluate.scored_model import ScoredModel
from rrfast.metrics import METRICS, auroc, risk_at_coverage
from rrfast.models import Normalize, digits_cnn
from rrfast.report import report
from rrfast.scores import ODIN, SCORES, TEMPERATURES, Preprocessed, Radius, RelU, Score
from rrfast.scores.registry import score_named
from rrfast.train import TASKS, Task, dump_recipe, load_recipe, train_variants

CPU = torch.device("cpu")
CHANGES = ["training.epochs=3", "data.train=200", "data.validation=100", "training.threads=null"]
OPTIONS = MisdOptions(draws=20)
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trainings")
    recipe = load_recipe("digits_rat", CHANGES)
    assert len(list(train_variants(recipe, out, ["standard", "rat"], [0, 1], console=QUIET))) == 4
    return out


@pytest.fixture(scope="module")
def evaluated(
    trainings: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any], str]:
    out = tmp_path_factory.mktemp("evaluated")
    console = Console(record=True, width=140, file=io.StringIO())
    result = misd.evaluate(
        trained_models([trainings]),
        out,
        scores=("msr", "odin", "relu+eps", "radius_fast"),
        draws=20,
        corruptions=True,
        every_run=True,
        command="rrfast evaluate trainings",
        console=console,
    )
    return out, result, console.export_text()


@pytest.fixture(scope="module")
def on() -> Any:
    """A network that was hardly trained, on the digits."""
    task = TASKS["digits"](seed=3, train=100, validation=60)
    model = digits_cnn(3)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(task.train.x), task.train.y).backward()
        optimizer.step()
    [division] = divide(task, "heldout", 3)
    return ScoredModel(model.eval(), division, 3, 300, CPU)


# --------------------------------------------------------------------------------- what is seen


@pytest.mark.parametrize("protocol", ["heldout", "rat"])
def test_parts_have_no_image_in_common(protocol: str) -> None:
    task = TASKS["digits"](seed=1)
    divisions = divide(task, protocol, seed=1)
    assert len(divisions) == {"heldout": 1, "rat": 3}[protocol]
    for division in divisions:
        tune, test = (part.data.x[part.indices] for part in division)
        assert not (tune.flatten(1)[:, None] == test.flatten(1)[None]).all(dim=2).any()
        fit, rest = division.halves(seed=1)
        both = torch.cat([fit.indices, rest.indices]).sort().values
        assert torch.equal(both, division.validation.indices.sort().values)
        assert abs(len(fit.indices) - len(rest.indices)) <= 1
        if protocol == "rat":
            assert len(division.validation.indices) == round(0.2 * 1197)
            whole = torch.cat([division.validation.indices, division.test.indices])
            assert torch.equal(whole.sort().values, torch.arange(1197))
    if protocol == "rat":
        first, second, _ = (set(d.validation.indices.tolist()) for d in divisions)
        assert first != second
        # Another seed, other divisions; the same one, the same.
        other, again_ = divide(task, protocol, seed=2), divide(task, protocol, seed=1)
        assert set(other[0].validation.indices.tolist()) != first
        assert set(again_[0].validation.indices.tolist()) == first


@pytest.mark.parametrize("protocol", ["heldout", "rat"])
@pytest.mark.parametrize("name", ["odin", "relu+eps", "radius_fast"])
def test_nothing_of_the_test_part_is_seen(protocol: str, name: str) -> None:
    """Images and labels of the test part may be anything: what is chosen stays the same."""
    task = TASKS["digits"](seed=2, train=100, validation=60)
    model = digits_cnn(2).eval()
    for division in divide(task, protocol, 2):
        test = division.test
        x, y = test.data.x.clone(), test.data.y.clone()
        x[test.indices] = math.nan
        y[test.indices] = -1
        poisoned = Split(x, y)
        same = division.validation.data is test.data
        tune = division.validation._replace(data=poisoned) if same else division.validation
        blind = Division(tune, Part(poisoned, test.indices))
        basis = ScoredModel(model, division, 2, 300, CPU)
        _, point, worth = basis.tuned(name)
        _, unseen, unseen_worth = ScoredModel(model, blind, 2, 300, CPU).tuned(name)
        assert (point, worth) == (unseen, unseen_worth)


def test_bad_divisions(tmp_path: Path) -> None:
    data = digits(0)
    task = Task(data.train, None, data.test, 10)
    with pytest.raises(ValueError, match="tuning must be one of heldout, rat, got 'test'"):
        divide(task, "test", 0)
    with pytest.raises(
        ValueError, match=r"data must have a validation split to tune on, and has none$"
    ):
        divide(task, "heldout", 0)
    subject = TrainedModel("mine", 0, lambda: (digits_cnn(), task))
    with pytest.raises(ValueError, match=r"mine, seed 0: data must .*; .*--tuning rat\) tunes"):
        misd.evaluate([subject], tmp_path, console=QUIET)
    assert len(divide(task, "rat", 0)) == 3
    with pytest.raises(ValueError, match="data must have a test split"):
        divide(Task(data.train, data.validation, None, 10), "heldout", 0)
    few = Split(data.test.x[:4], data.test.y[:4])
    with pytest.raises(ValueError, match="the validation part must hold at least two images"):
        divide(Task(data.train, None, few, 10), "rat", 0)


# ------------------------------------------------------------------------------ what is measured


def test_a_row_is_what_the_score_gives(on: Any) -> None:
    x, y = (on.division.test.data.x, on.division.test.data.y)
    with torch.no_grad():
        correct = on.model(x).argmax(dim=1) == y
        probability = on.model(x).double().softmax(dim=1).amax(dim=1)
    assert torch.equal(on.correct, correct)
    torch.testing.assert_close(on.probability, probability, rtol=1e-12, atol=0)
    row = evaluate_score("odin", on, OPTIONS)
    assert set(row["hyperparameters"]) == {"temperature", "eps"}
    score = ODIN(**row["hyperparameters"])(on.model, x)
    for metric, function in METRICS.items():
        assert row[metric] == function(score, correct), metric
    assert (row["images"], row["errors"], row["nan"]) == (len(y), int((~correct).sum()), 0)
    assert (row["forwards"], row["backwards"]) == (
        (2.0, 1.0) if row["hyperparameters"]["eps"] else (1.0, 0.0)
    )
    for t in TEMPERATURES:
        other = ODIN(t, row["hyperparameters"]["eps"])(on.model, x)
        assert row["temperature"][str(t)] == METRICS["aurc"](other, correct)
    kept = probability > 0.8
    assert row["above"]["0.8"] == {
        "images": int(kept.sum()),
        "errors": int((~correct[kept]).sum()),
        "auroc": auroc(score[kept], correct[kept]),
    }
    assert row["above"]["0.0"]["auroc"] == row["auroc"]
    assert row["risk"] == [risk_at_coverage(score, correct, c) for c in COVERAGES]
    low, high = row["intervals"]["aurc"]
    assert low <= row["aurc"] <= high
    assert torch.equal(unpacked(row["values"]), score.double())


def test_what_is_said_of_a_network(on: Any, trainings: Path, tmp_path: Path) -> None:
    """The gradient's norm alone is the margin over the radius; nothing without one is asked it."""
    x, y = next(iter(on.division.test.batches(2000, CPU)))
    margin, radius = (SCORES[name](on.model, x) for name in ("margin", "radius_grad"))
    found = gradient_auroc(on)
    assert found == pytest.approx(auroc(radius.double() / margin.double(), on.correct), abs=1e-4)
    assert abs(found - 0.5) > 0.01
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScoredModel, "correct", torch.ones_like(on.correct))
        assert math.isnan(gradient_auroc(on))
    flipped = Split(x, on.model(x).argmax(dim=1))
    assert train_accuracy(on, flipped) == 1
    assert train_accuracy(on, Split(x, y)) == on.correct.double().mean().item()
    for scores, keys in ((("msr",), ["train_accuracy"]), (("radius_grad",), list(tables.NETWORK))):
        options: dict[str, Any] = {"scores": scores, "draws": 0, "console": QUIET}
        [row] = misd.evaluate(trained_models([trainings / "rat_0"]), tmp_path, **options)["runs"]
        assert list(row["network"]) == keys


def test_radii_are_counted(on: Any) -> None:
    row = evaluate_score("radius_fast", on, MisdOptions(draws=0, sensitivity=False))
    assert (row["intervals"], row["temperature"]) == ({}, {})
    x = on.division.test.data.x
    radius = SCORES["radius_fast"].at(**row["hyperparameters"])(on.model, x)
    for group, own in (("right", radius[on.correct]), ("wrong", radius[~on.correct])):
        counts, _ = np.histogram(own.double().numpy(), EDGES)
        assert row["histogram"][group]["counts"] == counts.tolist()
        assert sum(counts) + row["histogram"][group]["outside"] == len(own)


def test_scores_by_name() -> None:
    assert score_named("relu+eps").grids.keys() == {"temperature", "eps"}
    assert isinstance(score_named("msr+eps"), Preprocessed)
    with pytest.raises(ValueError, match=r"got 'radius_fats'; did you mean radius_fast\?"):
        score_named("radius_fats")
    with pytest.raises(ValueError, match="can only follow a score of the logits"):
        score_named("radius_fast+eps")


def test_a_radius_with_options_by_name(on: Any) -> None:
    """The paper's step of RR-Fast, in a command."""
    name = "radius_fast:alpha=0.01"
    row = evaluate_score(name, on, MisdOptions(draws=0, sensitivity=False))
    paper = Radius("fast", options={"alpha": 0.01}).at(**row["hyperparameters"])
    own = paper(on.model, on.division.test.data.x)
    assert (
        row["auroc"]
        == auroc(own, on.correct)
        != evaluate_score("radius_fast", on, OPTIONS)["auroc"]
    )
    several = score_named("radius_bs:budget=10:bounds=(0, 1):compat=released")
    assert several.options == {"budget": 10, "bounds": (0, 1), "compat": "released"}
    for wrong, told in (
        ("msr:temperature=2", "options must follow a radius, such as radius_fast, got 'msr:temp"),
        ("radius_fast:temperature=2", "temperature is tuned, so a name cannot give it"),
        ("radius_fast:alpha", "must be NAME=VALUE, each once, as in radius_fast:alpha=0.01, got"),
        ("radius_bs:budget=3:budget=4", "must be NAME=VALUE, each once"),
        ("radius_fats:alpha=1", r"did you mean radius_fast\?"),
        ("radius_fast:alhpa=1", "method 'fast' has no option 'alhpa'"),
        ("radius_fast:alpha=-1", "alpha must be finite and greater than 0"),
    ):
        with pytest.raises((TypeError, ValueError), match=told):
            score_named(wrong)


def test_relu_is_fitted_on_one_half_and_tuned_on_the_other(on: Any) -> None:
    score, point, _ = on.tuned("relu+eps")
    fit, _ = on.division.halves(on.seed)
    x, y = fit.data.x[fit.indices], fit.data.y[fit.indices]
    by_hand = Preprocessed(RelU().fit(on.model, [(x, y)]), 0.0).at(**point)
    test = on.division.test.data.x
    expected = by_hand(on.model, test)
    assert torch.equal(score(on.model, test), expected)
    assert torch.equal(on.at("relu+eps", point)(on.model, test), expected)


def test_a_score_of_nan_has_no_metric(on: Any) -> None:
    class Sometimes(nn.Module):
        """NaN for dark images."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = on.model(x)
            return h.masked_fill((x.mean(dim=(1, 2, 3)) < 0.25)[:, None], math.nan)

    task = TASKS["digits"](seed=3, train=100, validation=60)
    bright = task.validation.x.mean(dim=(1, 2, 3)) >= 0.25
    whole = torch.arange(len(task.test.y))
    division = Division(Part(task.validation, bright.nonzero()[:, 0]), Part(task.test, whole))
    basis = ScoredModel(Sometimes(), division, 0, 300, CPU)
    row = evaluate_score("msr", basis, OPTIONS)
    assert row["nan"] > 0
    assert math.isnan(row["aurc"])
    assert math.isnan(row["risk"][0])


def test_under_corruption(on: Any) -> None:
    """Every score on the same corrupted images, nothing tuned again."""
    scores = {"msr": SCORES["msr"], "radius_fast": SCORES["radius_fast"]}
    whole = ScoredModel(on.model, on.division, on.seed, 5000, CPU)
    found = corrupted("gaussian_noise", 3, scores, whole)
    again_ = corrupted("gaussian_noise", 3, {"msr": SCORES["msr"]}, whole)
    assert again_["msr"] == found["msr"]
    x, y = on.division.test.data
    worse = corrupt(x, "gaussian_noise", 5, seed=1)
    made = Part(Split(worse, y), torch.arange(len(y)))
    given = corrupted("gaussian_noise", 5, scores, whole, made)
    with torch.no_grad():
        correct = on.model(worse).argmax(dim=1) == y
    assert given["msr"]["accuracy"] == correct.double().mean().item()
    assert given["radius_fast"]["aurc"] == METRICS["aurc"](
        SCORES["radius_fast"](on.model, worse), correct
    )


def test_corruptions_of_cifar10_are_those_of_its_test_images(tmp_path: Path) -> None:
    """The rows of CIFAR-10-C that belong to the test part, in its order."""
    images = np.zeros((50000, 32, 32, 3), np.uint8)
    images[20000:30000, 0, 0, 0] = np.arange(10000) % 256
    np.save(tmp_path / "fog.npy", images)
    np.save(tmp_path / "labels.npy", np.tile(np.arange(10000) % 10, 5))
    released = torch.tensor([9, 5, 7, 300])
    test = Split(torch.zeros(4, 3, 32, 32), torch.tensor([9, 5, 7, 0]))
    task = Task(test, test, test, 10, released)
    division = Division(Part(test, torch.arange(4)), Part(test, torch.tensor([1, 3])))
    asked = MisdOptions(corruptions=tmp_path)
    part = _released("fog", division, task, asked)
    [(x, y)] = part.batches(10, CPU)
    assert (x[:, 0, 0, 0] * 255).round().tolist() == [5, 300 % 256]
    assert y.tolist() == [5, 0]
    # Before any work, for data that are not CIFAR-10's.
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
    other = TrainedModel("other", 0, lambda: (model, task._replace(released=None)))
    with pytest.raises(ValueError, match="corruptions must be made here for this data"):
        misd.evaluate([other], tmp_path / "out", corruptions=tmp_path, console=QUIET)
    assert list((tmp_path / "out" / "parts").iterdir()) == []


# -------------------------------------------------------------------------------- what is written


def test_what_is_written(evaluated: tuple[Path, dict[str, Any], str]) -> None:
    out, result, printed = evaluated
    written = read_result(out / "evaluation.json")
    assert written == json.loads(json.dumps(for_json(result)))
    assert len(written["runs"]) == 2 * 2 * 4
    assert set(written["runs"][0]["corruptions"]) == set(CORRUPTIONS)
    with (out / "evaluation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(written["runs"])
    for row, run in zip(rows, written["runs"], strict=True):
        assert float(row["aurc"]) == run["aurc"]
        assert float(row["aurc_low"]) == run["intervals"]["aurc"][0]
        assert (row["training"], int(row["seed"])) == (run["training"], run["seed"])
    page = (out / "evaluation.md").read_text()
    for text in (printed, page):
        assert "errors are the positive class" in text
        assert "Mean ± standard deviation over 2 training seeds" in text
        assert "tuned on the validation split" in " ".join(text.split())
    assert "| relu+eps |" in page
    assert "`rrfast evaluate trainings`" in page
    mean = sum(r["aurc"] for r in result["runs"] if _is(r, "RAT", "msr")) / 2
    assert f"{1000 * mean:.2f} ± " in page


def _is(row: dict[str, Any], training: str, score: str) -> bool:
    return (row["training"], row["score"]) == (training, score)


def _without(row: dict[str, Any], keys: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in keys}


def test_what_is_done_is_not_done_again(
    evaluated: tuple[Path, dict[str, Any], str],
    trainings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    shutil.copytree(evaluated[0], out)
    asked = {"draws": 20, "corruptions": True, "every_run": True, "console": QUIET}
    done: list[str] = []
    module = vars(misd.protocol)
    real = module["evaluate_score"]
    monkeypatch.setitem(
        module, "evaluate_score", lambda name, *rest: done.append(name) or real(name, *rest)
    )
    scores = ("msr", "odin", "relu+eps", "radius_fast")
    result = misd.evaluate(trained_models([trainings]), out, scores=scores, **asked)
    assert done == []
    assert result["runs"] == evaluated[1]["runs"]
    # One more score costs that score; another model is another question.
    pnorm = "max_logit_pnorm"  # one of its points is no number
    more = misd.evaluate(trained_models([trainings]), out, scores=(*scores, pnorm), **asked)
    assert done == [pnorm] * 4
    # How scores stand hangs on which there are, and so does the clock that their times are on.
    together = ("less_msr", "behind", "milliseconds")
    assert [_without(r, together) for r in more["runs"] if r["score"] != pnorm] == [
        _without(r, together) for r in result["runs"]
    ]
    chosen = [r["hyperparameters"] for r in more["runs"] if r["score"] == pnorm]
    assert {"p": None} in chosen
    with (out / "evaluation.csv").open(newline="") as file:
        cells = [row["hyperparameters"] for row in csv.DictReader(file) if row["score"] == pnorm]
    assert cells == [settings(point) for point in chosen]
    path = trainings / "rat_0" / "last.pt"
    kept = path.read_bytes()
    try:
        state = torch.load(path, weights_only=True)
        next(iter(state.values())).mul_(1.01)
        torch.save(state, path)
        misd.evaluate(
            trained_models([trainings / "rat_0"]), out, scores=("msr",), draws=20, console=QUIET
        )
        assert done == [pnorm] * 4 + ["msr"]
    finally:
        path.write_bytes(kept)


def test_a_score_of_other_options_is_another_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kept part belongs to its options: another step or another grid is computed again."""
    task = TASKS["digits"](seed=3, train=100, validation=60)
    one = TrainedModel("mine", 0, lambda: (digits_cnn(3).eval(), task))

    def row(name: str, score: Score | None = None) -> dict[str, Any]:
        if score is not None:
            monkeypatch.setitem(SCORES, name, score)
        scores = ("radius_fast", "entropy")
        asked: dict[str, Any] = {"scores": scores, "draws": 0, "every_run": True}
        runs = misd.evaluate([one], tmp_path, **asked, console=QUIET)["runs"]
        return next(run for run in runs if run["score"] == name)

    longer = Radius("fast", options={"alpha": 0.3})
    assert row("radius_fast")["histogram"] != row("radius_fast", longer)["histogram"]
    monkeypatch.setattr(rrfast.scores.logit_score, "TEMPERATURES", (7.0,))
    assert row("entropy")["hyperparameters"] == {"temperature": 7.0}


def test_what_the_weights_do_not_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another normalisation is another model, although no file of weights holds it."""
    task = TASKS["digits"](seed=3, train=100, validation=60)
    net = digits_cnn(3).eval()

    def rows(mean: float) -> list[dict[str, Any]]:
        model = nn.Sequential(Normalize([mean], [0.5]), net)
        one = TrainedModel("mine", 0, lambda: (model, task))
        return misd.evaluate([one], tmp_path, scores=("msr",), draws=0, console=QUIET)["runs"]

    first, second = rows(0.0), rows(0.5)
    assert first[0]["aurc"] != second[0]["aurc"]
    monkeypatch.setitem(vars(misd.protocol), "evaluate_score", pytest.fail)
    assert rows(0.5) == second


def test_a_folder_of_cifar10c_costs_the_corruptions_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is known of clean images stays, and what one folder gave is not another's."""
    task = TASKS["digits"](seed=3, train=100, validation=60)
    task = task._replace(released=torch.arange(len(task.test.y)))
    module = vars(misd.protocol)
    monkeypatch.setitem(module, "CORRUPTIONS", ("fog",))
    noise = {"a": 0.1, "b": 0.9}

    def made(folder: Path, *_: object) -> Split:
        generator = torch.Generator().manual_seed(1)
        shift = noise[folder.name] * torch.rand(task.test.x.shape, generator=generator)
        return Split((task.test.x + shift).clamp(0, 1), task.test.y)

    monkeypatch.setitem(module, "cifar10c", made)
    one = TrainedModel("mine", 0, lambda: (digits_cnn(3).eval(), task))
    asked = {"scores": ("msr",), "draws": 0, "console": QUIET}
    [clean] = misd.evaluate([one], tmp_path, **asked)["runs"]
    monkeypatch.setitem(module, "evaluate_score", pytest.fail)
    found = {}
    for folder in (tmp_path / "a", tmp_path / "b", True):
        [row] = misd.evaluate([one], tmp_path, corruptions=folder, **asked)["runs"]
        assert {key: row[key] for key in clean} == clean
        found[str(folder)] = row["corrupted"]["aurc"]
    assert len(set(found.values())) == 3


def test_three_divisions_of_one_test_set(trainings: Path, tmp_path: Path) -> None:
    result = misd.evaluate(
        trained_models([trainings / "rat_0"]),
        tmp_path,
        scores=("msr", "radius_grad"),
        tuning="rat",
        draws=0,
        console=QUIET,
    )
    tested = 1497 - round(0.2 * 1497)  # of 1797 digits 200 train and 100 validate
    rows = [(r["split"], r["images"]) for r in result["runs"] if r["score"] == "msr"]
    assert rows == [(0, tested), (1, tested), (2, tested)]
    page = (tmp_path / "evaluation.md").read_text()
    assert "over 3 divisions of one test set" in page
    assert "tuned on 20% of the whole test set" in page


def test_a_single_run_has_intervals(trainings: Path, tmp_path: Path) -> None:
    misd.evaluate(
        trained_models([trainings / "rat_0"]),
        tmp_path,
        scores=("msr", "energy"),
        draws=50,
        console=QUIET,
    )
    page = (tmp_path / "evaluation.md").read_text()
    assert (
        "|  | score | AURC ×1000 | less MSR | AUROC % | FPR95 % | AUGRC ×1000 | F | B | ms |"
        in page
    )
    ends = r"\[\S+, \S+\]"
    for name, less in (("msr", "–"), ("energy", ends)):
        row = rf"\| \S* \| (\*\*)?{name}(\*\*)? \| \d+\.\d+ {ends} \| {less} \|.* \| 1 \| 0 \| \d"
        assert re.search(row, page)
    assert re.search(r"\| energy \| T [\d.]+ \|\n", page)  # as tuned
    head, _, _ = page.partition("\n## ")
    for convention in (
        "- Take energy (1 F per image): it has the lowest AURC",
        "the 95 % interval over 50 test sets drawn again",
        "AURC and AUGRC: lower is better, × 1000",
        "hyper-parameters (T) by AURC",
    ):
        assert convention in head


def _training(folder: Path, *changes: str) -> Path:
    """A folder that has no more than the recipe."""
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(dump_recipe(load_recipe("digits_rat", changes)))
    return folder


def test_names_of_trainings(tmp_path: Path) -> None:
    """Seeds of one training stay together, and a number that is no seed stays."""
    seeds = [_training(tmp_path / "a" / f"rat_{s}", f"training.seed={s}") for s in (0, 1)]
    other = _training(tmp_path / "b" / "large", "objective.eps=0.2")
    assert [s.training for s in trained_models([*seeds, other])] == ["rat", "rat", "large"]
    same = [_training(tmp_path / "b" / f"rat_{s}", f"training.seed={s}") for s in (0, 1)]
    found = [(s.training, s.seed) for s in trained_models([*seeds, *same])]
    assert found == [("a/rat", 0), ("a/rat", 1), ("b/rat", 0), ("b/rat", 1)]
    steps = [_training(tmp_path / f"eps_{n}", f"objective.eps=0.{n}") for n in (1, 2)]
    assert [s.training for s in trained_models(steps)] == ["eps_1", "eps_2"]
    turned = _training(tmp_path / "turned", "objective.mode=reverse_at", "objective.mixup=1.0")
    assert [s.training for s in trained_models([turned])] == ["ReverseAT + Mixup"]
    # IRAT's signs as printed are a training of their own beside ours, and come last.
    for signs in ("false", "true"):
        text = dump_recipe(load_recipe("digits_irat", [f"objective.printed={signs}"]))
        (tmp_path / "signs" / signs).mkdir(parents=True)
        (tmp_path / "signs" / signs / "recipe.yaml").write_text(text)
    names = [s.training for s in trained_models([tmp_path / "signs"])]
    assert names == ["MAIL + reweighting", "MAIL + reweighting (as printed)"]


def test_other_data_of_a_training_tests_on_no_image_that_it_was_trained_on(tmp_path: Path) -> None:
    """The seed and the sizes stay what they were, as they say which images those are."""
    folder = _training(tmp_path / "one", "data.seed=7", "data.train=100", "training.seed=1")
    for data in ({"name": "digits", "noise": 0.3}, {"name": "digits", "seed": 7, "train": 100}):
        [one] = trained_models([folder], data=data)
        assert "seed=7" in one.data
        assert "train=100" in one.data
    for moved, value in (("seed", 1), ("train", 400), ("validation", 100)):
        with pytest.raises(
            ValueError, match=rf"data must leave {moved}=\d+ as it was .* got {value}"
        ):
            trained_models([folder], data={"name": "digits", moved: value})
    [elsewhere] = trained_models([folder], data={"name": "synthetic"})
    assert elsewhere.data == "synthetic"


def test_what_is_evaluated(
    trainings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = trained_models([trainings])
    assert [(s.training, s.seed) for s in found] == [
        ("Standard", 0),
        ("Standard", 1),
        ("RAT", 0),
        ("RAT", 1),
    ]
    assert {s.data for s in found} == {"digits train=200 validation=100"}
    # A folder elsewhere with the same objective and seed goes by its folder's name.
    shutil.copytree(trainings / "rat_0", tmp_path / "larger_eps_0")
    both = trained_models([trainings / "rat_0", tmp_path / "larger_eps_0"])
    assert [s.training for s in both] == ["rat", "larger_eps"]
    with pytest.raises(ValueError, match="models must differ in training or seed"):
        trained_models([trainings / "rat_0", trainings / "rat_0"])
    with pytest.raises(ValueError, match="data must be given for a model"):
        trained_models(["rrfast.models:digits_cnn"])
    for nothing in ("nofolder", tmp_path / "no" / "last.pt"):
        with pytest.raises(ValueError, match=r"' is neither a folder nor a model: give the folder"):
            trained_models([nothing])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty contains neither recipe\.yaml"):
        trained_models([tmp_path / "empty"])
    with pytest.raises(ValueError, match="trained_models must hold at least one"):
        misd.evaluate([], tmp_path)
    for wrong, said in (
        ({"scores": ()}, "scores must hold at least one name"),
        ({"scores": ("msr", "odin", "msr")}, "scores must name each once, and msr is"),
        ({"draws": -1}, "draws must be an integer of at least 0, got -1"),
        ({"batch": 0}, "batch must be an integer of at least 1, got 0"),
        ({"tuning": "test"}, "tuning must be one of heldout, rat, got 'test'"),
        ({"device": "cuda:99"}, "device must be one that is here, got cuda:99"),
        ({"device": "gpu"}, "device must be like cpu, cuda or cuda:1, got 'gpu'"),
    ):
        with pytest.raises(ValueError, match=said):
            misd.evaluate(found, tmp_path / "nothing", **wrong)
    assert not (tmp_path / "nothing").exists()
    [one] = trained_models(["rrfast.models:digits_cnn"], data={"name": "digits", "noise": 0.0})
    model, task = one.load()
    assert (model.training, one.data) == (False, "digits noise=0.0")
    assert task.test.x.shape == (1197, 1, 8, 8)
    result = misd.evaluate(
        [TrainedModel("mine", 7, lambda: (model, task))],
        tmp_path,
        scores=("msr",),
        draws=0,
        console=QUIET,
    )
    assert (result["runs"][0]["training"], result["runs"][0]["seed"]) == ("mine", 7)


# -------------------------------------------------------------------------- the score to take


def test_the_first_table_is_that_of_compare(on: Any) -> None:
    """The same intervals, the same choice and the same sentence, of scores with nothing to tune."""
    scores, draws = ("msr", "max_logit", "margin", "radius_grad"), 200
    said = {
        name: evaluate_score(name, on, MisdOptions(draws=draws, sensitivity=False))
        for name in scores
    }
    values = {name: unpacked(row.pop("values")) for name, row in said.items()}
    stand = compared_with_msr(values, on, draws)
    who = {"training": "mine", "seed": 0, "split": 0, "outliers": 0}
    rows = [{**who, "score": name, **said[name], **stand[name]} for name in scores]
    validation, test = (list(part.batches(300, CPU)) for part in on.division)
    asked = {"draws": draws, "timing": False, "progress": False}
    compared = rrfast.compare(on.model, test, scores, tune_on=validation, **asked)
    for row in rows:
        [theirs] = [each for each in compared.table if each.name == row["score"]]
        assert row["less_msr"] == {m: list(interval) for m, interval in theirs.less_msr.items()}
    found = choice.choice(rows)
    assert [entry.candidate.name for entry in found.entries] == [r.name for r in compared.table]
    assert [entry.candidate.beaten for entry in found.entries] == [
        row.beaten for row in compared.table
    ]
    assert found.sentence == compared.sentence
    assert sum(row.beaten for row in compared.table) > 0  # there is something to agree on
    mine, theirs_ = choice.first_block(rows, "mine"), next(iter(compared._blocks()))
    assert (mine.head, mine.best) == (theirs_.head, theirs_.best)
    assert [line[:2] + line[3:4] for line in mine.rows] == [
        line[:2] + line[3:4] for line in theirs_.rows
    ]
    # Without a bootstrap nothing says which differences are noise.
    unasked = [row | {"less_msr": {}, "behind": {}} for row in rows]
    for nothing in (choice.choice(unasked), choice.choice(choice.decided(unasked))):
        assert (nothing.taken, nothing.sentence) == (None, "")
    # A single run keeps its intervals in a file.
    assert repr(choice.choice(choice.decided(rows))) == repr(found)


@pytest.mark.parametrize(
    ("better", "behind", "take"),
    [
        ((0.010, 0.011, 0.012), (0.004, 0.005, 0.006), "radius_fast"),  # beyond both
        ((0.010, 0.011, 0.012), (-0.004, -0.005, 0.006), "msr"),  # other images could turn it
        ((0.030, 0.001, 0.002), (0.020, -0.002, -0.001), "msr"),  # another seed could
    ],
)
def test_over_seeds_a_score_is_beaten_beyond_images_and_seeds(
    better: tuple[float, ...], behind: tuple[float, ...], take: str
) -> None:
    rows = []
    for seed, (less, by) in enumerate(zip(better, behind, strict=True)):
        both = {"training": "mine", "seed": seed, "split": 0, "nan": 0, "errors": 5, "images": 90}
        cheap = {"score": "msr", "aurc": 0.05, "forwards": 1.0, "backwards": 0.0}
        dear = {"score": "radius_fast", "aurc": 0.05 - less, "forwards": 2.0, "backwards": 1.0}
        rows += [
            {**both, **cheap, "hyperparameters": {}, "behind": {"radius_fast": by}},
            {**both, **dear, "hyperparameters": {"temperature": 1.0}, "behind": {"msr": -2 * less}},
        ]
        rows = [row | {"less_msr": {"aurc": [row["aurc"] - 0.05, -1.0, 1.0]}} for row in rows]
    found = choice.choice(rows)
    assert found.taken is not None
    assert found.taken.candidate.name == take
    # A file says as much without the numbers of each pair.
    short = choice.decided(rows)
    assert {key for row in short for key in row if key in ("behind", "less_msr")} == set()
    assert repr(choice.choice(short)) == repr(found)  # NaN is not itself
    mean, error = statistics.mean(better), statistics.stdev(better) / math.sqrt(3)
    assert found.entries[0].line.less_msr == f"−{1000 * mean:.2f} ± {1000 * error:.2f}"
    several = rows + [row | {"training": "other"} for row in rows]
    [block] = choice.choices(several, ["mine", "other"])
    assert [line[:2] for line in block.rows] == [["mine", take], ["other", take]]


# ------------------------------------------------------------------------------------- statistics


def _row(seed: int, split: int, aurc: float | None, **more: Any) -> dict[str, Any]:
    return {"seed": seed, "split": split, "aurc": aurc, **more}


def test_divisions_do_not_count_as_seeds() -> None:
    rows = [_row(0, 0, 1.0), _row(0, 1, 3.0), _row(1, 0, 4.0), _row(1, 1, 4.0)]
    assert spread(rows, at("aurc")) == (3.0, pytest.approx(math.sqrt(2)), 2)
    one = spread(rows[:2], at("aurc"))
    assert one == (2.0, pytest.approx(math.sqrt(2)), 2)
    assert math.isnan(spread([_row(0, 0, 1.0)], at("aurc")).std)
    assert math.isnan(spread([_row(0, 0, None), _row(1, 0, 1.0)], at("aurc")).mean)


def test_pairs_are_of_the_same_run() -> None:
    ours = [_row(1, 0, 2.0), _row(0, 0, 1.0), _row(2, 0, 1.5)]
    theirs = [_row(0, 0, 3.0), _row(1, 0, 5.0), _row(2, 0, 4.0)]
    found = paired(ours, theirs, at("aurc"))
    d = torch.tensor([-2.0, -3.0, -2.5], dtype=torch.float64)
    assert found.mean == d.mean().item()
    assert found.standard_error == pytest.approx(d.std().item() / math.sqrt(3))
    assert (found.lower, found.runs, found.verdict) == (3, 3, -1)
    assert paired(theirs, ours, at("aurc")).verdict == 1
    assert paired(ours[:1], theirs[1:2], at("aurc")).verdict == 0  # one run decides nothing
    # Three standard errors are many for five runs, and few for two.
    shift = [_row(s, 0, 4.0 + math.sqrt(5) * x) for s, x in enumerate((-1, -1, 0, 1, 1))]
    nothing = [_row(s, 0, 1.0) for s in range(5)]
    assert paired(shift, nothing, at("aurc")).verdict == 1
    two = paired([_row(0, 0, 3.0), _row(1, 0, 5.0)], nothing[:2], at("aurc"))
    assert (two.mean, two.standard_error, two.verdict) == (3.0, pytest.approx(1.0), 0)
    # Nor do the divisions of one test set, however many and however equal.
    mine, other = ([_row(0, s, x + s / 100) for s in range(3)] for x in (1.0, 2.0))
    alone = paired(mine, other, at("aurc"))
    assert (alone.mean, alone.verdict) == (pytest.approx(-1.0), 0)
    assert math.isnan(alone.standard_error)
    with pytest.raises(ValueError, match="rows must be of the same data, seeds"):
        paired(ours[:2], theirs, at("aurc"))


def _score_row(seed: int, score: str, aurc: float, swing: float, lost: float) -> dict[str, Any]:
    above = {
        "0.0": {"errors": 50, "auroc": 0.9},
        "0.9": {"errors": 30, "auroc": 0.9 - lost},
        "0.99": {"errors": 3, "auroc": 0.1},
    }
    return {
        "training": "Standard",
        "score": score,
        "seed": seed,
        "split": 0,
        "nan": 0,
        "aurc": aurc,
        "auroc": 0.9,
        "risk": [aurc] * len(COVERAGES),
        "temperature": {} if score == "msr" else {"1.0": aurc, "100.0": swing * aurc},
        "above": above,
        "corruptions": {
            kind: {"auroc": auroc - aurc, "fpr_at_tpr": 0.5}
            for kind, auroc in (("fog", 0.8), ("snow", 0.7))
        },
        "histogram": {
            group: {"counts": [], "outside": 0, "median": 1.0} for group in ("right", "wrong")
        },
        "intervals": {},
    }


def _result(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """As a file has it."""
    rows = [row | curves.summaries(row) for row in rows]
    drawn = curves.curves(rows)
    return {"runs": curves.short(rows, drawn), "curves": drawn}


def test_what_the_spread_is_over(evaluated: tuple[Path, dict[str, Any], str]) -> None:
    """Seeds are counted per training: one of a model beside two of another are not two of both."""
    result = evaluated[1]
    other = [r for r in result["runs"] if (r["training"], r["seed"]) != ("Standard", 1)]
    both = "\n".join(tables.conventions({**result, "runs": other}))
    assert "Mean ± standard deviation over 2 training seeds." in both
    assert "Of a training with one seed: in brackets the 95 % interval over 20 test sets" in both
    apart = [r for r in other if (r["training"], r["seed"]) != ("RAT", 0)]
    one = "\n".join(tables.conventions({**result, "runs": apart}))
    assert "training seeds" not in one
    assert "In brackets the 95 % interval over 20 test sets" in one


def test_what_is_said_of_the_claims() -> None:
    """A radius that is better in all, by a little more or less from seed to seed; then the turn."""
    better = [
        row
        for seed, jitter in enumerate((0.0, 0.001, 0.002))
        for row in (
            _score_row(seed, "radius_fast", 0.01 + jitter / 2, 1.1 + jitter, 0.05 + jitter),
            _score_row(seed, "msr", 0.02 + jitter, 2.0, 0.1),
            _score_row(seed, "odin", 0.03 + jitter, 2.0, 0.1),
        )
    ]
    found = list(claims.comparisons(_result(better)))
    assert {c.claim.sentence for c in found} == {
        "The radius finds errors better",
        "It depends less on T",
        "It is more robust to corruption",
        "It suffers less from over-confidence",
    }
    assert {c.found.verdict for c in found} == {-1}
    assert [c.row for c in found if "on T" in c.claim.sentence] == [("odin",)]  # MSR has no T
    # Three errors above 0.99 are too few to say anything.
    assert {c.claim.unit for c in found if "over-conf" in c.claim.sentence} == {
        "AUROC % lost where p is above 0.9"
    }
    lost = next(c for c in found if "over-conf" in c.claim.sentence and c.row == ("msr",))
    assert lost.found.mean == pytest.approx(0.051 - 0.1)
    swing = next(c for c in found if "on T" in c.claim.sentence)
    assert swing.found.mean == pytest.approx(1.101 - 2.0)
    said = "\n".join(claims.sentences(_result(better)))
    assert "The radius finds errors better: confirmed in 2, contradicted in 0" in said
    assert "(the paper: all): Standard 2." in said
    turn = {"radius_fast": "msr", "msr": "radius_fast", "odin": "odin"}
    worse = [{**row, "score": turn[row["score"]]} for row in better]
    verdicts = {
        (c.claim.sentence, *c.row): c.found.verdict for c in claims.comparisons(_result(worse))
    }
    assert verdicts["The radius finds errors better", "msr"] == 1
    assert "(the paper: all): Standard 0." in "\n".join(claims.sentences(_result(worse)))
    assert list(claims.comparisons(_result([r for r in better if r["score"] == "msr"]))) == []


def test_trainings_are_held_against_each_other_under_the_same_score() -> None:
    """AT is better than Standard by 1, RAT by 3 with MSR and by 4 with the radius, nearly."""
    gain = {
        ("Standard", "msr"): 0,
        ("AT", "msr"): 1,
        ("RAT", "msr"): 3,
        ("Standard", "radius_fast"): -1,
        ("AT", "radius_fast"): 1,
        ("RAT", "radius_fast"): 4,
    }
    rows = [
        {
            **_row(seed, 0, (20 + 5 * seed - by + jitter) / 1000),
            "training": training,
            "score": score,
            "auroc": 0.8 + (by + seed) / 100 - jitter / 100,
            "accuracy": 0.9 + (training == "RAT") / 100 - jitter / 1000,
            "corrupted": {"aurc": 0.3, "auroc": 0.7, "accuracy": 0.5 + by / 10},
        }
        for (training, score), by in gain.items()
        # One seed of AT was not trained: what shares no seed is not compared.
        for seed, jitter in enumerate((0.0, 0.01, 0.02) if training != "AT" else (0.0, 0.05))
    ]
    aurc, points = list(tables._trained(rows, "", at))
    assert aurc.head == [
        "score",
        "AT\nless Standard\n2 seeds",
        "RAT\nless Standard\n3 seeds",
        "RAT\nless AT\n2 seeds",
    ]
    assert aurc.rows == [
        ["msr", "✓ −0.98 ± 0.02", "✓ −3.00 ± 0.00", "✓ −2.02 ± 0.02"],
        ["radius_fast", "✓ −1.98 ± 0.02", "✓ −5.00 ± 0.00", "✓ −3.02 ± 0.02"],
    ]
    assert points.rows[1][2:] == ["✓ +5.00 ± 0.00", "✓ +3.02 ± 0.02"]
    assert points.rows[2] == ["accuracy", "· +0.00 ± 0.00", "✓ +1.00 ± 0.00", "✓ +1.00 ± 0.00"]
    foggy = list(tables._trained(rows, "", partial(at, "corrupted")))
    assert foggy[1].rows[2][2] == "✓ +30.00 ± 0.00"
    apart = [row for row in rows if (row["training"] == "AT") == (row["seed"] == 1)]
    head = next(tables._trained(apart, "", at)).head
    assert head == ["score", "RAT\nless Standard\n2 seeds"]
    assert not list(tables._trained([r for r in rows if r["training"] == "AT"], "", at))


def test_claims_over_divisions() -> None:
    """Corruptions are of the first division, and an error is one in however many it is."""
    rows = [
        row | {"split": split} | ({"corruptions": {}} if split else {})
        for seed in range(3)
        for split in range(3)
        for row in (
            _score_row(seed, "radius_fast", 0.01 + seed / 1000, 1.1, 0.05),
            _score_row(seed, "msr", 0.02, 2.0, 0.1),
        )
    ]
    for row in rows:
        row["above"]["0.99"] |= {"errors": 6, "auroc": 0.5}  # 6 * 3 seeds = 18 < 20
    found = {c.claim.sentence: c for c in claims.comparisons(_result(rows))}
    corrupted_ = found["It is more robust to corruption"].found
    assert corrupted_.mean == pytest.approx(0.011 - 0.02)
    assert corrupted_.runs == 3
    assert found["It suffers less from over-confidence"].claim.unit.endswith("above 0.9")
    # Each training has its own.
    result = _result(rows)
    result["runs"].append(result["runs"][-1] | {"training": "Z"})
    unit = next(c.claim.unit for c in claims.comparisons(result) if "over-conf" in c.claim.sentence)
    assert unit.endswith("above 0.9, –, column by column")


def test_the_median_beside_infinity() -> None:
    inf = math.inf
    for values, median in (
        ([1.0, 2.0, inf], 2.0),
        ([3.0, 1.0, inf, inf], inf),
        ([1.0, 2.0, 4.0, inf], 3.0),
        ([1.0, inf, inf], inf),
    ):
        assert _histogram(torch.tensor(values))["median"] == median
    assert math.isnan(_histogram(torch.tensor([1.0, math.nan]))["median"])
    assert math.isnan(_histogram(torch.tensor([]))["median"])


def test_the_legend_has_the_scores_of_all_panels(
    evaluated: tuple[Path, dict[str, Any], str],
) -> None:
    """The last training may have no error among confident predictions, and so no line."""
    rows = [dict(row) for row in evaluated[1]["curves"]]
    last = rows[-1]["training"]
    for row in rows:
        if row["training"] == last:
            row["above"] = {p: [None, None] for p in row["above"]}
    [legend] = figures.above(rows).legends
    named_ = {text.get_text() for text in legend.get_texts()}
    assert named_ == {"msr", "odin", "relu+eps", "radius_fast"}


def test_every_score_is_drawn_in_a_style_of_its_own(
    evaluated: tuple[Path, dict[str, Any], str],
) -> None:
    names = [*misd.SETS["all"], "one_of_my_own"]
    assert set(misd.SETS["quick"]) >= {"doctor_beta", "max_logit_pnorm"}
    like = next(row for row in evaluated[1]["curves"] if row["score"] == "radius_fast")
    rows = [{**like, "score": name} for name in names]
    drawn = {d.name: d.figure for d in figures.figures({**evaluated[1], "curves": rows})}
    for name in ("risk_coverage", "risk_less_msr", "temperature", "corruptions_standard", "above"):
        [legend] = drawn[name].legends
        assert {text.get_text() for text in legend.get_texts()} == set(names), name
    assert len(set(figures._drawn(rows).values())) == len(names)
    # No two labels of an axis stand on each other.
    axis = drawn["temperature"].axes[0].yaxis
    assert [tick for tick in axis.get_minorticklabels() if tick.get_text()] == []


def test_a_legend_has_names_that_begin_with_an_underscore() -> None:
    """A name of a folder may, and what matplotlib itself calls `_child0` has none."""
    figure, grid = drawing.panels(["one"])
    [(_, ax)] = grid
    ax.plot([0, 1], [0, 1], label="_line")
    ax.plot([0, 1], [0, 1])
    ax.axhline(0.5)
    ax.bar([0], [1], label="_bar")
    ax.stairs([1.0], [0.0, 1.0], label="_stairs")
    ax.errorbar([0], [1], [1], label="_error")
    drawing.legend(figure)
    [legend] = figure.legends
    assert {text.get_text() for text in legend.get_texts()} == {
        "_line",
        "_bar",
        "_stairs",
        "_error",
    }


def test_the_figures(evaluated: tuple[Path, dict[str, Any], str]) -> None:
    drawn = {d.name: d.figure for d in figures.figures(evaluated[1])}
    assert set(drawn) == {
        "radius",
        "risk_coverage",
        "risk_less_msr",
        "temperature",
        "above",
        "corruptions_rat",
        "corruptions_standard",
    }
    rows = evaluated[1]["runs"]
    # Fig. 3: the line of a score is its mean over seeds at every temperature.
    panel = next(ax for ax in drawn["temperature"].axes if ax.get_title() == "RAT")
    line = next(line for line in panel.get_lines() if line.get_label() == "odin")
    own = [row for row in rows if _is(row, "RAT", "odin")]
    assert line.get_xdata().tolist() == sorted(TEMPERATURES)
    for t, drawn_at in zip(sorted(TEMPERATURES), line.get_ydata(), strict=True):
        mean = sum(r["temperature"][str(t)] for r in own) / 2
        assert drawn_at == pytest.approx(1000 * mean, rel=1e-4)  # a curve has five digits
    # Every line is within its panel, also of those drawn after the first.
    for ax in drawn["risk_coverage"].axes:
        highest = max(max(line.get_ydata()) for line in ax.get_lines())
        assert ax.get_ylim()[0] == 0
        assert ax.get_ylim()[1] >= highest
    # Fig. 4: a point per corruption.
    top = drawn["corruptions_standard"].axes[0]
    assert len(top.get_xticks()) == len(CORRUPTIONS)


def test_a_small_file_has_the_page_and_the_figures(
    evaluated: tuple[Path, dict[str, Any], str], trainings: Path, tmp_path: Path
) -> None:
    """Without the curves of every run, and without numbers that are only in the CSV file."""
    whole, full, _ = evaluated
    shutil.copytree(whole / "parts", tmp_path / "parts")
    asked = {"scores": full["scores"], "draws": 20, "corruptions": True, "console": QUIET}
    found = trained_models([trainings])
    misd.evaluate(found, tmp_path, command="rrfast evaluate trainings", **asked)
    small, large = (folder / "evaluation.json" for folder in (tmp_path, whole))
    assert small.stat().st_size < 0.3 * large.stat().st_size
    left_out = {"risk", "temperature", "corruptions", "histogram", "aupr_error", "intervals"}
    left_out |= {"behind", "less_msr"}
    changed = {"above", "beaten", "corrupted"}
    for row, run in zip(read_result(small)["runs"], full["runs"], strict=True):
        assert not left_out & row.keys()
        assert {key: run[key] for key in row.keys() - changed} == _without(row, changed)
        assert row["corrupted"] == _without(run["corrupted"], ("fpr_at_tpr",))
        assert isinstance(row["beaten"], bool)
    pages = [path for path in whole.iterdir() if path.suffix in (".md", ".csv", ".png")]
    assert len(pages) == 9
    for each in pages:
        assert each.read_bytes() == (tmp_path / each.name).read_bytes(), each.name


# ----------------------------------------------------------------------------------- the page


class _Page(HTMLParser):
    """Tags that are open, what they ask for, and the text."""

    void = frozenset({"meta", "img", "br", "link"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page(evaluated: tuple[Path, dict[str, Any], str], tmp_path: Path) -> None:
    """Well formed, with every table and figure, and nothing from elsewhere."""
    out = tmp_path / "page.html"
    report([evaluated[0]], out, title="A <title> & more", command="rrfast report x")
    text = out.read_text()
    page = _Page()
    page.feed(text)
    assert page.open == []
    assert "script" not in page.tags
    assert all(source.startswith(("data:image/", "#")) for source in page.sources)
    assert page.tags.count("img") == 7
    assert page.tags.count("table") == len(list(tables.blocks(evaluated[1])))
    # What is wider than a phone scrolls in a box of its own.
    boxes = re.findall(r'<div class="scroll"><(?:table|img)', text)
    assert len(boxes) == page.tags.count("img") + page.tags.count("table")
    before, _, _ = text.partition("<table")
    for convention in tables.conventions(evaluated[1]):
        assert html.escape(convention, quote=False) in before.replace("&#39;", "'")
    assert "A <title> & more" in page.text
    assert "url(" not in text
    for row in ("relu+eps", "radius_fast", "The radius finds errors better"):
        assert row in page.text
    again_ = tmp_path / "again.html"
    report([evaluated[0]], again_, title="A <title> & more", command="rrfast report x")
    assert again_.read_bytes() == out.read_bytes()
    with pytest.raises(FileNotFoundError, match=r"has no results: none of evaluation\.json"):
        report([tmp_path], out)
    with pytest.raises(
        NotADirectoryError, match=r"must be folders of results, got the file .*html"
    ):
        report([out], again_)
    (tmp_path / "evaluation.json").write_text("{")
    with pytest.raises(ValueError, match=r"evaluation\.json is not JSON: "):
        report([tmp_path], out)
    (tmp_path / "evaluation.json").write_text('{"data": []}')
    with pytest.raises(
        ValueError, match=r"evaluation\.json does not hold results of the .*`command`"
    ):
        report([tmp_path], out)
    # What was changed so that there is no page of it is a sentence.
    whole = read_result(evaluated[0] / "evaluation.json")
    rows = whole["runs"]
    for change in (
        {"runs": []},
        {"runs": [rows[0] | {"auroc": "x"}]},
        {"runs": [rows[0] | {"intervals": 3}]},
        {"options": {}},
        {"versions": 3},
    ):
        (tmp_path / "evaluation.json").write_text(json.dumps(whole | change))
        with pytest.raises(
            ValueError, match=r"evaluation\.json does not hold results of the command"
        ):
            report([tmp_path], out)
    (tmp_path / "evaluation.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"evaluation\.json is not JSON: "):
        report([tmp_path], out)


def test_a_narrow_terminal_cuts_no_cell() -> None:
    rows = [["torchattacks 3.5.1", "DeepFool", *["123456789"] * 4]]
    block = Block("Title", ["library", "method", *["images/s"] * 4], rows, 2)
    console = Console(width=60, file=io.StringIO(), record=True)
    console.print(terminal([block]))
    text = console.export_text()
    assert text.count("123456789") == text.count("images/s") == 4
    assert "…" not in text


def test_a_bar_in_a_name_ends_no_cell() -> None:
    page = markdown([Block("Title", ["a|b", "n"], [["c|d", "1"]], 1, frozenset({(0, 0)}))])
    assert page.splitlines()[2:] == ["| a\\|b | n |", "| --- | --: |", "| **c\\|d** | 1 |"]


#: What `rrfast bench` has left in the repository.
BENCHMARKS = sorted(Path(__file__).parents[1].glob("benchmarks/results/*/bench-*"))


@pytest.mark.parametrize("folder", BENCHMARKS, ids=lambda path: path.name)
def test_a_report_of_a_committed_benchmark(folder: Path, tmp_path: Path) -> None:
    report([folder], tmp_path / "page.html")
    assert "Speed and worth" in (tmp_path / "page.html").read_text()


# --------------------------------------------------------------------------------- the commands


def test_the_commands(trainings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = [str(trainings / "rat_0"), "--scores", "msr,radius_grad", "--draws", "0"]
    assert cli.main(["evaluate", *arguments, "--out", str(out)]) == 0
    assert "Which score finds the errors: RAT" in capsys.readouterr().out
    result = read_result(out / "evaluation.json")
    assert result["command"] == f"rrfast evaluate {' '.join(arguments)} --out {out}"
    page = (out / "evaluation.md").read_text()
    (out / "evaluation.md").write_text("of an older version")
    (out / "risk_coverage.png").unlink()
    assert cli.main(["report", str(out), "--out", str(tmp_path / "page.html"), "--pages"]) == 0
    assert (tmp_path / "page.html").is_file()
    assert (out / "evaluation.md").read_text() == page
    assert (out / "risk_coverage.png").is_file()
    capsys.readouterr()

    assert cli.main(["evaluate", str(trainings / "rat_0"), "--scores", "mrs"]) == 2
    assert "did you mean msr?" in capsys.readouterr().err
    assert cli.main(["evaluate", "rrfast.models:digits_cnn", "--out", str(out)]) == 2
    assert "data must be given" in capsys.readouterr().err
    severe = ["evaluate", str(trainings / "rat_0"), "--severity", "6"]
    assert cli.main([*severe, "--corruptions"]) == 2
    assert "severity must be from 1 to 5" in capsys.readouterr().err
    assert cli.main(severe) == 2
    assert "--severity is of corruptions, and there are none" in capsys.readouterr().err
    assert cli.main(["report", str(trainings)]) == 1
    assert "has no results" in capsys.readouterr().err
    data = ["--data", "digits", "train=100", "--tuning", "rat", "--scores", "msr", "--draws", "0"]
    spec = ["evaluate", "rrfast.models:digits_cnn", *data, "--out", str(tmp_path / "spec")]
    assert cli.main(spec) == 0
    assert "digits train=100" in capsys.readouterr().out
