"""What all evaluations share: what is kept, for whom, and what is refused before any work."""

from __future__ import annotations

import argparse
import math
import os
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

pytest.importorskip("lightning_fabric")
pytest.importorskip("matplotlib")
pytest.importorskip("PIL")

from PIL import Image

from rrfast import cli
from rrfast._lock import alone
from rrfast.data import image_folder
from rrfast.data.fingerprint import of_data, of_files
from rrfast.evaluate import TrainedModel
from rrfast.evaluate.cache import Cache
from rrfast.evaluate.observations import Paired, at, paired
from rrfast.evaluate.options import (
    PROTOCOLS,
    DistalOptions,
    MisdOptions,
    OodOptions,
    Options,
    RobustOptions,
)
from rrfast.evaluate.run_study import Context, run_study
from rrfast.evaluate.study import Study
from rrfast.methods import BS
from rrfast.models import FirstClasses
from rrfast.train import TASKS

QUIET = Console(quiet=True)
NOTHING = Study(
    stem="nothing",
    title=lambda _: "",
    conventions=lambda _: [],
    blocks=lambda _: iter(()),
    notes=lambda _: [],
    figures=lambda _: iter(()),
    cells={"data": lambda row: row["data"]},
)


def small(classes: int = 10, pixels: int = 64) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, classes)).eval()


def asked(out: Path, trained_models: list[TrainedModel]) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows, and for whom they were made."""
    made: list[str] = []

    def rows_of(context: Context) -> list[dict[str, Any]]:
        who = f"{context.trained.training} {context.trained.seed}"

        def make() -> str:
            made.append(who)
            return who

        return [{"said": context.cache.get("it", make)}]

    result = run_study(
        NOTHING, trained_models, out, rows_of, Options(console=QUIET), steps=1, depends={}
    )
    return result["runs"], made


def test_what_is_kept_is_of_the_model_and_the_seed_and_not_of_the_name(tmp_path: Path) -> None:
    task = TASKS["digits"](seed=0, train=100, validation=50)
    model, other = small(), small()
    nn.init.zeros_(other[1].bias)

    def subject(name: str, seed: int, net: nn.Module) -> TrainedModel:
        return TrainedModel(name, seed, lambda: (net, task), "digits")

    _, made = asked(tmp_path, [subject("one", 0, model)])
    assert made == ["one 0"]
    # Under another name, and beside others, it is the same.
    rows, made = asked(tmp_path, [subject("called", 0, model), subject("two", 0, other)])
    assert made == ["two 0"]
    assert [row["said"] for row in rows] == ["one 0", "two 0"]
    assert {row["data"] for row in rows} == {"digits"}
    # What is drawn for another seed is another thing.
    _, made = asked(tmp_path, [subject("one", 1, model), subject("one", 0, model)])
    assert made == ["one 1"]


def test_two_of_one_study_in_one_folder(tmp_path: Path) -> None:
    """Of two studies each has files of its own."""
    task = TASKS["digits"](seed=0, train=100, validation=50)
    trained_models = [TrainedModel("one", 0, lambda: (small(), task), "digits")]
    with alone(tmp_path / "nothing.lock", tmp_path):
        with pytest.raises(BlockingIOError, match="is being written by another run"):
            asked(tmp_path, trained_models)
        assert [path.name for path in tmp_path.iterdir()] == ["nothing.lock"]
    with alone(tmp_path / "misd.lock", tmp_path):
        asked(tmp_path, trained_models)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["nothing.csv", "nothing.json", "nothing.md", "parts"]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    Cache(tmp_path, "x", {"a": 1}).put({"it": 1})
    [file] = tmp_path.iterdir()
    good = file.read_text()
    # Half of it, JSON of another kind, and another number than was measured.
    for bad in ("{", "[]", "3", good.replace('"it": 1', '"it": 7'), "[" * 100_000):
        assert bad != good
        file.write_text(bad)
        with pytest.raises(ValueError, match=f"{file} is damaged .*: delete {file.name} and start"):
            Cache(tmp_path, "x", {"a": 1})
    file.write_text(good)
    assert Cache(tmp_path, "x", {"a": 1}).get("it") == 1


def test_models_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    task = TASKS["digits"](seed=0, train=100, validation=50)
    with pytest.raises(ValueError, match="the model of few, seed 0 must have a logit for each of"):
        asked(tmp_path, [TrainedModel("few", 0, lambda: (small(5), task), "digits")])
    with pytest.raises(ValueError, match=r"of many, .* of the 10 classes .* and no other, got 11"):
        asked(tmp_path, [TrainedModel("many", 0, lambda: (small(11), task), "digits")])
    first = FirstClasses(small(11), 10)
    asked(tmp_path, [TrainedModel("first", 0, lambda: (first, task), "digits")])
    with pytest.raises(ValueError, match=r"of large, seed 0 must take the images of its data, \[1"):
        asked(tmp_path, [TrainedModel("large", 0, lambda: (small(10, 99), task), "digits")])


def test_other_pixels_in_the_same_files_are_other_data(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(2):
            Image.new("L", (8, 8), 100).save(tmp_path / name / f"{i}.png")
    before = of_data(image_folder(tmp_path, size=8))
    assert of_data(image_folder(tmp_path, size=8)) == before
    names = of_files(tmp_path, ["b/1.png"])
    Image.new("L", (8, 8), 200).save(tmp_path / "b" / "1.png")
    os.utime(tmp_path / "b" / "1.png", ns=(1, 1))
    assert of_data(image_folder(tmp_path, size=8)) != before
    assert of_files(tmp_path, ["b/1.png"]) != names


def test_trainings_on_other_data_are_not_compared() -> None:
    rows = [{"seed": s, "split": 0, "data": "digits", "v": 1.0} for s in range(3)]
    noisy = [row | {"data": "digits noise=0.6", "v": 0.5} for row in rows]
    with pytest.raises(ValueError, match="rows must be of the same data"):
        paired(rows, noisy, at("v"))
    assert paired(rows, [row | {"v": 0.5} for row in rows], at("v")).mean == 0.5


def test_two_runs_that_agree_decide_nothing() -> None:
    assert Paired(-0.1, 0.0, 2, 2).verdict == 0
    assert Paired(-0.1, 0.0, 3, 3).verdict == -1
    assert Paired(0.1, 1e-4, 0, 2).verdict == 1


def test_options_that_say_two_things_or_another_protocols(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ["rrfast.models:digits_cnn", "--data", "digits", "--out", str(tmp_path)]
    code = cli.main(["evaluate", *model, "--protocol", "misd", "--no-diagnostics"])
    assert code == 2
    assert "--no-diagnostics is an option of the protocol ood" in capsys.readouterr().err
    assert cli.main(["evaluate", *model, "--images", "10"]) == 2
    assert "--images is an option of the protocol ood or robust or" in capsys.readouterr().err
    both = ["--protocol", "robust", "--weights", "best", "--checkpoints", "last"]
    assert cli.main(["evaluate", *model, *both]) == 2
    assert "--weights and --checkpoints both say which weights" in capsys.readouterr().err
    twice = ["--protocol", "robust", "--checkpoints", "last,last"]
    assert cli.main(["evaluate", *model, *twice]) == 2
    assert "checkpoints must name each once, and last is there twice" in capsys.readouterr().err


def test_an_option_is_a_field_a_flag_and_an_entry_of_the_result() -> None:
    parser = argparse.ArgumentParser()
    cli.evaluate.add_arguments(parser)
    flags = {action.dest: action.option_strings for action in parser._actions}
    for protocol, options in PROTOCOLS.items():
        for option in fields(options):
            assert bool(option.metadata) == (option.name in flags), (protocol, option.name)
    words = shlex.split("--attacks pgd,fgsm --eps 1/4 --images all --draws 0 --batch 7")
    given = vars(parser.parse_args(["model", *words]))
    asked = {name: given[name] for name in ("attacks", "eps", "images", "draws", "batch")}
    recorded = RobustOptions(**asked, command="said", console=QUIET).recorded()
    assert {name: recorded[name] for name in asked} == {
        "attacks": ("pgd", "fgsm"),
        "eps": 0.25,
        "images": None,
        "draws": 0,
        "batch": 7,
    }
    assert recorded.keys() == {f.name for f in fields(RobustOptions)} - {
        *("device", "command", "console")
    }


@pytest.mark.parametrize(
    ("options", "wrong", "said"),
    [
        (
            MisdOptions,
            {"scores": "msr"},
            "scores must be several, in a list or tuple, got str 'msr'",
        ),
        (MisdOptions, {"scores": [BS()]}, r"scores must be names, got list \[BS\("),
        (MisdOptions, {"scores": 3}, "scores must be several, in a list or tuple, got int 3"),
        (MisdOptions, {"scores": ()}, "scores must hold at least one name, got none"),
        (MisdOptions, {"tuning": "heldot"}, "tuning must be one of .*; did you mean heldout"),
        (MisdOptions, {"batch": 1.5}, "batch must be an integer of at least 1, got 1.5"),
        (OodOptions, {"images": 1}, "images must be an integer of at least 2, got 1"),
        (OodOptions, {"trials": 0}, "trials must be an integer of at least 1, got 0"),
        (RobustOptions, {"eps": math.nan}, "eps must be finite and greater than 0, got nan"),
        (RobustOptions, {"curve": (0.1, "a")}, "every radius of curve must be a number"),
        (DistalOptions, {"distal_attack": "rfast"}, "distal_attack must be one of .* rrfast"),
        (DistalOptions, {"keep_correct": None}, "keep_correct must be a number"),
    ],
)
def test_a_wrong_option_is_named(options: Any, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        options(**wrong)
