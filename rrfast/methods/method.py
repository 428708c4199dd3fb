"""The contract of a method: what it takes and returns."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

from torch import Tensor

from rrfast import ops
from rrfast.engine import Engine, SeedOf
from rrfast.ops import naive_direction_seed

#: `"paper"`: the papers, put right (docs/errata.md). `"released"`: the published code's numbers.
Compat = Literal["paper", "released"]


class Estimate(NamedTuple):
    """A radius and what was learned beside it; no lower and upper where nothing was bracketed."""

    radius: Tensor  #: [B]
    prediction: Tensor  #: [B] int64
    rival: Tensor  #: [B] int64, the class on the other side; anything where no radius was found
    lower: Tensor | None = None  #: [B]
    upper: Tensor | None = None  #: [B]


class Method(Protocol):
    """A frozen dataclass: its fields are the hyper-parameters, its call is the algorithm.

    One whose call never waits for the device and makes the same launches whatever the numbers are
    says so with `capturable = True`, an attribute or a property; without, it is never captured in a
    CUDA graph.
    """

    def __call__(self, engine: Engine, x: Tensor) -> Estimate:
        """The radius of every sample of `x`, which is detached and not empty."""


def seed_of(compat: Compat) -> SeedOf:
    """The cotangent `compat` asks for: the stable one, or the cross-entropy's (errata 4)."""
    return ops.direction_seed if compat == "paper" else naive_direction_seed


def check_compat(compat: object) -> None:
    """Raise a ValueError if `compat` is neither "paper" nor "released"."""
    if compat not in ("paper", "released"):
        raise ValueError(f"compat must be 'paper' or 'released', got {compat!r}")
