"""`rrfast evaluate` and `rrfast.compare` in several processes: the numbers of one, written once."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from forked import Done, environment, run

from rrfast._results import from_tables

NETS = """
import os
import signal

import torch
from torch import nn

from rrfast.data import digits


class Net(nn.Sequential):
    calls = 0

    def forward(self, x):
        self.calls += 1
        if os.environ.get("RANK") == os.environ.get("ONLY_IN", "?"):
            if self.calls == int(os.environ.get("RAISE_AT", 0)):
                raise ValueError("the net was told to fail")
            if self.calls == int(os.environ.get("KILL_AT", 0)):
                os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)


def net(bias=0.0):
    # Random features and a ridge regression: right on most digits, in no time.
    net = Net(nn.Flatten(), nn.Linear(64, 60), nn.ReLU(), nn.Linear(60, 10))
    generator = torch.Generator().manual_seed(0)
    train = digits().train
    with torch.no_grad():
        net[1].weight.copy_(torch.randn(60, 64, generator=generator) / 8)
        net[1].bias.fill_(bias)
        h = net[:3](train.x).double()
        y = nn.functional.one_hot(train.y, 10).double() * 8
        w = torch.linalg.solve(h.T @ h + 0.1 * torch.eye(60, dtype=torch.float64), h.T @ y)
        # The same in every process, whatever the last digits are.
        net[3].weight.copy_(w.T.round(decimals=3))
        net[3].bias.zero_()
    return net.eval()


def apart():
    return net(bias=float(os.environ.get("RANK", 0)))
"""
#: By protocol: options for several batches of everything that is measured, and that is drawn.
PROTOCOLS = {
    "misd": "--scores msr,relu,radius_grad --corruptions --draws 20 --batch 250 --every-run",
    "ood": "--scores msr,odin --against noise,adversarial_samples,adversarial_noise --images 30 "
    "--trials 15 --draws 20 --batch 12 --every-run",
    "robust": "--attacks fgsm,pgd,square --steps 3 --images 36 --draws 20 --batch 12",
    "distal": "--steps 3 --noise 25 --images 40 --draws 20 --batch 10",
}
FILES = {"misd": "evaluation", "ood": "ood", "robust": "robust", "distal": "distal"}
BRIEF = "--scores radius_grad --draws 20 --batch 100 --no-sensitivity"


class Runs(NamedTuple):
    folder: Path
    one: dict[str, Done]  #: by protocol
    several: dict[tuple[str, int], Done]  #: by protocol and number of processes
    ended: dict[str, Done]  #: by what happened


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("evaluated")
    (folder / "nets.py").write_text(NETS)

    def job(name: str, options: str, net: str = "net", **more: Any) -> dict[str, Any]:
        given = ["evaluate", f"{folder}/nets.py:{net}", "--data", "digits", *options.split()]
        return {"argv": [*given, "--device", "cpu", "--out", str(folder / name)], **more}

    def told(protocol: str) -> str:
        return f"--protocol {protocol} {PROTOCOLS[protocol]}"

    one = {p: job(f"{p} 1", told(p)) for p in PROTOCOLS}
    several = {(p, 3): job(f"{p} 3", told(p), world=3) for p in PROTOCOLS if p != "misd"}
    # Torchrun's own agent; the others are as it starts them, without it.
    several["misd", 2] = job("misd 2", told("misd"), torchrun=2)
    one_of_two = {"ONLY_IN": "1", "RAISE_AT": "12"}
    ended = {
        "failed": job("failed", BRIEF, world=2, env=one_of_two),
        "continued": job("failed", BRIEF),
        "lost": job("lost", BRIEF, world=2, env={"ONLY_IN": "1", "KILL_AT": "12"}),
        "found": job("lost", BRIEF, world=3),
        "whole": job("whole", BRIEF),
        "apart": job("apart", BRIEF, net="apart", world=2),
    }
    done = iter(run(folder, [*one.values(), *several.values(), *ended.values()]))
    return Runs(folder, *({key: next(done) for key in jobs} for jobs in (one, several, ended)))


def numbers(folder: Path, protocol: str) -> Any:
    """What the file of results says, but for times and the command."""
    text = (folder / f"{FILES[protocol]}.json").read_text(encoding="utf-8")
    told = json.loads(text, parse_float=str)  # to the last digit
    for key in ("date", "command"):
        del told[key]
    told["runs"] = from_tables(told["runs"])
    for row in told["runs"]:
        row.pop("milliseconds", None)
    return told


@pytest.mark.parametrize(
    ("protocol", "world"), [("misd", 2), ("ood", 3), ("robust", 3), ("distal", 3)]
)
def test_several_processes_write_what_one_writes(runs: Runs, protocol: str, world: int) -> None:
    alone, done = runs.one[protocol], runs.several[protocol, world]
    assert (alone.code, done.code) == (0, 0), alone.err + done.err
    folders = [runs.folder / f"{protocol} {n}" for n in (1, world)]
    first, other = (numbers(folder, protocol) for folder in folders)
    assert len(first["runs"]) > 0
    assert other == first
    names = [sorted(path.name for path in folder.iterdir()) for folder in folders]
    assert names[0] == names[1]
    # The first process speaks for all.
    assert done.out.count(f"Written to {folders[1]}") == 1


def test_an_error_in_one_process_ends_all_with_its_sentence(runs: Runs) -> None:
    failed = runs.ended["failed"]
    assert "Traceback" not in failed.err
    assert failed.err.count("the net was told to fail") == 2, failed.err
    assert not (runs.folder / "failed" / "evaluation.json.lock").exists()


def test_a_process_that_is_killed_leaves_the_others_with_a_sentence(runs: Runs) -> None:
    lost = runs.ended["lost"]
    assert lost.code == -9
    assert (
        "rrfast: another process ended without an error message; finished work is kept" in lost.err
    )
    assert "Traceback" not in lost.err


@pytest.mark.parametrize(("folder", "again"), [("failed", "continued"), ("lost", "found")])
def test_what_ended_goes_on_in_any_number_of_processes(runs: Runs, folder: str, again: str) -> None:
    assert runs.ended[again].code == 0, runs.ended[again].err
    whole = numbers(runs.folder / "whole", "misd")
    assert numbers(runs.folder / folder, "misd") == whole


def test_processes_with_other_weights_do_nothing(runs: Runs) -> None:
    apart = runs.ended["apart"]
    assert apart.code == 2
    told = r"rrfast: all processes must be given the same, but weights is \w+ in the first and"
    assert len(re.findall(told, apart.err)) == 2, apart.err
    assert not (runs.folder / "apart" / "evaluation.json").exists()


# ------------------------------------------------------------------------------------- compare

#: Runs `compare` in 1, 2 and 3 processes, each forked as torchrun starts them.
COMPARE = """
import json, os, signal, socket, sys, warnings
from pathlib import Path

import torch

sys.path.insert(0, sys.argv[1])
import nets
import rrfast
from rrfast.data import digits

test = digits().test
net = nets.net()

def batches(shuffled=True, size=100, n=500):
    order = torch.randperm(len(test.x))[:n] if shuffled else torch.arange(n)
    yield test.x[:0], test.y[:0]  # an empty batch is no first batch
    for places in order.split(size):
        yield test.x[places], test.y[places]

def told(comparison):
    rows = [
        [row.name, row.hyperparameters, row.aurc, row.auroc, row.less_msr["aurc"], row.beaten]
        for row in comparison.table
    ]
    values = [comparison.confidence.tolist(), comparison.correct.tolist(), comparison.batch]
    return [rows, comparison.name, comparison.tuned_on, *values]

def work(rank, share):
    torch.manual_seed(0 if rank == 0 else 77)
    # Of the others the loader is not read.
    first = rank == 0
    scores = ["relu", "doctor_alpha", "radius_grad"]
    options = {"draws": 50, "share": share, "progress": False}
    found = rrfast.compare(net, batches() if first else None, scores, **options)
    apart = batches(False, 90, 90) if first else 0
    options |= {"timing": False}
    tuned = rrfast.compare(
        net, batches(n=150) if first else None, ["odin"], tune_on=apart, **options
    )
    said = [told(found), told(tuned)]
    if share:
        def broken(x):
            if rank == 1:
                raise ValueError("the net was told to fail")
            return net(x)
        options["tune_on"] = list(batches(False, n=150)) if first else None
        mapping = [{"x": test.x, "y": test.y}]
        for failing, loader in ((broken, batches()), (net, 3), (net, mapping)):
            try:
                rrfast.compare(failing, loader if first else None, ["msr"], **options)
            except (TypeError, ValueError) as error:
                said.append(str(error).partition(",")[0])
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            rrfast.compare(net, batches(False) if first else None, ["msr"], **options)
        said.append([[Path(each.filename).name, str(each.message)[:30]] for each in warned])
    return said

for world in (1, 2, 3):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    children = []
    for rank in range(world):
        if (child := os.fork()) == 0:
            code = 1
            signal.alarm(100)  # none takes a tenth of it
            try:
                if world > 1:
                    where = {"MASTER_ADDR": "localhost", "MASTER_PORT": port}
                    os.environ.update(where, RANK=str(rank), WORLD_SIZE=str(world))
                Path(sys.argv[1], f"{world} {rank}.json").write_text(
                    json.dumps(work(rank, world > 1))
                )
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert not any(codes), codes
"""


def test_compare_shares_the_batches_of_the_first_process(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "compare.py").write_text(COMPARE)
    done = subprocess.run(
        [sys.executable, tmp_path / "compare.py", tmp_path],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    one = json.loads((tmp_path / "1 0.json").read_text())
    for world in (2, 3):
        for rank in range(world):
            found = json.loads((tmp_path / f"{world} {rank}.json").read_text())
            failed = [
                "the net was told to fail",
                "loader must be an iterable of batches",
                "loader must yield pairs of tensors (x [B",
            ]
            again = [["compare.py", "150 of the 500 samples of load"]] if rank == 0 else []
            assert found == [*one, *failed, again], (world, rank)
