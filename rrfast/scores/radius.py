"""The robust radius as a score."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rrfast.engine import Model
from rrfast.methods import METHODS, Method
from rrfast.methods.measure import Measure, Measured
from rrfast.methods.method import option_names
from rrfast.methods.registry import configured
from rrfast.scores.grids import TEMPERATURES
from rrfast.scores.score import Point, Score, Scored


@dataclass(frozen=True, eq=False)
class Radius(Score):
    """score = rrfast.radius(model, x, method=method, temperature=T, **options).

    Infinite, the most confident value, where no change of the prediction was found. float32, or
    float64 if `x` or the logits are.

    Cost: that of the method, see `rrfast.radius`; points that differ only in the temperature share
    the forward at x.

    Source: RAT §3; B.1: T is the only hyper-parameter of the radius.

    Attributes:
        method: As for `rrfast.radius`: a name, or an object of `rrfast.methods`; the object is
            stored as its name, with its options that differ from the defaults in `temperature` and
            `options`.
        temperature: T of the direction; None for the method's default, or if it has no temperature.
        options: The other options of `rrfast.radius`, by name.

    Raises:
        TypeError: The method has no such option.
        ValueError: An unknown method, or an option out of range.

    Example:
        >>> model = torch.nn.Linear(2, 2, bias=False)
        >>> _ = model.weight.data.copy_(torch.eye(2))
        >>> Radius("search", options={"tol": 1e-3})(model, torch.tensor([[1.0, 0.0]]))
        tensor([0.5000])
    """

    method: str | Method = "fast"
    temperature: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._take_apart()
        if "temperature" in self.options:
            raise TypeError("options must not hold the temperature, which is a field of its own")
        if self._configured(self.temperature).grid:
            raise TypeError(f"temperature must be one number, got {self.temperature!r}")

    @property
    def grids(self) -> dict[str, tuple[float, ...]]:
        """T as in RAT B.1, for methods that have a temperature."""
        kind = METHODS[self.method] if isinstance(self.method, str) else type(self.method)
        return {"temperature": TEMPERATURES} if "temperature" in option_names(kind) else {}

    @property
    def identity(self) -> str:
        """As `Score.identity`, with the defaults of the method."""
        return f"{super().identity} by {self._configured(self.temperature)!r}"

    def measure(self, model: Model, x: Tensor, points: Sequence[Point]) -> Scored:
        """As `Score.measure`."""
        scores = [self.at(**point) for point in points]
        if len(points) > 1 and all(set(point) == {"temperature"} for point in points):
            return _scored([self._configured([score.temperature for score in scores])(model, x)])
        return _scored([score._configured(score.temperature)(model, x) for score in scores])

    def _configured(self, temperature: object) -> Measure:
        own = {} if temperature is None else {"temperature": temperature}
        return configured(self.method, {**self.options, **own})

    def _take_apart(self) -> None:
        """Replace a method of `METHODS` by its name and options, which can be compared."""
        name = next((name for name, kind in METHODS.items() if kind is type(self.method)), None)
        method: Any = self.method
        if name is None or not dataclasses.is_dataclass(method):
            return
        options = {o.name: (getattr(method, o.name), o.default) for o in dataclasses.fields(method)}
        changed = {
            name: value for name, (value, default) in options.items() if _differ(value, default)
        }
        own = {} if self.temperature is None else {"temperature": self.temperature}
        given = {**changed, **self.options, **own}
        object.__setattr__(self, "method", name)
        object.__setattr__(self, "temperature", given.pop("temperature", None))
        object.__setattr__(self, "options", given)


def _differ(value: object, default: object) -> bool:
    """Whether an option differs from its default; a tensor always counts as different."""
    return not (value is default or (isinstance(value, (int, float, str)) and value == default))


def _scored(measured: Sequence[Measured]) -> Scored:
    """Join the results, which were measured point by point or all at once."""
    results = [one.result() for one in measured]
    values, rivals = ([getattr(result, name) for result in results] for name in ("radius", "rival"))
    together = values[0].dim() == 2
    return Scored(
        values[0] if together else torch.stack(values),
        results[0].prediction,
        sum(result.forwards for result in results),
        sum(result.backwards for result in results),
        measured[0].classes,
        rivals[0] if together else torch.stack(rivals),
    )
