"""Runs a method on a batch and counts its passes."""

from __future__ import annotations

import dataclasses
import math
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rrfast import ops
from rrfast._reading import is_on_host
from rrfast.engine import Engine, Model
from rrfast.engine.box import within
from rrfast.methods.method import Estimate, Method, option_names
from rrfast.ops import Spare, accumulate_dtype


class RadiusResult(NamedTuple):
    """The result of `radius(..., full_output=True)`; radii in units of `scale`.

    `rival` is the class on the other side of the boundary, to which the prediction changes. For
    "fast" it is the class that overtakes first, for "grad" the runner-up at x, for the others the
    class predicted at `upper`, the nearest step that was seen to flip. At a tie it is the class
    that ties with the prediction. Among equals it is the lowest index; it is -1 if no radius was
    found.

    If a logit or a gradient is NaN, or logits have overflowed, the radius is NaN; for methods that
    search for a bracket, the bracket too. With several temperatures radius, lower, upper, rival and
    found are [T, B], and the passes are those of all temperatures together.
    """

    radius: Tensor  #: [B], larger = more trustworthy; infinity if not found, or NaN
    lower: Tensor  #: [B], the largest radius seen to keep the prediction; 0 if none was tried
    upper: Tensor  #: [B], the smallest radius seen to change it; infinity if none did
    prediction: Tensor  #: [B] int64
    rival: Tensor  #: [B] int64, the class on the other side; -1 if not found
    found: Tensor  #: [B] bool: a finite radius was found
    forwards: float  #: per sample; a pass over a part of the batch counts as that fraction
    backwards: float  #: per sample, likewise


class Measured(NamedTuple):
    """Estimates and the passes they took, per sample."""

    estimate: Estimate
    forwards: float
    backwards: float
    classes: int | None = None  #: K; None for an empty batch

    def result(self) -> RadiusResult:
        """The `RadiusResult`, with defaults for what the estimate leaves out."""
        r, prediction, rival, lower, upper = self.estimate
        found = r.isfinite() if upper is None else r.isfinite() & upper.isfinite()
        rival = rival.masked_fill(~found, -1)
        lower = torch.zeros_like(r) if lower is None else lower
        upper = torch.full_like(r, math.inf) if upper is None else upper
        passes = self.forwards, self.backwards
        return RadiusResult(r, lower, upper, prediction, rival, found, *passes)

    def clone(self) -> Measured:
        """A copy in new memory."""
        copies = (None if tensor is None else tensor.clone() for tensor in self.estimate)
        return self._replace(estimate=Estimate(*copies))  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Measure:
    """One method, or the same at several temperatures, which share a forward.

    Attributes:
        methods: One for each temperature.
        grid: Whether the results have a dimension of temperatures.
        spare: What calls on a CPU leave for each other to write into; None for new memory.
    """

    methods: tuple[Method, ...]
    grid: bool = False
    spare: Spare | None = None

    def __call__(self, model: Model, x: Tensor) -> Measured:
        """Check `x` and measure its radii; an empty batch takes no pass."""
        if x.shape[0] == 0:
            shape = (len(self.methods), 0) if self.grid else (0,)
            radius = x.new_empty(shape, dtype=accumulate_dtype(x.dtype))
            prediction = x.new_empty(0, dtype=torch.int64)
            rival = x.new_empty(shape, dtype=torch.int64)
            return Measured(Estimate(radius, prediction, rival), 0.0, 0.0)
        options: Any = self.methods[0]
        bounds, scale = (getattr(options, name, None) for name in ("bounds", "scale"))
        x = within(x, bounds, scale, model)
        spare = self.spare if is_on_host(x) else None  # not a fake tensor
        with Engine(model) as engine:
            if spare is not None:
                engine.memory = spare.take()
            with engine.sharing(x) if self.grid else nullcontext():
                estimates = [method(engine, x) for method in self.methods]
            estimate = _stacked(estimates) if self.grid else estimates[0]
            _warn_of_no_gradient(engine, estimate.radius)
            if spare is not None:
                spare.give_back(engine.memory)
            samples = x.shape[0]
            return Measured(
                estimate,
                engine.forward_samples / samples,
                engine.backward_samples / samples,
                engine.classes,
            )

    @property
    def capturable(self) -> bool:
        """Whether a CUDA graph can capture a call; see `Method`."""
        return all(getattr(method, "capturable", False) for method in self.methods)

    def on(self, x: Tensor) -> Measure:
        """A copy with bounds and scale as tensors on x's device, so that calls copy nothing."""
        return Measure(tuple(_on(method, x) for method in self.methods), self.grid)


def _warn_of_no_gradient(engine: Engine, radius: Tensor) -> None:
    """Warn, but not on a GPU, if no sample has a radius because none has a gradient.

    There is no warning for a single sample, which may just be saturated.
    """
    if engine.gradient is None or radius.shape[-1] == 1 or not is_on_host(radius):
        return
    if radius.amin().item() == math.inf and not bool(engine.gradient.any()):
        warnings.warn(
            "the radius of every sample is infinite because every gradient is 0: the model rounds "
            "its input or thresholds it (leave that out, or give it a gradient), or is saturated",
            RuntimeWarning,
            stacklevel=4,
        )


def _stacked(estimates: list[Estimate]) -> Estimate:
    """Join estimates [B] into one of [T, B]; the prediction does not depend on the temperature."""
    radii, predictions, rivals, lowers, uppers = zip(*estimates, strict=True)
    return Estimate(
        torch.stack(radii),
        predictions[0],
        torch.stack(rivals),
        None if lowers[0] is None else torch.stack(lowers),
        None if uppers[0] is None else torch.stack(uppers),
    )


def _on(method: Method, x: Tensor) -> Method:
    options: Any = method
    given = option_names(method)
    ready: dict[str, Any] = {}
    if "bounds" in given:
        ready["bounds"] = ops.channel_bounds(options.bounds, x)
    if "scale" in given:
        ready["scale"] = ops.channel_scale(options.scale, x)
    replaced: Method = dataclasses.replace(options, **ready) if ready else method
    return replaced
