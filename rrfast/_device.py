"""The device of a command."""

from __future__ import annotations

import os

import torch


def chosen_device(given: str | torch.device | None) -> torch.device:
    """The device of this process: "cpu", "cuda" or "cuda:1"; None: CUDA if available.

    "cuda" under torchrun is the GPU of this process. A device that this machine does not have is a
    ValueError.

    Example:
        >>> chosen_device("cpu")
        device(type='cpu')
    """
    if given is None:
        given = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(given)
    except RuntimeError as error:
        raise ValueError(f"device must be like cpu, cuda or cuda:1, got {given!r}") from error
    if device.type == "cuda" and ":" not in str(device):
        # One GPU per process of this machine.
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    if device.type == "cuda" and device.index >= torch.cuda.device_count():
        raise ValueError(
            f"device must be one that is here, got {device}, and torch sees "
            f"{torch.cuda.device_count()} GPUs"
        )
    return device
