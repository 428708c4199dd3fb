"""scikit-learn's handwritten digits, which need no download."""

from __future__ import annotations

from typing import NamedTuple

import torch

from rrfast._checks import check_integer, check_number, check_seed
from rrfast._errors import require
from rrfast._seeds import seeded
from rrfast.data.split import Split


class Digits(NamedTuple):
    """Three disjoint splits that together are the whole data set."""

    train: Split
    validation: Split
    test: Split


def digits(
    seed: int = 0, *, noise: float = 0.15, train: int = 400, validation: int = 200
) -> Digits:
    """The 1797 digits of scikit-learn as a task with enough errors to detect.

    On clean images and with most of them for training, a small CNN is right on nearly all, and
    there is nothing to detect. With Gaussian pixel noise and 400 training images,
    `rrfast.models.digits_cnn` is wrong on 4 to 6 per cent of the 1197 test images.

    The seed decides both the split and the noise; every seed is another draw of the task. The
    global random state is neither used nor changed.

    Args:
        seed: An integer from -2**63 to 2**64 - 1.
        noise: Standard deviation of the pixel noise, where 1 is the full range of a pixel; the
            result is clipped to [0, 1]. All splits get this noise, drawn once.
        train: Number of training images. Images are assigned at random, whatever their labels.
        validation: Number of validation images; the rest is the test split.

    Returns:
        Digits(train, validation, test), each a Split(x [n, 1, 8, 8] float32 in [0, 1], y [n]).

    Raises:
        ImportError: scikit-learn is not installed.
        TypeError: `seed`, `train` or `validation` is not an integer, or `noise` not a number.
        ValueError: `noise` is negative or not finite, a size is negative, or nothing is left to
            test on.

    Source: `sklearn.datasets.load_digits`, the test part of the UCI "Optical Recognition of
    Handwritten Digits" (Alpaydin & Kaynak 1998).

    Example:
        >>> train, validation, test = digits(seed=0)
        >>> test.x.shape, test.y.shape
        (torch.Size([1197, 1, 8, 8]), torch.Size([1197]))
    """
    check_seed("seed", seed)
    check_integer("train", train, least=0)
    check_integer("validation", validation, least=0)
    check_number("noise", noise, least=0)
    require("rrfast.data.digits", "sklearn.datasets", "scikit-learn")
    # Imported here, because it is optional and takes longer to import than the rest of rrfast.
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = torch.tensor(bunch.images, device="cpu", dtype=torch.float32).unsqueeze(1) / 16
    y = torch.tensor(bunch.target, device="cpu", dtype=torch.int64)
    if train + validation >= len(y):
        raise ValueError(
            f"train and validation must leave some of the {len(y)} images to test on, got {train} "
            f"and {validation}"
        )
    generator = seeded(seed)
    order = torch.randperm(len(y), generator=generator, device="cpu")
    disturbance = torch.randn(x.shape, generator=generator, device="cpu", dtype=torch.float32)
    x = (x + noise * disturbance).clamp(0, 1)
    parts = order[:train], order[train : train + validation], order[train + validation :]
    return Digits(*(Split(x[part], y[part]) for part in parts))
