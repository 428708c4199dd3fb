"""One process at a time writes into a folder: the lock itself, and every command that takes it."""

from __future__ import annotations

import errno
import os
import platform
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rrfast import cli
from rrfast._lock import alone
from rrfast._results import results_in

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def child(work: Callable[[], object]) -> int:
    """The number of a process that does this, and ends with 0, or 1 where it raised."""
    number = os.fork()
    if number == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return number


def wait_for(path: Path) -> None:
    end = time.monotonic() + 20
    while not (path.exists() and path.read_bytes()):
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.01)


def hold(lock: Path) -> None:
    with alone(lock, lock.parent):
        time.sleep(60)


@forks
def test_another_process_is_named_and_a_killed_one_leaves_no_lock(tmp_path: Path) -> None:
    lock = tmp_path / "train.lock"
    holder = child(lambda: hold(lock))
    wait_for(lock)
    said = (
        f"{tmp_path} is being written by another run, process {holder} on {platform.node()}: wait "
        "until it is over, or write elsewhere"
    )
    with pytest.raises(BlockingIOError, match=re.escape(said)), alone(lock, tmp_path):
        raise AssertionError
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    assert lock.exists()
    with alone(lock, tmp_path):
        assert lock.read_text() == f"process {os.getpid()} on {platform.node()}"
    assert list(tmp_path.iterdir()) == []


@forks
def test_a_worker_does_not_keep_the_lock_of_a_killed_process(tmp_path: Path) -> None:
    """Workers that read images live on for seconds, in which a --resume would be refused."""
    lock, told = tmp_path / "train.lock", tmp_path / "worker"

    def run() -> None:
        with alone(lock, tmp_path):
            told.write_text(str(child(lambda: time.sleep(60))))
            time.sleep(60)

    holder = child(run)
    wait_for(told)
    worker = int(told.read_text())
    try:
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
        with alone(lock, tmp_path):
            os.kill(worker, 0)  # it lives
    finally:
        os.kill(worker, signal.SIGKILL)


@forks
def test_a_child_that_leaves_takes_nothing_along(tmp_path: Path) -> None:
    """Forked within the `with`, it comes by its end as the parent does."""
    lock = tmp_path / "train.lock"
    holder = alone(lock, tmp_path)
    holder.__enter__()
    number = child(lambda: holder.__exit__(None, None, None))
    assert os.waitpid(number, 0)[1] == 0
    assert lock.exists()
    with pytest.raises(BlockingIOError), alone(lock, tmp_path):
        raise AssertionError
    holder.__exit__(None, None, None)
    assert list(tmp_path.iterdir()) == []


@forks
def test_of_many_at_once_one_is_in(tmp_path: Path) -> None:
    """Each takes and removes the file again and again: no two locks on two files of one name."""
    lock, inside = tmp_path / "train.lock", tmp_path / "inside"

    def run() -> None:
        done, end = 0, time.monotonic() + 20
        while done < 100:
            assert time.monotonic() < end
            try:
                with alone(lock, tmp_path):
                    os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
                    inside.unlink()
                    done += 1
            except BlockingIOError:
                continue

    children = [child(run) for _ in range(3)]
    assert [os.waitpid(number, 0)[1] for number in children] == [0, 0, 0]
    assert list(tmp_path.iterdir()) == []


def test_another_thread_is_another_run(tmp_path: Path) -> None:
    refused = []

    def run() -> None:
        try:
            with alone(tmp_path / "train.lock", tmp_path):
                pass
        except BlockingIOError as error:
            refused.append(str(error))

    with alone(tmp_path / "train.lock", tmp_path):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    assert f"process {os.getpid()} on" in refused[0]


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="links of POSIX")
def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "train.lock").symlink_to(victim)
    with (
        pytest.raises(OSError, match=r"cannot be written: .*train\.lock: Too many levels"),
        alone(tmp_path / "train.lock", tmp_path),
    ):
        raise AssertionError
    assert victim.read_text() == "mine"


def test_a_file_system_without_locks_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.warns(UserWarning, match=r"of .*train\.lock has no locks .* nothing keeps another"),
        alone(tmp_path / "train.lock", tmp_path),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_half_written_is_removed(tmp_path: Path) -> None:
    for name in ("demo.json.0123456789abcdef.partial", "bench.json.0123456789abcdef.partial"):
        (tmp_path / name).write_text("half")
    with results_in(tmp_path, "demo"):
        names = sorted(path.name for path in tmp_path.iterdir())
        assert names == ["bench.json.0123456789abcdef.partial", "demo.lock"]


COMMANDS = {
    "demo": ["demo", "--smoke"],
    "bench": ["bench", "--smoke"],
    "ablation": ["ablate", "digits_rat", "--set", "training.epochs=1"],
    "train": ["train", "digits_rat", "--set", "training.epochs=1"],
}


@pytest.mark.parametrize("stem", COMMANDS)
def test_a_second_command_is_refused(
    tmp_path: Path, stem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    if stem != "bench":
        pytest.importorskip("lightning_fabric")
    out = tmp_path / "out"
    out.mkdir()
    with alone(out / f"{stem}.lock", out):
        assert cli.main([*COMMANDS[stem], "--out", str(out)]) == 1
        assert [path.name for path in out.iterdir()] == [f"{stem}.lock"]
    err = capsys.readouterr().err
    assert err.startswith(f"rrfast: {out} is being written by another run, process {os.getpid()}")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("stem", COMMANDS)
def test_a_file_in_place_of_the_folder(
    tmp_path: Path, stem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    if stem != "bench":
        pytest.importorskip("lightning_fabric")
    file = tmp_path / "file"
    file.write_text("mine")
    assert cli.main([*COMMANDS[stem], "--out", str(file)]) == 1
    said = f"rrfast: out must be a folder, and {file} is a file: give another\n"
    assert capsys.readouterr().err == said
    assert file.read_text() == "mine"
