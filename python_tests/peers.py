"""Attack libraries to compare with, where they are installed.

    pip install --no-deps adv-lib==0.2.8 torchattacks==3.5.1

Without their dependencies: both ask for torchvision, whose wheel must match torch's build, and
torchattacks for a `requests` of 2020. The attacks use none of that, but the packages import it.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType
from unittest import mock

import pytest
from torch import Tensor, nn

#: What the packages import for other ends: a perceptual distance, plots, progress bars.
UNUSED = ("torchvision", "visdom", "tqdm")


@contextlib.contextmanager
def stand_ins() -> Iterator[None]:
    """Empty modules in place of those of `UNUSED` that do not import, for the time inside.

    An attack that used one after all would fail on it, or compare a mock with a number.
    """
    missing = []
    for name in UNUSED:
        try:
            importlib.import_module(name)
        except (ImportError, RuntimeError):  # the latter from a torchvision for another torch
            sys.modules[name] = mock.NonCallableMagicMock(spec=ModuleType, models=None, tqdm=None)
            missing.append(name)
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]


def peer(name: str) -> ModuleType:
    """The module, or a skip where its package is not installed."""
    with stand_ins(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what old code says to new Pythons
        return pytest.importorskip(name, reason=f"{name} is not installed")


def distance_of(model: nn.Module, x: Tensor, adversarial: Tensor) -> Tensor:
    """The distance of a peer's points: infinite where the prediction is still the same."""
    fooled = model(adversarial).argmax(dim=1) != model(x).argmax(dim=1)
    distance = (adversarial - x).flatten(1).abs().amax(dim=1)
    return distance.masked_fill(~fooled, math.inf)
