"""Two processes under torchrun make one training: the same weights, files, and sentences."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from forked import environment, run

pytest.importorskip("lightning_fabric")

import torchrun_fits

from rrfast.objectives import OBJECTIVES
from rrfast.train.batches import Plan

#: It takes a tenth of it. A hang must not become one of the tests.
SECONDS = 400


class Runs(NamedTuple):
    """What two processes gave, and one."""

    folder: Path
    ranks: list[dict[str, Any]]
    alone: dict[str, Any]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*command, "--nproc-per-node", "2", torchrun_fits.__file__, str(folder)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    ranks = [torch.load(folder / f"rank{rank}.pt") for rank in range(2)]
    return Runs(folder, ranks, torchrun_fits.everything(tmp_path_factory.mktemp("one")))


def assert_close(one: dict[str, Any], other: dict[str, Any]) -> None:
    """1e-6, as asked for: sums in another order of float32 losses differ by a tenth of it."""
    for key, value in one["weights"].items():
        torch.testing.assert_close(value, other["weights"][key], rtol=0, atol=1e-6, msg=key)
    for a, b in zip(one["history"], other["history"], strict=True):
        assert a == pytest.approx(b, abs=1e-6)


NAMES = [*torchrun_fits.MADE, *(f"{name}, accumulated" for name in torchrun_fits.ACCUMULATED)]


def test_every_objective_is_tested() -> None:
    assert set(OBJECTIVES) <= {*torchrun_fits.MADE, *torchrun_fits.OWN}


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_are_one_with_the_joint_batch(runs: Runs, name: str) -> None:
    for rank in runs.ranks:
        assert_close(rank[name], runs.alone[name])
    assert_close(runs.ranks[0][name], runs.ranks[1][name])
    assert runs.alone[name]["reductions"] == [0] * 6


@pytest.mark.parametrize("name", torchrun_fits.OWN)
def test_two_processes_draw_starts_of_their_own_and_end_alike(runs: Runs, name: str) -> None:
    one, other = (rank[name] for rank in runs.ranks)
    for key, value in one["weights"].items():
        assert torch.equal(value, other["weights"][key])
    assert one["reductions"] == other["reductions"] == [1] * 6
    assert len({*one["seeds"], *other["seeds"]}) == 2 * 6


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_reduced_once_per_step(runs: Runs, name: str) -> None:
    for rank in runs.ranks:
        assert rank[name]["reductions"] == [1] * 6


def test_one_process_writes(runs: Runs) -> None:
    names = sorted(path.name for path in (runs.folder / "whole").iterdir())
    assert names == ["best.pt", "checkpoint.pt", "last.pt", "log.csv"]
    assert len((runs.folder / "whole" / "log.csv").read_text(encoding="utf-8").splitlines()) == 3


def test_resumed_by_two_is_bit_for_bit(runs: Runs) -> None:
    """With one thread each, and a sum of two."""
    for rank in runs.ranks:
        assert rank["interrupted"]["kept"] == (1, 2)
        for key, value in rank["whole"]["weights"].items():
            assert torch.equal(value, rank["interrupted"]["weights"][key])
        assert rank["interrupted"]["history"] == rank["whole"]["history"]
    last = [torch.load(runs.folder / name / "last.pt") for name in ("whole", "interrupted")]
    assert all(torch.equal(last[0][key], last[1][key]) for key in last[0])


def test_resumed_by_another_number_of_processes(runs: Runs) -> None:
    """Where that makes other steps, whose learning rates are others; equal steps go on."""
    folder = runs.folder / "cut"
    before = (folder / "checkpoint.pt").read_bytes()
    sentence = "with 2 steps an epoch, processes: 2; here are 3, processes: 1"
    with pytest.raises(ValueError, match=sentence):
        torchrun_fits.train("standard", data=torchrun_fits.images(34), out=folder, resume=True)
    assert (folder / "checkpoint.pt").read_bytes() == before
    again = torchrun_fits.train(
        "rat_mixup", out=runs.folder / "left", resume=True, changes=torchrun_fits.OFTEN
    )
    assert_close(again, runs.alone["whole"])


def sees(place: int) -> tuple[int, int]:
    """Rank and step, in epoch 0, that see an image."""
    for rank in range(2):
        for share in Plan(44, torchrun_fits.TRAINING, world=2, rank=rank).epoch(0):
            if place in torch.cat(share.indices):
                return rank, share.step
    raise AssertionError


def test_a_loss_that_is_not_finite_on_one_stops_both(runs: Runs) -> None:
    rank, step = sees(29)
    for results in runs.ranks:
        assert f"epoch 0, step {step} (from 0)" in results["not finite"]
    folder = runs.folder / "not finite"
    assert [path.name for path in folder.iterdir()] == [f"nonfinite_{rank}.pt"]
    state = torch.load(folder / f"nonfinite_{rank}.pt")
    share = Plan(44, torchrun_fits.TRAINING, world=2, rank=rank).epoch(0)[step]
    assert torch.equal(state["places"], torch.cat(share.indices))
    assert state["x"].isnan().any()


def test_a_folder_of_another_run_is_refused_in_both(runs: Runs) -> None:
    said = [results["locked"] for results in runs.ranks]
    assert said[0] == said[1]
    assert "locked is being written by another run, process " in said[0]
    assert list((runs.folder / "locked").iterdir()) == []


MODEL = """
import os, time
from torch import nn
from rrfast import _checksummed

if os.environ["RANK"] == "1":
    save = _checksummed.write_state

    def slow(path, state):
        time.sleep(3)
        save(path, state)

    _checksummed.write_state = slow

class Poisoned(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, classes))
        self.passes = 0

    def forward(self, x):
        self.passes += self.training
        bad = os.environ["RANK"] == "1" and self.passes == 4
        return self.net(x) * (float("nan") if bad else 1.0)

def build(classes=10):
    return Poisoned(classes)
"""


def test_the_command_ends_with_a_sentence_under_torchrun(tmp_path: Path) -> None:
    """Rank 1 writes its file although torchrun ends it as soon as rank 0 has failed."""
    (tmp_path / "model.py").write_text(MODEL, encoding="utf-8")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f'model: {{name: "{tmp_path / "model.py"}:build"}}\n'
        "data: {name: digits, train: 100, validation: 50}\n"
        "objective: {name: standard}\n"
        "training: {epochs: 2, batch_size: 20, threads: 1}\n",
        encoding="utf-8",
    )
    out = tmp_path / "out"
    (done,) = run(tmp_path, [{"argv": ["train", str(recipe), "--out", str(out)], "torchrun": 2}])
    assert done.code == 1
    sentences = [line for line in done.err.splitlines() if line.startswith("rrfast: ")]
    assert 1 <= len(sentences) <= 2
    assert all("loss was nan in epoch 0, step 3 (from 0)" in line for line in sentences)
    assert sorted(path.name for path in out.iterdir()) == ["nonfinite_1.pt", "recipe.yaml"]
    assert "in fit" not in done.err
