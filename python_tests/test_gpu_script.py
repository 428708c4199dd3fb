"""benchmarks/gpu.sh, rehearsed: every line of it but for what the device itself must do.

What is not here is stood in for: nvidia-smi, compute-sanitizer, and the build, which takes minutes
(`python_tests/test_install.py` makes one). Everything else runs, on the CPU.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import forked_python
import pytest

pytest.importorskip("pytest_benchmark")

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "gpu.sh"
#: What the script starts again and again would import anew.
IMPORTS = (
    "import torch, torch._dynamo, torch.profiler, rrfast.bench, rrfast.cli, scipy.stats, "
    "matplotlib.pyplot, sklearn.datasets"
)

FAKES = {
    "nvidia-smi": """#!/bin/sh
case "$*" in
*=name\\ *) echo "NVIDIA Fake 9000" ;;
*) echo "name, clocks"; echo "NVIDIA Fake 9000, 1980 MHz" ;;
esac
""",
    # The environment and the build; what hangs until it is interrupted, and then has something.
    "python": """#!/bin/sh
case "$1 $2" in
"-m venv") for last; do :; done; mkdir -p "$last/bin" "$last/lib"; cp "$0" "$last/bin/"; exit ;;
"-m pip")
    echo "$RRFAST_BUILD $RRFAST_CUDA $RRFAST_CUDA_ARCHITECTURES $*" >>"$CALLS"
    for name in ${CMAKE_ARGS:+every_kernel emulated_every_kernel}; do
        bin=${CMAKE_ARGS##*-DCMAKE_RUNTIME_OUTPUT_DIRECTORY=}
        mkdir -p "$bin" && printf '#!/bin/sh\\necho "${0##*/} $*" >>"$CALLS"\\n' >"$bin/$name"
        chmod +x "$bin/$name"
    done
    exit 0
    ;;
"-m pytest")
    if [ -n "$HANG" ]; then
        trap 'echo interrupted; exit 1' INT
        echo hanging
        while :; do sleep 0.05; done
    fi
    ;;
esac
case "$2" in *purelib*) echo "${0%/bin/python}/lib"; exit ;; esac
exec "$FORKED" "$@"
""",
    "compute-sanitizer": """#!/bin/sh
echo "compute-sanitizer $*" >>"$CALLS"
while [ "$1" != --log-file ]; do shift; done
echo "ERROR SUMMARY: 0 errors" >"$2"
shift 2
exec "$@"
""",
}


@pytest.fixture(scope="module")
def fakes() -> Iterator[Path]:
    """A folder of programs, and a python that takes no time to start."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for program, text in FAKES.items():
            (folder / program).write_text(text)
            (folder / program).chmod(0o755)
        with forked_python.python(IMPORTS) as forked:
            (folder / "forked").symlink_to(forked)
            yield folder


class Machine:
    """A machine that the script runs on, and what it left there."""

    def __init__(self, fakes: Path, folder: Path) -> None:
        self.folder, self._fakes = folder, fakes
        self.out, self.results = folder / "out", folder / "results"

    def start(self, stages: str, **variables: object) -> subprocess.Popen[str]:
        # In a worker of pytest-xdist pytest-benchmark measures nothing.
        outside = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
        environment = {
            **outside,
            "PATH": f"{self._fakes}:{os.environ['PATH']}",
            "FORKED": str(self._fakes / "forked"),
            "CALLS": str(self.folder / "calls"),
            "PYTHON": "python",
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "DEVICE": "cpu",
            "STAGES": stages,
            "OUT": str(self.out),
            "RESULTS": str(self.results),
            "WORK": str(self.folder / "work"),
            "SECONDS_PER_CASE": "0.001",
            "PROCESSES": "1",
            "HANG": "",
            "WHEELS": "",
            **{name: str(value) for name, value in variables.items()},
        }
        return subprocess.Popen(
            ["bash", str(SCRIPT)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, stages: str, **variables: object) -> tuple[int, str]:
        process = self.start(stages, **variables)
        said, _ = process.communicate(timeout=600)
        return process.returncode, said

    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()

    def archived(self, stage: str) -> set[str]:
        """The files of an archive, which all are among the results."""
        with tarfile.open(self.out / f"gpu-{stage}.tar.gz") as archive:
            names = {member.name for member in archive if member.isfile()}
            for name in names:
                file = archive.extractfile(name)
                assert file is not None
                assert (self.results / name).read_bytes() == file.read()
        (device,) = {name.partition("/")[0] for name in names}
        assert re.fullmatch("[a-z0-9-]+", device)
        return {name.partition("/")[2] for name in names}

    def result(self, name: str) -> str:
        (path,) = self.results.glob(f"*/{name}")
        return path.read_text()


@pytest.fixture
def machine(fakes: Path, tmp_path: Path) -> Machine:
    return Machine(fakes, tmp_path)


def test_the_first_call(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "needed-1.0.whl").touch()
    code, said = machine.run(
        "build test sanitize", TESTS="python_tests/test_augment.py", WHEELS=tmp_path / "wheels"
    )
    assert code == 0, said
    wheels, build, *checks = machine.calls()
    assert wheels.endswith(f"--no-deps {tmp_path}/wheels/needed-1.0.whl")
    assert build.startswith("required off native -m pip ")
    assert build.endswith("-e .")
    assert "site-packages" in (tmp_path / "work" / "venv" / "lib" / "base.pth").read_text()
    program = "emulated_every_kernel"
    assert checks[:2] == [f"{program} --every 1", f"{program} --huge"]
    tools = [check.split()[2] for check in checks[2::2]]
    assert tools == ["memcheck", "racecheck", "synccheck", "initcheck"]
    assert set(checks[3::2]) == {f"{program} --every 1"}
    assert machine.archived("build") == {"gpu-build.txt"}
    assert machine.archived("test") == {"gpu-test.txt", "test.xml"}
    reports = {f"sanitize-{tool}.txt" for tool in tools}
    assert machine.archived("sanitize") == {"gpu-sanitize.txt", *reports}
    assert "rrfast" in machine.result("gpu-build.txt")  # what `python -m rrfast` says
    assert "1980 MHz" in machine.result("gpu-test.txt")
    assert re.search(r"\b\d+ passed", machine.result("gpu-test.txt")), said


@pytest.mark.parametrize(
    ("stages", "options", "files"),
    [
        ("ops", "--no-compile -k 128x10-float32", {"ops": {"ops.json", "ops.md"}}),
        ("radius", "-k bench_radius[fast-small]", {"radius": {"radius.json", "radius.md"}}),
        (
            "bench rat",
            "-k digits_cnn-gradients",
            {"bench": None, "rat": {"rat.json", "rat.md", "step_memory.md"}},
        ),
    ],
    ids=["ops", "radius", "bench and rat"],
)
def test_the_second_call(
    machine: Machine, stages: str, options: str, files: dict[str, set[str] | None]
) -> None:
    processes = 2 if stages == "ops" else 1  # what is compiled at first takes several
    code, said = machine.run(stages, BENCHMARK_OPTIONS=options, PROCESSES=processes)
    assert code == 0, said
    assert len(machine.calls()) == 1  # on a machine without one a build comes first
    for stage, expected in files.items():
        there = machine.archived(stage)
        if expected is None:
            assert "bench-digits_cnn/bench.json" in there
        else:
            assert there == {f"gpu-{stage}.txt", *expected}
    if stages == "ops":
        results = json.loads(machine.result("ops.json"))
        measured = [entry["op"] for entry in results["benchmarks"]]
        assert measured[:2] == ["direction_seed", "linear_radius"]  # the most important first


def test_what_hangs_costs_no_other_stage_its_results(machine: Machine) -> None:
    code, said = machine.run("test sanitize", HANG="yes", TEST_LIMIT=6)
    assert code == 1
    assert said.endswith("\nFailed: test\n")
    machine.archived("build")
    machine.archived("sanitize")
    machine.archived("test")
    log = machine.result("gpu-test.txt")
    assert "interrupted" in log
    assert "test ran past its 6 s" in log


def test_what_is_told_to_stop_packs_what_it_has(machine: Machine) -> None:
    process = machine.start("test sanitize", HANG="yes")
    assert process.stdout is not None
    for line in process.stdout:
        if line == "hanging\n":
            break
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "== sanitize" not in said
    machine.archived("test")
    assert "interrupted" in machine.result("gpu-test.txt")


def test_the_time_is_shared_out(machine: Machine) -> None:
    code, said = machine.run("test", LIMIT=15)
    assert code == 1
    assert said.splitlines()[-1] == "Failed: build test"
    assert "== test: no time is left for it" in said


def test_a_machine_with_a_gpu(machine: Machine) -> None:
    """The kernels that this one lacks are missed, and what needs no torch goes on."""
    code, said = machine.run("build sanitize", DEVICE="cuda")
    assert code == 1
    assert said.endswith("\nFailed: build\n")
    assert "AssertionError" in said
    assert machine.calls()[0].startswith("required on native ")
    assert machine.calls()[1:3] == ["every_kernel --every 1", "every_kernel --huge"]
    assert (machine.results / "nvidia-fake-9000" / "sanitize-racecheck.txt").exists()


@pytest.mark.parametrize(
    ("stages", "device", "sentence"),
    [
        ("build steps", "cpu", "STAGES has 'steps'; expected some of: build test sanitize ops"),
        ("build", "cuda", "nvidia-smi shows no GPU; DEVICE=cpu rehearses without one"),
    ],
)
def test_what_cannot_be_is_said(
    machine: Machine, tmp_path: Path, stages: str, device: str, sentence: str
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    (tmp_path / "bin" / "nvidia-smi").chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    code, said = machine.run(stages, DEVICE=device, PATH=path)
    assert code == 2
    assert said.startswith(sentence)


def test_every_file_with_tests_for_a_gpu_is_named() -> None:
    """By what pytest has of them: a test with a device, and a mark that asks for one."""
    pattern = re.search("^has_gpu_tests='(.*)'$", SCRIPT.read_text(), re.MULTILINE)
    assert pattern
    named = subprocess.run(
        ["grep", "-rlE", "--include=test_*.py", pattern[1], "python_tests"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    for file in (ROOT / "python_tests").rglob("test_*.py"):
        text = file.read_text(encoding="utf-8")
        takes = re.search(r"^ *def test_\w+\([^)]*\bdevice\b", text, re.MULTILINE | re.DOTALL)
        if takes or "cuda.is_available" in text:
            assert str(file.relative_to(ROOT)) in named, file
    assert len(named) < 30
