"""The stable ABI's promise, read off the built files: one build serves every torch from 2.10."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rrfast import _native

FILES = sorted(_native.PACKAGE.glob("librrfast_*.so"))
TORCH = Path(torch.__file__).parent

pytestmark = [
    pytest.mark.skipif(not FILES, reason="a pure-Python install"),
    pytest.mark.skipif(shutil.which("nm") is None, reason="needs binutils"),
]
each = pytest.mark.parametrize("file", FILES, ids=lambda file: file.name.split(".")[0])


def tool(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def undefined(file: Path) -> list[str]:
    """What the file wants from elsewhere; weak symbols (`w`) are wants that may stay open."""
    lines = (line.split() for line in tool("nm", "-D", "--undefined-only", str(file)))
    return [symbol for kind, symbol in lines if kind == "U"]


@each
def test_wants_only_stable_symbols_of_torch(file: Path):
    system = re.compile(r".+@(GLIBC|GLIBCXX|CXXABI|GCC)_[\d.]+")
    stable = re.compile(r"(aoti_torch|torch)_[a-z0-9_]+")
    others = [symbol for symbol in undefined(file) if not system.fullmatch(symbol)]
    assert any(stable.fullmatch(symbol) for symbol in others)
    assert [symbol for symbol in others if not stable.fullmatch(symbol)] == []


@each
def test_wants_nothing_of_python(file: Path):
    """So that one wheel serves every version of it."""
    assert [symbol for symbol in undefined(file) if symbol.startswith(("Py", "_Py"))] == []


@each
def test_exports_only_what_python_calls(file: Path):
    exported = {line.split()[-1] for line in tool("nm", "-D", "--defined-only", str(file))}
    called = {"rrfast_kernel_attributes"} if file.name == "librrfast_cuda.so" else set()
    assert exported == called


@each
def test_needs_no_cuda_runtime_and_no_search_path(file: Path):
    if shutil.which("readelf") is None:
        pytest.skip("needs binutils")
    dynamic = "\n".join(tool("readelf", "-d", str(file)))
    unwanted = re.compile("libcuda|libc10|libtorch_(cuda|python)|libpython")
    needed = re.findall(r"NEEDED.*\[(.*)\]", dynamic)
    assert [name for name in needed if unwanted.match(name)] == []
    assert "RPATH" not in dynamic
    assert "RUNPATH" not in dynamic


@each
def test_names_no_path_of_the_machine_that_built_it(file: Path):
    content = file.read_bytes()
    source = Path(__file__).parents[1]
    for folder in (source, TORCH, Path(sys.prefix), Path(sys.base_prefix), Path.home()):
        assert folder == Path("/") or f"{folder}/".encode() not in content, folder
