"""`rrfast evaluate --protocol ood`: what is tuned on what, the numbers, and what is written."""

from __future__ import annotations

import copy
import csv
import json
import math
import shutil
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

pytest.importorskip("lightning_fabric")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytest.importorskip("PIL")

from PIL import Image

from rrfast import cli
from rrfast._processes import Processes, _sharing_is
from rrfast._results import for_json
from rrfast._tables import number
from rrfast.data import Split, smoothed_noise
from rrfast.data.splits import Part
from rrfast.evaluate import TrainedModel, ood, read_result, scored_model
from rrfast.evaluate.cache import Cache
from rrfast.evaluate.claims import verdicts
from rrfast.evaluate.observations import of
from rrfast.evaluate.ood import claims, figures, measurements, tables
from rrfast.evaluate.ood.curves import ACCEPTED, DRAWN_AT, EDGES, RATES, accuracies, rates
from rrfast.evaluate.ood.diagnostics import diagnose, distances, gradient_norm, separation
from rrfast.evaluate.ood.distance import mmd
from rrfast.evaluate.ood.effects import PAPER, best_step, effect_points, effects, fpr_at
from rrfast.evaluate.ood.measurements import OOD_METRICS, ModelWithSets, apart, sure, tuned
from rrfast.evaluate.ood.scaling import scaled
from rrfast.evaluate.ood.sets import OUTSIDE, Wanted, evenly, is_own, known, made
from rrfast.evaluate.options import OodOptions
from rrfast.evaluate.run_study import Context
from rrfast.metrics import aupr_error, aupr_success, auroc, detection_error, fpr_at_tpr
from rrfast.report import report
from rrfast.scores import MSR, ODIN, ODIN_GRIDS, RelU, tune_apart
from rrfast.scores.tuning import grid_points
from rrfast.train import TASKS, Task

T = TypeVar("T")
CPU = torch.device("cpu")
QUIET = Console(quiet=True)
#: Cheap to make, and cheap to score.
SETS, SCORES = ("uniform", "noise", "photos_crop"), ("msr", "odin", "relu")
IMAGES = 40


@pytest.fixture(scope="module")
def task() -> Task:
    return TASKS["digits"](seed=3, train=100, validation=60)


def network(seed: int) -> nn.Module:
    """Fast: most tests ask it thousands of times."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)).eval()


@pytest.fixture(scope="module")
def model(task: Task) -> nn.Module:
    """A network that was hardly trained."""
    net = network(3)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(task.train.x), task.train.y).backward()
        optimizer.step()
    return net


@pytest.fixture(scope="module", autouse=True)
def _few_points() -> Iterator[None]:
    """Of ODIN's grid; `test_tuning_is_that_of_the_validation_split` has all of them."""
    few = {"temperature": (1.0, 1000.0), "eps": (0.0, 0.004)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measurements, "ODIN_GRIDS", few)
        yield


@pytest.fixture
def on(model: nn.Module, task: Task) -> ModelWithSets:
    return ModelWithSets(model, task, 3, IMAGES, 100, CPU)


@pytest.fixture(scope="module")
def evaluated(
    model: nn.Module, task: Task, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """Two seeds of one training, and one of another."""
    out = tmp_path_factory.mktemp("ood")
    return out, _evaluate(_subjects(model, task), out, transfer=True)


def _subjects(model: nn.Module, task: Task) -> list[TrainedModel]:
    other = network(4)
    return [
        TrainedModel("Standard", 0, lambda: (model, task), "digits"),
        TrainedModel("Standard", 1, lambda: (other, task), "digits"),
        TrainedModel("mine", 0, lambda: (other, task), "digits"),
    ]


def _evaluate(trained_models: list[TrainedModel], out: Path, **options: Any) -> dict[str, Any]:
    asked = {"against": SETS, "scores": SCORES, "images": IMAGES, "draws": 10, "batch": 100}
    asked |= {"trials": 30, "every_run": True}
    return ood.evaluate(trained_models, out, console=QUIET, **asked | options)


def _wanted(model: nn.Module, task: Task, seed: int = 0, shape: tuple[int, ...] = (1, 8, 8)) -> Any:
    return Wanted(7, shape, seed, task.train, Part(task.test, torch.arange(7)), model, CPU, 4)


# ------------------------------------------------------------------------------------- the sets


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for i in range(9):
        pixels = generator.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{i}.png")
    return root


#: The others are made of the task's images, and have their shape.
ANY_SHAPE = [kind for kind in OUTSIDE if kind not in ("noise", *claims.ATTACKED_KINDS)]


@pytest.mark.parametrize(
    ("kind", "shape"),
    [*((kind, (1, 8, 8)) for kind in OUTSIDE), *((kind, (3, 6, 8)) for kind in ANY_SHAPE)],
)
def test_a_set_is_images_of_the_shape_from_a_seed(
    kind: str, shape: tuple[int, ...], model: nn.Module, task: Task, folder: Path
) -> None:
    name = {"crop": f"crop:{folder}", "resize": f"resize:{folder}"}.get(kind, kind)
    name = "task:synthetic train=10 validation=10 test=9 size=16" if kind == "task" else name
    first, again, other = (made(name, _wanted(model, task, seed, shape)) for seed in (1, 1, 2))
    assert first.shape == (7, *shape)
    assert (first.dtype, first.device) == (torch.float32, CPU)
    assert bool(((first >= 0) & (first <= 1)).all())
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_other_data_in_colour_are_grey_by_the_mean_of_channels(
    model: nn.Module, task: Task
) -> None:
    """ACET's grey CIFAR-10; photographs of a folder stay as Pillow makes them grey."""
    name = "synthetic train=10 validation=10 test=9 size=8"
    found = made(f"task:{name}", _wanted(model, task))
    colour = TASKS["synthetic"](0, train=10, validation=10, test=9, size=8).test.x
    grey = colour.double().mean(dim=1).float()
    assert colour.shape[1] == 3
    near = (found[:, None, 0] - grey[None]).abs().amax(dim=(2, 3)).amin(dim=1)
    assert bool((near <= 1e-6).all())


def test_a_set_with_fewer_images_is_all_of_them(
    model: nn.Module, task: Task, folder: Path, tmp_path: Path
) -> None:
    few = "task:synthetic train=10 validation=10 test=9 size=8"
    sets = (few, f"resize:{folder}", "uniform")
    subject = TrainedModel("mine", 0, lambda: (model, task), "digits")
    found = _evaluate([subject], tmp_path, against=sets, scores=("msr",), images=IMAGES)
    counted = {row["set"]: row["images"] for row in found["runs"] if row["kind"] == "set"}
    assert counted == {"inside": IMAGES, few: 9, f"resize:{folder}": 9, "uniform": IMAGES}
    page = (tmp_path / "ood.md").read_text(encoding="utf-8")
    assert f"Fewer images, all that there are: {few} 9, resize:{folder} 9." in page


def test_adversarial_noise_is_near_noise_and_the_model_is_surer_of_it(
    model: nn.Module, task: Task
) -> None:
    noise = smoothed_noise(7, task.train.x, seed=5)
    for name, eps in (("adversarial_noise", 0.3), ("adversarial_noise:0.1", 0.1)):
        found = made(name, _wanted(model, task, 5))
        # Exact but for the rounding of a sum in [0, 1].
        assert (found - noise).abs().max().item() <= eps + 2**-23
        assert bool((MSR()(model, found) > MSR()(model, noise)).all())


def test_adversarial_samples_are_near_test_images_and_their_labels_less_likely(
    model: nn.Module, task: Task
) -> None:
    """The wrong ones are surer of a wrong class: what climbs is the label's cross-entropy."""
    x, y = (part[:7] for part in task.test)
    found = made("adversarial_samples", _wanted(model, task, 5))
    assert (found - x).abs().max().item() <= 0.1 + 2**-23
    with torch.no_grad():
        before, after = (
            nn.functional.cross_entropy(model(z), y, reduction="none") for z in (x, found)
        )
    assert bool((after > before).all())
    further = made("adversarial_samples:0.3", _wanted(model, task, 5))
    assert 0.1 < (further - x).abs().max().item() <= 0.3 + 2**-23


def test_names_of_sets(tmp_path: Path) -> None:
    assert known("adversarial_noise") == ("adversarial_noise", 0.3)
    assert known(f"crop:{tmp_path}") == ("crop", tmp_path.resolve())
    assert known("task:svhn folder='a b'") == ("task", {"name": "svhn", "folder": "a b"})
    for name, said in (
        ("gausian", "against must be one of gaussian.* got 'gausian'; did you mean gaussian?"),
        ("gaussian:2", "it takes nothing, got '2'"),
        ("crop", "it must be a folder that exists, got ''"),
        ("resize:nowhere", "it must be a folder that exists, got 'nowhere'"),
        ("task:svhn folder='a b", "task must be .* quoted as in a shell, .* No closing quotation"),
        ("task:cifar", r"data\.name must be one of digits.* got 'cifar'"),
        ("adversarial_noise:x", "eps must be a number, got 'x'"),
        ("adversarial_noise:-1", "eps must be finite and greater than 0, got -1"),
    ):
        with pytest.raises(ValueError, match=said):
            known(name)


def test_places_are_spread_evenly() -> None:
    for n, most in ((10, 3), (7, 7), (5, 9), (0, 3), (1000, 999)):
        places = evenly(n, most).tolist()
        assert len(places) == min(n, most)
        assert places == sorted(set(places))
        assert all(0 <= place < n for place in places)


# ------------------------------------------------------------------------------ what is measured


def test_the_accuracy_of_what_is_accepted() -> None:
    generator = torch.Generator().manual_seed(0)
    for n in (2, 7, 60):
        value = torch.randint(9, (n,), generator=generator).double()  # with ties
        correct = torch.rand(n, generator=generator) < 0.7
        accepted, rejected = accuracies(value, correct)
        for i, percent in enumerate(ACCEPTED):
            threshold = max(
                t
                for t in value.tolist()
                if 100 * sum(v >= t for v in value.tolist()) >= percent * n
            )
            pairs = list(zip(value.tolist(), correct.tolist(), strict=True))
            for found, part in (
                (accepted[i], [c for v, c in pairs if v >= threshold]),
                (rejected[i], [c for v, c in pairs if v < threshold]),
            ):
                assert found == pytest.approx(
                    sum(part) / len(part) if part else math.nan, nan_ok=True
                )
    for part in accuracies(torch.tensor([math.nan, 1.0]), torch.tensor([True, True])):
        assert all(map(math.isnan, part))


def test_the_roc_curve_at_fixed_rates() -> None:
    generator = torch.Generator().manual_seed(0)
    for inside, outside in ((3, 4), (50, 30), (1, 1)):
        value = torch.randint(12, (inside + outside,), generator=generator).double()
        known_ = torch.arange(inside + outside) < inside
        points = [(0.0, 0.0)]
        for threshold in sorted(set(value.tolist()), reverse=True):
            above = value >= threshold
            fpr = int((above & ~known_).sum()) / outside
            points.append((fpr, int((above & known_).sum()) / inside))
        for rate, found in zip(RATES, rates(value, known_), strict=True):
            low = max(p for p in points if p[0] <= rate)
            high = min((p for p in points if p[0] > rate), default=low)
            share = (rate - low[0]) / (high[0] - low[0]) if high != low else 0.0
            # The two ways to write a line between points differ by a few roundings.
            assert found == pytest.approx(low[1] + share * (high[1] - low[1]), abs=1e-14)


def test_a_row_is_what_the_metrics_give(on: ModelWithSets, model: nn.Module, task: Task) -> None:
    point = {"temperature": 10.0, "eps": 0.002}
    said = apart("odin", point, "uniform", on, 20)
    x, y = (part[evenly(len(task.test.y), IMAGES)] for part in task.test)
    inside, outside = (ODIN(10.0, 0.002)(model, z) for z in (x, on.to_test("uniform")))
    value = torch.cat([inside, outside])
    is_inside = torch.tensor([True] * IMAGES + [False] * IMAGES)
    assert said["fpr"] == fpr_at_tpr(value, is_inside, positive="correct")
    assert said["detection_error"] == detection_error(value, is_inside, convention="odin")
    assert said["least_error"] == detection_error(value, is_inside)
    assert said["auroc"] == auroc(value, is_inside)
    assert said["aupr_in"] == aupr_success(value, is_inside)
    assert said["aupr_out"] == aupr_error(value, is_inside)
    assert said["mean_outside"] == outside.mean().item()
    # By hand: the highest threshold that accepts 95 % of the inside.
    threshold = inside.sort(descending=True).values[math.ceil(0.95 * IMAGES) - 1]
    assert said["fpr"] == (outside >= threshold).double().mean().item()
    # As ODIN's released code: of all thresholds, the one with the fewest wrong verdicts.
    both = [
        ((inside < t).double().mean() + (outside >= t).double().mean()).item() / 2
        for t in value.tolist()
    ]
    assert said["least_error"] == pytest.approx(min(both), abs=1e-15)
    assert said["least_error"] < said["detection_error"]
    low, high = said["intervals"]["auroc"]
    assert low <= said["auroc"] <= high
    assert apart("odin", point, "uniform", on, 0)["intervals"] == {}
    with torch.no_grad():
        correct = model(x).argmax(dim=1) == y
        p = model(x).double().softmax(dim=1).amax(dim=1)
        q = model(on.to_test("uniform")).double().softmax(dim=1).amax(dim=1)
    assert torch.equal(on.inside("odin", (point,))[1], correct)
    unsure, own = sure("uniform", on), sure(None, on)
    assert own["error"] == 1 - correct.double().mean().item()
    # A softmax and a sigmoid of its log-odds, a few roundings apart.
    assert own["mmc"] == pytest.approx(p.mean().item(), rel=1e-12)
    assert unsure["mmc"] == pytest.approx(q.mean().item(), rel=1e-12)
    assert unsure["confidences"] == np.histogram(q.numpy(), EDGES)[0].tolist()
    assert sum(own["confidences"]) == IMAGES
    msr = torch.cat([MSR()(model, x), MSR()(model, on.to_test("uniform"))])
    assert unsure["auroc"] == auroc(msr, is_inside)


def test_attacks_that_were_resisted_do_not_count(model: nn.Module, task: Task) -> None:
    """As ACET's code has it: a class more, of 1.01 / K, is behind those of the model."""
    on = ModelWithSets(model, task, 3, 200, 100, CPU)
    said = sure("adversarial_samples", on)
    y = task.test.y[evenly(len(task.test.y), 200)]
    with torch.no_grad():
        p = model(on.to_test("adversarial_samples")).double().softmax(dim=1)
    with_rejection = torch.cat([p, torch.full((200, 1), 1.01 / 10).double()], dim=1)
    wrong = with_rejection.argmax(dim=1) != y
    assert 0 < int(wrong.sum()) < 200
    other, confidence = said["not_resisted"], p.amax(dim=1)
    assert other["images"] == int(wrong.sum())
    assert said["mmc"] == pytest.approx(confidence.mean().item(), rel=1e-6)
    assert other["mmc"] == pytest.approx(confidence[wrong].mean().item(), rel=1e-6)
    assert other["mmc"] != pytest.approx(said["mmc"], rel=1e-3)
    [inside], _ = on.inside("msr", ({},))
    value = torch.cat([inside, MSR()(model, on.to_test("adversarial_samples"))[wrong]])
    known_ = torch.arange(len(value)) < 200
    assert other["auroc"] == auroc(value, known_)
    assert other["fpr"] == fpr_at_tpr(value, known_, positive="correct")
    assert other["roc"] == rates(value, known_)
    assert "not_resisted" not in sure("uniform", on)
    # Uniform confidence names class 0, and resists nothing by that.
    flat = copy.deepcopy(model)
    for parameter in flat[-1].parameters():
        nn.init.zeros_(parameter)
    nothing = ModelWithSets(flat, task, 3, 200, 100, CPU)
    assert sure("adversarial_samples", nothing)["not_resisted"]["images"] == 200
    # All of them resisted, there is nothing to tell apart.
    with torch.no_grad():
        own = task._replace(test=Split(task.test.x, model(task.test.x).argmax(dim=1)))
    other = sure("adversarial_samples:1e-9", ModelWithSets(model, own, 3, 200, 100, CPU))[
        "not_resisted"
    ]
    assert other.pop("images") == 0
    assert all(math.isnan(v) for name, v in other.items() if name != "roc")


def test_the_ends_of_the_confidence_are_kept(
    on: ModelWithSets, model: nn.Module, task: Task
) -> None:
    """ACET App. C: what a model is surest of outside, and least sure of inside."""
    x = task.test.x[evenly(len(task.test.y), IMAGES)]
    for name, images, key in ((None, x, "least_sure"), ("noise", on.to_test("noise"), "surest")):
        said = sure(name, on)
        with torch.no_grad():
            p = model(images).double().softmax(dim=1).amax(dim=1)
        assert said["highest"] == pytest.approx(p.max().item(), rel=1e-6)
        assert said["lowest"] == pytest.approx(p.min().item(), rel=1e-6)
        order = p.argsort(descending=name is not None)[:10]
        torch.testing.assert_close(p[said[key]], p[order], rtol=1e-6, atol=0)


def test_attacked_test_images_are_in_the_tables_twice(
    model: nn.Module, task: Task, tmp_path: Path
) -> None:
    asked = {"against": ("adversarial_samples", "uniform"), "scores": ("msr",), "images": 20}
    trained_models = [
        TrainedModel(name, 0, lambda: (model, task), "digits") for name in ("one", "two")
    ]
    result = _evaluate(trained_models, tmp_path, **asked, diagnostics=False, draws=0)
    block = next(b for b in tables.blocks(result) if "ACET's Table 1" in b.title)
    row = of(result["runs"], kind="set", set="adversarial_samples", training="one")[0]
    cells = {cells[0]: cells[3:] for cells in block.rows if cells[1] == "one"}
    for name, numbers in (
        ("adversarial_samples", row),
        ("adversarial_samples, not resisted", row["not_resisted"]),
    ):
        assert cells[name] == [
            number(numbers[k], 1.0, 3) for k in ("mmc", "highest", "auroc", "fpr")
        ]
    assert "These are the Adv. Samples of ACET's Table 1" in (tmp_path / "ood.md").read_text()
    drawn = {d.name: d.figure for d in figures.figures(result)}
    titles = [ax.get_title() for ax in drawn["roc_trainings"].axes]
    assert titles == ["adversarial_samples", "uniform", "adversarial_samples, not resisted"]
    # Older results say nothing of it.
    for run in result["runs"]:
        for key in ("not_resisted", "highest"):
            run.pop(key, None)
    block = next(b for b in tables.blocks(result) if "ACET's Table 1" in b.title)
    assert {cells[4] for cells in block.rows} == {"–"}


def test_tuning_is_that_of_the_validation_split(
    on: ModelWithSets, model: nn.Module, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = on.to_tune("textures")
    assert len(outside) == 60
    monkeypatch.setattr(measurements, "ODIN_GRIDS", ODIN_GRIDS)
    by_hand = tune_apart(ODIN(), model, [task.validation.x], [outside], grids=ODIN_GRIDS)
    said = tuned("odin", "textures", on)
    assert said["hyperparameters"] == by_hand.best.point
    assert said["validation_fpr"] == by_hand.best.metric
    table = said["table"]
    assert list(table) == ["temperature", "eps", "fpr"]
    assert [*zip(*table.values(), strict=True)] == [
        (row.point["temperature"], row.point["eps"], row.metric) for row in by_hand.table
    ]
    # RelU is fitted on one half and tuned on the other.
    fit, tune = ((p.data.x[p.indices], p.data.y[p.indices]) for p in on.division.halves(3))
    relu = tune_apart(RelU().fit(model, [fit]), model, [tune], [outside])
    said = tuned("relu", "textures", on)
    assert said["hyperparameters"] == relu.best.point
    assert said["validation_fpr"] == relu.best.metric
    # The draws that are tuned on are not those that are tested on.
    assert not torch.equal(on.to_test("textures")[:40], outside[:40])


def test_a_result_without_a_metric_that_came_later_is_a_page(
    evaluated: tuple[Path, dict[str, Any]],
) -> None:
    old = copy.deepcopy(evaluated[1])
    for row in of(old["runs"], kind="score"):
        del row["least_error"], row["intervals"]["least_error"]
    for row in old["runs"]:
        row.pop("hot", None)  # which came later, too
    for block in tables.blocks(old):
        for i, head in enumerate(block.head):
            if head == "least\nerror %":
                assert {row[i] for row in block.rows} <= {"–", "– / –"}
    assert "least error" in "".join(tables.conventions(old))


@pytest.mark.parametrize("name", SCORES)
def test_nothing_that_is_tested_on_is_seen(
    name: str, on: ModelWithSets, model: nn.Module, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Test images, their labels, and the sets to test on may be anything: the choice stays."""
    poisoned = Split(torch.full_like(task.test.x, math.nan), torch.full_like(task.test.y, -1))
    blind = ModelWithSets(model, task._replace(test=poisoned), 3, IMAGES, 100, CPU)
    real = measurements.made

    def bad(set_name: str, wanted: Wanted) -> Tensor:
        images = real(set_name, wanted)
        return images * math.nan if wanted.inside.data is poisoned else images

    monkeypatch.setattr(measurements, "made", bad)
    assert bool(blind.to_test("textures").isnan().all())
    assert tuned(name, "textures", blind) == tuned(name, "textures", on)


def test_transfer(evaluated: tuple[Path, dict[str, Any]], on: ModelWithSets, task: Task) -> None:
    """Every pair of two sets, each as it is when it is the only one."""
    rows = [r for r in evaluated[1]["runs"] if r["kind"] == "transfer" and r["training"] == "mine"]
    pairs = {(r["tuned"], r["set"]) for r in rows}
    assert pairs == {(a, b) for a in ("textures", *SETS) for b in SETS if a != b}
    net = network(4)
    alone = ModelWithSets(net, task, 0, IMAGES, 100, CPU)
    for row in rows:
        if row["tuned"] in ("textures", "noise"):
            point = tuned("odin", row["tuned"], alone)["hyperparameters"]
            assert row["hyperparameters"] == point
            assert row["fpr"] == apart("odin", point, row["set"], alone, 0)["fpr"]
            assert row["baseline"] == apart("msr", {}, row["set"], alone, 0)["fpr"]


def test_the_inside_is_asked_once_for_all_sets(
    on: ModelWithSets, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = scored_model.predict, []

    def counted(model: Any, loader: Any, *args: Any, **options: Any) -> Any:
        batches = list(loader)
        asked.append("outside" if isinstance(batches[0], Tensor) else "inside")
        return real(model, batches, *args, **options)

    monkeypatch.setattr(scored_model, "predict", counted)
    for name in SETS:
        tuned("odin", name, on)
    assert sorted(asked) == ["inside", *["outside"] * len(SETS)]


def test_diagnoses(on: ModelWithSets, model: nn.Module) -> None:
    x = on.to_test("photos_crop")
    said = diagnose(model, x.split(7))
    with torch.no_grad():
        u1, u2 = separation(model(x))
    norm = gradient_norm(model, x)
    # Batches of another size: float32 forwards that differ in their rounding.
    assert said["u1_mean"] == pytest.approx(u1.mean().item(), rel=1e-5)
    assert said["norm_mean"] == pytest.approx(norm.mean().item(), rel=1e-5)
    assert sum(said["u2_given_u1"]["samples"]) == len(x)
    given = said["u2_given_u1"]
    own = [n * m for n, m in zip(given["samples"], given["mean"], strict=True) if n]
    assert sum(own) / len(x) == pytest.approx(u2.mean().item(), rel=1e-5)
    edges, density = said["u1"]["edges"], said["u1"]["density"]
    area = sum(d * (b - a) for a, b, d in zip(edges, edges[1:], density, strict=False))
    assert area == pytest.approx(1.0)
    far = distances(x, on.to_test("uniform"))
    assert far["mmd"] == mmd(x, on.to_test("uniform"))
    same = torch.zeros(3, 1, 2, 2)
    assert math.isnan(distances(same, same)["mmd"])
    # Fig. 5 (f, g): one of its images, in the middle of one of the batches, and nearest to all.
    with torch.no_grad():
        each = [model(z) for z in x.split(7)]
    middles = [u.median().item() for u, _ in map(separation, each)]
    nearest = min(middles, key=lambda u: abs(u - u1.double().median().item()))
    assert separation(torch.tensor([said["outputs"]])).u1.item() == pytest.approx(nearest)
    # One image is a set too, and one of NaN none.
    assert diagnose(model, [x[:1]])["nan"] == 0
    assert diagnose(model, [x[:1] * math.nan]) == {"nan": 1}


class First(Processes):
    """The first of two processes, which find the same."""

    def gather(self, value: T) -> list[T]:
        return [value, value]


def test_of_several_processes_each_reads_its_own_images(
    model: nn.Module, task: Task, tmp_path: Path
) -> None:
    """Of the test images, for all numbers of a set that do not depend on a score."""

    class Read:
        def __init__(self, data: Any) -> None:
            self.data, self.y = data, data.y

        def __len__(self) -> int:
            return len(self.y)

        def __getitem__(self, i: int) -> tuple[Tensor, int]:
            read.add(i)
            return self.data.x[i], int(self.y[i])

    read: set[int] = set()
    on = ModelWithSets(model, task._replace(test=Read(task.test)), 3, IMAGES, 7, CPU)
    read.clear()
    with _sharing_is(First(0, 2)):
        options = OodOptions(scores=SCORES, against=SETS, images=IMAGES, batch=7)
        context = Context(None, model, task, CPU, Cache(tmp_path, "ood", {}), lambda: None)
        ood.protocol._Evaluation(on, options, context).confident(None)
    own = on.division.test.indices.split(7)[::2]
    assert read == {int(place) for part in own for place in part}


def test_the_temperature_alone_and_the_step_alone(on: ModelWithSets, model: nn.Module) -> None:
    """At every point of Fig. 3 and 4 what the score itself gives, on the images that are tested."""
    points = effect_points(grid_points(ODIN(), ODIN_GRIDS))
    pairs = {(p["temperature"], p["eps"]) for p in points}
    assert len(points) == len(pairs) == 50
    for eps in ODIN_GRIDS["eps"]:
        assert {(1.0, eps), (1000.0, eps)} <= pairs
    assert {(t, 0.0) for t in ODIN_GRIDS["temperature"]} <= pairs
    assert (1000.0, 0.0014) in pairs
    said = effects("photos_crop", [*points[::7], PAPER], on)
    x = torch.cat([x for x, _ in on.division.test.batches(100, CPU)])
    for t, eps, fpr in zip(*said["table"].values(), strict=True):
        inside, outside = (ODIN(t, eps)(model, z) for z in (x, on.to_test("photos_crop")))
        value = torch.cat([inside, outside])
        assert fpr == fpr_at_tpr(value, torch.arange(len(value)) < len(x), positive="correct")
    # Table 2: every metric at T = 1000, of which FPR95 is the one above.
    hot = said["hot"]
    points_there = [p for p in [*points[::7], PAPER] if p["temperature"] == 1000]
    assert hot["eps"] == [p["eps"] for p in points_there]
    assert hot["fpr"] == [fpr_at(said["table"], point) for point in points_there]
    value = torch.cat([ODIN()(model, z) for z in (x, on.to_test("photos_crop"))])
    inside = torch.arange(len(value)) < len(x)
    place = hot["eps"].index(0.0014)
    for name, metric in OOD_METRICS.items():
        assert hot[name][place] == metric(value, inside)
    # Fig. 10: of each threshold the share above it.
    inside, outside = (ODIN()(model, z).sigmoid() for z in (x, on.to_test("photos_crop")))
    found = said["thresholds"]
    assert (found["low"], found["high"]) == (inside.min().item(), inside.max().item())
    delta = np.linspace(found["low"], found["high"], len(found["tpr"]))
    for shares, values in ((found["tpr"], inside), (found["fpr"], outside)):
        # Off the ends, where a rounding of the threshold decides over the image that it is.
        for d, share in [*zip(delta, shares, strict=True)][1:-1]:
            assert share == (values > d).double().mean().item()
    assert found["tpr"][-1] == 0


# -------------------------------------------------------------------------------- what is written


def test_noise_is_scaled_until_the_model_is_sure(on: ModelWithSets) -> None:
    on.model = copy.deepcopy(on.model).double()  # surer than what was hardly trained
    with torch.no_grad():
        on.model[-1].weight.mul_(3)
    seen: list[Tensor] = []

    def watched(module: nn.Module, given: tuple[Tensor]) -> tuple[Tensor]:
        seen.append(given[0])
        return (given[0].double(),)

    handle = on.model.register_forward_pre_hook(watched)
    said = scaled(on, 150)
    handle.remove()
    # Batch by batch, and the first forward of each is of the noise itself.
    assert [len(x) for x in seen] == [100] * 81 + [50] * 81
    x = torch.cat([seen[0], seen[81]]).double()
    assert len(x.unique(dim=0)) == said["trials"] == 150
    # As test images are asked for, so many; noise is not.
    assert OodOptions().trials == 10_000

    def surest(alpha: Tensor, box: bool) -> Tensor:
        z = alpha.view(len(alpha), -1, 1, 1, 1) * x
        z = z.clamp(0, 1) if box else z
        with torch.no_grad():
            found = on.model(z.flatten(0, 1)).softmax(dim=1).amax(dim=1)
        return found.unflatten(0, z.shape[:2])

    # On a fine grid of factors the first that reaches it is near the root.
    grid = torch.logspace(0, 4, 4000, dtype=torch.float64)
    free = surest(grid, box=False) >= 0.999
    first = grid[free.int().argmax(dim=0)]
    assert bool(free.any(dim=0).all())
    median = first.sort().values[(len(x) - 1) // 2].item()
    assert said["alpha"] == pytest.approx(median, rel=0.01)
    reached = (surest(grid, box=True) >= 0.95).any(dim=0).double().mean().item()
    assert 0 < reached < 1
    # 1 of 100, of which two are not counted on.
    assert abs(said["overconfident"] - reached) <= 0.02
    own = (surest(first[None], box=True) >= 0.95).double().mean().item()
    assert abs(said["overconfident_at_alpha"] - own) <= 0.02
    assert said["overconfident_at_alpha"] < said["overconfident"]
    assert said["nan"] == 0
    with torch.no_grad():  # every image has the same logits at every factor
        on.model.float()[-1].weight.zero_()
    never = scaled(on, 20)
    assert never["alpha"] == math.inf
    assert never["overconfident"] == never["overconfident_at_alpha"] == 0


def test_what_is_written(evaluated: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    out, result = evaluated
    written = read_result(out / "ood.json")
    assert written == json.loads(json.dumps(for_json(result)))
    kinds = Counter(run["kind"] for run in result["runs"])
    assert kinds == {
        "score": 3 * 3 * 3,
        "inside": 3 * 3,
        "set": 3 * 4,
        "scaling": 3,
        "transfer": 3 * 9,
        "tuning": 3 * 2,
        "effect": 3 * 3,
    }
    with (out / "ood.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    scored = [run for run in written["runs"] if run["kind"] == "score"]
    assert len(rows) == len(scored)
    for row, run in zip(rows, scored, strict=True):
        assert (row["training"], row["score"], row["set"]) == (
            run["training"],
            run["score"],
            run["set"],
        )
        assert float(row["fpr"]) == run["fpr"]
        assert float(row["auroc_low"]) == run["intervals"]["auroc"][0]
    page = (out / "ood.md").read_text()
    for title in (
        "As ODIN's Table 2: MSR / ODIN",
        "As ODIN's Table 2 with T = 1000, ODIN: mine",
        "As ACET's Table 1: MSR of every training",
        "As ODIN's Table 3, FPR95 % of ODIN: Standard",
        "As ODIN's Fig. 3 and 4, FPR95 % of ODIN at fixed points: Standard",
        "ODIN accepts fewer out-of-distribution images than MSR (FPR95 %)",
        "How far the sets are",
        "As ACET's Table 2: uniform noise scaled up",
    ):
        assert title in page
    assert "Mean ± standard deviation over 2 training seeds." in page
    assert "Of a training with one seed: in brackets the 95 % interval over 10 test sets" in page
    assert "the validation split against textures" in page
    own = of(scored, training="Standard", score="odin", set="noise")
    assert f"{100 * sum(r['fpr'] for r in own) / 2:.1f} ± " in page
    names = {path.stem for path in out.glob("*.png")}
    assert names == {
        *("roc_standard", "roc_mine", "roc_trainings", "confidence", "accepted", "distance"),
        *(
            f"{kind}_{training}"
            for kind in ("diagnostics", "outputs", "effects", "thresholds")
            for training in ("standard", "mine")
        ),
    }
    report([out], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "Out-of-distribution detection: digits" in text
    assert text.count("<img") == len(names)


def test_what_is_done_is_not_done_again(
    evaluated: tuple[Path, dict[str, Any]],
    model: nn.Module,
    task: Task,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    shutil.copytree(evaluated[0], out)
    module, done = vars(ood.protocol), []
    asked = ("apart", "sure", "tuned", "within", "transferred", "effects", "diagnose", "distances")
    for name in asked:

        def counted(*args: Any, real: Any = module[name], name: str = name) -> Any:
            done.append(name if name != "apart" else (*args[:1], *args[2:3]))
            return real(*args)

        monkeypatch.setitem(module, name, counted)
    monkeypatch.setattr(ood.protocol, "STUDY", ood.STUDY._replace(figures=lambda _: iter(())))
    trained_models = _subjects(model, task)
    assert _evaluate(trained_models, out, transfer=True)["runs"] == evaluated[1]["runs"]
    assert done == []
    # One more set costs that set, one more score that score.
    trained_models = trained_models[:1]
    _evaluate(trained_models, out, against=(*SETS, "photos_resize"), diagnostics=False)
    assert done == ["sure", *((name, "photos_resize") for name in SCORES)]
    done.clear()
    _evaluate(trained_models, out, scores=(*SCORES, "margin"))
    assert done == ["tuned", "within", *(("margin", name) for name in SETS)]
    # Another number of draws: the metrics, and nothing else; of images: all but what is chosen.
    done.clear()
    _evaluate(trained_models, out, draws=0)
    assert set(done) == {(score, name) for score in SCORES for name in SETS}
    done.clear()
    _evaluate(trained_models, out, images=30)
    assert "tuned" not in done
    assert {"sure", "within", "effects", "diagnose", "distances", ("msr", "noise")} <= set(done)
    # Another set to tune on; the scores that are as they are stay where they were.
    done.clear()
    _evaluate(trained_models, out, validation="photos_resize")
    assert done[: len(SCORES)].count("tuned") > 0
    assert ("msr", "noise") not in done
    # Other training images, and other noise is made of them; what is inside stays.
    done.clear()
    train = Split(task.train.x.flip(0, 2), task.train.y)
    _evaluate(
        [TrainedModel("Standard", 0, lambda: (model, task._replace(train=train)))], out, draws=0
    )
    assert ("msr", "noise") in done
    assert "within" not in done
    # Batches decide how an attack is drawn.
    done.clear()
    _evaluate(trained_models, out, batch=20)
    assert len(done) == len(SCORES) * (2 + len(SETS)) + 3 * (1 + len(SETS)) - 1 + len(SETS)


class _Sometimes(nn.Module):
    """NaN where an image is dark."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.model(x)
        return h.masked_fill((x.mean(dim=(1, 2, 3)) < 0.2)[:, None], math.nan)


def test_nan_breaks_nothing(model: nn.Module, task: Task, tmp_path: Path) -> None:
    """A score without a number on some images has no metric there, and has it elsewhere."""
    bright = task.test.x.clamp(min=0.3)
    dark = task._replace(
        test=Split(bright, task.test.y),
        validation=Split(task.validation.x.clamp(min=0.3), task.validation.y),
    )
    one = TrainedModel("mine", 0, lambda: (_Sometimes(model), dark), "digits")
    zero = TrainedModel("mine", 1, lambda: (_Sometimes(model), dark), "digits")
    sets = ("photos_crop", "uniform")
    result = _evaluate([one, zero], tmp_path, against=sets, validation="gaussian")
    by_set = {r["set"]: r for r in result["runs"] if r["kind"] == "score" and r["score"] == "msr"}
    assert by_set["photos_crop"]["nan"] > 0
    assert by_set["photos_crop"]["auroc"] is None
    assert by_set["photos_crop"]["intervals"] == {}
    assert by_set["uniform"]["auroc"] is not None
    page = (tmp_path / "ood.md").read_text()
    assert "NaN on some images, so without metrics: " in page
    assert "msr (mine) on photos_crop" in page
    assert "msr (mine) on uniform" not in page
    assert (tmp_path / "diagnostics_mine.png").is_file()


def test_a_model_that_is_nan_where_scores_are_tuned_is_named(
    model: nn.Module, task: Task, tmp_path: Path
) -> None:
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken[-1].bias.fill_(math.nan)
    good, bad = (
        TrainedModel(name, 0, lambda m=m: (m, task))
        for name, m in (("good", model), ("bad", broken))
    )
    asked = {"against": ("uniform",), "scores": ("msr",), "diagnostics": False}
    with pytest.raises(
        ValueError, match=r"bad, seed 0: msr cannot be tuned on .* textures: .* NaN"
    ):
        _evaluate([good, bad], tmp_path, **asked)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").iterdir()}
    _evaluate([good], tmp_path, **asked)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").iterdir()} == before


def test_other_waves_are_another_data_set() -> None:
    test = TASKS["synthetic"](0, train=1, validation=1, test=5).test
    sizes = "train=1 validation=1 test=5"
    assert is_own(f"task:synthetic {sizes}", "synthetic", test)
    assert not is_own(f"task:synthetic seed=1 {sizes}", "synthetic", test)
    assert not is_own("task:digits", "synthetic", test)
    assert not is_own("uniform", "synthetic", test)


def test_the_best_of_each_set_is_bold(evaluated: tuple[Path, dict[str, Any]]) -> None:
    """The lowest FPR and detection error, and the highest of the others."""
    scored = of(evaluated[1]["runs"], kind="score", training="mine")
    [block] = [b for b in tables.blocks(evaluated[1]) if b.title.endswith("bold: mine")]
    best = {"fpr": min, "detection_error": min, "least_error": min}
    best |= {"auroc": max, "aupr_in": max, "aupr_out": max}
    expected = set()
    for i, (name, score, *_) in enumerate(block.rows):
        for j, (metric, better) in enumerate(best.items(), 2):
            [own] = of(scored, set=name, score=score)
            if own[metric] == better(row[metric] for row in of(scored, set=name)):
                expected.add((i, j))
    assert block.best == expected


def test_trainings_are_held_against_each_other(evaluated: tuple[Path, dict[str, Any]]) -> None:
    """Set by set and score by score, over the one seed that both trainings have."""
    for metric, factor in (("fpr", 100.0), ("auroc", 100.0)):
        said = {"fpr": "FPR95 %", "auroc": "AUROC %"}[metric]
        title = f"Trainings against each other: {said}, points"
        [block] = [b for b in tables.blocks(evaluated[1]) if b.title == title]
        assert block.head == ["against", "score", "mine\nless Standard\n1 seed"]
        assert len(block.rows) == len(SETS) * len(SCORES)
        for name, score, cell in block.rows:
            own = of(evaluated[1]["runs"], kind="score", set=name, score=score, seed=0)
            mine, standard = (of(own, training=t)[0][metric] for t in ("mine", "Standard"))
            assert cell == f"· {number(mine - standard, factor, 1, sign='+')}"


def test_what_is_refused(model: nn.Module, task: Task, tmp_path: Path) -> None:
    one = TrainedModel("mine", 0, lambda: (model, task))
    refused = partial(_evaluate, [one], tmp_path / "nothing")
    for wrong, said in (
        ({"validation": "noise"}, "validation must be another set .* and noise is both"),
        ({"against": ()}, "against must hold at least one name"),
        ({"against": ("noise", "noise")}, "against must name each once, and noise is there twice"),
        ({"scores": ("msr", "msr")}, "scores must name each once, and msr is there twice"),
        ({"against": ("nois",)}, "against must be one of .* did you mean noise?"),
        ({"validation": "nois"}, "validation must be one of .* did you mean noise?"),
        ({"scores": ("mrs",)}, "did you mean msr?"),
        ({"scores": ("msr",), "transfer": True}, "transfer must have odin among the scores"),
        ({"draws": -1}, "draws must be an integer of at least 0, got -1"),
        ({"images": 1}, "images must be an integer of at least 2, got 1"),
        ({"trials": 0}, "trials must be an integer of at least 1, got 0"),
        # The default of eps, written out.
        (
            {"against": ("adversarial_noise:0.3",), "validation": "adversarial_noise"},
            "adversarial_noise:0.3 is both",
        ),
    ):
        with pytest.raises(ValueError, match=said):
            refused(**wrong)
    assert not (tmp_path / "nothing").exists()
    with pytest.raises(
        ValueError, match="images must be from 2 to the number of test images, 1637"
    ):
        _evaluate([one], tmp_path, images=5000)
    own = TrainedModel("mine", 0, lambda: (model, task), "digits seed=3")
    for wrong, said in (
        ({"against": ("task:digits",)}, "against must be other data than .* digits seed=3, got"),
        ({"validation": "task:digits noise=0"}, "validation must be other data than the model's"),
    ):
        with pytest.raises(ValueError, match=f"mine, seed 0: {said}"):
            _evaluate([own], tmp_path, **wrong)
    with pytest.raises(ValueError, match="data must have a validation split"):
        _evaluate(
            [TrainedModel("mine", 0, lambda: (model, task._replace(validation=None)))], tmp_path
        )


# ------------------------------------------------------------------------------------ the claims


def _set_row(training: str, seed: int, name: str, mmc: float, roc: float) -> dict[str, Any]:
    return {
        "kind": "set",
        "training": training,
        "seed": seed,
        "split": 0,
        "set": name,
        "mmc": mmc,
        "auroc": roc,
    }


def test_the_order_of_trainings() -> None:
    """ACET below CEDA below Standard, a little more or less from seed to seed."""
    level = {"Standard": 0.9, "CEDA": 0.5, "ACET": 0.1}
    rows = [
        _set_row(training, seed, name, mmc + 0.01 * (seed % 2) * mmc, 1 - mmc)
        for training, mmc in level.items()
        for seed in range(3)
        for name in ("inside", "noise", "adversarial_noise:0.3", "uniform")
    ]
    found = list(claims.comparisons({"runs": rows}))
    assert {c.found.verdict for c in found} == {-1}
    order = {(*c.row, c.column) for c in found if c.claim == claims.SURER}
    plain, ceda = (f"ACET less\n{other}" for other in ("Standard", "CEDA"))
    assert order == {
        ("noise", "CEDA less\nStandard"),
        ("noise", plain),
        ("adversarial_noise:0.3", plain),
        ("adversarial_noise:0.3", ceda),
        ("uniform", "CEDA less\nStandard"),
        ("uniform", plain),
        ("uniform", ceda),
    }
    said = "\n".join(verdicts(claims.comparisons({"runs": rows})))
    less = "less confident on out-of-distribution images"
    assert f"{less}; adversarial noise: confirmed in 2, contradicted in 0" in said
    turn = {"Standard": "ACET", "ACET": "Standard", "CEDA": "CEDA"}
    turned = [{**row, "training": turn[row["training"]]} for row in rows]
    assert {c.found.verdict for c in claims.comparisons({"runs": turned})} == {1}
    # One of them missing, or one seed: nothing is said, or nothing is decided.
    assert not list(claims.comparisons({"runs": [r for r in rows if r["training"] != "CEDA"]}))
    one = [r for r in rows if r["seed"] == 0]
    assert {c.found.verdict for c in claims.comparisons({"runs": one})} == {0}


def test_the_parts_of_odin_are_claims_of_their_own() -> None:
    """T by itself takes 20 points, a step 10 more, whatever tuning chose over both together."""
    rows: list[dict[str, Any]] = []
    for seed in range(3):
        who = {"training": "mine", "seed": seed, "split": 0, "score": "odin"}
        tuning = {"temperature": [1.0, 1e3, 1e3], "eps": [0.004, 0.0, 0.002], "fpr": [0, 0.5, 0.4]}
        assert best_step(tuning) == {"temperature": 1e3, "eps": 0.002}
        for name in ("uniform", "adversarial_noise:0.3"):
            wobble = 0.01 * seed
            fpr = [0.8 + wobble, 0.6 + 2 * wobble, 0.5 + wobble, None]
            table = {"temperature": [1.0, 1e3, 1e3, 1e3], "eps": [0.0, 0.0, 0.002, 0.004]}
            effect = {"table": table | {"fpr": fpr}, "step": best_step(tuning)}
            rows.append({**who, "kind": "effect", "set": name} | effect)
    found = {c.claim: c for c in claims.comparisons({"runs": rows})}
    assert set(found) == {claims.HOTTER, claims.STEPS}
    assert {c.row for c in found.values()} == {("uniform",)}
    assert found[claims.HOTTER].found.mean == pytest.approx(-0.19)
    assert found[claims.STEPS].found.mean == pytest.approx(-0.11)
    assert {c.found.verdict for c in found.values()} == {-1}
    # A step at which a score is NaN decides nothing.
    nothing = [{**row, "step": {"temperature": 1e3, "eps": 0.004}} for row in rows]
    [steps] = [c for c in claims.comparisons({"runs": nothing}) if c.claim == claims.STEPS]
    assert math.isnan(steps.found.mean)
    assert steps.found.verdict == 0


def test_odin_against_msr_is_of_the_same_seeds(evaluated: tuple[Path, dict[str, Any]]) -> None:
    rows = evaluated[1]["runs"]
    found = [c for c in claims.comparisons(evaluated[1]) if c.claim == claims.BETTER["auroc"]]
    assert {(*c.row, c.column) for c in found} == {
        (s, t) for s in SETS for t in ("Standard", "mine")
    }
    for comparison in found:
        own = of(rows, kind="score", set=comparison.row[0], training=comparison.column)
        auc = {(r["score"], r["seed"]): r["auroc"] for r in own}
        seeds = {r["seed"] for r in own}
        mean = sum(auc["msr", s] - auc["odin", s] for s in seeds) / len(seeds)
        assert comparison.found.mean == pytest.approx(mean, abs=1e-15)
        assert comparison.found.runs == len(seeds)


def test_the_rank_correlation_of_distance() -> None:
    from scipy.stats import spearmanr

    far, fpr = [0.3, 0.1, 0.1, 0.4, 0.2], [0.1, 0.5, 0.4, 0.1, 0.3]
    rows: list[dict[str, Any]] = []
    for i, (d, f) in enumerate(zip(far, fpr, strict=True)):
        who = {"training": "mine", "seed": 0, "split": 0, "set": f"set{i}"}
        rows.append({**who, "kind": "set", "distances": {"mmd": d}})
        rows.append({**who, "kind": "score", "score": "odin", "fpr": f})
    assert claims._ranked(rows) == pytest.approx(spearmanr(far, fpr).statistic)
    assert math.isnan(claims._ranked(rows[:6]))


# --------------------------------------------------------------------------------- the figures


def test_the_figures(evaluated: tuple[Path, dict[str, Any]]) -> None:
    drawn = {d.name: d.figure for d in figures.figures(evaluated[1])}
    rows = evaluated[1]["runs"]
    panel = next(ax for ax in drawn["roc_standard"].axes if ax.get_title() == "noise")
    line = next(line for line in panel.get_lines() if line.get_label() == "odin")
    own = of(rows, kind="score", training="Standard", score="odin", set="noise")
    for i, height in zip(DRAWN_AT, line.get_ydata(), strict=True):
        assert height == pytest.approx(100 * sum(r["roc"][i] for r in own) / 2, rel=1e-4)
    for figure in drawn.values():
        axes = figure.axes
        assert axes
        assert figure.get_supxlabel() or all(ax.get_xlabel() for ax in axes)
        assert figure.get_supylabel() or all(ax.get_ylabel() for ax in axes)
    assert [ax.get_title() for ax in drawn["confidence"].axes] == ["inside", *SETS]
    assert len(drawn["diagnostics_mine"].axes) == len(figures.EXPLAINED)
    # Each set, and what is tuned on, by the step at T = 1000.
    [panel] = [ax for ax in drawn["effects_standard"].axes if ax.get_title() == "T = 1000"]
    lines = {line.get_label(): line for line in panel.get_lines()}
    assert set(lines) == {"textures", *SETS}
    own = of(rows, kind="effect", training="Standard", set="noise")
    for eps, height in zip(*lines["noise"].get_data(), strict=True):
        point = {"temperature": 1000.0, "eps": eps}
        means = [fpr_at(row["table"], point) for row in own]
        assert height == pytest.approx(100 * sum(means) / 2)
    assert [*lines["noise"].get_xdata()] == [0.0, 0.0014, 0.004]
    assert [*lines["textures"].get_xdata()] == [0.0, 0.004]
    [panel] = drawn["thresholds_mine"].axes
    assert {line.get_label() for line in panel.get_lines()} >= {"inside", *SETS}
    assert [ax.get_title() for ax in drawn["outputs_mine"].axes] == ["inside", *SETS]
    assert all(len(ax.patches) == 10 for ax in drawn["outputs_mine"].axes)
    # Every score, however many.
    many = [f"score {i}" for i in range(12)]
    rows = [
        row | {"score": name} for row in evaluated[1]["runs"] if "score" in row for name in many
    ]
    inside, scored = (
        [row for row in rows if row["kind"] == kind and row["training"] == "mine"]
        for kind in ("inside", "score")
    )
    sets = [row for row in evaluated[1]["runs"] if row["kind"] == "set"]
    for figure in (figures.accepted(inside), figures.distance([*sets, *scored])):
        [legend] = figure.legends
        assert set(many) <= {text.get_text() for text in legend.get_texts()}


def test_a_small_file_has_the_page_and_the_figures(
    evaluated: tuple[Path, dict[str, Any]], model: nn.Module, task: Task, tmp_path: Path
) -> None:
    whole, full = evaluated
    shutil.copytree(whole / "parts", tmp_path / "parts")
    _evaluate(_subjects(model, task), tmp_path, transfer=True, every_run=False)
    small, large = (folder / "ood.json" for folder in (tmp_path, whole))
    assert small.stat().st_size < 0.6 * large.stat().st_size
    for row, run in zip(read_result(small)["runs"], full["runs"], strict=True):
        assert not {"roc", "confidences", "thresholds", "mean_outside"} & row.keys()
        assert all(row[key] == run[key] for key in row if key != "diagnostics")
        # Of one seed that stands for itself.
        assert ("intervals" in row) == (row["training"] == "mine" and row["kind"] == "score")
    pages = [path for path in whole.iterdir() if path.suffix in (".md", ".csv", ".png")]
    assert len(pages) == 16
    for page in pages:
        assert page.read_bytes() == (tmp_path / page.name).read_bytes(), page.name


def test_tables_say_a_dash_for_what_is_not_there(evaluated: tuple[Path, dict[str, Any]]) -> None:
    acet = next(b for b in tables.blocks(evaluated[1]) if "ACET" in b.title)
    inside = [row for row in acet.rows if row[0] == "inside"]
    assert all(row[2] != "–" and row[5:] == ["–", "–"] for row in inside)
    assert all(row[2] == "–" and "–" not in row[3:] for row in acet.rows if row[0] != "inside")


def test_of_scores_without_hyper_parameters_none_are_spoken_of(
    evaluated: tuple[Path, dict[str, Any]],
) -> None:
    """As ACET's tables, which only have MSR: no empty table, and no set for tuning."""
    result = evaluated[1]
    assert "Hyper-parameters" in {block.title for block in tables.blocks(result)}
    assert any("hyper-parameters" in line for line in tables.conventions(result))
    rows = [row for row in result["runs"] if row.get("score", "msr") == "msr"]
    alone = result | {"runs": rows, "scores": ["msr"]}
    assert "Hyper-parameters" not in {block.title for block in tables.blocks(alone)}
    said = " ".join(tables.conventions(alone))
    assert "hyper-parameters" not in said
    assert "textures" not in said


# ----------------------------------------------------------------------------------- the command


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    spec = [
        "evaluate",
        "rrfast.models:digits_cnn",
        "--data",
        "digits",
        "train=100",
        "validation=60",
    ]
    options = [
        "--protocol",
        "ood",
        "--against",
        "gaussian,adversarial_samples:0.3",
        "--images",
        "20",
    ]
    rest = ["--validation", "uniform", "--transfer", "--no-diagnostics", "--scores", "paper"]
    arguments = [*spec, *options, *rest, "--draws", "0", "--out", str(out)]
    assert cli.main([*arguments, "--trials", "20"]) == 2
    assert "--trials is of scaled noise, which --no-diag" in capsys.readouterr().err
    assert cli.main(arguments) == 0
    assert "As ODIN's Table 2: MSR / ODIN" in capsys.readouterr().out
    result = read_result(out / "ood.json")
    assert result["scores"] == ["msr", "odin"]
    assert (result["against"], result["validation"]) == (
        ["gaussian", "adversarial_samples:0.3"],
        "uniform",
    )
    assert result["options"]["images"] == 20
    assert not any("diagnostics" in run for run in result["runs"])
    assert sum(run["kind"] == "transfer" for run in result["runs"]) == 2 * 2
    assert cli.main([*spec, *options, "--validation", "gaussian", "--out", str(out)]) == 2
    assert "validation must be another set" in capsys.readouterr().err
    assert cli.main([*spec, "--against", "gaussian", "--out", str(out)]) == 2
    assert "--against is an option of the protocol ood, and the protocol is misd" in (
        capsys.readouterr().err
    )
