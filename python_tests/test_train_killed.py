"""Killed and resumed: the same weights, and files that are whole or not there."""

from __future__ import annotations

import csv
import random
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from forked import Done, run
from torch import Tensor

pytest.importorskip("lightning_fabric")
pytest.importorskip("sklearn")

KILLED = -9
STEPS, EPOCHS = 5, 4
#: Training passes of a step: RAT with Mixup has three, and two in the last epoch, without Mixup.
PASSES = [3, 3, 3, 2]

MODEL = """
import os, signal
from torch import nn

class Counted(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(),
            nn.Linear(144, classes),
        )
        self.passes = 0

    def forward(self, x):
        if self.training:
            self.passes += 1
            if self.passes == int(os.environ.get("KILL_AT", 0)):
                os.kill(os.getpid(), signal.SIGKILL)
        return self.net(x)

def build(classes=10):
    return Counted(classes)
"""

RECIPE = """
model: {{name: "{model}:build"}}
data: {{name: digits, train: 100, validation: 60}}
objective: {{name: rat, eps: 0.05, mixup: 1.0, mixup_off_epochs: 1}}
training:
  epochs: 4
  batch_size: 20
  learning_rate: 0.05
  warmup_epochs: 1
  augment: {{padding: 1, flip: true}}
  checkpoint_steps: 2
  threads: 1
"""


def recipe(folder: Path) -> str:
    (folder / "model.py").write_text(MODEL, encoding="utf-8")
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(model=folder / "model.py"), encoding="utf-8")
    return str(path)


def kills() -> dict[str, int]:
    """The number of the training pass at which each run is killed."""
    draw = random.Random(20240521)
    first, second = STEPS * PASSES[0], 2 * PASSES[0]
    return {
        "before the first checkpoint": draw.randint(1, second),
        "between two checkpoints": first + second + draw.randint(1, second),
        "in the last epoch": 3 * first + draw.randint(1, STEPS * PASSES[3]),
    }


class Runs(NamedTuple):
    """Folders, and how the runs in them ended: killed, and resumed."""

    whole: Path
    in_a_step: dict[str, tuple[Path, Path, Done, Done]]  #: resumed, as killed
    in_a_write: list[tuple[Path, Path, Done, Done]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("killed")
    argv = ["train", recipe(folder), "--out"]
    whole, counter = folder / "whole", str(folder / "fsyncs")
    jobs: list[dict[str, Any]] = [{"argv": [*argv, str(whole)], "count_fsync": counter}]
    kinds = [{"env": {"KILL_AT": str(at)}} for at in kills().values()]
    # Every file of the last epoch, before it is put in place and after.
    kinds += [{"kill_at_fsync": back, "count_fsync": counter} for back in range(10)]
    # The recipe's file and folder, then the first checkpoint's, then the second's file.
    kinds += [{"kill_at_fsync": 5}]
    folders = [(folder / f"{i}", folder / f"{i} as killed") for i in range(len(kinds))]
    for kind, (out, as_killed) in zip(kinds, folders, strict=True):
        jobs += [
            {"argv": [*argv, str(out)], **kind},
            {"copy": [str(out), str(as_killed)]},
            {"argv": [*argv, str(out), "--resume"]},
        ]
    first, *done = run(folder, jobs)
    assert first.code == 0, first.err
    ends = [(*folders[i], done[3 * i], done[3 * i + 2]) for i in range(len(kinds))]
    return Runs(whole, dict(zip(kills(), ends, strict=False)), ends[len(kills()) :])


def contents(folder: Path) -> dict[str, Any]:
    """What lay there when the process had been killed."""
    path = folder / "checkpoint.pt"
    progress = torch.load(path)["progress"] if path.exists() else None
    return {"names": sorted(file.name for file in folder.iterdir()), "progress": progress}


def names(folder: Path) -> list[str]:
    """What lay there, without what was drawn in the names of half-written files."""
    return [
        re.sub(r"\.[0-9a-f]{16}(\.partial)$", r"\1", name) for name in contents(folder)["names"]
    ]


def log(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k != "ms_per_step"} for row in rows]


def assert_same(folder: Path, whole: Path) -> None:
    names = sorted(file.name for file in whole.iterdir())
    assert sorted(file.name for file in folder.iterdir()) == names
    for name in ("last.pt", "best.pt"):
        mine, theirs = (torch.load(path / name) for path in (folder, whole))
        assert list(mine) == list(theirs)
        for key, value in mine.items():
            assert isinstance(value, Tensor)
            assert torch.equal(value, theirs[key]), (name, key)
    assert log(folder) == log(whole)


@pytest.mark.parametrize("name", kills())
def test_killed_in_a_step_and_resumed_is_bit_for_bit(runs: Runs, name: str) -> None:
    folder, as_killed, first, again = runs.in_a_step[name]
    assert first.code == KILLED
    progress = contents(as_killed)["progress"]
    if name == "before the first checkpoint":
        assert progress is None
    elif name == "between two checkpoints":
        assert (progress["epoch"], progress["step"]) == (1, 2)
    else:
        assert progress["epoch"] == EPOCHS - 1
    assert again.code == 0, again.err
    assert_same(folder, runs.whole)


def test_killed_while_writing_and_resumed_is_bit_for_bit(runs: Runs) -> None:
    partial = set()
    for folder, as_killed, first, again in runs.in_a_write:
        assert first.code == KILLED
        partial |= {name for name in names(as_killed) if name.endswith(".partial")}
        assert again.code == 0, again.err
        assert_same(folder, runs.whole)
    assert partial == {"checkpoint.pt.partial", "last.pt.partial", "log.csv.partial"} | (
        partial & {"best.pt.partial"}
    )


def test_killed_while_writing_leaves_the_old_checkpoint(runs: Runs) -> None:
    as_killed = runs.in_a_write[-1][1]
    assert names(as_killed) == [
        "checkpoint.pt",
        "checkpoint.pt.partial",
        "recipe.yaml",
        "train.lock",  # of nobody by now: the training is resumed below
    ]
    assert contents(as_killed)["progress"]["step"] == 2


def test_the_log_is_that_of_the_checkpoint(runs: Runs) -> None:
    history = torch.load(runs.whole / "checkpoint.pt")["progress"]["history"]
    rows = log(runs.whole)
    assert len(rows) == EPOCHS
    for row, kept in zip(rows, history, strict=True):
        assert {k: float(v) for k, v in row.items()} == {k: kept[k] for k in row}
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]
