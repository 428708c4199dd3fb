"""Options of the benchmarks, and the `contest` fixture that every one of them calls once."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from contest import (
    CALLS,
    OPS,
    SMALL_BYTES,
    Contest,
    Images,
    Logits,
    Run,
    Stopwatch,
    check_agreement,
    repeated,
    tensor_bytes,
    yardsticks,
)
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

ROUNDS = (5, 200)  # at least, at most


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("rrfast")
    group.addoption("--device", default="cpu", help="cpu (default) or cuda")
    group.addoption("--seconds", type=float, default=2.0, help="of measurement for each case")
    group.addoption("--no-compile", action="store_true", help="leave torch.compile out")
    group.addoption(
        "--part",
        choices=("all", "ops", "passes"),
        default="all",
        help="the ops alone, or what is made of them",
    )
    group.addoption(
        "--compile-only", action="store_true", help="fill torch.compile's cache, time nothing"
    )
    group.addoption("--records", type=Path, help="append what every case gave to this file")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    part = config.getoption("--part")
    if part != "all":
        items[:] = [
            item
            for item in items
            if ("op_contest" in getattr(item, "fixturenames", ())) == (part == "ops")
        ]
    items.sort(key=rank)


def rank(item: pytest.Item) -> tuple[int, int]:
    """Of an op's case: how far down the cases, then the ops, it stands. All else stays in order."""
    params = getattr(getattr(item, "callspec", None), "indices", {})
    op = getattr(item, "originalname", "").removeprefix("bench_")
    places = [place for place, name in enumerate(OPS) if name.rstrip("_") == op]
    return (params["case"], places[0]) if places else (0, -1)


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.config.getoption("--device"))


@pytest.fixture(scope="session")
def stopwatch(device: torch.device) -> Stopwatch:
    return Stopwatch(device)


@pytest.fixture(scope="session")
def record(pytestconfig: pytest.Config) -> Callable[[dict[str, Any]], None]:
    """record(entry): at once, and not at the end; a run that is cut short keeps what it has."""

    def record(entry: dict[str, Any]) -> None:
        if records := pytestconfig.getoption("--records"):
            with records.open("a") as file:
                file.write(json.dumps(entry) + "\n")

    return record


@pytest.fixture(scope="session")
def measured_yardsticks(
    device: torch.device,
    stopwatch: Stopwatch,
    record: Callable[..., None],
    pytestconfig: pytest.Config,
) -> None:
    """What the GPU's memory gives, once, before the first op is timed."""
    if device.type == "cuda" and not pytestconfig.getoption("--compile-only"):
        for name, (size, run) in yardsticks(device).items():
            seconds = [stopwatch(run) for _ in range(2 * ROUNDS[0])][ROUNDS[0] :]
            record({"yardstick": name, "bytes": size, "ms": 1e3 * statistics.median(seconds)})


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def hold(
    benchmark: BenchmarkFixture,
    stopwatch: Stopwatch,
    record: Callable[..., None],
    pytestconfig: pytest.Config,
) -> Callable[..., None]:
    """hold(contenders, **facts): times them, and hands the result to pytest-benchmark's report.

    With `calls`, each contender makes so many.
    """

    def hold(contenders: dict[str, Run], calls: int = 1, **facts: object) -> None:
        if pytestconfig.getoption("--compile-only"):
            return
        contest = Contest(contenders, stopwatch, calls)
        seconds = contest.warm_up(2)
        fewest, most = ROUNDS
        rounds = int(min(max(pytestconfig.getoption("--seconds") / seconds, fewest), most))
        # The rivals run in what pytest-benchmark takes for the preparation of a round, so its own
        # figures are the subject's.
        benchmark.pedantic(contest.subjects_turn, setup=contest.until_subject, rounds=rounds)
        contest.rest()
        benchmark.extra_info.update(facts, rounds=rounds, **contest.summary())
        record(benchmark.extra_info)

    return hold


@pytest.fixture
def op_contest(
    hold: Callable[..., None],
    device: torch.device,
    measured_yardsticks: None,
    pytestconfig: pytest.Config,
) -> Callable[..., None]:
    """op_contest(...): one op on one case against its rivals; see `op_contest` inside."""

    def op_contest(
        op: str,
        case: Images | Logits,
        *,
        fused: Run,
        eager: Run,
        reference: tuple[Callable[..., Any], tuple[Any, ...]],
        reads: tuple[Tensor | None, ...],
        writes: tuple[Tensor, ...] = (),
        reused: bool = False,
    ) -> None:
        """Time the op, idiomatic torch, the specification, and `torch.compile` of it.

        On a CPU a copy as well; on a GPU there are yardsticks for all, and a case that is small is
        timed as `CALLS` calls in one CUDA graph.

        With `reused` every contender writes into the results of its first call, and the
        specification, which cannot, is left out. A GPU's results are always in such memory.

        Args:
            op: Its name.
            case: Shape and dtype.
            fused, eager: Calls of the op and of what a good user would write without it.
            reference: The specification and its arguments.
            reads: What the op must read at least; the first is what the copy copies.
            writes: What it must write beside its results.
            reused: Whether results are in memory that is there; `fused` and `eager` then take the
                argument `out`.
        """
        if reused and device.type != "cpu":
            pytest.skip("the device's allocator gives memory that is there")
        specification, arguments = reference
        contenders = {
            "fused": fused,
            "eager": eager,
            "reference": lambda: specification(*arguments),
        }
        if not pytestconfig.getoption("--no-compile"):
            torch.compiler.reset()
            compiled = torch.compile(specification, fullgraph=True, dynamic=False)
            # What an op changes in place, every contender has for itself.
            copies = tuple(a.clone() if isinstance(a, torch.Tensor) else a for a in arguments)
            contenders["compiled"] = lambda: compiled(*copies)
        if reused:
            contenders = {
                name: into_own_results(contenders[name], run)
                for name, run in (("fused", fused), ("eager", eager))
            }
            if not pytestconfig.getoption("--no-compile"):
                contenders["compiled"] = compiled_into_own_results(specification, arguments)
        results = check_agreement(contenders, case.dtype)
        copied = reads[0]
        assert copied is not None
        traffic = tensor_bytes(*reads, *writes, results)
        facts: dict[str, Any] = {"traffic_bytes": traffic, "copy_bytes": 2 * tensor_bytes(copied)}
        if device.type == "cpu":
            # A clone pays for allocation, as all contenders do who do not reuse theirs.
            contenders["copy"] = partial(copied.clone().copy_, copied) if reused else copied.clone
        elif traffic < SMALL_BYTES and not pytestconfig.getoption("--compile-only"):
            contenders, facts["not_captured"] = repeated(contenders)
            facts["calls"] = CALLS
        hold(contenders, op=op, case=f"{case}-reused" if reused else str(case), **facts)

    return op_contest


def into_own_results(first: Run, run: Callable[..., Any]) -> Run:
    own = first()
    return lambda: run(out=own)


def compiled_into_own_results(specification: Callable[..., Any], arguments: tuple[Any, ...]) -> Run:
    own = specification(*arguments)

    @partial(torch.compile, fullgraph=True, dynamic=False)
    def into(own: Any, *arguments: Any) -> None:
        results = specification(*arguments)
        for target, result in zip(
            *((r if isinstance(r, tuple) else (r,)) for r in (own, results)), strict=True
        ):
            target.copy_(result)

    def run() -> Any:
        into(own, *arguments)
        return own

    return run
