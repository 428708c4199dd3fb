"""What a type checker knows of rrfast in a user's code; `make lint` reads it, nothing runs it."""

from torch import Tensor, nn
from typing_extensions import assert_type

import rrfast
from rrfast.methods import BS, RadiusResult


def of_radius(model: nn.Module, x: Tensor, full: bool) -> None:
    assert_type(rrfast.radius(model, x), Tensor)
    assert_type(rrfast.radius(model, x, method="bs", budget=10), Tensor)
    assert_type(rrfast.radius(model, x, method="bs", full_output=True), RadiusResult)
    assert_type(rrfast.radius(model, x, method=BS(budget=10), full_output=True), RadiusResult)
    assert_type(rrfast.radius(model, x, full_output=full), Tensor | RadiusResult)


def of_estimators(model: nn.Module, x: Tensor, full: bool) -> None:
    estimator = rrfast.RadiusEstimator(model, BS(budget=10))
    assert_type(estimator(x), Tensor)
    assert_type(estimator(x, full_output=True), RadiusResult)
    assert_type(estimator.predict([x]), Tensor)
    assert_type(estimator.predict([x], full_output=full), Tensor | RadiusResult)
    assert_type(rrfast.predict(model, [x], BS(budget=10)).confidence, Tensor)


def misspelt(model: nn.Module, x: Tensor) -> None:
    BS(budgt=10)  # type: ignore[call-arg]
    rrfast.radius(model, x, method=BS)  # type: ignore[call-overload]
    rrfast.raduis(model, x)  # type: ignore[attr-defined]
    rrfast.evaluate.abalte  # type: ignore[attr-defined]  # noqa: B018
