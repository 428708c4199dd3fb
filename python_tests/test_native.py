"""Which libraries load, and the error if one does not."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import rrfast
from rrfast import _capability, _native
from rrfast.ops import OPS

LIBRARIES = _native.load()


def run(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Python in a process of its own, with `path` before everything installed."""
    environment = os.environ | ({"PYTHONPATH": str(path)} if path else {})
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def has_kernel(op: str, key: str) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(f"rrfast::{op}", key)


def test_loading_twice_is_loading_once():
    assert _native.load() is LIBRARIES
    assert set(LIBRARIES) == {"cpu", "cuda"}
    assert all(bool(status.reason) == (status.state != "loaded") for status in LIBRARIES.values())


@pytest.mark.skipif(os.environ.get("RRFAST_BUILD") != "required", reason="no build is required")
def test_a_required_build_is_there():
    assert LIBRARIES["cpu"].state == "loaded"
    if os.environ.get("RRFAST_CUDA") == "on":
        assert (_native.PACKAGE / "librrfast_cuda.so").exists()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("op", OPS)
def test_a_loaded_library_registers_every_op(op: str, device: str):
    loaded = LIBRARIES[device].state == "loaded"
    assert has_kernel(op, device.upper()) == loaded
    assert rrfast.config()["ops"][op][device] == ("kernel" if loaded else "reference")


@pytest.mark.skipif(torch.version.cuda is None, reason="this torch is built without CUDA")
def test_the_cuda_library_loads_wherever_torch_has_cuda():
    """With or without a GPU: every symbol resolves."""
    assert LIBRARIES["cuda"].state in ("loaded", "absent"), LIBRARIES["cuda"].reason


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch has CUDA")
def test_the_cuda_library_is_left_alone_where_torch_has_no_cuda():
    assert LIBRARIES["cuda"].state in ("skipped", "absent")


def test_a_library_that_does_not_load_is_one_loud_warning(tmp_path: Path):
    broken = tmp_path / "rrfast"
    libraries = shutil.ignore_patterns("librrfast_*", "__pycache__")
    shutil.copytree(_native.PACKAGE, broken, ignore=libraries)
    (broken / "librrfast_cpu.so").write_bytes(b"no library")
    program = """if True:
        import torch, rrfast, rrfast.ops
        from rrfast import _native
        assert _native.load()["cpu"].state == "failed"
        h0, h1 = torch.tensor([[3.0, 1.0]]), torch.tensor([[2.0, 2.0]])
        print(rrfast.ops.linear_radius(h0, h1, torch.tensor([0]), alpha=0.5)[0].item())
    """
    done = run("-W", "always", "-c", program, path=tmp_path)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == 0.5  # the lines 3 - 2t and 1 + 2t meet at t = 1/2
    assert done.stderr.count("RuntimeWarning") == 1
    assert f"{broken}/librrfast_cpu.so: file too short" in done.stderr
    assert f"torch {torch.__version__}" in done.stderr
    assert f"{sys.executable} -m pip install --no-build-isolation" in done.stderr


@pytest.fixture
def built_for_ampere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CUDA library of a build for sm_80, which no loader would take, and a torch with CUDA."""
    (tmp_path / "librrfast_cuda.so").write_bytes(b"no library")
    monkeypatch.setattr(_native, "PACKAGE", tmp_path)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(_native, "build_info", lambda: {"cuda_architectures": ["80-real"]})
    monkeypatch.setattr(_native, "describe_build", lambda: "a build for sm_80")


T4, A100, A10 = (
    _capability.Gpu("Tesla T4", (7, 5)),
    _capability.Gpu("A100", (8, 0)),
    _capability.Gpu("A10", (8, 6)),
)


@pytest.mark.parametrize("here", [[T4], [A100, T4]], ids=["alone", "beside-another"])
def test_a_gpu_that_the_build_does_not_cover_is_one_warning_that_names_the_mend(
    built_for_ampere: None, monkeypatch: pytest.MonkeyPatch, here: list[_capability.Gpu]
):
    monkeypatch.setattr(_capability, "of_machine", lambda: here)
    monkeypatch.setattr(_capability, "of_process", lambda: here)
    with pytest.warns(RuntimeWarning) as warned:
        libraries = _native.load.__wrapped__()
    assert libraries["cuda"].state == "uncovered"
    (warning,) = warned
    said = str(warning.message)
    assert "built for 80-real, and not for Tesla T4 (sm_75)" in said
    assert "RRFAST_CUDA_ARCHITECTURES='75-real;80-real'" in said
    assert "CUDA_VISIBLE_DEVICES" in said


@pytest.mark.parametrize(
    ("machine", "process"),
    [([], []), ([A100, A10], [A100, A10]), ([A100, T4], [A100])],
    ids=["none", "covered", "hidden"],
)
def test_a_gpu_that_is_covered_or_hidden_stops_no_library(
    built_for_ampere: None,
    monkeypatch: pytest.MonkeyPatch,
    machine: list[_capability.Gpu],
    process: list[_capability.Gpu],
):
    monkeypatch.setattr(_capability, "of_machine", lambda: machine)
    monkeypatch.setattr(_capability, "of_process", lambda: process)
    status = _native._load("cuda")
    assert (status.state, "file too short" in status.reason) == ("failed", True)  # it was tried


@pytest.mark.parametrize(
    ("architectures", "capability", "runs"),
    [
        (["80-real", "90-real", "100"], (7, 5), False),
        (["80-real", "90-real", "100"], (8, 9), True),
        (["80-real", "90-real", "100"], (10, 3), True),
        (["80-real", "90-real", "100"], (12, 0), True),  # from PTX
        (["86-real"], (8, 0), False),
        (["80-virtual"], (9, 0), True),
        (["90a-real"], (9, 0), True),
        (["100a"], (10, 3), False),
        (["100f"], (10, 3), True),
        (["100f"], (12, 0), False),
        (["native"], (7, 5), True),
    ],
)
def test_what_code_for_an_architecture_runs_on(
    architectures: list[str], capability: tuple[int, int], runs: bool
):
    assert _capability.covers(architectures, capability) == runs


def test_without_nvml_no_gpu_is_known(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(_capability.ctypes, "CDLL", missing)
    assert _capability.of_machine() == []


def test_python_m_rrfast_says_what_runs():
    done = run("-m", "rrfast")
    assert done.returncode == 0, done.stderr
    assert rrfast.__version__ in done.stdout
    assert torch.__version__ in done.stdout
    assert all(op in done.stdout for op in OPS)
    for device, status in LIBRARIES.items():
        assert f"{device} kernels {status.state}" in done.stdout


def test_kernel_attributes():
    kernels = _native.kernel_attributes()
    assert bool(kernels) == (LIBRARIES["cuda"].state == "loaded")
    for name, kernel in kernels.items():
        assert kernel["local_bytes"] == 0, f"{name} spills"
        assert kernel["max_threads"] >= 256, name
