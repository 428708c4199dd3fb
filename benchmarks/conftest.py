"""Options of the benchmarks, and the `contest` fixture that every one of them calls once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from contest import Contest, Images, Logits, Run, Stopwatch, check_agreement, tensor_bytes
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


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.config.getoption("--device"))


@pytest.fixture(scope="session")
def stopwatch(device: torch.device) -> Stopwatch:
    return Stopwatch(device)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def hold(
    benchmark: BenchmarkFixture, stopwatch: Stopwatch, pytestconfig: pytest.Config
) -> Callable[..., None]:
    """hold(contenders, **facts): times them, and hands the result to pytest-benchmark's report."""

    def hold(contenders: dict[str, Run], **facts: object) -> None:
        if pytestconfig.getoption("--compile-only"):
            return
        contest = Contest(contenders, stopwatch)
        seconds = contest.warm_up(2)
        fewest, most = ROUNDS
        rounds = int(min(max(pytestconfig.getoption("--seconds") / seconds, fewest), most))
        # The rivals run in what pytest-benchmark takes for the preparation of a round, so its own
        # figures are the subject's.
        benchmark.pedantic(contest.subjects_turn, setup=contest.rivals_turn, rounds=rounds)
        benchmark.extra_info.update(facts, rounds=rounds, **contest.summary())
        if records := pytestconfig.getoption("--records"):
            # At once, and not at the end: a run that is cut short keeps what it has.
            with records.open("a") as file:
                file.write(json.dumps(benchmark.extra_info) + "\n")

    return hold


@pytest.fixture
def op_contest(hold: Callable[..., None], pytestconfig: pytest.Config) -> Callable[..., None]:
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
    ) -> None:
        """Time the op, idiomatic torch, the specification, `torch.compile` of it, and a copy.

        Args:
            op: Its name.
            case: Shape and dtype.
            fused, eager: Calls of the op and of what a good user would write without it.
            reference: The specification and its arguments.
            reads: What the op must read at least; the first is what the copy copies.
            writes: What it must write beside its results.
        """
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
        results = check_agreement(contenders, case.dtype)
        # Not a copy into existing memory: a clone pays for allocation, as all contenders do.
        copied = reads[0]
        assert copied is not None
        contenders["copy"] = copied.clone
        hold(
            contenders,
            op=op,
            case=str(case),
            traffic_bytes=tensor_bytes(*reads, *writes, results),
            copy_bytes=2 * tensor_bytes(copied),
        )

    return op_contest
