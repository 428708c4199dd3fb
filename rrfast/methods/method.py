"""The interface of a method: what it takes and returns."""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple, Protocol, get_args

from torch import Tensor

from rrfast._checks import check_one_of
from rrfast.engine import Engine, SeedOf
from rrfast.ops import naive_direction_seed, unchecked

#: `"paper"`: the papers, corrected (docs/errata.md). `"released"`: the published code's numbers.
Compat = Literal["paper", "released"]
#: The least radius that a doubling starts from: float32 has it.
R_MIN = 1e-30


class Estimate(NamedTuple):
    """A radius, its prediction and rival; lower and upper if the method has a bracket."""

    radius: Tensor  #: [B]
    prediction: Tensor  #: [B] int64
    rival: Tensor  #: [B] int64, the class on the other side; anything where no radius was found
    lower: Tensor | None = None  #: [B]
    upper: Tensor | None = None  #: [B]


class Method(Protocol):
    """A frozen dataclass: its fields are the hyper-parameters, its call is the algorithm.

    A method whose call never waits for the device, and launches the same kernels whatever the
    values are, has `capturable = True`, an attribute or a property. Without it the method is never
    captured in a CUDA graph.
    """

    def __call__(self, engine: Engine, x: Tensor) -> Estimate:
        """The radius of every sample of `x`, which is detached and not empty."""


def option_names(method: object) -> list[str]:
    """The options of a method, or of its class; none if it is no dataclass.

    Example:
        >>> from rrfast.methods import Grad
        >>> option_names(Grad), option_names(Grad())
        (['bounds', 'scale'], ['bounds', 'scale'])
    """
    return [f.name for f in dataclasses.fields(method)] if dataclasses.is_dataclass(method) else []


def seed_of(compat: Compat) -> SeedOf:
    """The cotangent for `compat`: the stable one, or the cross-entropy's (errata 4)."""
    return unchecked.direction_seed if compat == "paper" else naive_direction_seed


def check_compat(compat: object) -> None:
    """Raise a ValueError if `compat` is neither "paper" nor "released"."""
    check_one_of("compat", compat, get_args(Compat))
