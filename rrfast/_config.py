"""`rrfast.config()`: versions, hardware, and what runs each op on each device."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any

import torch

from rrfast import _native
from rrfast.ops import OPS


def config() -> dict[str, Any]:
    """Versions, devices, the state of the compiled libraries, and what runs each op.

    Returns:
        A dict that `json.dumps` takes:
            `rrfast`, `torch`, `python`, `platform`: versions;
            `build`: what was compiled and how, None in a pure-Python install;
            `cuda`: the CUDA version torch was built with, the driver's version, the devices;
            `libraries`: state of each and the reason for it, see `rrfast._native.Status`;
            `ops`: `{"linear_radius": {"cpu": "kernel", "cuda": "reference"}, …}`.

    Example:
        >>> import rrfast
        >>> rrfast.config()["ops"]["linear_radius"]["cpu"] in ("kernel", "reference")
        True
    """
    libraries = _native.load()
    return {
        "rrfast": importlib.metadata.version("rrfast"),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "build": _native.build_info(),
        "cuda": {"torch": torch.version.cuda, "driver": _driver(), "devices": _devices()},
        "libraries": {device: status._asdict() for device, status in libraries.items()},
        "ops": {op: {device: _answers(op, device) for device in libraries} for op in OPS},
    }


def _answers(op: str, device: str) -> str:
    own = torch._C._dispatch_has_kernel_for_dispatch_key(f"rrfast::{op}", device.upper())
    return "kernel" if own else "reference"


def _driver() -> str | None:
    from torch.utils import collect_env

    version: str | None = collect_env.get_nvidia_driver_version(collect_env.run)
    return version


def _devices() -> list[str]:
    devices = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    return [
        f"{device.name} (sm_{device.major}{device.minor}, {device.total_memory / 2**30:.0f} GiB)"
        for device in devices
    ]
