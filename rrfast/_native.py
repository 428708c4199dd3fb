"""Loads the compiled libraries and records the status of each.

The ops exist without them: `rrfast.ops` defines every op with its reference. A library only adds
the faster kernels of one device.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import json
import sys
import warnings
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from rrfast import _capability

PACKAGE = Path(__file__).parent


class Status(NamedTuple):
    """The status of one library.

    `absent`: this install does not have the file. `loaded`: its kernels are registered. `skipped`:
    the file exists, but this torch cannot use it. `uncovered`: the file exists, but was not built
    for some GPU of this machine; the kernels serve all GPUs, so all must be covered. `failed`: the
    file exists but could not be loaded; `reason` is the loader's error.
    """

    state: Literal["absent", "loaded", "skipped", "uncovered", "failed"]
    reason: str = ""


@functools.cache
def load() -> dict[str, Status]:
    """Load `librrfast_cpu.so` and `librrfast_cuda.so`, once.

    Returns:
        The status of each library, by its device: `"cpu"`, `"cuda"`.

    Warns:
        RuntimeWarning: A library exists but does not load, or does not run on a GPU of this
            machine; the reference then runs in its place.

    Example:
        >>> sorted(load())
        ['cpu', 'cuda']
    """
    libraries = {device: _load(device) for device in ("cpu", "cuda")}
    failed = {
        d: status for d, status in libraries.items() if status.state in ("failed", "uncovered")
    }
    if failed:
        warnings.warn(_complaint(failed), RuntimeWarning, stacklevel=2)
    return libraries


def build_info() -> dict[str, object] | None:
    """Versions, compiler, instruction sets, CUDA architectures; None in a pure-Python install.

    Example:
        >>> info = build_info()
        >>> info is None or "version" in info
        True
    """
    path = PACKAGE / "_build.json"
    if not path.exists():
        return None
    build: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    return build


def describe_build() -> str:
    """`build_info` in one line.

    Example:
        >>> len(describe_build().splitlines())
        1
    """
    build: Any = build_info()
    if build is None:
        return "pure Python"
    architectures = ", ".join(build["cuda_architectures"])
    return (
        f"{build['compiler']} ({', '.join(build['instruction_sets'])}); "
        + (f"CUDA {build['cuda']} for {architectures}; " if build["cuda"] else "no CUDA; ")
        + f"torch {build['torch_headers']} headers, for torch >= {build['torch_target']}"
    )


def kernel_attributes() -> dict[str, dict[str, int]]:
    """Registers, shared and local bytes and the largest block of every CUDA kernel, by its name.

    On the current device; empty without CUDA kernels, a RuntimeError without a device.
    """
    if load()["cuda"].state != "loaded":
        return {}
    attributes = ctypes.CDLL(str(PACKAGE / "librrfast_cuda.so")).rrfast_kernel_attributes
    attributes.restype = ctypes.c_char_p
    text = attributes().decode()
    if not text.startswith("{"):
        raise RuntimeError(f"kernel_attributes: {text}")
    found: dict[str, dict[str, int]] = json.loads(text)
    return found


def _load(device: str) -> Status:
    library = PACKAGE / f"librrfast_{device}.so"
    if not library.exists():
        return Status("absent", _absence(device))
    if device == "cuda" and torch.version.cuda is None:
        return Status("skipped", f"torch {torch.__version__} is built without CUDA")
    if device == "cuda" and (reason := _uncovered()):
        return Status("uncovered", reason)
    try:
        torch.ops.load_library(library)
    except (OSError, RuntimeError) as error:
        return Status("failed", str(error.__cause__ or error))  # torch wraps the loader's error
    return Status("loaded")


def _uncovered() -> str:
    """The GPUs without kernels and what to do; empty if all are covered."""
    build: Any = build_info() or {}
    architectures = build.get("cuda_architectures", [])
    gpus = _capability.uncovered(architectures) if architectures else []
    if not gpus:
        return ""
    own = sorted({"{}{}-real".format(*gpu.capability) for gpu in gpus})
    return (
        f"built for {', '.join(architectures)}, and not for {', '.join(map(str, gpus))}: build "
        f"with RRFAST_CUDA_ARCHITECTURES='{';'.join([*own, *architectures])}', or leave the GPU "
        "out by CUDA_VISIBLE_DEVICES"
    )


def _absence(device: str) -> str:
    note = PACKAGE / "_build_note.txt"
    if note.exists():
        return note.read_text().strip()
    if device == "cuda" and build_info() is not None:
        return "built without CUDA kernels (no working nvcc, or RRFAST_CUDA=off)"
    return "a pure-Python install (RRFAST_BUILD=off)"


def _complaint(failed: dict[str, Status]) -> str:
    errors = "\n".join(f"  librrfast_{name}.so: {status.reason}" for name, status in failed.items())
    return (
        f"rrfast has {' and '.join(failed)} kernels that do not run here, so the reference runs "
        f"in their place: the same results, slower.\n{errors}\n"
        f"  here: torch {torch.__version__}, Python {sys.version.split()[0]}\n"
        f"  build: {describe_build()}\n"
        f"  to mend it: {_reinstall()}"
    )


def _reinstall() -> str:
    """The command that rebuilds this install for this torch."""
    from urllib.parse import urlsplit  # here, because it takes a fifth of rrfast's own import
    from urllib.request import url2pathname

    try:
        record = importlib.metadata.distribution("rrfast").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        record = None
    origin = json.loads(record or "{}")
    source = url2pathname(urlsplit(origin["url"]).path) if "url" in origin else "rrfast"
    editable = "-e " if origin.get("dir_info", {}).get("editable") else ""
    return (
        f"RRFAST_BUILD=required {sys.executable} -m pip install --no-build-isolation --no-deps "
        f"--force-reinstall {editable}{source}"
    )
