"""GPUs of this machine, and a check that the compiled CUDA kernels run on them.

The check runs at import, so it must not initialise CUDA: a process that has done so can no longer
fork. NVML lists the GPUs without initialising CUDA.
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
    """Whether code for these architectures, in CMake's notation, runs on a GPU.

    Machine code runs on GPUs of the same generation with the same or a later minor version. PTX is
    included unless the name ends in `-real`; the driver compiles it for all newer GPUs. Code with
    the suffix `a` runs on exactly that GPU, with `f` on its generation. `native` and `all` count as
    covering every GPU, because the build chose them.

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
    """The GPUs of this process on which code for these architectures does not run.

    CUDA is initialised only if some GPU of the machine is not covered: which GPUs the process may
    use depends on `CUDA_VISIBLE_DEVICES`, among others.
    """
    if all(covers(architectures, gpu.capability) for gpu in of_machine()):
        return []
    return [gpu for gpu in of_process() if not covers(architectures, gpu.capability)]


def of_machine() -> list[Gpu]:
    """All GPUs according to NVML; none if NVML is missing."""
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
        # 0 is success; a GPU that NVML has lost cannot run a kernel.
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
