"""Random numbers: a derived seed for each use, and draws that processes share."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from enum import IntEnum, unique

import numpy as np
import torch
from torch import Tensor

from rrfast._checks import check_seed


@unique
class Stream(IntEnum):
    """The uses of random numbers, a stream for each; a new use takes a new number.

    Do not change the numbers: with another number old results cannot be reproduced.
    """

    ORDER = 0  #: the order of images in an epoch
    STEP = 1  #: a training step: dropout, Mixup, starts of attacks
    AUGMENT = 2
    READ = 3  #: data that draw random numbers while images are read
    DIVIDE = 100  #: divide a test set into a tuning part and a tested part
    HALVE = 101  #: divide the tuning part: one half fits a score, the other tunes it
    CORRUPT = 102
    CHOOSE = 103  #: choose some images of a set
    ATTACK = 104  #: attacks of `--protocol robust`
    DISTAL = 105  #: attacks of `--protocol distal`
    SHARE = 106  #: choose some images of a release to train on
    OUTSIDE_TUNED = 107  #: images of `--protocol ood` to tune on
    OUTSIDE_TESTED = 108  #: other images of the same kind, to test on
    OUTSIDE_ATTACKED = 109  #: attacks that start from either, batch by batch
    SCALED_NOISE = 110


def derive_seed(seed: int, use: Stream, *key: int) -> int:
    """A seed of 63 bits for a use and key, independent of all others.

    Example:
        >>> derive_seed(0, Stream.STEP, 5, 7) == derive_seed(0, Stream.STEP, 7, 5)
        False
    """
    return int(np.random.SeedSequence([seed, use, *key]).generate_state(1, np.uint64)[0] >> 1)


def own_draws(n: int, batch: int) -> Tensor:
    """Random integers below `n` for this process's share of the joint batch: [batch] int64, CPU.

    They come from torch's default generator on the CPU. Processes with the same seed together draw
    what one process would draw for the joint batch, provided that all shares have the same size.
    """
    world, rank = 1, 0
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        world, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
    # Name the device, because torch.set_default_device would move the draws to another one.
    return torch.randint(n, (world, batch), device="cpu")[rank]


def own_generator(device: torch.device) -> torch.Generator:
    """A generator on a device, for the numbers of this process in this step.

    It is seeded from torch's default generator on the CPU, so `torch.manual_seed` decides the
    numbers, for one kind of device. Processes with the same seed get different generators.
    """
    return torch.Generator(device).manual_seed(int(own_draws(2**62, 1)))


def seeded(seed: int) -> torch.Generator:
    """A generator on the CPU with this seed; raises as `check_seed`."""
    check_seed("seed", seed)
    return torch.Generator("cpu").manual_seed(int(seed))


@contextlib.contextmanager
def weights_by(seed: int) -> Iterator[None]:
    """Inside, the seed decides the weights of new layers; the global random state is restored."""
    check_seed("seed", seed)
    with torch.random.fork_rng(devices=[]):
        # Only the CPU's generator: torch.manual_seed would seed the GPUs too.
        torch.default_generator.manual_seed(int(seed))
        yield


@contextlib.contextmanager
def globally_seeded(seed: int) -> Iterator[None]:
    """Seed torch's, NumPy's and Python's generators inside, and restore them afterwards."""
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  # used by other libraries' transforms
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        random.setstate(before[2])
