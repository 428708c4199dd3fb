"""The contestants of a benchmark: MSR, the released loop, and every method."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import rrfast
from rrfast._turns import Timed, Turns
from rrfast.engine import output_logits
from rrfast.methods import RadiusResult

#: Number of radii that the released code tries.
ITERATIONS = 24


class Outcome(NamedTuple):
    """The result of one call; passes are per sample."""

    score: Tensor  #: [B], larger = more confident
    prediction: Tensor  #: [B] int64
    forwards: float
    backwards: float
    upper: Tensor | None = None  #: [B], radii that were seen to flip; None if none was tried


Contestant = Callable[[Tensor], Outcome]


def method(model: nn.Module, name: str, **options: Any) -> Contestant:
    """`rrfast.radius` with a method and its options."""

    def call(x: Tensor) -> Outcome:
        return outcome(rrfast.radius(model, x, method=name, full_output=True, **options))

    return call


def outcome(result: RadiusResult) -> Outcome:
    """The outcome of a `RadiusResult`."""
    return Outcome(
        result.radius, result.prediction, result.forwards, result.backwards, result.upper
    )


def autocast(contestant: Contestant, dtype: torch.dtype) -> Contestant:
    """The contestant under autocast, with its input unchanged; float32 means without autocast."""

    def call(x: Tensor) -> Outcome:
        with torch.autocast(x.device.type, dtype):
            return contestant(x)

    return contestant if dtype == torch.float32 else call


def msr(model: nn.Module) -> Contestant:
    """The bare forward and a softmax, in float64, ranked as by `rrfast.scores.MSR`: 1 F."""

    def call(x: Tensor) -> Outcome:
        with torch.no_grad():
            confidence, prediction = output_logits(model(x)).double().softmax(dim=1).max(dim=1)
        return Outcome(confidence, prediction, 1.0, 0.0)

    return call


def naive_loop(model: nn.Module, box: tuple[float, float] | None = None) -> Contestant:
    """RR-BS as in the released code: 49 F + 24 B.

    Each of the 24 radii costs a new attack: a forward, the gradient of the cross-entropy, and a
    forward at the attack's result. Parameters are not frozen, but the gradient is taken only with
    respect to the input, so no weight gradients are computed. Its clamp, to [0, 1], is left out
    without `box`, where all methods measure along straight lines.
    """

    def call(x: Tensor) -> Outcome:
        with torch.no_grad():
            prediction = output_logits(model(x)).argmax(dim=1)
        per_sample = (-1, *[1] * (x.dim() - 1))
        lower = torch.full(x.shape[:1], 1e-6, device=x.device)
        upper = torch.full_like(lower, math.inf)
        for _ in range(ITERATIONS):
            radius = torch.minimum((lower + upper) / 2, 2 * lower)
            attacked = x.clone().requires_grad_()
            with torch.enable_grad():
                loss = nn.functional.cross_entropy(output_logits(model(attacked)), prediction)
            (grad,) = torch.autograd.grad(loss, attacked)
            attacked = x + radius.reshape(per_sample) * grad.sign()
            attacked = attacked if box is None else attacked.clamp(*box)
            with torch.no_grad():
                flipped = output_logits(model(attacked)).argmax(dim=1) != prediction
            upper = torch.where(flipped, radius, upper)
            lower = torch.where(flipped, lower, radius)
        score = torch.where(upper.isinf(), lower, (lower + upper) / 2)
        return Outcome(score, prediction, 2.0 * ITERATIONS + 1, float(ITERATIONS), upper)

    return call


def timed(found: Timed, images: int) -> dict[str, Any]:
    """Passes per sample, images per second, and the time over that of the bare forward."""
    return {
        "forwards": found.first.forwards,
        "backwards": found.first.backwards,
        "images_per_second": images / found.seconds(),
        "times_msr": found.ratio(),
    }


def in_turn(
    model: nn.Module,
    x: Tensor,
    every: Mapping[str, Contestant],
    seconds: float,
    progress: Callable[[str, float], object],
) -> dict[str, Timed]:
    """The times of contestants on x, each in turns with the bare forward: see `Turns`."""
    runs = {name: partial(contestant, x) for name, contestant in every.items()}
    floor = partial(msr(model), x)
    return Turns(floor, runs, seconds=seconds, device=x.device, progress=progress).take()
