"""The device of a command."""

from __future__ import annotations

import os

import torch


def chosen_device(given: str | torch.device | None) -> torch.device:
    """The device of this process.

    Args:
        given: Such as "cpu", "cuda" or "cuda:1"; None: CUDA if available, else the CPU.

    Returns:
        The device; for "cuda" under torchrun the GPU of this process.

    Raises:
        ValueError: It is not a device, or this machine does not have it.

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
