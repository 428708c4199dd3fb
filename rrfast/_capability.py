"""Whether the GPUs here run what the build compiled its CUDA kernels for.

Asked when the library is loaded, at import, so CUDA must not begin here: a process that has begun
it can no longer fork. NVML knows the GPUs without that.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from typing import NamedTuple

import torch


class Gpu(NamedTuple):
    """A GPU and its compute capability."""

    name: str
    capability: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.name} (sm_{self.capability[0]}{self.capability[1]})"


def covers(architectures: Sequence[str], capability: tuple[int, int]) -> bool:
    """Whether code for these architectures, as CMake writes them, runs on a GPU.

    Machine code runs on its own generation from its own minor version on; PTX, which stands beside
    it unless the name ends in `-real`, is compiled by the driver for all that is newer. What the
    suffix `a` marks runs on that very GPU, `f` on its generation. Of `native` and `all` no more is
    known than that the build had a reason.

    Example:
        >>> covers(["80-real", "90-real"], (8, 6)), covers(["80-real", "90-real"], (7, 5))
        (True, False)
        >>> covers(["80-real", "90"], (12, 0)), covers(["80-real", "90a"], (12, 0))
        (True, False)
    """
    for architecture in architectures:
        match = re.fullmatch(r"(\d+)(\d)([af]?)(-real|-virtual)?", architecture)
        if match is None:
            return True
        own = int(match[1]), int(match[2])
        if match[3] == "a":
            ran = capability == own
        else:
            ran = own[0] == capability[0] and own <= capability
        if ran or (not match[3] and match[4] != "-real" and own <= capability):
            return True
    return False


def uncovered(architectures: Sequence[str]) -> list[Gpu]:
    """The GPUs this process may use that code for these architectures does not run on.

    CUDA begins here only where some GPU of the machine is not covered: which of them the process
    may use, `CUDA_VISIBLE_DEVICES` and more decide.
    """
    if all(covers(architectures, gpu.capability) for gpu in of_machine()):
        return []
    return [gpu for gpu in of_process() if not covers(architectures, gpu.capability)]


def of_machine() -> list[Gpu]:
    """All GPUs, by NVML; none where it is not there."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        if nvml.nvmlInit_v2() != 0:
            return []
    except (OSError, AttributeError):
        return []
    count = ctypes.c_uint(0)
    nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
    gpus = []
    for index in range(count.value):
        device, major, minor = ctypes.c_void_p(), ctypes.c_int(), ctypes.c_int()
        name = ctypes.create_string_buffer(96)
        # 0 is success; a GPU that NVML has lost is none that runs a kernel.
        if (
            nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)) == 0
            and nvml.nvmlDeviceGetCudaComputeCapability(
                device, ctypes.byref(major), ctypes.byref(minor)
            )
            == 0
            and nvml.nvmlDeviceGetName(device, name, len(name)) == 0
        ):
            gpus.append(Gpu(name.value.decode(errors="replace"), (major.value, minor.value)))
    nvml.nvmlShutdown()
    return gpus


def of_process() -> list[Gpu]:
    """The GPUs that torch sees."""
    return [
        Gpu(torch.cuda.get_device_name(index), torch.cuda.get_device_capability(index))
        for index in range(torch.cuda.device_count())
    ]
