"""What is drawn at random: by a seed, or by processes that draw each its own part of one whole."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from rrfast._checks import check_seed


def own_draws(n: int, batch: int) -> Tensor:
    """Numbers below `n` for this process's share of the joint batch: [batch] int64, on the CPU.

    From torch's default generator on the CPU. Processes that are seeded alike draw together what
    one process would draw for the joint batch, provided all shares are of one size.
    """
    world, rank = 1, 0
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        world, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
    # The device is named, because torch.set_default_device would move the draws to another one.
    return torch.randint(n, (world, batch), device="cpu")[rank]


def own_generator(device: torch.device) -> torch.Generator:
    """A generator on a device, for the numbers of this process in this step.

    Seeded by torch's default generator on the CPU: `torch.manual_seed` decides them, on one kind of
    device. Processes that are seeded alike have a seed each.
    """
    return torch.Generator(device).manual_seed(int(own_draws(2**62, 1)))


def seeded(seed: int) -> torch.Generator:
    """A generator on the CPU that the seed decides.

    Raises:
        TypeError, ValueError: `seed` is no integer, Python's or NumPy's, that a generator takes.
    """
    check_seed("seed", seed)
    return torch.Generator("cpu").manual_seed(int(seed))


@contextlib.contextmanager
def weights_by(seed: int) -> Iterator[None]:
    """Inside, the weights of new layers are decided by the seed; global random state comes back.

    Raises:
        TypeError, ValueError: As `seeded`.
    """
    check_seed("seed", seed)
    with torch.random.fork_rng(devices=[]):
        # The generator of the CPU alone: torch.manual_seed would seed the GPUs too.
        torch.default_generator.manual_seed(int(seed))
        yield
