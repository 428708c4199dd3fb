"""The CUDA kernels on this machine's CPU: builds them over the emulator, and lets them fail.

    python python_tests/emulation [--sanitize] [--seed S] [--seconds T] [--build FOLDER]

The op suite runs with the emulated kernels in the place of the CPU's. `every_kernel` holds them
against the CPU's on random arguments and beyond 2^32 elements. Every mutant of `mutants` must fail.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mutants import MUTANTS, Mutant

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent))

from faults import edited  # noqa: E402 - beside the folder, which Python alone looks into

ROOT = HERE.parents[1]
CSRC = ROOT / "csrc"
#: Where CMake puts the objects of `every_kernel`.
PARTS = ("emulated_kernels.dir", "emulator.dir", "emulated_every_kernel.dir", "rrfast_cpu_")


def build(folder: Path, sanitize: bool) -> None:
    options = {
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_EXPORT_COMPILE_COMMANDS": "ON",
        "Python_EXECUTABLE": sys.executable,
        "RRFAST_CUDA": "off",
        "RRFAST_EMULATE": "ON",
        "RRFAST_SANITIZE": "ON" if sanitize else "OFF",
    }
    definitions = [f"-D{name}={value}" for name, value in options.items()]
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    extra = shlex.split(os.environ.get("CMAKE_ARGS", ""))
    subprocess.run(
        [
            "cmake",
            "-S",
            ROOT,
            "-B",
            folder,
            "--log-level=WARNING",
            *generator,
            *definitions,
            *extra,
        ],
        check=True,
    )
    targets = ["emulated_every_kernel"]
    if not sanitize:
        targets += ["emulated_launches", "rrfast_emulated"]
    jobs = os.environ.get("MAX_JOBS", str(os.cpu_count()))
    subprocess.run(
        ["cmake", "--build", folder, "--parallel", jobs, "--target", *targets],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def start_suite(folder: Path) -> subprocess.Popen[bytes]:
    """The op tests, over a package whose CPU kernels are the emulated ones."""
    package = folder / "package" / "rrfast"
    shutil.rmtree(package, ignore_errors=True)
    package.mkdir(parents=True)
    for part in (ROOT / "rrfast").iterdir():
        if not part.name.startswith("librrfast_"):
            (package / part.name).symlink_to(part)
    (package / "librrfast_cpu.so").symlink_to(next(folder.rglob("librrfast_emulated.so")))
    # What torch.compile makes of an op does not depend on its kernel.
    command = [
        sys.executable,
        "-m",
        "pytest",
        ROOT / "python_tests" / "ops",
        "-q",
        "-p",
        "no:cacheprovider",
    ]
    command += ["-p", "no:benchmark", "-k", "not compiles_to_one_graph", "-o", "addopts="]
    environment = {**os.environ, "PYTHONPATH": str(package.parent), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        cwd=package.parent,
        env=environment,
        stdout=(folder / "suite.log").open("wb"),
        stderr=subprocess.STDOUT,
    )


def every_kernel(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    program = folder / "python_tests" / "emulation" / "emulated_every_kernel"
    return subprocess.run(
        [program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def check_launches(folder: Path) -> subprocess.CompletedProcess[str]:
    """Whether the predictions of benchmarks/GPU.md are made from these launches."""
    program = folder / "python_tests" / "emulation" / "emulated_launches"
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.kernel_facts", "--check", "--program", program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def caught(mutant: Mutant, folder: Path) -> str | None:
    """How the mutant shows, or None if it survives."""
    number = MUTANTS.index(mutant)
    sources = folder / "mutants" / str(number)
    shutil.rmtree(sources, ignore_errors=True)
    shutil.copytree(CSRC, sources)
    path = sources / mutant.file
    what = (mutant.file, mutant.fault, mutant.old, mutant.new, mutant.times)
    path.write_text(edited(path.read_text(), *what))

    source = CSRC / "kernels" / f"{mutant.source or mutant.op}.cu"
    compiled = sources / "mutant.o"
    others = []
    for entry in json.loads((folder / "compile_commands.json").read_text()):
        command = shlex.split(entry["command"])
        at = command.index("-o") + 1
        if entry["file"] == str(source) and "emulated_kernels.dir" in command[at]:
            command[at] = str(compiled)
            command[command.index(str(source))] = str(sources / "kernels" / source.name)
            # Compiling costs more than the few cases that a fault takes to show.
            subprocess.run([*command, "-w", "-O0", "-g0"], cwd=entry["directory"], check=True)
        elif any(name in command[at] for name in PARTS):
            others.append(Path(entry["directory"], command[at]))
    # The mutant comes first: of an inline function in several objects the linker keeps the first.
    program = sources / "every_kernel"
    subprocess.run([os.environ.get("CXX", "c++"), compiled, *others, "-o", program], check=True)
    arguments = ["--huge"] if mutant.huge else ["--seed", 1, "--cases", 1000, mutant.op]
    with subprocess.Popen(
        [program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as running:
        for line in running.stdout or ():
            if line.startswith("FAILED"):  # one is enough
                running.kill()
                return line.strip()
    return f"status {running.returncode}" if running.returncode else None


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--sanitize", action="store_true", help="AddressSanitizer and UndefinedBehaviorSanitizer"
    )
    parser.add_argument(
        "--seed", type=int, default=int(time.time()), help="of the random cases; default: the time"
    )
    parser.add_argument("--seconds", type=float, default=60, help="of random cases")
    parser.add_argument("--build", type=Path, help="default: build/emulation, or build/sanitized")
    arguments = parser.parse_args()
    folder = (
        arguments.build or ROOT / "build" / ("sanitized" if arguments.sanitize else "emulation")
    ).resolve()
    begin = time.monotonic()

    def say(what: str) -> None:
        print(f"[{time.monotonic() - begin:4.0f} s] {what}", flush=True)

    build(folder, arguments.sanitize)
    say("built")
    suite = None if arguments.sanitize else start_suite(folder)
    failed = False
    random = ("--seed", arguments.seed, "--seconds", arguments.seconds)
    for options in (("--every", 1), random, ("--huge",)):
        ran = every_kernel(folder, *options)
        say(ran.stdout.strip())
        failed |= ran.returncode != 0
    if suite:
        checked = check_launches(folder)
        say(checked.stdout.strip())
        failed |= checked.returncode != 0
        survivors = 0
        with ThreadPoolExecutor(1) as pool:
            for mutant, how in zip(
                MUTANTS, pool.map(lambda m: caught(m, folder), MUTANTS), strict=True
            ):
                say(f"{'survived' if how is None else 'caught'}: {mutant.fault}; {how}")
                survivors += how is None
        say(f"{len(MUTANTS) - survivors} of {len(MUTANTS)} mutants caught")
        status = suite.wait()
        log = (folder / "suite.log").read_text().splitlines()
        say("\n".join(log[-40:] if status else log[-1:]))
        failed |= survivors > 0 or status != 0
    say("failed" if failed else "all passed")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
