"""Random numbers by what they are for: every use has a stream of its own, and no two share one."""

from __future__ import annotations

from enum import IntEnum, unique

import numpy as np


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
