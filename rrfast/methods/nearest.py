"""The nearest point that was seen to change the prediction, kept by methods that walk."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from rrfast.engine import Engine
from rrfast.methods.boundary import distance_between, flipped_to, lead_of, of_samples
from rrfast.methods.method import Estimate
from rrfast.ops import accumulate_dtype

#: How far beyond the root the search tries, as a fraction of the way to the far end of the bracket.
LEANING = 0.1


class Seen(NamedTuple):
    """The nearest point that was seen to change the prediction."""

    point: Tensor  #: [B, ...]; x where there is none
    distance: Tensor  #: [B], infinite where there is none
    lead: Tensor  #: [B], lead of the prediction over the other classes
    rival: Tensor  #: [B] int64, the class predicted there; the runner-up at x where there is none

    @classmethod
    def at(cls, x: Tensor, margin: Tensor, runner_up: Tensor) -> Seen:
        """Nothing is known but x, which changes the prediction where it is a tie."""
        distance = torch.full_like(margin, math.inf).masked_fill(margin == 0, 0.0)
        return cls(x, distance.to(accumulate_dtype(x.dtype)), -margin, runner_up)

    def or_nearer(
        self, x: Tensor, z: Tensor, logits: Tensor, prediction: Tensor, scale: Tensor | None
    ) -> tuple[Seen, Tensor, Tensor]:
        """The nearer of this point and z; whether the prediction differs at z; the lead there."""
        other, lead = flipped_to(logits, prediction), lead_of(logits, prediction)
        flipped, distance = other >= 0, distance_between(x, z, scale)
        nearer = flipped & (distance < self.distance)
        chosen = Seen(
            torch.where(of_samples(nearer, x), z, self.point),
            torch.where(nearer, distance, self.distance),
            torch.where(nearer, lead, self.lead),
            torch.where(nearer, other, self.rival),
        )
        return chosen, flipped, lead

    def searched(
        self,
        engine: Engine,
        x: Tensor,
        prediction: Tensor,
        margin: Tensor,
        scale: Tensor | None,
        forwards: int,
    ) -> Seen:
        """Regula falsi between x and the nearest point; every trial is shifted towards the latter.

        A trial exactly at the root would often fall short of the boundary, and the point known to
        be beyond it would never come closer.
        """
        seen, end = self, self.point
        low, low_lead = torch.zeros_like(margin), margin
        high, high_lead = torch.ones_like(margin), self.lead
        for _ in range(forwards):
            root = low + (high - low) * low_lead / (low_lead - high_lead)
            trial = root + LEANING * (high - root)
            z = between(x, end, trial)
            seen, flipped, lead = seen.or_nearer(x, z, engine.forward(z), prediction, scale)
            low, low_lead = torch.where(flipped, low, trial), torch.where(flipped, low_lead, lead)
            high, high_lead = (
                torch.where(flipped, trial, high),
                torch.where(flipped, lead, high_lead),
            )
        return seen


class Walked(NamedTuple):
    """What a walk has found, and prediction and margin at its start."""

    seen: Seen
    prediction: Tensor  #: [B] int64, at x
    margin: Tensor  #: [B], at x
    undefined: Tensor  #: [B] bool: some step was NaN

    def estimate(self) -> Estimate:
        """The distance of the nearest point; NaN if there is none and some step was NaN."""
        upper = self.seen.distance.to(self.margin.dtype)
        radius = upper.masked_fill(self.undefined & upper.isinf(), math.nan)
        return Estimate(radius, self.prediction, self.seen.rival, torch.zeros_like(upper), upper)


def between(x: Tensor, z: Tensor, share: float | Tensor) -> Tensor:
    """(1 - share) x + share z, in the accumulation dtype, and rounded to that of x."""
    dtype = accumulate_dtype(x.dtype)
    if isinstance(share, Tensor):
        share = of_samples(share, x).to(dtype)
    return torch.lerp(x.to(dtype), z.to(dtype), share).to(x.dtype)
