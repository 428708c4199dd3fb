"""A python whose every command is forked from one that has imported torch and rrfast.

A script that starts python a dozen times spends seconds each time on imports. `python` makes an
executable that takes python's place: it sends its arguments, environment and streams to the parent,
which this file is when run as a program, and ends as the child does.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

#: No command of these tests takes a tenth of it.
SECONDS = 300

STAND_IN = """#!{python} -SE
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as parent:
    parent.connect({address!r})
    socket.send_fds(parent, [b"."], [0, 1, 2])
    job = dict(argv=sys.argv[1:], cwd=os.getcwd(), env=dict(os.environ), executable=sys.argv[0])
    parent.sendall(json.dumps(job).encode() + b"\\n")
    code = parent.makefile().readline()
sys.exit(int(code or 1))
"""


@contextlib.contextmanager
def python(imports: str, **more: str) -> Iterator[Path]:
    """While this lasts, an executable that is python as far as `-c`, `-m` and a file go.

    Its parent has what `imports` (statements) has imported; `more` are variables of the environment
    that count where a library is loaded.
    """
    with tempfile.TemporaryDirectory() as folder:  # a socket's path must be short
        address, program = Path(folder, "socket"), Path(folder, "python")
        program.write_text(STAND_IN.format(python=sys.executable, address=str(address)))
        program.chmod(0o755)
        command = [sys.executable, __file__, str(address), imports]
        server = subprocess.Popen(command, env=os.environ | more)
        try:
            while not address.exists():
                assert server.poll() is None, "the parent of forked pythons has died"
                time.sleep(0.05)
            yield program
        finally:
            server.terminate()
            server.wait()


def _main(address: str, imports: str) -> None:
    exec(imports, {})
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are nobody's to wait for
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(f"{address}.new")
        door.listen()
        Path(f"{address}.new").rename(address)  # there once it answers
        while True:
            caller, _ = door.accept()
            if os.fork() == 0:
                door.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _child(caller)
            caller.close()


def _child(caller: socket.socket) -> None:
    signal.alarm(SECONDS)
    code = 70
    try:
        _, streams, _, _ = socket.recv_fds(caller, 1, 3)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        job = json.loads(caller.makefile().readline())
        os.chdir(job["cwd"])
        os.environ.clear()
        os.environ.update(job["env"])
        sys.executable = job["executable"]
        code = _run(job["argv"])
    except SystemExit as error:
        code = int(error.code) if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # noqa: BLE001  # whatever it was, the caller is to see it
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        caller.sendall(f"{code}\n".encode())
        os._exit(code)


def _run(argv: list[str]) -> int:
    kind, *rest = argv[1:] if argv[0] == "-u" else argv
    sys.path[0] = ""
    if kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(rest[0], {"__name__": "__main__"})
    elif kind == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [kind, *rest]
        runpy.run_path(kind, run_name="__main__")
    return 0


if __name__ == "__main__":
    _main(*sys.argv[1:])
