"""The processes and devices of a training."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch

from rrfast.train.settings import Training

__all__ = ["Fabric", "is_first_process", "make_fabric"]

if TYPE_CHECKING:
    from lightning_fabric import Fabric
else:
    Fabric = Any  # the class takes seconds to import, and only a training needs it


def make_fabric(training: Training) -> Fabric:
    """The processes that `torchrun` started, or this one; on CUDA if available."""
    import lightning_fabric

    from rrfast.train.precision import precision_options

    if torch.distributed.is_torchelastic_launched():
        local, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
        fabric = lightning_fabric.Fabric(
            devices=local,
            num_nodes=world // local,
            strategy="ddp",
            **precision_options(training.precision),
        )
    else:
        fabric = lightning_fabric.Fabric(devices=1, **precision_options(training.precision))
    fabric.launch()
    return fabric


def is_first_process() -> bool:
    """Whether this is the process that writes and prints."""
    group = torch.distributed
    return not group.is_initialized() or group.get_rank() == 0
