"""`rrfast evaluate --protocol robust`: what is attacked, what is kept, and what is said of it."""

from __future__ import annotations

import copy
import csv
import json
import math
import re
import shutil
import statistics
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

pytest.importorskip("lightning_fabric")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from rrfast import cli
from rrfast.attacks import ATTACKS, PGD, Attacked
from rrfast.data import Split
from rrfast.data.splits import chosen
from rrfast.evaluate import TrainedModel, read_result, robust, trained_models
from rrfast.evaluate.robust import figures, tables
from rrfast.evaluate.robust.measurements import (
    AttackedModel,
    made,
    margins,
    misled,
    packed,
    stepped,
    unpacked,
    withstands,
)
from rrfast.evaluate.scored_model import correct
from rrfast.models import digits_cnn
from rrfast.report import report
from rrfast.train import TASKS, Task, Training, ValidationAttack, dump_recipe, load_recipe

CPU = torch.device("cpu")
QUIET = Console(quiet=True)
IMAGES, EPS = 40, 0.1


def changed(weights: dict[str, Tensor], seed: int) -> nn.Module:
    """The network of `conftest`, a little worse for every seed."""
    model, generator = digits_cnn(), torch.Generator().manual_seed(seed)
    noise = {k: torch.randn(v.shape, generator=generator) for k, v in weights.items()}
    model.load_state_dict({k: v * (1 + 0.03 * seed * noise[k]) for k, v in weights.items()})
    return model.eval()


@pytest.fixture(scope="module", autouse=True)
def _few_queries() -> Iterator[None]:
    """Of the Square that asks whether gradients mislead."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(misled.__globals__, "QUERIES", 10)
        yield


@pytest.fixture(scope="module")
def found(weights: dict[str, Tensor]) -> list[TrainedModel]:
    task = TASKS["digits"](seed=0)

    def subject(training: str, seed: int, shift: int) -> TrainedModel:
        weak, strong = changed(weights, seed + shift), changed(weights, seed + shift + 3)
        return TrainedModel(
            training,
            seed,
            lambda: (weak, task),
            "digits",
            0,
            "last",
            {"last": lambda: (weak, task), "best": lambda: (strong, task)},
            Training(epochs=1, validation_attack=ValidationAttack(eps=EPS) if shift else None).best,
        )

    return [subject(name, seed, 2 * i) for i, name in enumerate(("AT", "RAT")) for seed in (0, 1)]


@pytest.fixture(scope="module")
def evaluated(
    found: list[TrainedModel], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("robust")
    return out, robust.evaluate(
        found,
        out,
        attacks=("fgsm", "pgd"),
        eps=EPS,
        steps=3,
        curve=(0.05, EPS),
        images=IMAGES,
        checkpoints=("last", "best"),
        draws=20,
        console=QUIET,
    )


# ------------------------------------------------------------------------------ what is attacked


def test_r_is_that_of_all_images_as_they_are_and_after_pgd(weights: dict[str, Tensor]) -> None:
    model, task = changed(weights, 0), TASKS["digits"](seed=0)
    assert task.test is not None
    part = chosen(task.test, IMAGES)
    on = AttackedModel(model, part, torch.ones(IMAGES, dtype=torch.bool), 0, CPU)

    def literal(x: Tensor, y: Tensor) -> float:
        rates, similarities = [], []
        for h, label in zip(model(x).double().softmax(dim=1).tolist(), y.tolist(), strict=True):
            others = [p for k, p in enumerate(h) if k != label]
            rates.append(1 - h[label])
            similarities.append(math.hypot(*others) / math.hypot(*h))
        return statistics.correlation(rates, similarities)

    ((x, y),) = part.batches(IMAGES, CPU)
    found = margins(on, EPS, IMAGES)
    clean, attacked = found["r"]
    assert clean == pytest.approx(literal(x, y), rel=1e-5)  # the logits are float32
    moved = PGD(eps=EPS, steps=10)(model, x, y).x
    # Another start and another iterate: not the same images, but like them.
    assert attacked == pytest.approx(literal(moved, y), abs=0.05)
    assert attacked != clean
    for part, h in zip(found["points"], (model(x), model(moved)), strict=True):
        p = h.double().softmax(dim=1).tolist()
        true = [row[label] for row, label in zip(p, y.tolist(), strict=True)]
        best = [
            max(value for k, value in enumerate(row) if k != label)
            for row, label in zip(p, y.tolist(), strict=True)
        ]
        if part is found["points"][0]:
            assert part["true"] == pytest.approx(true, abs=1e-4)
            assert part["margin"] == pytest.approx(
                [a - b for a, b in zip(best, true, strict=True)], abs=2e-4
            )
        assert len(part["similarity"]) == min(IMAGES, 200)
    unsure, sure = found["examples"]
    assert max(unsure["p"]) < max(sure["p"])
    assert unsure["similarity"] > sure["similarity"]
    nothing = nn.Linear(64, 10)
    nn.init.zeros_(nothing.weight)
    nn.init.zeros_(nothing.bias)
    undefined = on._replace(model=nn.Sequential(nn.Flatten(), nothing))
    assert margins(undefined, EPS, IMAGES)["r"] == [None, None]


def test_the_images_are_the_same_for_all_and_nested() -> None:
    data = Split(torch.zeros(50, 1), torch.zeros(50, dtype=torch.int64))
    few, more = (set(chosen(data, n).indices.tolist()) for n in (10, 30))
    assert len(few) == 10
    assert few < more
    assert chosen(data, 30).indices.tolist() == sorted(more)
    for n in (None, 50, 99):
        assert torch.equal(chosen(data, n).indices, torch.arange(50))


def test_standing_is_the_literal_loop(found: list[TrainedModel]) -> None:
    model, task = found[0].load()
    part = chosen(task.test, 60)
    right = correct(model, part.batches(25, CPU))
    attack = PGD(eps=0.15, steps=3)
    stood = withstands(attack, AttackedModel(model, part, right, 0, CPU), 25)
    for place, r, s in zip(part.indices, right, stood, strict=True):
        x, y = task.test.x[place][None], task.test.y[place][None]
        assert bool(r) == (int(model(x).argmax()) == int(y))
        assert bool(s) == (bool(r) and not bool(attack(model, x, y).wrong))
    assert 0 < int(stood.sum()) < int(right.sum()) < 60


def test_only_what_is_right_is_attacked(found: list[TrainedModel]) -> None:
    """And what is wrong is no more right after an attack that finds nothing."""
    model, task = found[-1].load()
    part = chosen(task.test, 200)
    right = correct(model, part.batches(50, CPU))
    assert 0 < int((~right).sum()) < 200

    class Nothing(PGD):
        def __call__(self, model: Any, x: Tensor, labels: Any = None, **_: Any) -> Attacked:
            assert torch.equal(model(x).argmax(1), labels)
            return Attacked(x, x.new_zeros(len(x)), torch.zeros(len(x), dtype=torch.bool))

    assert torch.equal(withstands(Nothing(), AttackedModel(model, part, right, 0, CPU), 50), right)
    nothing = torch.zeros(200, dtype=torch.bool)
    assert torch.equal(withstands(PGD(), AttackedModel(model, part, nothing, 0, CPU), 50), nothing)


@pytest.mark.parametrize("factor", [math.nan, math.inf])
def test_logits_that_say_nothing_are_wrong(found: list[TrainedModel], factor: float) -> None:
    model, task = found[0].load()

    def broken(x: Tensor) -> Tensor:
        return model(x) * torch.where(x.mean(dim=(1, 2, 3)) < 0.3, factor, 1.0)[:, None]

    part = chosen(task.test, None)
    dark = task.test.x.mean(dim=(1, 2, 3)) < 0.3
    right = correct(broken, part.batches(500, CPU))  # type: ignore[arg-type]
    assert 0 < int(dark.sum()) < len(dark)
    assert not bool(right[dark].any())
    assert torch.equal(right[~dark], correct(model, part.batches(500, CPU))[~dark])


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 100])
def test_bits_come_back(n: int) -> None:
    bits = torch.rand(n) < 0.5
    assert torch.equal(unpacked(packed(bits), n), bits)


def test_steps_are_of_pgd_where_they_are_open() -> None:
    assert [stepped(name) for name in ("fgsm", "pgd", "cw_pgd")] == [False, True, True]
    assert [made(name, 0.1, 7).steps for name in ("fgsm", "pgd")] == [1, 7]
    assert all(made(name, 0.1, 7).eps == 0.1 for name in ATTACKS)


# --------------------------------------------------------------------------------- what is written


def test_rows(evaluated: tuple[Path, dict[str, Any]], found: list[TrainedModel]) -> None:
    rows = evaluated[1]["runs"]
    # Clean, FGSM, PGD, PGD at another radius, worst; PGD at its own is there once.
    assert len(rows) == 2 * 2 * 2 * 5
    bits = {}
    for row in rows:
        stood = unpacked(row["stood"], IMAGES)
        assert row["accuracy"] == int(stood.sum()) / IMAGES
        assert row["images"] == IMAGES
        key = (row["checkpoint"], row["training"], row["seed"])
        bits[(*key, row["attack"], row["eps"])] = stood
        if 0 < row["accuracy"] < 1:
            low, high = row["interval"]
            assert low <= row["accuracy"] <= high
    for key in {key[:3] for key in bits}:
        one = {k[3:]: v for k, v in bits.items() if k[:3] == key}
        for name in (("fgsm", EPS), ("pgd", EPS), ("pgd", 0.05)):
            assert bool((one[name] <= one["clean", 0.0]).all())
        # The curve's other radius is not of the table.
        assert torch.equal(one["worst", EPS], one["fgsm", EPS] & one["pgd", EPS])
        assert int(one["pgd", 0.05].sum()) > int(one["pgd", EPS].sum())
    for subject, checkpoint in ((found[2], "last"), (found[2], "best")):
        model, task = subject.at(checkpoint).load()
        part = chosen(task.test, IMAGES)
        right = correct(model, part.batches(IMAGES, CPU))
        expected = withstands(PGD(EPS, 3), AttackedModel(model, part, right, 0, CPU), IMAGES)
        assert torch.equal(bits[checkpoint, "RAT", 0, "pgd", EPS], expected)


def test_files(evaluated: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    out, result = evaluated
    assert read_result(out / "robust.json")["runs"] == result["runs"]
    with (out / "robust.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(r["accuracy"]) for r in rows] == [r["accuracy"] for r in result["runs"]]
    page = " ".join((out / "robust.md").read_text().split())
    for text in (
        "| training | Clean | FGSM | PGD-3 | Worst case |",
        "Accuracy under attack %, eps = 0.1, last checkpoint",
        "Accuracy under attack %, eps = 0.1, best checkpoint",
        "Accuracy less that of another training, points, best checkpoint",
        "The best checkpoint of AT is best.pt, with the lowest AURC on the validation split; the p",
        "The best checkpoint of RAT is best.pt, with the highest accuracy under PGD-20 with eps =",
        "Accuracy under PGD-3 %, by eps, last checkpoint",
        "Mean ± standard deviation over 2 training seeds.",
    ):
        assert text in page, text
    assert len(list((out / "parts").iterdir())) == 8
    page_of = tmp_path / "page.html"
    report([out], page_of)
    assert "<h2>Accuracy under attack: digits</h2>" in page_of.read_text()
    shutil.copytree(out, tmp_path / "other")
    report([out, tmp_path / "other"], page_of)
    for folder in (out, tmp_path / "other"):
        assert f"<h2>Accuracy under attack: digits ({folder})</h2>" in page_of.read_text()


def test_a_name_is_text_wherever_it_is_written(found: list[TrainedModel], tmp_path: Path) -> None:
    """No HTML and no link in Markdown, no end of a code block, no formula in CSV or a figure, no
    HTML in HTML.

    A training is called by its folder, and a folder may be somebody else's.
    """
    name = "=1+1 <img src=x onerror=alert(1)> [a](javascript:b) | $\\q$ ```\n<script>"
    out = tmp_path / "<b>out"
    robust.evaluate(
        [found[0]._replace(training=name, data="<i>data")],
        out,
        attacks=("fgsm",),
        images=IMAGES,
        draws=0,
        command=f"rrfast evaluate '{name}'",
        console=QUIET,
    )
    page = (out / "robust.md").read_text(encoding="utf-8")
    head, fence, rest = page.partition("\n````text\n")
    notes, _, end = rest.partition("\n````\n")
    assert fence
    assert name in notes
    for text in (head, re.sub("````.*?````", "", end, flags=re.DOTALL)):
        assert not re.search(r"<[a-z/]|\]\(javascript", text)
    assert "&lt;img src=x onerror=alert(1)> [a]\\(javascript:b) \\| $\\q$ " in head
    with (out / "robust.csv").open(newline="", encoding="utf-8") as file:
        assert {row["training"] for row in csv.DictReader(file)} == {f"'{name}"}
    report([out], tmp_path / "page.html", command=f"rrfast report '{out}'")
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not re.search("<(img src=x|script|b>out|i>data)", html)


def test_what_is_done_is_not_done_again(
    evaluated: tuple[Path, dict[str, Any]],
    found: list[TrainedModel],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = vars(robust.protocol)
    real, done = module["withstands"], []

    def counted(attack: Any, *rest: Any) -> Tensor:
        done.append((attack.loss, attack.eps, attack.steps))
        return real(attack, *rest)

    monkeypatch.setitem(module, "withstands", counted)

    def rows(**more: Any) -> list[dict[str, Any]]:
        asked = {"attacks": ("fgsm", "pgd"), "eps": EPS, "steps": 3, "images": IMAGES, "draws": 0}
        return robust.evaluate(found[:1], tmp_path, **asked | more, console=QUIET)["runs"]

    first = rows()
    assert len(done) == 2
    assert rows() == first
    assert rows(batch=7) == first
    assert len(done) == 2
    more = rows(attacks=("pgd", "cw_pgd", "fgsm"))
    assert done[2:] == [("cw", EPS, 3)]
    # The worst case knows the images that stood those of before.
    worst = [unpacked(row["stood"], IMAGES) for row in more]
    assert torch.equal(worst[-1], worst[0] & worst[1] & worst[2] & worst[3])
    # Another number of steps, another radius and other images are other questions.
    rows(steps=4)
    rows(eps=0.05)
    rows(images=IMAGES + 1)
    assert done[3:] == [
        ("ce", EPS, 4),
        ("ce", 0.05, 1),
        ("ce", 0.05, 3),
        ("ce", EPS, 1),
        ("ce", EPS, 3),
    ]
    # So are other options of an attack, whatever it is called.
    monkeypatch.setitem(ATTACKS, "fgsm", partial(ATTACKS["fgsm"], momentum=0.5))
    rows()
    assert done[8:] == [("ce", EPS, 1)]


class Bright(nn.Module):
    """The class of five whose brightness is nearest."""

    def __init__(self) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.linspace(0.1, 0.9, 5))

    def forward(self, x: Tensor) -> Tensor:
        return -50 * (x.mean(dim=(1, 2, 3))[:, None] - self.centres) ** 2


class OneByOne:
    """A split that is read image by image, as a folder is."""

    def __init__(self, split: Split) -> None:
        self.x, self.y = split

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.x[index], int(self.y[index])


@pytest.mark.parametrize("read", [Split, lambda *split: OneByOne(Split(*split))])
@pytest.mark.parametrize("right", [True, False])
def test_no_image_left_is_a_row_of_zero(tmp_path: Path, read: Any, right: bool) -> None:
    """After an attack that no image withstands, or with no right prediction; and when continued."""
    y = torch.arange(5)
    x = torch.linspace(0.1, 0.9, 5)[:, None, None, None].expand(5, 1, 4, 4).contiguous()
    data = read(x, y if right else (y + 1) % 5)
    subject = TrainedModel("Bright", 0, lambda: (Bright(), Task(data, data, data, 5)), "grey")
    names = [name for name in ATTACKS if name != "autoattack_package"]  # may not be there
    asked = {"eps": 0.9, "steps": 2, "draws": 0, "batch": 2, "console": QUIET}
    first = robust.evaluate([subject], tmp_path, attacks=names, **asked)["runs"]
    assert [row["attack"] for row in first] == ["clean", *names, "worst"]
    assert [row["accuracy"] for row in first] == [float(right)] + [0.0] * (len(names) + 1)
    assert first == robust.evaluate([subject], tmp_path, attacks=names, **asked)["runs"]
    assert "0.00 |" in (tmp_path / "robust.md").read_text(encoding="utf-8")


def test_checkpoints(weights: dict[str, Tensor], tmp_path: Path) -> None:
    """Both are loaded where they are, and one that is not is said before any work."""
    recipe = load_recipe("digits_rat", ["data.train=100", "data.validation=60"])
    for seed, kinds in ((0, ("last", "best")), (1, ("last",))):
        folder = tmp_path / f"rat_{seed}"
        folder.mkdir()
        (folder / "recipe.yaml").write_text(dump_recipe(recipe))
        for kind in kinds:
            torch.save(
                changed(weights, len(kind) * (kind == "best")).state_dict(), folder / f"{kind}.pt"
            )
    one, two = (trained_models([tmp_path / f"rat_{seed}"])[0] for seed in (0, 1))
    for kind in ("last", "best"):
        model, task = one.at(kind).load()
        expected = changed(weights, len(kind) * (kind == "best")).state_dict()
        assert all(torch.equal(v, expected[k]) for k, v in model.state_dict().items())
        assert len(task.train.y) == 100
    assert one.at("best").checkpoint == "best"
    assert trained_models([tmp_path / "rat_0"], weights="best")[0].checkpoint == "best"
    with pytest.raises(ValueError, match="RAT, seed 0, has last, got 'best'"):
        robust.evaluate([two], tmp_path / "out", checkpoints=("last", "best"))
    assert not (tmp_path / "out").exists()
    [spec] = trained_models(["rrfast.models:digits_cnn"], data={"name": "digits"})
    with pytest.raises(ValueError, match="it is not the folder of a training, got 'last'"):
        spec.at("last")


# --------------------------------------------------------------------------------- what is said


def made_rows(accuracies: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """By training and attack, three seeds that hardly differ."""
    return [
        {
            "training": training,
            "seed": seed,
            "split": 0,
            "checkpoint": "last",
            "attack": attack,
            "eps": 0.0 if attack == "clean" else EPS,
            "images": 1000,
            "accuracy": accuracy + 0.001 * seed * (1 + place),
            "interval": [],
            "doubts": [],
        }
        for place, (training, row) in enumerate(accuracies.items())
        for seed in range(3)
        for attack, accuracy in row.items()
    ]


def said(accuracies: dict[str, dict[str, float]], baseline: str) -> dict[str, Any]:
    return {
        "runs": made_rows(accuracies),
        "attacks": [n for n in next(iter(accuracies.values())) if n not in ("clean", "worst")],
        "baseline": baseline,
        "data": ["cifar10"],
        "options": {"eps": EPS, "steps": 100, "images": 1000, "draws": 0},
    }


def test_pgd_and_autoattack_side_by_side() -> None:
    """IRAT's Table 1 in small: more than MAIL under PGD, less under AutoAttack."""
    result = said(
        {
            "MAIL": {"clean": 0.82, "pgd": 0.56, "autoattack": 0.45, "worst": 0.45},
            "MAIL + reweighting": {"clean": 0.82, "pgd": 0.58, "autoattack": 0.42, "worst": 0.42},
        },
        "MAIL",
    )
    found = tables.differences(result, result["runs"])
    assert {one.row for one in found} == {("MAIL + reweighting", "MAIL")}
    verdicts = {one.group: one.found.verdict for one in found}
    assert verdicts == {"clean": 0, "pgd": 1, "autoattack": -1, "worst": -1}
    lines = tables.notes(result)
    assert "PGD-100, last checkpoint, against MAIL: above MAIL + reweighting." in lines
    assert "AA (ours), last checkpoint, against MAIL: below MAIL + reweighting." in lines
    assert any("not the published package" in line for line in tables.conventions(result))
    only = "but not another attack"
    assert any(only in line and "MAIL + reweighting 16.00" in line for line in lines)
    assert not any("Warning" in line for line in lines)
    first, differences = tables.blocks(result)
    assert first.head == ["training", "Clean", "PGD-100", "AA\n(ours)", "Worst\ncase"]
    assert {(1, 2), (0, 3), (0, 4)} < first.best
    assert differences.rows[0][:2] == ["MAIL + reweighting", "MAIL"]
    assert differences.rows[0][3].startswith("✓ +2.")
    assert differences.rows[0][4].startswith("✗ −2.")


def test_r_is_said_over_seeds(evaluated: tuple[Path, dict[str, Any]]) -> None:
    result = copy.deepcopy(evaluated[1])
    clean = [row for row in result["runs"] if row["attack"] == "clean"]
    for i, row in enumerate(clean):
        row["r"] = [0.9 + i / 100, None if row["training"] == "RAT" else 0.5]
    (last, best) = (line for line in tables.notes(result) if "Eq. 23" in line)
    assert last.startswith("r of 1 − p_y and IRAT's similarity c (last checkpoint; ")
    assert last.endswith(": AT 0.900 to 0.910 and 0.500; RAT 0.920 to 0.930 and undefined.")
    assert best.endswith(": AT 0.940 to 0.950 and 0.500; RAT 0.960 to 0.970 and undefined.")
    for row in clean:
        del row["r"]  # results from before it was asked
    assert not any("Eq. 23" in line for line in tables.notes(result))


def test_what_the_margin_adds_is_told_from_what_it_is_added_to() -> None:
    row = {"clean": 0.9, "pgd": 0.5, "worst": 0.5}
    better = {"clean": 0.9, "pgd": 0.6, "worst": 0.6}
    printed = "WMMR + reweighting (as printed)"
    result = said(
        {
            "MAIL": row,
            "WMMR": row,
            "WMMR + reweighting": better,
            "GAIRAT + reweighting": row,
            printed: row,
        },
        "MAIL",
    )
    pairs = {one.row for one in tables.differences(result, result["runs"])}
    assert pairs == {
        ("WMMR", "MAIL"),
        ("WMMR + reweighting", "MAIL"),
        ("GAIRAT + reweighting", "MAIL"),
        ("WMMR + reweighting", "WMMR"),
        (printed, "MAIL"),
        (printed, "WMMR + reweighting"),
    }
    assert "PGD-100, last checkpoint, against WMMR: above WMMR + reweighting." in tables.notes(
        result
    )


def test_one_step_that_beats_many_is_a_warning() -> None:
    row = {"clean": 0.9, "fgsm": 0.3, "pgd": 0.5, "worst": 0.3}
    fine = {"clean": 0.9, "fgsm": 0.5, "pgd": 0.3, "worst": 0.3}
    lines = tables.notes(said({"A": row, "B": fine}, "A"))
    assert [line[:12] for line in lines if "Warning" in line] == ["Warning: A, "]


def test_what_gradients_do_not_show_is_a_warning(found: list[TrainedModel], tmp_path: Path) -> None:
    model, task = found[0].load()
    sure = nn.Sequential(model, nn.Softmax(dim=1))
    one = TrainedModel("soft", 0, lambda: (sure, task), "digits")
    asked = {"attacks": ("fgsm",), "images": IMAGES, "draws": 0, "console": QUIET}
    for subjects_, warned in (([one], 1), (found[:1], 0)):
        lines = tables.notes(robust.evaluate(subjects_, tmp_path, **asked))
        warnings = [line for line in lines if "logits are probabilities" in line]
        assert len(warnings) == warned
        assert all("Warning: soft, seed 0, last checkpoint: The" in line for line in warnings)


class Staircase(nn.Module):
    """A network that sees rounded pixels: its gradients vanish, its decisions do not."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x + (x.mul(20).round().div(20) - x).detach() - (x - x.detach()))


def test_what_queries_find_beyond_gradients_is_a_warning(
    found: list[TrainedModel], tmp_path: Path
) -> None:
    model, task = found[0].load()
    flat = TrainedModel("flat", 0, lambda: (Staircase(model), task), "digits")
    asked = {"eps": EPS, "steps": 20, "images": IMAGES, "draws": 0, "console": QUIET}

    def warned(subject: TrainedModel, *attacks: str) -> list[str]:
        lines = tables.notes(robust.evaluate([subject], tmp_path, attacks=attacks, **asked))
        return [line for line in lines if "that no attack by gradients did" in line]

    assert len(warned(flat, "pgd", "cw_pgd")) == 1
    assert warned(found[0], "pgd", "cw_pgd") == []
    # One step is no attack that gradients could mislead.
    assert warned(flat, "fgsm") == []


def test_a_model_of_no_images_has_no_such_warning(tmp_path: Path) -> None:
    data = Split(torch.rand(12, 5), torch.randint(3, (12,)))
    subject = TrainedModel("flat", 0, lambda: (nn.Linear(5, 3).eval(), Task(data, data, data, 3)))
    asked = {"attacks": ("pgd",), "steps": 2, "draws": 0, "console": QUIET}
    rows = robust.evaluate([subject], tmp_path, **asked)["runs"]
    assert not any("Square" in sentence for sentence in rows[0]["doubts"])


def test_what_was_asked_for_beyond_the_test_split_is_said(tmp_path: Path) -> None:
    data = Split(torch.rand(12, 5), torch.randint(3, (12,)))
    subject = TrainedModel("few", 0, lambda: (nn.Linear(5, 3).eval(), Task(data, data, data, 3)))
    asked = {"attacks": ("fgsm",), "draws": 0, "console": QUIET}
    for images, said_ in ((13, True), (12, False), (None, False)):
        robust.evaluate([subject], tmp_path, images=images, **asked)
        page = (tmp_path / "robust.md").read_text()
        assert ("13 images were asked for; a test split of 12 has no more" in page) == said_


def test_a_radius_above_that_of_the_table(found: list[TrainedModel], tmp_path: Path) -> None:
    """It is on the curve, but neither in another table nor in the worst case."""
    asked = {"attacks": ("fgsm",), "eps": 0.05, "steps": 3, "images": IMAGES, "draws": 0}
    alone = robust.evaluate(found[:1], tmp_path / "alone", **asked, console=QUIET)
    result = robust.evaluate(found[:1], tmp_path, curve=(0.2,), **asked, console=QUIET)
    clean, fgsm, far, worst = result["runs"]
    assert (far["attack"], far["eps"]) == ("pgd", 0.2)
    assert far["accuracy"] < worst["accuracy"]
    assert [clean, fgsm, worst] == alone["runs"]
    [line] = figures.by_radius(result).axes[0].get_lines()
    assert line.get_xdata().tolist() == [0, 0.2]
    titles = {block.title: block.head for block in tables.blocks(result)}
    assert titles["Accuracy under PGD-3 %, by eps, last checkpoint"] == ["training", "0.2"]
    assert titles["Accuracy under attack %, eps = 0.05, last checkpoint"][1:] == [
        *("Clean", "FGSM", "Worst\ncase"),
    ]


def test_autoattack_is_on_what_is_right(
    found: list[TrainedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = {name: partial(ATTACKS[name], steps=2) for name in ("apgd_ce", "autoattack")}
    short["autoattack"] = partial(short["autoattack"], targets=2, queries=5)
    for name, attack in short.items():
        monkeypatch.setitem(ATTACKS, name, attack)
    asked = {"attacks": tuple(short), "eps": 0.05, "images": 6, "draws": 0}
    rows = robust.evaluate(found[:1], tmp_path, **asked, console=QUIET)["runs"]
    clean, *attacked = (unpacked(row["stood"], 6) for row in rows)
    assert [row["attack"] for row in rows[1:]] == ["apgd_ce", "autoattack", "worst"]
    assert all(bool((stood <= clean).all()) for stood in attacked)


def test_trainings_of_other_seeds_are_not_compared() -> None:
    result = said({"A": {"clean": 0.9, "pgd": 0.5, "worst": 0.5}} | {"B": {"clean": 0.8}}, "A")
    result["runs"] = [r for r in result["runs"] if r["training"] == "A" or r["seed"] < 2]
    assert tables.differences(result, result["runs"]) == []


def test_the_figures(evaluated: tuple[Path, dict[str, Any]]) -> None:
    drawn = {d.name: d.figure for d in figures.figures(evaluated[1])}
    assert set(drawn) == {"robust_attacks", "robust_curve"}
    rows = evaluated[1]["runs"]

    def mean(**wanted: Any) -> float:
        own = [r["accuracy"] for r in rows if all(r[k] == v for k, v in wanted.items())]
        return 100 * sum(own) / len(own)

    for ax, checkpoint in zip(drawn["robust_attacks"].axes, ("last", "best"), strict=True):
        for bars, training in zip(ax.containers[1::2], ("AT", "RAT"), strict=True):
            heights = [bar.get_height() for bar in bars]
            assert heights == pytest.approx(
                [
                    mean(checkpoint=checkpoint, training=training, attack=name, eps=eps)
                    for name, eps in (("clean", 0), ("fgsm", EPS), ("pgd", EPS), ("worst", EPS))
                ]
            )
    line = drawn["robust_curve"].axes[1].get_lines()[1]
    assert line.get_label() == "RAT"
    assert line.get_xdata().tolist() == [0, 0.05, EPS]
    assert line.get_ydata()[1] == pytest.approx(
        mean(checkpoint="best", training="RAT", attack="pgd", eps=0.05)
    )


# --------------------------------------------------------------------------------- the commands


def test_errors_say_what_is_expected(found: list[TrainedModel], tmp_path: Path) -> None:
    for wrong, words in (
        ({"attacks": ()}, "attacks must hold at least one name"),
        ({"attacks": ("pgd", "pdg")}, r"attacks must be one of .*, got 'pdg'; did you mean pgd\?"),
        ({"attacks": ("pgd", "pgd")}, "attacks must name each once, and pgd is"),
        ({"eps": 0}, "eps must be finite and greater than 0"),
        ({"curve": (0.1, -1)}, "every radius of curve must be finite and greater than 0"),
        ({"steps": 0}, "steps must be an integer of at least 1"),
        ({"images": 0}, "images must be an integer of at least 1"),
        ({"baseline": "MAIL"}, "baseline must be one of AT, RAT, got 'MAIL'"),
    ):
        with pytest.raises(ValueError, match=words):
            robust.evaluate(found, tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = ["evaluate", "rrfast.models:digits_cnn", "--data", "digits", "--out", str(tmp_path)]
    asked = ["--protocol", "robust", "--attacks", "fgsm,pgd", "--eps", "8/255", "--steps", "2"]
    assert cli.main([*spec, *asked, "--images", "20", "--curve", "0.1,1/4", "--draws", "0"]) == 0
    printed = capsys.readouterr().out
    assert "eps = 8/255, as given" in printed
    assert "checkpoint" not in printed
    options = json.loads((tmp_path / "robust.json").read_text())["options"]
    assert (options["eps"], options["curve"], options["images"]) == (8 / 255, [0.1, 0.25], 20)
    assert cli.main([*spec, *asked, "--scores", "msr"]) == 2
    assert "--scores is an option of the protocol misd" in capsys.readouterr().err
    assert cli.main([*spec, *asked, "--checkpoints", "best"]) == 2
    assert "checkpoints must be there for every model" in capsys.readouterr().err


def test_irat_s_figures_are_of_plain_adversarial_training(
    found: list[TrainedModel], tmp_path: Path
) -> None:
    result = robust.evaluate(
        [found[0]._replace(training="PGD-AT"), found[2]],
        tmp_path,
        attacks=["fgsm"],
        eps=EPS,
        images=IMAGES,
        draws=0,
        console=QUIET,
    )
    assert ["pictured" in row for row in result["runs"]] == [True] + [False] * 5
    page = (tmp_path / "robust.md").read_text()
    for name, said in (("margins", 2), ("similarity", 4), ("examples", 3)):
        assert f"IRAT Fig. {said}." in page
        assert (tmp_path / f"robust_{name}.png").stat().st_size > 1000
    points = result["runs"][0]["pictured"]["points"][0]
    right = sum(margin < 0 for margin in points["margin"])
    assert right == round(IMAGES * result["runs"][0]["accuracy"])
    [drawn] = [d for d in figures.figures(result) if d.name == "robust_margins"]
    dots = [len(each.get_offsets()) for each in drawn.figure.axes[0].collections]
    assert dots == [right, IMAGES - right]


def test_the_published_package_is_asked_for_before_anything_else(
    found: list[TrainedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "autoattack", None)
    with pytest.raises(ImportError, match="needs the package autoattack, which does not import"):
        robust.evaluate(found, tmp_path, attacks=["autoattack_package"], console=QUIET)
    assert not list(tmp_path.iterdir())


def test_the_published_package_is_a_column(
    found: list[TrainedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a stand-in that moves nothing: as many stand it as are right."""

    class AutoAttack:
        def __init__(self, model: object, **options: Any) -> None:
            assert (options["norm"], options["eps"], options["version"]) == (
                "Linf",
                EPS,
                "standard",
            )

        def run_standard_evaluation(self, x: Tensor, y: Tensor, bs: int) -> Tensor:
            return x.clone()

    package = ModuleType("autoattack")
    package.AutoAttack = AutoAttack  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "autoattack", package)
    result = robust.evaluate(
        found[:1],
        tmp_path,
        attacks=["autoattack_package"],
        eps=EPS,
        images=IMAGES,
        draws=0,
        console=QUIET,
    )
    clean, attacked, _ = result["runs"]
    assert attacked["attack"] == "autoattack_package"
    assert attacked["stood"] == clean["stood"]
    page = (tmp_path / "robust.md").read_text()
    assert "| training | Clean | AA | Worst case |" in page
    assert "AA is the standard version of the published package autoattack." in page
