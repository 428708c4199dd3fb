"""The machine: a description for the head of results, and the threads of torch."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

import rrfast


def machine(device: torch.device) -> dict[str, Any]:
    """Device, processor, threads, versions, date, and what runs the ops there."""
    cuda = device.type == "cuda"
    versions = {
        "rrfast": rrfast.__version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }
    if cuda:
        versions["CUDA"] = str(torch.version.cuda)
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "device": torch.cuda.get_device_name(device) if cuda else f"CPU ({processor()})",
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "versions": versions,
        "kernels": {op: kind[device.type] for op, kind in rrfast.config()["ops"].items()},
    }


def processor() -> str:
    """The CPU's model name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@contextlib.contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Let torch use this many CPU threads inside; None: as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
