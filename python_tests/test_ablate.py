"""`rrfast ablate`: what is trained, what is counted, and what is said of it."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import forked
import pytest
import torch
from rich.console import Console

pytest.importorskip("lightning_fabric")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from rrfast import cli
from rrfast._results import write_figure
from rrfast.evaluate import ablate, misd, read_result, trained_models
from rrfast.evaluate.ablation import (
    ABLATED,
    FOUND,
    RADII,
    blocks,
    claims,
    figure,
    notes,
    variant_of,
)
from rrfast.metrics import aurc
from rrfast.objectives import RAT, Mixup, Standard
from rrfast.scores import SCORES
from rrfast.train import load_recipe, load_trained, variant
from rrfast.train.recipe import make_objective, make_task
from rrfast.train.variants import check_changes

CHANGES = ["training.epochs=1", "data.train=64", "data.validation=20"]


@pytest.fixture(scope="module")
def ablation(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    out = tmp_path_factory.mktemp("ablation")
    console = Console(record=True, width=100, file=io.StringIO())
    result = ablate(load_recipe("digits_rat", CHANGES), out, seeds=(0, 1), console=console)
    return out, result, console.export_text()


def test_what_is_measured(ablation: tuple[Path, dict[str, Any], str]) -> None:
    """One row computed again from the saved weights."""
    out, result, _ = ablation
    assert len(result["runs"]) == 2 * 2 * len(ABLATED)
    row = next(
        r for r in result["runs"] if (r["seed"], r["objective"], r["mixup"]) == (1, "at", True)
    )
    model, recipe = load_trained(out / "trainings" / "at_mixup_1")
    assert recipe.training.seed == 1
    train, _, (x, y), *_ = make_task(recipe)
    with torch.no_grad():
        correct = model(x).argmax(dim=1) == y
        trained = model(train.x).argmax(dim=1) == train.y
    assert row["training_accuracy"] == pytest.approx(trained.double().mean().item())
    radius = SCORES["radius_search"](model, x)
    assert row["accuracy"] == pytest.approx(correct.double().mean().item())
    assert row["aurc"] == pytest.approx(aurc(radius, correct), rel=1e-6)
    assert row["msr_aurc"] == pytest.approx(aurc(SCORES["msr"](model, x), correct), rel=1e-6)
    assert row["radius_right"] == pytest.approx(radius[correct].double().quantile(0.5).item())
    assert row["radius_wrong"] == pytest.approx(radius[~correct].double().quantile(0.5).item())


def test_what_is_written(ablation: tuple[Path, dict[str, Any], str]) -> None:
    out, result, printed = ablation
    for name in ABLATED.values():
        assert printed.count(f"{name} + Mixup") >= 1
    assert "errors are the positive class" in printed
    written = read_result(out / "ablation.json")
    assert written["runs"] == json.loads(json.dumps(result["runs"]))
    page = (out / "ablation.md").read_text()
    assert "| RAT + Mixup |" in page
    assert "With Mixup:" in page
    assert (out / "ablation.png").stat().st_size > 10_000


def test_what_is_done_is_not_done_again(ablation: tuple[Path, dict[str, Any], str]) -> None:
    out, result, _ = ablation
    weights = sorted((out / "trainings").glob("*/checkpoint.pt"))
    before = [path.stat().st_mtime_ns for path in weights]
    recipe = load_recipe("digits_rat", CHANGES)
    again = ablate(recipe, out, seeds=(0, 1), console=Console(quiet=True))
    assert [path.stat().st_mtime_ns for path in weights] == before
    assert again["runs"] == result["runs"]


def test_the_compared_objectives() -> None:
    """Each row its own, also where the recipe says what is the default: that it is RAT."""
    changes = ["mixup_off_epochs=3", "label_smoothing=0.1", "mode=rat"]
    recipe = load_recipe("digits_rat", [f"objective.{change}" for change in changes])
    made = {
        (name, alpha): make_objective(
            variant(recipe, variant_of(name, alpha is not None), 4, mixup=0.5)
        )
        for name in ABLATED
        for alpha in (None, 0.5)
    }
    for (name, alpha), objective in made.items():
        assert objective.criterion.label_smoothing == 0.1
        if name == "standard":
            assert isinstance(objective, Standard if alpha is None else Mixup)
        else:
            assert isinstance(objective, RAT)
            assert (objective.mode, objective.eps, objective.mixup) == (name, 0.1, alpha)
        if alpha is not None:
            # An end without Mixup is in no paper: RAT's recipe has it as released, Mixup's has not.
            off = 0 if name == "standard" else 3
            assert (objective.mixup_off_epochs, objective.epochs) == (off, 40)
    assert variant(recipe, "at", seed=4).training.seed == 4


def test_the_alpha_of_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ImageNet's recipe has 0.2; the rows with Mixup once had 1.0 unless --mixup said another."""
    asked: list[Any] = []

    def train_variants(recipe: Any, *_: Any, mixup: Any, changes: Any, **__: Any) -> list[Any]:
        names = ("mixup", "at_mixup", "reverse_at_mixup", "rat_mixup")
        options = (variant(recipe, name, 0, mixup=mixup).objective for name in names)
        check_changes(recipe, changes, names, mixup)
        asked.append({o.get("alpha", o.get("mixup")) for o in options})
        return []

    monkeypatch.setattr("rrfast.train.variants.train_variants", train_variants)
    monkeypatch.setattr("rrfast.evaluate.ablation.run_study", lambda *_, entries, **__: entries)
    change = ["objective.mixup=0.2"]
    for given, said, changes in ((None, 0.2, change), (0.2, 0.2, change), (0.4, 0.4, [])):
        recipe = load_recipe("digits_rat", [*CHANGES, *change])
        found = ablate(recipe, tmp_path, mixup=given, changes=changes, console=Console(quiet=True))
        assert found["mixup"] == said
        assert asked.pop() == {said}
    plain = load_recipe("digits_rat", CHANGES)
    assert ablate(plain, tmp_path, console=Console(quiet=True))["mixup"] == 1
    assert asked.pop() == {1}


def run(seed: int, objective: str, mixup: bool, **values: float) -> dict[str, Any]:
    columns = dict.fromkeys((column.what for column in FOUND + RADII), 1.0)
    return {"seed": seed, "objective": objective, "mixup": mixup, **columns} | {**values}


def test_statistics_and_claims() -> None:
    lower = {"standard": 4.0, "at": 2.0, "reverse_at": 3.0, "rat": 1.0}
    radii = {"standard": (4, 1), "at": (8, 2), "reverse_at": (2, 0.5), "rat": (8, 1)}
    runs = [
        run(
            seed,
            objective,
            mixup,
            # With Mixup the order of AURC is reversed.
            aurc=(5 - lower[objective] if mixup else lower[objective]) + seed * (objective == "at"),
            radius_right=radii[objective][0],
            radius_wrong=radii[objective][1],
            radius_ratio=radii[objective][0] / radii[objective][1],
        )
        for seed in (0, 1)
        for mixup in (False, True)
        for objective in ABLATED
    ]
    result = {"runs": runs, "seeds": [0, 1]}
    table, _ = blocks(result)
    aurc = {row[0]: row[1 + table.head[1:].index("AURC\n×1000")] for row in table.rows}
    assert aurc["AT"] == "2500.00 ± 707.11"  # 2 and 3
    said = [" ".join(line.split()) for line in notes(result)]
    assert "AT −1500.00 ± 500.00, lower on 2 of 2 seeds" in said  # -1 and -2
    assert "Standard + Mixup +3000.00 ± 0.00, lower on 0 of 2 seeds" in said


def test_a_log_has_the_number_of_each_training(
    ablation: tuple[Path, dict[str, Any], str],
) -> None:
    _, result, printed = ablation
    lines = printed.splitlines()
    for run in result["runs"]:
        who = f"{variant_of(run['objective'], run['mixup'])}, seed {run['seed']}"
        assert f"{who}: AURC ×1000 {1000 * run['aurc']:.2f}" in lines


def test_what_is_undefined_is_not_drawn(
    ablation: tuple[Path, dict[str, Any], str], tmp_path: Path
) -> None:
    """Of trainings without an error: it once failed, after all of them."""
    result = read_result(ablation[0] / "ablation.json")
    for run in result["runs"]:
        run["aurc"] = run["radius_wrong"] = None
    write_figure(tmp_path / "ablation.png", figure(result["runs"]))
    assert (tmp_path / "ablation.png").stat().st_size > 10_000
    assert all("–" in block.rows[0] for block in blocks(result))


def claimed(runs: list[dict[str, Any]]) -> dict[str, str]:
    """What is said of each claim without Mixup."""
    (rule, head, *lines) = claims(runs)
    assert rule.startswith("Claims of the paper, by the paired differences over seeds.")
    assert head == "Without Mixup:"
    return dict(line.strip().split(": confirmed", 1) for line in lines)


def seeds(n: int, spread: float = 0.0, **changed: dict[str, float]) -> list[dict[str, Any]]:
    """As the paper has it, but for what is `changed` of an objective; AURC apart by the seed."""
    columns = {
        "standard": {"aurc": 4.0, "radius_right": 4.0, "radius_wrong": 1.0, "radius_ratio": 4.0},
        "at": {"aurc": 2.0, "radius_right": 8.0, "radius_wrong": 2.0, "radius_ratio": 4.0},
        "reverse_at": {"aurc": 3.0, "radius_right": 2.0, "radius_wrong": 0.5, "radius_ratio": 4.0},
        "rat": {"aurc": 1.0, "radius_right": 8.0, "radius_wrong": 1.0, "radius_ratio": 8.0},
    }
    return [
        run(seed, objective, False, **values | changed.get(objective, {}))
        | {"aurc": (values | changed.get(objective, {}))["aurc"] + spread * seed * (i % 2)}
        for seed in range(n)
        for i, (objective, values) in enumerate(columns.items())
    ]


def test_claims_by_the_rule_of_evaluate() -> None:
    """By hand: of three seeds 4.303 standard errors, of five 2.776."""
    separates = "RAT separates: right over wrong"
    said = claimed(seeds(3))
    assert said["RAT has the lowest AURC"] == (
        " in 3, contradicted in 0, undecided in 0 of 3 (✓ × 0.25 of Standard, ✓ × 0.50 of AT, "
        "✓ × 0.33 of ReverseAT)"
    )
    assert said["AT enlarges the radius of right and wrong"].endswith(
        " in 2, contradicted in 0, undecided in 0 of 2 (✓ × 2.00 of Standard, ✓ × 2.00 of Standard)"
    )
    assert "(✓ × 0.50 of Standard, ✓ × 0.50 of Standard)" in said["ReverseAT shrinks both"]
    assert "(✓ × 2.00 of Standard, ✓ × 2.00 of AT)" in said[separates]

    # The other way round; and no difference at all.
    said = claimed(seeds(3, rat={"aurc": 5.0, "radius_ratio": 4.0}))
    assert said["RAT has the lowest AURC"].startswith(" in 0, contradicted in 3, undecided in 0")
    assert said[separates].startswith(" in 0, contradicted in 0, undecided in 2 of 2 (· × 1.00 of")

    # RAT less standard: -3 + (0, 3, 6), mean 0; less AT, which moves along: always -1.
    said = claimed(seeds(3, spread=3.0))
    assert "(· × 1.00 of Standard, ✓ × 0.80 of AT, · " in said["RAT has the lowest AURC"]


def test_one_seed_decides_nothing() -> None:
    for line in claimed(seeds(1)).values():
        assert line.startswith(" in 0, contradicted in 0, undecided in")


def test_a_claim_that_is_undefined_for_a_seed() -> None:
    """Without an error in one seed its median of the wrong is null in the file."""
    runs = seeds(3)
    runs[0]["radius_wrong"] = None
    said = claimed(runs)["AT enlarges the radius of right and wrong"]
    assert said == " in 1, contradicted in 0, undecided in 0 of 1 (✓ × 2.00 of Standard)"


def test_the_command(
    ablation: tuple[Path, dict[str, Any], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(ablation[0] / "trainings", out / "trainings")  # done, and not done again
    changes = [*CHANGES, "objective={name: rat, eps: 0.1}"]  # as it is there
    arguments = ["ablate", "digits_rat", "--seeds", "1", "--out", str(out), "--set", *changes]
    assert cli.main(arguments) == 0
    assert "Errors found by the radius" in capsys.readouterr().out
    command = read_result(out / "ablation.json")["command"]
    said = f"{' '.join(CHANGES)} 'objective={{name: rat, eps: 0.1}}'"
    assert command == f"rrfast ablate digits_rat --seeds 1 --set {said}"
    assert cli.main(["ablate", "nothing"]) == 1
    assert "recipe must be a file, or one of" in capsys.readouterr().err


def test_alpha_0_is_without_mixup(
    ablation: tuple[Path, dict[str, Any], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It once trained the four without, and then refused the 0."""
    out = tmp_path / "out"
    for name in ABLATED:
        folder = f"{name}_0"
        shutil.copytree(ablation[0] / "trainings" / folder, out / "trainings" / folder)
    arguments = ["ablate", "digits_rat", "--seeds", "1", "--mixup", "0", "--out", str(out)]
    assert cli.main([*arguments, "--set", *CHANGES]) == 0
    printed = capsys.readouterr().out
    assert "without Mixup; 1 epochs for each" in " ".join(printed.split())
    assert "+ Mixup" not in printed
    result = read_result(out / "ablation.json")
    assert {run["mixup"] for run in result["runs"]} == {False}
    assert result["mixup"] == 0
    assert (out / "ablation.png").stat().st_size > 10_000
    assert sorted(path.name for path in (out / "trainings").iterdir()) == sorted(
        f"{name}_0" for name in ABLATED
    )


def test_t_is_tuned_on_the_images_that_evaluate_tunes_on(
    ablation: tuple[Path, dict[str, Any], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """RAT's Table 5: the numbers of `rrfast evaluate --tuning rat`, on its three divisions."""
    for name in ABLATED:
        shutil.copytree(ablation[0] / "trainings" / f"{name}_0", tmp_path / f"trainings/{name}_0")
    asked = ["--mixup", "0", "--score", "radius_fast", "--tuning", "rat"]
    arguments = ["ablate", "digits_rat", "--seeds", "1", *asked]
    assert cli.main([*arguments, "--out", str(tmp_path), "--set", *CHANGES]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Score: radius_fast, T by AURC, tuned on 20% of the whole test set" in said
    assert "Mean ± standard deviation over 3 divisions of the test set of one training." in said
    assert "of 3 divisions" in said
    result = read_result(tmp_path / "ablation.json")
    assert result["command"].startswith(f"rrfast {' '.join(arguments)} --set")
    there = misd.evaluate(
        trained_models([tmp_path / "trainings" / "rat_0"]),
        tmp_path / "misd",
        scores=("radius_fast", "msr"),
        tuning="rat",
        draws=0,
        sensitivity=False,
        every_run=True,
        console=Console(quiet=True),
    )
    own = [row for row in result["runs"] if row["objective"] == "rat"]
    radius, msr = (
        [row for row in there["runs"] if row["score"] == score] for score in ("radius_fast", "msr")
    )
    assert [row["split"] for row in own] == [0, 1, 2]
    assert [row["hyperparameters"] for row in own] == [row["hyperparameters"] for row in radius]
    for key in ("auroc", "aurc", "fpr_at_tpr", "accuracy"):  # written with seven digits
        assert [row[key] for row in own] == pytest.approx([row[key] for row in radius], rel=1e-6)
    assert [row["msr_aurc"] for row in own] == pytest.approx([r["aurc"] for r in msr], rel=1e-6)
    medians = [row["histogram"]["right"]["median"] for row in radius]
    assert [row["radius_right"] for row in own] == pytest.approx(medians)
    found = 1000 * torch.tensor([row["aurc"] for row in radius], dtype=torch.float64)
    assert f" {found.mean():.2f} ± {found.std():.2f} " in said


def test_what_cannot_be_asked_is_said_before_the_first_training(tmp_path: Path) -> None:
    recipe = load_recipe("digits_rat", CHANGES)
    with pytest.raises(ValueError, match=r"score must be one of radius_fast, .* got 'msr'"):
        ablate(recipe, tmp_path / "out", score="msr")
    with pytest.raises(ValueError, match=r"'radius_fats'; did you mean radius_fast\?"):
        ablate(recipe, tmp_path / "out", score="radius_fats")
    with pytest.raises(TypeError, match=r"'alhpa'.*; did you mean alpha\?"):
        ablate(recipe, tmp_path / "out", score="radius_fast:alhpa=1")
    with pytest.raises(ValueError, match="tuning must be one of heldout, rat, got 'test'"):
        ablate(recipe, tmp_path / "out", tuning="test")
    none = load_recipe("digits_rat", [*CHANGES, "data.validation=0"])
    with pytest.raises(ValueError, match="validation part must hold at least two images"):
        ablate(none, tmp_path / "out", tuning="heldout")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "changes", "sentence"),
    [
        (["--mixup", "-1"], [], "mixup must be finite and at least 0, got -1.0"),
        (["--mixup", "nan"], [], "mixup must be finite and at least 0, got nan"),
        (["--mixup", "0"], ["objective.mixup=0.4"], "objective.mixup would be lost: the option mi"),
        ([], ["regmixup.alpha=10"], "regmixup.alpha is of the variant regmixup, and would be lost"),
        ([], ["objective.mixup_off_epochs=1"], "mixup_off_epochs must be less than all 1 epochs"),
        ([], ["objective.epss=0.3"], "neither rat nor what is compared has the option epss; did"),
        ([], ["objective={eps: 0.1}"], "objective.name must be one of"),
        ([], ["model.weights=nowhere.pt"], "weights must be a file with a state_dict"),
    ],
)
def test_nothing_is_trained_before_all_is_checked(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    changes: list[str],
    sentence: str,
) -> None:
    command = ["ablate", "digits_rat", "--out", str(tmp_path / "out"), *options]
    assert cli.main([*command, "--set", *CHANGES, *changes]) in (1, 2)
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.glob("out/*")) == []


def test_a_folder_of_another_ablation_is_met_before_the_first_training(
    ablation: tuple[Path, dict[str, Any], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One training of the last is there, with another alpha, and none of those before it."""
    out = tmp_path / "out"
    shutil.copytree(ablation[0] / "trainings" / "rat_mixup_1", out / "trainings" / "rat_mixup_1")
    command = ["ablate", "digits_rat", "--seeds", "2", "--mixup", "0.5", "--out", str(out)]
    assert cli.main([*command, "--set", *CHANGES]) == 2
    assert "recipe.yaml is of another training: objective is" in capsys.readouterr().err
    assert [path.name for path in (out / "trainings").iterdir()] == ["rat_mixup_1"]


#: Tells the images of every forward outside of training, by process.
COUNTED = """
import os
from torch import nn

class Counted(nn.Sequential):
    def forward(self, x):
        if not self.training:
            with open(os.environ["SEEN"] + os.environ.get("RANK", ""), "a") as file:
                file.write(f"{len(x)}\\n")
        return super().forward(x)

def build(classes=10):
    return Counted(nn.Flatten(), nn.Linear(64, classes))
"""


def test_processes_of_torchrun_share_the_images(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(COUNTED, encoding="utf-8")
    command = ["ablate", "digits_rat", "--seeds", "1", "--mixup", "0", "--score", "radius_grad"]
    changes = [
        *CHANGES,
        "training.validation_batch=50",
        f"model={{name: '{tmp_path}/net.py:build'}}",
    ]
    jobs: list[dict[str, Any]] = [
        {
            "argv": [*command, "--out", str(tmp_path / out), "--set", *changes],
            "env": {"SEEN": str(tmp_path / f"seen_{out}")},
        }
        for out in ("trained", "one", "two")
    ]
    jobs[2]["torchrun"] = 2
    copies = [
        {"copy": [str(tmp_path / out / "trainings") for out in ("trained", other)]}
        for other in ("one", "two")
    ]
    trained, *_, alone, both = forked.run(tmp_path, [jobs[0], *copies, *jobs[1:]])
    assert (trained.code, alone.code, both.code) == (0, 0, 0), trained.err + alone.err + both.err
    first, second = (
        read_result(tmp_path / out / "ablation.json")["runs"] for out in ("one", "two")
    )
    assert second == first
    whole, *shares = (
        sum(map(int, (tmp_path / seen).read_text(encoding="utf-8").split()))
        for seen in ("seen_one", "seen_two0", "seen_two1")
    )
    assert sum(shares) < 1.01 * whole  # each looks at one image of its own before it begins
    assert max(shares) < 0.6 * whole
    # The first process speaks for all.
    assert both.out.count("Written to") == alone.out.count("Written to") == 1
    assert both.out.count("AURC") == alone.out.count("AURC")
