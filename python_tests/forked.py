"""Command lines, each in a process of its own, forked from one that has imported everything.

Importing rrfast.train takes seconds, a training in these tests tenths of one. What is killed here
is a real process. Run as a program, this file is that parent.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
#: No run of these tests takes a tenth of it.
SECONDS = 60


class Done(NamedTuple):
    """How a run ended."""

    code: int  #: exit code, or minus the signal
    out: str
    err: str


def environment(**more: str) -> dict[str, str]:
    """For subprocesses that import this checkout, one thread each."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "200"} | more


def run(folder: Path, jobs: list[dict[str, Any]]) -> list[Done]:
    """`rrfast` once for each job, one after the other.

    A job has `argv`; `env`, variables of its own; `count_fsync`, a file for the number of calls of
    `os.fsync`; and `kill_at_fsync`, the number (from 1) of that at which the process kills itself.
    With `count_fsync` the number is counted from the last call of the job that wrote that file: 0
    is the last. A job with `world` is as many processes at once, as torchrun starts them; its
    output is that of all, and its code the first that is not 0, a signal before others. A job with
    `torchrun` is as many under torchrun's own agent, which ends with 1 where one does not with 0;
    but forked, where the command would import everything again in each. A job with `copy` copies a
    folder to another instead.
    """
    done = subprocess.run(
        [sys.executable, __file__, str(folder)],
        input=json.dumps(jobs),
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS * (1 + len(jobs)),
    )
    assert done.returncode == 0, done.stderr
    return [Done(*row) for row in json.loads(done.stdout)]


def _main(folder: Path) -> None:
    from rrfast import cli, evaluate, train  # noqa: F401

    # What a command imports when it needs it: seconds, which every child would spend anew.
    for module in ("lightning_fabric", "sklearn.datasets"):
        if importlib.util.find_spec(module.partition(".")[0]):
            importlib.import_module(module)

    jobs = json.load(sys.stdin)
    if any(job.get("argv", [""])[0] == "evaluate" for job in jobs):
        import matplotlib.backends.backend_agg
        import matplotlib.figure  # noqa: F401

    rows = []
    for number, job in enumerate(jobs):
        if "copy" in job:
            shutil.copytree(*job["copy"])
            rows.append((0, "", ""))
            continue
        children = []
        for rank, ranked in enumerate(_ranked(job)):
            files = [folder / f"job{number}.{rank}.{name}" for name in ("out", "err")]
            child = os.fork()
            if child == 0:
                _child(ranked, files, cli.main)
            children.append((child, files))
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child, _ in children]
        told = [
            "".join(file.read_text(encoding="utf-8") for file in files)
            for files in zip(*(files for _, files in children), strict=True)
        ]
        rows.append((min(codes) or max(codes), *told))
    print(json.dumps(rows))


def _ranked(job: dict[str, Any]) -> list[dict[str, Any]]:
    """The job, or one for each of its processes."""
    if "world" not in job:
        return [job]
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    world = {"WORLD_SIZE": str(job["world"]), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    return [
        {**job, "env": {**job.get("env", {}), **world, "RANK": str(r), "LOCAL_RANK": str(r)}}
        for r in range(job["world"])
    ]


def _child(job: dict[str, Any], files: list[Path], main: Any) -> None:
    signal.alarm(SECONDS)
    code = 70
    try:
        for stream, file in zip((1, 2), files, strict=True):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        os.environ.update(job.get("env", {}))
        _count_fsync(job.get("kill_at_fsync"), job.get("count_fsync"))
        agent = job.get("torchrun")
        code = _torchrun(agent, job["argv"], main) if agent else main(job["argv"])
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException:  # noqa: BLE001  # whatever it was, the test is to see it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _torchrun(processes: int, argv: list[str], main: Any) -> int:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    def command() -> None:
        sys.exit(main(argv))

    # As torchrun --standalone has it.
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id="forked",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        start_method="fork",
        max_restarts=0,
    )
    try:
        elastic_launch(config, command)()
    except ChildFailedError:
        return 1
    return 0


def _count_fsync(kill_at: int | None, counter: str | None) -> None:
    """The file has been written, and is not yet in its place."""
    calls, fsync = 0, os.fsync
    if kill_at is not None and counter is not None:
        kill_at, counter = int(Path(counter).read_text(encoding="utf-8")) - kill_at, None

    def counted(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if counter is not None:
            Path(counter).write_text(str(calls), encoding="utf-8")
        if calls == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(descriptor)

    os.fsync = counted


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
