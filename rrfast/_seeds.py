"""Random numbers: one stream per use, derived from a seed, and draws shared among processes."""

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
    """What a stream of random numbers is for; a new use takes a number that is not here yet.

    Another number is another draw: results that were made with the one are not repeated with it.
    """

    ORDER = 0  #: of the images of an epoch
    STEP = 1  #: of a training: dropout, Mixup, starts of attacks
    AUGMENT = 2
    READ = 3  #: of images, by data that draw as they are read
    DIVIDE = 100  #: a test set into what is tuned on and what is tested on
    HALVE = 101  #: what is tuned on into what fits a score and what tunes it
    CORRUPT = 102
    CHOOSE = 103  #: so many of the images of a set
    ATTACK = 104  #: of `--protocol robust`
    DISTAL = 105  #: attacks of `--protocol distal`
    SHARE = 106  #: of the images of a release, to train on
    OUTSIDE_TUNED = 107  #: images of `--protocol ood` to tune on
    OUTSIDE_TESTED = 108  #: others of the same kind, to test on
    OUTSIDE_ATTACKED = 109  #: attacks from either, batch by batch
    SCALED_NOISE = 110


def stream(seed: int, use: Stream, *key: int) -> int:
    """A seed of 63 bits for every use and key, independent of those of all others.

    Example:
        >>> stream(0, Stream.STEP, 5, 7) == stream(0, Stream.STEP, 7, 5)
        False
    """
    return int(np.random.SeedSequence([seed, use, *key]).generate_state(1, np.uint64)[0] >> 1)


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


@contextlib.contextmanager
def globally_seeded(seed: int) -> Iterator[None]:
    """Inside, torch's, NumPy's and Python's generators are seeded; after it, as they were."""
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  # where the transforms of others draw
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        random.setstate(before[2])
