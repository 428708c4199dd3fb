"""Builds the compiled parts of rrfast: pip's side of CMakeLists.txt. The rest is in pyproject.toml.

Environment:
    RRFAST_BUILD               auto (default: pure Python where no compiler works) | off | required
    RRFAST_CUDA                auto (default: where nvcc is) | off | on (or the install fails)
    RRFAST_CUDA_ARCHITECTURES  CMake's list; default 80-real;90-real;100
    CMAKE_ARGS, MAX_JOBS       further arguments for CMake; how many jobs at once
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError


def knob(name: str, *choices: str) -> str:
    value = os.environ.get(name) or choices[0]
    if value not in choices:
        raise SystemExit(f"{name} is {value!r}; expected one of: {', '.join(choices)}.")
    return value


def matching(name: str, pattern: str, expected: str) -> str:
    value = os.environ.get(name, "")
    if value and not re.fullmatch(pattern, value):
        raise SystemExit(f"{name} is {value!r}; expected {expected}.")
    return value


BUILD = knob("RRFAST_BUILD", "auto", "off", "required")
CUDA = knob("RRFAST_CUDA", "auto", "off", "on")
ARCHITECTURE = r"([0-9]+[af]?(-real|-virtual)?|native|all|all-major)"
ARCHITECTURES = matching(
    "RRFAST_CUDA_ARCHITECTURES",
    rf"{ARCHITECTURE}(;{ARCHITECTURE})*",
    "a list such as 80-real;90-real;100, or native",
)
JOBS = matching("MAX_JOBS", r"[1-9][0-9]*", "a positive number of parallel jobs")
if BUILD == "off" and CUDA == "on":
    raise SystemExit(
        "RRFAST_BUILD=off builds nothing and RRFAST_CUDA=on insists; unset one of them."
    )


class CMakeBuild(build_ext):
    """Has CMake build every library into the package: for an editable install, the source tree."""

    def run(self) -> None:
        package = Path("rrfast") if self.inplace else Path(self.build_lib, "rrfast")
        package.mkdir(parents=True, exist_ok=True)
        for stale in self.results(package):
            stale.unlink()
        # Unless somebody insists, a failing nvcc must not cost the CPU kernels, nor a failing
        # compiler the install.
        for cuda in ["auto", "off"] if CUDA == "auto" else [CUDA]:
            try:
                self.cmake(package, cuda)
                return
            except (OSError, subprocess.CalledProcessError) as error:
                reason = self.explain(error)
                print(f"rrfast: with RRFAST_CUDA={cuda}, {reason}", file=sys.stderr)
                (package / "_build_note.txt").write_text(f"{reason}\n")
                if BUILD == "required" or CUDA == "on":
                    knobs = f"RRFAST_BUILD={BUILD}, RRFAST_CUDA={CUDA}"
                    raise CompileError(f"{knobs} insists on a build: {reason}") from error
        print(f"rrfast: pure Python, the same results but slower: {reason}", file=sys.stderr)

    def cmake(self, package: Path, cuda: str) -> None:
        # An environment that is not activated has its cmake and ninja beside python, off the PATH.
        path = os.pathsep.join([os.environ.get("PATH", os.defpath), sysconfig.get_path("scripts")])
        cmake = shutil.which("cmake", path=path)
        if cmake is None:
            raise FileNotFoundError("cmake was not found (pip install 'cmake>=3.24' ninja)")
        options = {
            "CMAKE_BUILD_TYPE": "Release",
            "Python_EXECUTABLE": sys.executable,
            "RRFAST_CUDA": cuda,
            "RRFAST_CUDA_ARCHITECTURES": ARCHITECTURES,
        }
        configure = [cmake, "--fresh", "-S", ".", "-B", self.build_temp]
        if ninja := shutil.which("ninja", path=path):
            configure += ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
        configure += [f"-D{name}={value}" for name, value in options.items()]
        configure += shlex.split(os.environ.get("CMAKE_ARGS", ""))
        subprocess.run(configure, check=True, stderr=subprocess.PIPE, text=True)
        jobs = ["--parallel", JOBS] if JOBS else []
        subprocess.run([cmake, "--build", self.build_temp, *jobs], check=True)
        subprocess.run([cmake, "--install", self.build_temp, "--prefix", package], check=True)

    @staticmethod
    def explain(error: OSError | subprocess.CalledProcessError) -> str:
        if isinstance(error, OSError):
            return str(error)
        print(error.stderr or "", file=sys.stderr)
        indented = r"^CMake Error.*\n((?:\s*\n|\s+\S.*\n)+)"
        message = re.search(indented, error.stderr or "", re.MULTILINE)
        if not message:
            return "the compiler failed (pip install -v shows its errors)"
        return re.split(r"(?<=\.) ", " ".join(message[1].split()))[0]

    @staticmethod
    def results(package: Path) -> list[Path]:
        names = ("librrfast_*.so", "_build.json", "_build_note.txt")
        return [path for name in names for path in package.glob(name)]

    def get_outputs(self) -> list[str]:
        return [] if self.inplace else [*map(str, self.results(Path(self.build_lib, "rrfast")))]

    def get_output_mapping(self) -> dict[str, str]:
        return {}


class AnyPython(bdist_wheel):
    """The libraries know nothing of Python: one wheel serves all of its versions."""

    def get_tag(self) -> tuple[str, str, str]:
        *_, platform = super().get_tag()
        return "py3", "none", platform


setup(
    # The one extension stands for all that CMake builds: it makes the wheel a platform wheel.
    ext_modules=[] if BUILD == "off" else [Extension("rrfast.librrfast_cpu", sources=[])],
    cmdclass={"build_ext": CMakeBuild, "bdist_wheel": AnyPython},
)
