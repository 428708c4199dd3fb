"""python -m benchmarks: what is made of measurements, and what a GPU adds to them."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import benchmarks.__main__ as results
from benchmarks import contest
from rrfast.ops import OPS

ROOT = Path(__file__).parents[1]
WHERE = {
    "device": "GPU",
    "rrfast": "1",
    "torch": "2",
    "python": "3",
    "cuda": "13.0",
    "date": "today",
    "command": "c",
    "kernels": "loaded",
}
#: A copy of 4 TB/s, a sum of 3.
STICKS = [
    {"yardstick": "copy", "bytes": 4_000_000_000, "ms": 1.0},
    {"yardstick": "sum", "bytes": 3_000_000_000, "ms": 1.0},
]


def measured(op: str, case: str, traffic: float, ms: float, **more: object) -> dict[str, Any]:
    """An entry of a record."""
    return {
        "op": op,
        "case": case,
        "traffic_bytes": traffic,
        "copy_bytes": traffic,
        "ms": {"fused": ms},
        "times": {"eager": 2.0, "reference": 3.0},
        **more,
    }


def test_every_committed_table_is_what_its_file_makes() -> None:
    paths = [
        path
        for path in ROOT.glob("benchmarks/results/*/*.json")
        if "benchmarks" in json.loads(path.read_text(encoding="utf-8"))
    ]
    assert paths
    for path in paths:
        table = results.table(json.loads(path.read_text(encoding="utf-8")))
        assert path.with_suffix(".md").read_text(encoding="utf-8") == table, path


def test_a_gpu_is_measured_by_its_yardsticks(tmp_path: Path) -> None:
    cases = [
        measured("perturb", "256x3x224x224-float32", 400e6, 0.125),  # 3.2 TB/s: a copy's 80 %
        measured("fgsm_step", "256x3x224x224-float32", 400e6, 0.1),
        measured("linear_radius", "16384x1000-float32", 120e6, 0.05),  # 2.4 TB/s: a sum's 80 %
        measured("search_step_", "16384x1000-float32", 120e6, 0.08),
        measured("direction_seed", "16384x1000-float32", 120e6, 0.0375),
        measured("direction_seed", "128x10-float32", 1e4, 0.002, calls=100),
    ]
    path = tmp_path / "ops.json"
    results.write(path, WHERE, [*STICKS, *cases])
    lines = path.with_suffix(".md").read_text().splitlines()
    rows = {(row.split()[1], row.split("|")[5].strip()) for row in lines if "-float32 |" in row}
    assert ("256x3x224x224-float32", "80%") in rows
    assert {share for case, share in rows if case == "16384x1000-float32"} == {"80%", "50%"}
    assert any(line.startswith("| 128x10-float32") and line.endswith("| 100 |") for line in lines)
    missed = {line.partition(":")[0]: line.partition(": ")[2] for line in lines if "% of" in line}
    assert list(missed.values()) == [
        "not in perturb 256x3x224x224-float32 (80%).",
        "not in search_step_ 16384x1000-float32 (50%).",
    ]
    assert "copy 4000 and sum 3000, measured once on 4.0 GB" in path.with_suffix(".md").read_text()


def test_what_is_interrupted_keeps_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(device: str, records: Path, *more: object) -> int:
        records.write_text(json.dumps(measured("perturb", "1x3x2x2-float32", 1e3, 1.0)))
        raise KeyboardInterrupt

    monkeypatch.setattr(results, "run", interrupted)
    monkeypatch.setattr(results, "of_copy", lambda *_: 1.0)
    with pytest.raises(KeyboardInterrupt):
        results.main(["--results", str(tmp_path)])
    (path,) = tmp_path.glob("*/ops.json")
    assert [e["op"] for e in json.loads(path.read_text())["benchmarks"]] == ["perturb"]
    assert "perturb" in path.with_suffix(".md").read_text()


def test_a_part_measured_again_takes_the_place_of_its_cases() -> None:
    attack = {"model": "PGD", "case": "vit, 20 steps, 10 of 16 flipped, by hand 9", "ms": {}}
    whole = [measured("perturb", "1x1", 1, 1.0), measured("perturb", "2x2", 1, 1.0), attack]
    before = {"environment": WHERE | {"threads": 2}, "yardsticks": {}, "benchmarks": whole}
    again = [
        measured("perturb", "2x2", 1, 0.5),
        attack | {"case": "vit, 20 steps, 9 of 16 flipped, by hand 9"},
    ]
    where = WHERE | {"threads": 2, "command": "c --update"}
    found, entries = results.updated(before, where, again)
    assert entries == [whole[0], *again]
    assert found["command"] == "c; c --update"


def test_an_update_on_other_versions_measures_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "run", lambda *_: pytest.fail("measured"))
    here = results.environment("cpu")
    path = tmp_path / results.slug(here["device"]) / "ops.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"environment": here | {"torch": "3"}}))
    with pytest.raises(SystemExit, match="the same torch, 3, got "):
        results.main(["--results", str(tmp_path), "--update"])


def test_contenders_of_their_own_have_a_table_of_their_own() -> None:
    """A row has the cells of its table's head, and quartiles beside the medians."""

    def entry(case: str, **ms: float) -> dict[str, Any]:
        quartiles = {name: [value - 0.5, value + 0.25] for name, value in ms.items()}
        times = {name: value / next(iter(ms.values())) for name, value in ms.items()}
        facts = {"model": "radius", "case": case, "floor": "bare"}
        return {**facts, "ms": ms, "times": times, "quartiles_ms": quartiles}

    entries = [
        entry("fast", estimator=4.0, hand=3.0, bare=2.0),
        entry("refined", radius=5.0, bare=4.0),
        entry("again", estimator=8.0, hand=2.0, bare=1.0),
    ]
    (section,) = results.model_tables(entries)
    assert section.splitlines() == [
        "## radius",
        "",
        "| case | estimator | hand | bare | estimator ÷ bare | hand ÷ bare |",
        "|---|--:|--:|--:|--:|--:|",
        "| fast | 4 (3.5 to 4.25) ms | 3 (2.5 to 3.25) ms | 2 (1.5 to 2.25) ms | 2.000 | 1.500 |",
        "| again | 8 (7.5 to 8.25) ms | 2 (1.5 to 2.25) ms | 1 (0.5 to 1.25) ms | 8.000 | 2.000 |",
        "",
        "| case | radius | bare | radius ÷ bare |",
        "|---|--:|--:|--:|",
        "| refined | 5 (4.5 to 5.25) ms | 4 (3.5 to 4.25) ms | 1.250 |",
    ]


def test_a_contest_counts_one_call_of_those_in_a_graph() -> None:
    runs: dict[str, Callable[[], Any]] = {"a": lambda: 1.0, "b": lambda: 2.0}
    took = {runs["a"]: iter([5.0, 8.0]), runs["b"]: iter([3.0, 4.0])}
    of_calls = contest.Contest(runs, lambda run: next(took[run]), calls=10)
    for _ in range(2):
        of_calls.until_subject()
        of_calls.subjects_turn()
    of_calls.rest()
    summary = of_calls.summary()
    assert summary["ms"] == {"a": 650.0, "b": 350.0}
    assert summary["times"] == {"b": pytest.approx(0.55)}


def test_every_contender_runs_once_a_round_and_after_each_of_the_others() -> None:
    """Always after the same one, it would profit from what that one leaves in the caches."""
    ran: list[str] = []
    runs: dict[str, Callable[[], Any]] = {name: partial(ran.append, name) for name in "abcd"}
    of_rounds = contest.Contest(runs, lambda run: run() or 1.0)
    for _ in range(100):
        of_rounds.until_subject()
        of_rounds.subjects_turn()
    of_rounds.rest()
    rounds = [ran[i : i + 4] for i in range(0, 400, 4)]
    assert len(ran) == 400
    assert all(sorted(one) == list("abcd") for one in rounds)
    before = Counter(itertools.pairwise(ran))
    assert all(before[one, other] > 10 for one in "abcd" for other in "abcd" if one != other)


def test_small_cases_are_captured_and_rivals_that_cannot_be_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a GPU: what torch.cuda has is stood in for, so that this is the order of calls."""
    events: list[str] = []

    class Graph:
        def replay(self) -> None:
            events.append("replay")

    class Stream:
        def wait_stream(self, other: object) -> None:
            events.append("wait")

    @contextlib.contextmanager
    def graph(of: object) -> Iterator[None]:
        events.append("capture")
        yield
        events.append("captured")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "graph", graph)

    def waits() -> None:
        if events[-1] == "capture":
            raise RuntimeError("operation not permitted when stream is capturing")

    captured, left_out = contest.repeated({"fused": lambda: events.append("run"), "eager": waits})
    assert (list(captured), left_out) == (["fused"], ["eager"])
    runs = ["wait", "run", "wait", "capture", *contest.CALLS * ["run"], "captured"]
    assert events[: len(runs)] == runs
    captured["fused"]()
    assert events[-1] == "replay"
    with pytest.raises(RuntimeError, match="capturing"):
        contest.repeated({"fused": waits})


@pytest.mark.parametrize("cases", [contest.IMAGES, contest.FEWER_IMAGES, contest.LOGITS])
def test_no_case_is_there_twice(cases: tuple[object, ...]) -> None:
    assert len(set(cases)) == len(cases)


def test_cases_lie_where_kernels_differ() -> None:
    shapes = {case.shape for case in contest.LOGITS}
    assert {(b, k) for b in (128, 1024, 32_768) for k in (10, 100)} <= shapes
    assert sum(1000 < k < 21_841 for _, k in shapes) >= 3
    files = {path.stem.removeprefix("bench_") for path in ROOT.glob("benchmarks/bench_*.py")}
    assert {op.rstrip("_") for op in contest.OPS} <= files


def test_every_op_has_its_place_in_a_run_that_may_be_cut_short() -> None:
    """One without would come first, before what the targets are set on."""
    assert set(contest.OPS) == set(OPS)
    placed = results.READING | set(results.ELEMENTWISE) | results.SEEDS
    assert placed == set(OPS) - {"redirect_"}  # of two launches, one after the other: no target
